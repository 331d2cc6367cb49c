"""The constants of nuScenes' detection benchmark, its configuration ``detection_cvpr_2019``.

Distances are between box centres on the ground, in metres.
"""

from __future__ import annotations

from collections.abc import Iterable

from ...config import nearest
from ...errors import DataError

CONFIG_NAME = "detection_cvpr_2019"
# A box counts if its centre is nearer to the ego vehicle than this.
CLASS_RANGE_M = {
    "car": 50.0,
    "truck": 50.0,
    "bus": 50.0,
    "trailer": 50.0,
    "construction_vehicle": 50.0,
    "pedestrian": 40.0,
    "motorcycle": 40.0,
    "bicycle": 40.0,
    "traffic_cone": 30.0,
    "barrier": 30.0,
}
DETECTION_NAMES = tuple(CLASS_RANGE_M)
# AP is the mean over these distances; the errors are those of the matches at TP_DISTANCE_M.
MATCH_DISTANCES_M = (0.5, 1.0, 2.0, 4.0)
TP_DISTANCE_M = 2.0
MIN_RECALL = 0.1
MIN_PRECISION = 0.1
MAX_BOXES_PER_SAMPLE = 500
MAP_WEIGHT = 5
NUM_RECALL_POINTS = 101

ERRORS = ("trans_err", "scale_err", "orient_err", "vel_err", "attr_err")
# A cone looks the same from all sides; cones and barriers stand still and have no attributes.
UNDEFINED_ERRORS = {
    "traffic_cone": ("orient_err", "vel_err", "attr_err"),
    "barrier": ("vel_err", "attr_err"),
}
# A barrier turned by half a turn is the same barrier.
HALF_TURN_CLASSES = ("barrier",)

# Objects in a bicycle rack are labelled as one box, so what is found inside it is not scored.
RACK_CATEGORY = "static_object.bicycle_rack"
RACK_CLASSES = ("bicycle", "motorcycle")

# nuScenes' categories of the ten classes; all others are not part of the benchmark.
CATEGORY_CLASS = {
    "vehicle.car": "car",
    "vehicle.truck": "truck",
    "vehicle.bus.bendy": "bus",
    "vehicle.bus.rigid": "bus",
    "vehicle.trailer": "trailer",
    "vehicle.construction": "construction_vehicle",
    "human.pedestrian.adult": "pedestrian",
    "human.pedestrian.child": "pedestrian",
    "human.pedestrian.construction_worker": "pedestrian",
    "human.pedestrian.police_officer": "pedestrian",
    "vehicle.motorcycle": "motorcycle",
    "vehicle.bicycle": "bicycle",
    "movable_object.trafficcone": "traffic_cone",
    "movable_object.barrier": "barrier",
}


def check_names(names: Iterable[str], where: str) -> None:
    """Refuse a class that the benchmark does not have."""
    for name in names:
        if name not in CLASS_RANGE_M:
            raise DataError(
                f"{where}: '{name}' is no class of nuScenes' detection benchmark"
                f"{nearest(name, DETECTION_NAMES)}; expected one of {', '.join(DETECTION_NAMES)}"
            )
