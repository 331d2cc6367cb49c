"""The constants of Argoverse 2's detection benchmark, and its categories."""

from __future__ import annotations

import math
from dataclasses import dataclass

# Those that are evaluated, in the writing of OpenPCDet's info files: "REGULAR_VEHICLE" in the
# files of Argoverse 2.
CATEGORIES = (
    "Regular_vehicle",
    "Pedestrian",
    "Bicyclist",
    "Motorcyclist",
    "Wheeled_rider",
    "Bollard",
    "Construction_cone",
    "Sign",
    "Construction_barrel",
    "Stop_sign",
    "Mobile_pedestrian_crossing_sign",
    "Large_vehicle",
    "Bus",
    "Box_truck",
    "Truck",
    "Vehicular_trailer",
    "Truck_cab",
    "School_bus",
    "Articulated_bus",
    "Message_board_trailer",
    "Bicycle",
    "Motorcycle",
    "Wheeled_device",
    "Wheelchair",
    "Stroller",
    "Dog",
)
ERRORS = ("ATE", "ASE", "AOE")


@dataclass(frozen=True)
class Argoverse2Protocol:
    """What counts.

    Attributes:
        distances_m: a match is nearer than this; AP is the mean over them.
        error_distance_m: the one of ``distances_m`` whose matches the errors are means over.
        max_range_m: farther objects and detections do not count.
        max_detections: of one category in one frame, the best.
        num_recall_samples: recalls at which precision is read.
    """

    distances_m: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    error_distance_m: float = 2.0
    max_range_m: float = 150.0
    max_detections: int = 100
    num_recall_samples: int = 101

    @property
    def worst_errors(self) -> tuple[float, float, float]:
        """ATE, ASE and AOE of a category without a match; errors are divided by them for CDS."""
        return (self.error_distance_m, 1.0, math.pi)
