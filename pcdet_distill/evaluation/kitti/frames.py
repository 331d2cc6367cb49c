"""Annotations of many frames packed into flat arrays, with the roles that KITTI's difficulty rules give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import DataError
from .protocol import MAX_OCCLUSION, MAX_TRUNCATION, MIN_HEIGHT_PX, NEUTRAL

OUT, COUNTED, IGNORED = -1, 0, 1  # not looked at; wanted; may be matched without gain or loss


@dataclass(frozen=True)
class Objects:
    """Objects of all frames in one list; frame ``f`` owns the rows ``start[f]`` to ``start[f + 1]``.

    ``start`` (F + 1,) int64; ``name`` (N,) str as given; ``bbox`` (N, 4) float32 x1, y1, x2, y2; ``alpha`` (N,)
    float64; ``box`` (N, 7) camera x, y, z, l, h, w, rotation_y, float64 holding the values as given.
    """

    start: np.ndarray
    name: np.ndarray
    bbox: np.ndarray
    alpha: np.ndarray
    box: np.ndarray

    def has_name(self, name: str) -> np.ndarray:
        """Mask (N,) of the objects of that class, whatever the case of the letters."""
        return np.char.lower(self.name) == name.lower()

    def height_px(self) -> np.ndarray:
        """Height (N,) in the image."""
        return self.bbox[:, 3] - self.bbox[:, 1]


@dataclass(frozen=True)
class Truth(Objects):
    """Ground truth: ``truncated`` and ``occluded`` (N,) float64."""

    truncated: np.ndarray
    occluded: np.ndarray

    def roles(self, class_name: str, difficulty: int) -> np.ndarray:
        """Role (N,) int8 of each object when a class is evaluated at a difficulty (0, 1, 2)."""
        hard_to_see = (
            (self.occluded > MAX_OCCLUSION[difficulty])
            | (self.truncated > MAX_TRUNCATION[difficulty])
            | (self.height_px() <= MIN_HEIGHT_PX[difficulty])
        )
        wanted = self.has_name(class_name)
        roles = np.where(wanted, np.where(hard_to_see, IGNORED, COUNTED), OUT)
        if class_name in NEUTRAL:
            roles[self.has_name(NEUTRAL[class_name])] = IGNORED
        return roles.astype(np.int8)


@dataclass(frozen=True)
class Detections(Objects):
    """Detections with their ``score`` (N,) float64."""

    score: np.ndarray

    def roles(self, class_name: str, difficulty: int) -> np.ndarray:
        """Role (N,) int8 of each detection; one that is too low is ignored whatever its class."""
        roles = np.where(self.has_name(class_name), COUNTED, OUT)
        roles[np.abs(self.height_px()) < MIN_HEIGHT_PX[difficulty]] = IGNORED
        return roles.astype(np.int8)

    def have_orientation(self) -> bool:
        """OpenPCDet's rule: the very first detection has an observation angle (-10 stands for none)."""
        return len(self.alpha) > 0 and self.alpha[0] != -10


def pack_truth(annos: Sequence[Mapping]) -> Truth:
    """Pack the ``annos`` of info files (a list of dicts of arrays, one per frame)."""
    return Truth(
        **_pack_objects(annos, "ground truth"),
        truncated=_join(annos, "truncated", "ground truth"),
        occluded=_join(annos, "occluded", "ground truth"),
    )


def pack_detections(annos: Sequence[Mapping]) -> Detections:
    """Pack detections as ``generate_prediction_dicts`` makes them (a list of dicts of arrays, one per frame)."""
    return Detections(
        **_pack_objects(annos, "detections"), score=_join(annos, "score", "detections")
    )


def _pack_objects(annos: Sequence[Mapping], kind: str) -> dict[str, np.ndarray]:
    for index, anno in enumerate(annos):
        _check_lengths(anno, f"{kind} of frame number {index}")
    counts = [len(anno["name"]) for anno in annos]
    names = [np.asarray(anno["name"]).astype(str) for anno in annos]
    place = [_join(annos, key, kind, width) for key, width in (("location", 3), ("dimensions", 3))]
    return {
        "start": np.concatenate(([0], np.cumsum(counts, dtype=np.int64))).astype(np.int64),
        "name": np.concatenate(names) if names else np.zeros(0, "U1"),
        "bbox": _join(annos, "bbox", kind, 4).astype(np.float32),
        "alpha": _join(annos, "alpha", kind),
        "box": np.concatenate((*place, _join(annos, "rotation_y", kind)[:, None]), axis=1),
    }


def _check_lengths(anno: Mapping, where: str) -> None:
    if "name" not in anno:
        raise DataError(
            f"{where}: no 'name' among its keys ({', '.join(map(str, anno)) or 'none'})"
        )
    for key in (
        "bbox",
        "location",
        "dimensions",
        "rotation_y",
        "alpha",
        "truncated",
        "occluded",
        "score",
    ):
        if key in anno and len(anno[key]) != len(anno["name"]):
            raise DataError(
                f"{where}: '{key}' has {len(anno[key])} rows, expected {len(anno['name'])} as 'name' has"
            )


def _join(annos: Sequence[Mapping], key: str, kind: str, width: int | None = None) -> np.ndarray:
    """Column ``key`` of all frames as float64, (N,) or (N, width)."""
    shape = (-1,) if width is None else (-1, width)
    for index, anno in enumerate(annos):
        if key not in anno:
            raise DataError(f"{kind} of frame number {index}: key '{key}' is missing")
    columns = [
        np.asarray(anno[key], dtype=np.float64).reshape(shape) for anno in annos if len(anno[key])
    ]
    return np.concatenate(columns) if columns else np.zeros((0,) + shape[1:])
