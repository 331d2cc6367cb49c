"""What is labelled in simulated nuScenes: category, shapes, sizes and attributes of each kind.

The sizes are near the mean sizes of nuScenes' classes, so that its anchors fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..templates.library import CYCLISTS, PEDESTRIANS, Library
from ..templates.road_users import CAR_STYLES

Size = tuple[float, float, float]
ATTRIBUTES = (
    "vehicle.moving",
    "vehicle.stopped",
    "vehicle.parked",
    "cycle.with_rider",
    "cycle.without_rider",
    "pedestrian.moving",
    "pedestrian.standing",
    "pedestrian.sitting_lying_down",
)


@dataclass(frozen=True)
class Kind:
    """A kind of labelled object.

    Attributes:
        category: nuScenes' category.
        templates: names of its shapes.
        mean_m: length, width, height. A length of 0 follows from the shape, as of a pedestrian.
        spread_m: standard deviation of each.
        moving: attribute of one that moves; empty for a kind without attributes.
        standing: attribute of one that does not.
    """

    category: str
    templates: tuple[str, ...]
    mean_m: Size
    spread_m: Size = (0.0, 0.0, 0.0)
    moving: str = ""
    standing: str = ""

    def draw(self, library: Library, rng: np.random.Generator) -> tuple[int, Size]:
        """A random shape of this kind, as its row in the library, and a random size for it."""
        name = self.templates[rng.integers(len(self.templates))]
        template = library.index[name]
        deviations = np.clip(rng.normal(size=3), -2.0, 2.0)
        length, width, height = np.array(self.mean_m) + np.array(self.spread_m) * deviations
        if self.mean_m[0] == 0.0:
            length = library.shapes.sizes_m[template, 0] * rng.uniform(0.92, 1.08)
        return template, (float(length), float(width), float(height))


def _vehicle(category: str, templates: tuple[str, ...], mean_m: Size, spread_m: Size) -> Kind:
    return Kind(category, templates, mean_m, spread_m, "vehicle.moving", "vehicle.parked")


KINDS: dict[str, Kind] = {
    "car": _vehicle("vehicle.car", tuple(CAR_STYLES), (4.55, 1.93, 1.68), (0.35, 0.10, 0.12)),
    "van": _vehicle("vehicle.car", ("van",), (5.2, 2.05, 2.2), (0.4, 0.1, 0.2)),
    "pickup": _vehicle("vehicle.truck", ("pickup",), (5.5, 2.05, 1.9), (0.3, 0.1, 0.1)),
    "truck": _vehicle("vehicle.truck", ("truck",), (7.6, 2.6, 3.1), (1.0, 0.15, 0.25)),
    "bus": _vehicle("vehicle.bus.rigid", ("bus",), (10.9, 2.92, 3.4), (0.8, 0.06, 0.15)),
    "trailer": _vehicle("vehicle.trailer", ("semi_trailer",), (11.6, 2.8, 3.8), (1.2, 0.1, 0.15)),
    "excavator": _vehicle(
        "vehicle.construction", ("excavator",), (6.4, 2.75, 3.1), (0.5, 0.2, 0.2)
    ),
    "motorcyclist": Kind(
        category="vehicle.motorcycle",
        templates=("motorcyclist",),
        mean_m=(2.12, 0.80, 1.58),
        spread_m=(0.08, 0.04, 0.06),
        moving="cycle.with_rider",
        standing="cycle.with_rider",
    ),
    "motorcycle": Kind(
        category="vehicle.motorcycle",
        templates=("motorcycle", "scooter"),
        mean_m=(2.05, 0.76, 1.25),
        spread_m=(0.08, 0.04, 0.06),
        standing="cycle.without_rider",
    ),
    "cyclist": Kind(
        category="vehicle.bicycle",
        templates=CYCLISTS,
        mean_m=(1.76, 0.62, 1.70),
        spread_m=(0.08, 0.04, 0.07),
        moving="cycle.with_rider",
        standing="cycle.with_rider",
    ),
    "bicycle": Kind(
        category="vehicle.bicycle",
        templates=("bicycle",),
        mean_m=(1.74, 0.60, 1.08),
        spread_m=(0.05, 0.03, 0.04),
        standing="cycle.without_rider",
    ),
    "pedestrian": Kind(
        category="human.pedestrian.adult",
        templates=PEDESTRIANS,
        mean_m=(0.0, 0.66, 1.75),
        spread_m=(0.0, 0.05, 0.10),
        moving="pedestrian.moving",
        standing="pedestrian.standing",
    ),
    "sitting": Kind(
        category="human.pedestrian.adult",
        templates=("person_sitting",),
        mean_m=(0.80, 0.60, 1.28),
        spread_m=(0.05, 0.04, 0.06),
        standing="pedestrian.sitting_lying_down",
    ),
    "child": Kind(
        category="human.pedestrian.child",
        templates=("child",),
        mean_m=(0.0, 0.48, 1.22),
        spread_m=(0.0, 0.03, 0.08),
        moving="pedestrian.moving",
        standing="pedestrian.standing",
    ),
    "barrier": Kind("movable_object.barrier", ("barrier",), (0.50, 2.5, 0.98), (0.02, 0.1, 0.03)),
    "cone": Kind(
        "movable_object.trafficcone", ("traffic_cone",), (0.41, 0.41, 1.0), (0.02, 0.02, 0.08)
    ),
    "rack": Kind(
        "static_object.bicycle_rack", ("bicycle_rack",), (1.8, 1.6, 1.05), (0.1, 0.2, 0.04)
    ),
}
# All categories of nuScenes, in the order of its table; most of them are in no simulated scene.
CATEGORIES = (
    "human.pedestrian.adult",
    "human.pedestrian.child",
    "human.pedestrian.wheelchair",
    "human.pedestrian.stroller",
    "human.pedestrian.personal_mobility",
    "human.pedestrian.police_officer",
    "human.pedestrian.construction_worker",
    "animal",
    "vehicle.car",
    "vehicle.motorcycle",
    "vehicle.bicycle",
    "vehicle.bus.bendy",
    "vehicle.bus.rigid",
    "vehicle.truck",
    "vehicle.construction",
    "vehicle.emergency.ambulance",
    "vehicle.emergency.police",
    "vehicle.trailer",
    "movable_object.barrier",
    "movable_object.trafficcone",
    "movable_object.pushable_pullable",
    "movable_object.debris",
    "static_object.bicycle_rack",
)
