"""Augmentations that throw objects out of the range, or whose numbers cannot be meant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ....datasets.augmentor.data_augmentor import AUGMENTORS
from ....datasets.item import Item
from ....errors import ConfigError
from ....ops.boxes import mask_boxes_outside_range
from ....types import ConfigDict
from ..case import Case
from ..finding import Finding, Severity, percent

CHECK = "augmentation"
DRAWS = 40
MOST_BOXES = 500
LOST_WARNING = 0.25  # of the boxes that were inside
LOST_ERROR = 0.6
WORLD = (
    "random_world_flip",
    "random_world_rotation",
    "random_world_scaling",
    "random_world_translation",
)
FULL_TURN_RAD = 6.3
SCALES = (0.5, 2.0)
ROTATION = "WORLD_ROT_ANGLE"
RIGHT_ANGLE_RAD = 0.78539816


def check_augmentation(case: Case) -> Iterator[Finding]:
    """Whether objects stay inside the range when the scene is turned, flipped and scaled."""
    entries = [(p, e) for p, e in case.augmentations() if e.get("NAME") in WORLD]
    impossible = False
    for path, entry in entries:
        for finding in _values(path, entry):
            impossible = True
            yield finding
    boxes = case.boxes("train")
    limits = np.array(case.data["POINT_CLOUD_RANGE"], dtype=float)
    inside = boxes[mask_boxes_outside_range(boxes, limits)]
    if impossible or not entries or len(inside) == 0:
        return
    chosen = inside[np.linspace(0, len(inside) - 1, min(len(inside), MOST_BOXES)).astype(int)]
    shares = {}
    for path, entry in entries:
        try:
            shares[path] = lost_share(chosen, [entry], limits)
        except ConfigError as error:
            yield Finding(CHECK, Severity.ERROR, path, str(error))
            return
    together = lost_share(chosen, [entry for _, entry in entries], limits)
    if together <= LOST_WARNING:
        return
    worst = max(shares, key=lambda path: shares[path])
    name = str(dict(entries)[worst]["NAME"])
    yield Finding(
        CHECK,
        Severity.ERROR if together > LOST_ERROR else Severity.WARNING,
        worst,
        f"{percent(together)} of the objects inside the range are thrown out of it by the "
        f"augmentation, {percent(shares[worst])} by {name} alone",
        fix="a range in front of the car allows flips along x only, and small rotations",
        changes=_milder(worst, name, dict(entries)[worst]),
    )


def lost_share(boxes: np.ndarray, entries: Sequence[ConfigDict], limits: np.ndarray) -> float:
    """Mean share of boxes (K, 7) whose centre leaves the range by these augmentations."""
    random = np.random.RandomState(0)
    augmentors = [AUGMENTORS[str(entry["NAME"])](entry) for entry in entries]
    lost = []
    for _ in range(DRAWS):
        item: Item = {
            "points": np.zeros((0, 3), np.float32),
            "gt_boxes": boxes.astype(np.float32),
            "lidar_aug_matrix": np.eye(4),
        }
        for augmentor in augmentors:
            augmentor(item, random)
        lost.append(1 - mask_boxes_outside_range(item["gt_boxes"], limits).mean())
    return float(np.mean(lost))


def _milder(path: str, name: str, entry: ConfigDict) -> dict[str, object]:
    if name == "random_world_flip" and "y" in (entry.get("ALONG_AXIS_LIST") or ()):
        axes = [axis for axis in entry["ALONG_AXIS_LIST"] if axis != "y"]
        return {f"{path}.ALONG_AXIS_LIST": axes}
    if name == "random_world_rotation":
        half = RIGHT_ANGLE_RAD / 2
        return {f"{path}.{ROTATION}": [-half, half]}
    return {}


def _values(path: str, entry: ConfigDict) -> Iterator[Finding]:
    """Numbers that cannot be meant."""
    angle = entry.get(ROTATION)
    if angle is not None and np.abs(angle).max() > FULL_TURN_RAD:
        radians = [round(float(value), 5) for value in np.radians(np.atleast_1d(angle))]
        yield Finding(
            CHECK,
            Severity.ERROR,
            f"{path}.{ROTATION}",
            f"{angle} is more than a full turn of 6.28 rad: it seems to be in degrees",
            fix="write radians",
            changes={f"{path}.{ROTATION}": radians},
        )
    scales = entry.get("WORLD_SCALE_RANGE")
    if scales is None:
        return
    low, high = float(min(scales)), float(max(scales))
    if low < SCALES[0] or high > SCALES[1] or low != scales[0]:
        yield Finding(
            CHECK,
            Severity.ERROR,
            f"{path}.WORLD_SCALE_RANGE",
            f"{list(scales)} is no range of factors around 1, lowest first",
            fix="usual is [0.95, 1.05]",
            changes={f"{path}.WORLD_SCALE_RANGE": [0.95, 1.05]},
        )
