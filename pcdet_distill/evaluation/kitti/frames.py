"""Annotations of many frames in flat arrays, and their roles by KITTI's rules of difficulty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...errors import DataError
from .protocol import MAX_OCCLUSION, MAX_TRUNCATION, MIN_HEIGHT_PX, NEUTRAL

# Roles of an object or a detection when one class is evaluated at one difficulty.
OUT = -1  # takes no part
COUNTED = 0  # an object to be found, or a detection that is right or wrong
IGNORED = 1  # may be matched, and the match counts neither for nor against
ANNO_KEYS = (
    "bbox",
    "location",
    "dimensions",
    "rotation_y",
    "alpha",
    "truncated",
    "occluded",
    "score",
)


@dataclass(frozen=True)
class Objects:
    """Objects of all frames in one list.

    Attributes:
        start: (F + 1,) int64; frame ``f`` owns the rows ``start[f]`` to ``start[f + 1]``.
        name: (N,) str as given.
        bbox: (N, 4) float32 image box, left, top, right, bottom in pixels.
        alpha: (N,) float64 observation angle in radians.
        box: (N, 7) float64 box in camera coordinates, x, y, z, l, h, w, rotation_y, as given.
    """

    start: np.ndarray
    name: np.ndarray
    bbox: np.ndarray
    alpha: np.ndarray
    box: np.ndarray

    def has_name(self, name: str) -> np.ndarray:
        """Mask (N,) of the objects of that class, in upper or lower case as in KITTI's program."""
        return self._lower_name == name.lower()

    @cached_property
    def _lower_name(self) -> np.ndarray:
        return np.char.lower(self.name)

    def height_px(self) -> np.ndarray:
        """Height (N,) in the image."""
        return self.bbox[:, 3] - self.bbox[:, 1]


@dataclass(frozen=True)
class Truth(Objects):
    """Ground truth: ``truncated`` and ``occluded`` (N,) float64."""

    truncated: np.ndarray
    occluded: np.ndarray

    def roles(self, class_name: str, difficulty: int) -> np.ndarray:
        """Role (N,) int8 of each object when a class is evaluated at a difficulty (0, 1, 2).

        An object of the class that is harder to see than the difficulty allows is ignored. So is an
        object of the class that looks alike, a Van for Car: its detection is no mistake.
        """
        is_too_hard = (
            (self.occluded > MAX_OCCLUSION[difficulty])
            | (self.truncated > MAX_TRUNCATION[difficulty])
            | (self.height_px() <= MIN_HEIGHT_PX[difficulty])
        )
        roles = np.full(len(self.name), OUT, dtype=np.int8)
        is_wanted = self.has_name(class_name)
        roles[is_wanted & ~is_too_hard] = COUNTED
        roles[is_wanted & is_too_hard] = IGNORED
        if class_name in NEUTRAL:
            roles[self.has_name(NEUTRAL[class_name])] = IGNORED
        return roles


@dataclass(frozen=True)
class Detections(Objects):
    """Detections with their ``score`` (N,) float64."""

    score: np.ndarray

    def roles(self, class_name: str, difficulty: int) -> np.ndarray:
        """Role (N,) int8 of each detection when a class is evaluated at a difficulty (0, 1, 2).

        A detection of too few pixels in height is ignored whatever its class. So a detection of
        another class can be matched here, as in KITTI's program; the match does not count.
        """
        roles = np.full(len(self.name), OUT, dtype=np.int8)
        roles[self.has_name(class_name)] = COUNTED
        roles[np.abs(self.height_px()) < MIN_HEIGHT_PX[difficulty]] = IGNORED
        return roles

    def have_orientation(self) -> bool:
        """Whether the very first detection has an observation angle, which is OpenPCDet's test.

        KITTI writes -10 for an unknown angle.
        """
        return len(self.alpha) > 0 and self.alpha[0] != -10


def pack_truth(annos: Sequence[Mapping]) -> Truth:
    """Pack the ``annos`` of info files (a list of dicts of arrays, one per frame)."""
    return Truth(
        **_pack_objects(annos, "ground truth"),
        truncated=_join(annos, "truncated", "ground truth"),
        occluded=_join(annos, "occluded", "ground truth"),
    )


def pack_detections(annos: Sequence[Mapping]) -> Detections:
    """Pack detections as ``KittiDataset.generate_prediction_dicts`` makes them."""
    score = _join(annos, "score", "detections")
    return Detections(**_pack_objects(annos, "detections"), score=score)


def _pack_objects(annos: Sequence[Mapping], kind: str) -> dict[str, np.ndarray]:
    """The arguments of ``Objects``."""
    for index, anno in enumerate(annos):
        _check_lengths(anno, f"{kind} of frame number {index}")
    counts = [len(anno["name"]) for anno in annos]
    names = [np.asarray(anno["name"]).astype(str) for anno in annos]
    box_parts = [
        _join(annos, "location", kind, 3),
        _join(annos, "dimensions", kind, 3),
        _join(annos, "rotation_y", kind, 1),
    ]
    return {
        "start": np.concatenate(([0], np.cumsum(counts, dtype=np.int64))).astype(np.int64),
        "name": np.concatenate(names) if names else np.zeros(0, "U1"),
        "bbox": _join(annos, "bbox", kind, 4).astype(np.float32),
        "alpha": _join(annos, "alpha", kind),
        "box": np.concatenate(box_parts, axis=1),
    }


def _check_lengths(anno: Mapping, where: str) -> None:
    """Refuse an annotation without names, or with arrays of different lengths."""
    if "name" not in anno:
        keys = ", ".join(str(key) for key in anno)
        raise DataError(f"{where}: no 'name' among its keys ({keys or 'none'})")
    count = len(anno["name"])
    for key in ANNO_KEYS:
        rows = np.shape(anno.get(key, anno["name"]))[:1]
        if rows != (count,):
            found = rows[0] if rows else "no"
            raise DataError(f"{where}: '{key}' has {found} rows, expected {count} as 'name' has")


def _join(annos: Sequence[Mapping], key: str, kind: str, width: int | None = None) -> np.ndarray:
    """Column ``key`` of all frames as float64, (N,) or (N, width)."""
    shape = (-1,) if width is None else (-1, width)
    columns = []
    for index, anno in enumerate(annos):
        if key not in anno:
            raise DataError(f"{kind} of frame number {index}: key '{key}' is missing")
        if len(anno[key]):
            columns.append(np.asarray(anno[key], dtype=np.float64).reshape(shape))
    if not columns:
        return np.zeros(0) if width is None else np.zeros((0, width))
    return np.concatenate(columns)
