"""Annotations of KITTI frames written by hand, for the tests of the evaluation."""

from __future__ import annotations

import numpy as np

from pcdet_distill.evaluation.kitti import KittiResult, kitti_eval

CAR = {
    "name": "Car",
    "bbox": (100, 100, 200, 150),
    "location": (2, 1.7, 20),
    "dimensions": (4, 1.5, 1.6),
    "rotation_y": 0.3,
    "alpha": 0.5,
    "truncated": 0,
    "occluded": 0,
    "score": 0.9,
}
# The number of columns of every key; None for a plain row of numbers.
COLUMNS = {
    "bbox": 4,
    "location": 3,
    "dimensions": 3,
    "rotation_y": None,
    "alpha": None,
    "truncated": None,
    "occluded": None,
    "score": None,
}
DIFFICULTIES = ("easy", "moderate", "hard")


def frame(*things: dict) -> dict[str, np.ndarray]:
    """An annotation dict of the given objects."""
    anno = {"name": np.array([thing["name"] for thing in things], dtype="U16")}
    for key, width in COLUMNS.items():
        values = np.array([thing[key] for thing in things], dtype=np.float32)
        anno[key] = values.reshape(-1, width) if width else values
    return anno


def detected(*things: dict) -> dict[str, np.ndarray]:
    """``frame`` with every box displaced by millimetres.

    OpenPCDet's overlap of two equal boxes is not reliable.
    """
    anno = frame(*things)
    anno["location"] += np.array([[0.004, 0.002, 0.003]], np.float32)
    anno["rotation_y"] += np.float32(0.002)
    return anno


def car(**changes: object) -> dict:
    return {**CAR, **changes}


def shifted(thing: dict, metres: float) -> dict:
    """The same object elsewhere: far enough from itself in the image and on the ground."""
    left, top, right, bottom = thing["bbox"]
    x, y, z = thing["location"]
    shift_px = 40 * metres
    return {
        **thing,
        "bbox": (left + shift_px, top, right + shift_px, bottom),
        "location": (x + metres, y, z),
    }


def dontcare(bbox: tuple[float, float, float, float]) -> dict:
    """A region of the image whose objects nobody labelled."""
    return car(
        name="DontCare",
        bbox=bbox,
        location=(-1000, -1000, -1000),
        dimensions=(-1, -1, -1),
        occluded=-1,
        truncated=-1,
    )


def evaluate_one(truth: list[dict], found: list[dict], name: str = "Car") -> KittiResult:
    """The result of one frame and one class."""
    return kitti_eval([frame(*truth)], [detected(*found)], [name])


def average_precision(
    result: KittiResult,
    metric: str = "3d",
    recall: str = "R40",
    level: str = "moderate",
    name: str = "Car",
    overlaps: str = "strict",
) -> float:
    return result.metrics()[name][overlaps][metric][recall][level]


def curve(
    result: KittiResult,
    metric: str,
    level: str = "moderate",
    class_index: int = 0,
    overlaps: str = "strict",
) -> np.ndarray:
    """(41,) the precision at recall 0, 1/40, ... 1."""
    overlap_set = ("strict", "loose").index(overlaps)
    return result.precision[metric][class_index, DIFFICULTIES.index(level), overlap_set]


def precision_at_0(result: KittiResult, metric: str = "bbox", level: str = "moderate") -> float:
    """The precision at recall 0: the best that any score threshold gives."""
    return curve(result, metric, level)[0]
