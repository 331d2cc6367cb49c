"""DATA_CONFIG.EVALUATION: how detections are scored in LiDAR coordinates, without a camera."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import ConfigError
from ..types import ConfigDict
from .blocks import as_block
from .names import nearest
from .options import option, read_options
from .values import is_number, is_text

WHERE = "DATA_CONFIG.EVALUATION"
# The strict and the loose threshold of KITTI's classes, and of vehicles in other data sets.
KNOWN_IOU = {
    "car": (0.7, 0.5),
    "van": (0.7, 0.5),
    "truck": (0.7, 0.5),
    "vehicle": (0.7, 0.5),
    "pedestrian": (0.5, 0.25),
    "cyclist": (0.5, 0.25),
    "person_sitting": (0.5, 0.25),
}
MAX_IOU = 0.99  # a match overlaps by more than the threshold
PRIMARY_METRICS = ("3d", "bev", "center")
PRIMARY_APS = ("area", "R40", "R11")


@dataclass(frozen=True)
class LidarEvalOptions:
    """What counts as a match, which objects take part, and how the figures are divided."""

    iou: Mapping[str, object] = option(
        {},
        help="IoU thresholds of single classes; the first of each ranks detectors",
        values="a block such as `{Forklift: [0.5, 0.25]}`",
    )
    default_iou: tuple[float, ...] = option(
        (0.5, 0.25),
        help="IoU thresholds of the other classes; `Car`, `Van`, `Truck` and `Vehicle` have "
        "[0.7, 0.5]",
        above=0,
        at_most=MAX_IOU,
    )
    center_distances_m: tuple[float, ...] = option(
        (0.5, 1.0, 2.0, 4.0),
        help="a detection also matches an object whose centre is nearer than this on the ground",
        above=0,
    )
    distance_edges_m: tuple[float, ...] = option(
        (20.0, 40.0),
        help="distances from the sensor that divide near from far; empty: no division",
        above=0,
    )
    point_edges: tuple[int, ...] = option(
        (10, 50, 200),
        help="numbers of points that divide sparse from dense objects; empty: no division",
        above=0,
    )
    min_points: int = option(
        1,
        help="an object with fewer points counts neither for nor against, where the labels tell "
        "its points",
        at_least=0,
    )
    max_distance_m: float | None = option(
        None,
        help="objects and detections farther from the sensor count neither for nor against",
        above=0,
    )
    range: tuple[float, ...] = option(
        (),
        help="x, y, z minimum, then maximum: objects and detections whose centre lies outside "
        "count neither for nor against; empty: no limit",
    )
    neutral: Mapping[str, object] = option(
        {},
        help="classes that look alike: to detect one of them counts neither for nor against",
        values="a block such as `{Car: [Van]}`",
    )
    error_distance_m: float = option(
        2.0,
        help="errors of position, size, heading and velocity are means over the matches within "
        "this distance",
        above=0,
    )
    min_objects: int = option(
        50, help="warn about the figures of a class with fewer objects", at_least=0
    )
    primary: str = option(
        "3d", choices=PRIMARY_METRICS, help="the matching by which detectors are ranked"
    )
    primary_ap: str = option(
        "area",
        choices=PRIMARY_APS,
        help="the AP by which detectors are ranked: the exact area under the curve, or KITTI's "
        "mean over 40 or 11 recall positions",
    )

    @classmethod
    def from_config(
        cls, dataset_cfg: ConfigDict, class_names: Sequence[str] = ()
    ) -> LidarEvalOptions:
        """The options of a DATA_CONFIG block; the defaults where it has no EVALUATION.

        Args:
            class_names: the classes of the experiment; options for another class are refused.
        """
        options = read_options(cls, dataset_cfg.get("EVALUATION") or {}, WHERE)
        if class_names:
            options.check_classes(class_names)
        return options

    def __post_init__(self) -> None:
        for name in as_block(self.iou, f"{WHERE}.IOU"):
            self._own_thresholds(name)
        for name in as_block(self.neutral, f"{WHERE}.NEUTRAL"):
            self.neutral_to(name)
        for key in ("default_iou", "center_distances_m"):
            if not getattr(self, key):
                raise ConfigError(f"{WHERE}.{key.upper()}: expected at least one number, found []")
        for key in ("distance_edges_m", "point_edges"):
            _check_rising(getattr(self, key), f"{WHERE}.{key.upper()}")
        if self.range and not _is_range(self.range):
            raise ConfigError(
                f"{WHERE}.RANGE: {list(self.range)} is not x, y, z minimum, then maximum"
            )

    def iou_thresholds(self, class_name: str) -> tuple[float, ...]:
        """The IoU thresholds of a class; the first one ranks detectors."""
        if class_name in self.iou:
            return self._own_thresholds(class_name)
        return KNOWN_IOU.get(class_name.lower(), self.default_iou)

    def neutral_to(self, class_name: str) -> tuple[str, ...]:
        """The classes whose detection as ``class_name`` counts neither for nor against."""
        names = self.neutral.get(class_name, ())
        listed = [names] if is_text(names) else names
        if not isinstance(listed, Sequence) or not all(map(is_text, listed)):
            raise ConfigError(
                f"{WHERE}.NEUTRAL.{class_name}: expected a list of classes, found {names!r}"
            )
        return tuple(listed)

    def check_classes(self, class_names: Sequence[str]) -> None:
        """Refuse an entry of IOU or NEUTRAL for a class that is not evaluated."""
        for key, block in (("IOU", self.iou), ("NEUTRAL", self.neutral)):
            for name in block:
                if name not in class_names:
                    raise ConfigError(
                        f"{WHERE}.{key}.{name}: '{name}' is none of the evaluated classes"
                        f"{nearest(name, class_names)}"
                    )

    def _own_thresholds(self, class_name: str) -> tuple[float, ...]:
        value = self.iou[class_name]
        listed = [value] if is_number(value) else value
        if not isinstance(listed, Sequence) or not listed or not all(map(_is_iou, listed)):
            raise ConfigError(
                f"{WHERE}.IOU.{class_name}: expected a list of numbers above 0 and up to "
                f"{MAX_IOU}, found {value!r}"
            )
        return tuple(map(float, listed))


def _is_iou(value: object) -> bool:
    return isinstance(value, (int, float)) and is_number(value) and 0 < value <= MAX_IOU


def _check_rising(edges: Sequence[float], where: str) -> None:
    if list(edges) != sorted(set(edges)):
        raise ConfigError(f"{where}: expected rising numbers, found {list(edges)}")


def _is_range(limits: Sequence[float]) -> bool:
    if len(limits) != 6:
        return False
    low = limits[:3]
    high = limits[3:]
    return all(first < last for first, last in zip(low, high))
