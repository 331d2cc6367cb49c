"""Labels and detections of many frames as rows of flat arrays, paired by the name of the frame."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import numpy as np

from ...errors import DataError

LOGGER = logging.getLogger(__name__)

BOX_COLUMNS = 7  # x, y, z, dx, dy, dz, heading
ALL_COLUMNS = 9  # and the velocities along x and y
SIZES = slice(3, 6)
UNKNOWN_POINTS = -1
LABELLED = "gt_boxes_lidar"
IN_IMAGE_ONLY = "DontCare"  # KITTI's regions of the image: names without boxes

Anno = Mapping[str, object]
AnyRows = TypeVar("AnyRows", bound="Rows")


@dataclass(frozen=True)
class Rows:
    """Boxes of all frames in one list, frame after frame.

    Attributes:
        num_frames: number of frames F.
        frame: (N,) int64 number of the frame of each row, rising.
        name: (N,) str.
        box: (N, 9) float64 box with its velocity in m/s; NaN where the velocity is unknown.
    """

    num_frames: int
    frame: np.ndarray
    name: np.ndarray
    box: np.ndarray

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def start(self) -> np.ndarray:
        """(F + 1,) int64: frame f owns the rows ``start[f]`` to ``start[f + 1]``."""
        return np.searchsorted(self.frame, np.arange(self.num_frames + 1)).astype(np.int64)

    @property
    def distance_m(self) -> np.ndarray:
        """Distance (N,) of the centres from the sensor, on the ground."""
        return np.hypot(self.box[:, 0], self.box[:, 1])

    def named(self: AnyRows, names: Sequence[str]) -> AnyRows:
        """The rows of these classes."""
        return self.where(np.isin(self.name, list(names)))

    def where(self: AnyRows, mask: np.ndarray) -> AnyRows:
        """The rows of a mask (N,)."""
        columns = {}
        for key, value in vars(self).items():
            if isinstance(value, np.ndarray):
                columns[key] = value[mask]
        return replace(self, **columns)


@dataclass(frozen=True)
class Objects(Rows):
    """Labelled objects; ``num_points`` (N,) int64 is -1 where the labels do not tell it."""

    num_points: np.ndarray

    @property
    def know_points(self) -> bool:
        """Whether the labels tell the points of any object."""
        return bool((self.num_points != UNKNOWN_POINTS).any())


@dataclass(frozen=True)
class Detections(Rows):
    """Detections with their ``score`` (N,) float64; in each frame the best comes first."""

    score: np.ndarray


class PairedFrames(NamedTuple):
    """Objects and detections of the same frames.

    ``num_not_finite`` detections were left out, because their box or score is NaN or infinite.
    """

    objects: Objects
    detections: Detections
    num_not_finite: int = 0


def pair_frames(gt_annos: Sequence[Anno], det_annos: Sequence[Anno]) -> PairedFrames:
    """Objects and detections of the frames that have both.

    Of a frame that was detected twice, as where a sampler pads the last batch, the first counts.
    """
    labels = _labels_by_frame(gt_annos)
    detected: dict[str, Anno] = {}
    for number, anno in enumerate(det_annos):
        name = _frame_id(anno, f"detections of frame number {number}")
        if name not in labels:
            raise DataError(f"LiDAR evaluation: frame {name} was detected, but has no labels")
        detected.setdefault(name, anno)
    chosen = [name for name in labels if name in detected]
    if not chosen:
        raise DataError("LiDAR evaluation: none of the labelled frames was detected")
    if len(chosen) < len(labels):
        LOGGER.warning(
            "evaluated on %d of %d frames: the rest has no detections", len(chosen), len(labels)
        )
    objects = _pack_objects({name: labels[name] for name in chosen})
    detections = _pack_detections({name: detected[name] for name in chosen})
    places = detections.box[:, :BOX_COLUMNS]
    is_finite = np.isfinite(places).all(axis=1) & np.isfinite(detections.score)
    return PairedFrames(objects, detections.where(is_finite), int((~is_finite).sum()))


def names_of_pairs(gt_annos: Sequence[Anno], det_annos: Sequence[Anno]) -> list[str]:
    """The frame that each number of ``pair_frames`` stands for."""
    detected = {str(anno["frame_id"]) for anno in det_annos}
    return [name for name in map(_name_of, gt_annos) if name in detected]


def _name_of(anno: Anno) -> str:
    return str(anno["frame_id"])


def _labels_by_frame(gt_annos: Sequence[Anno]) -> dict[str, Anno]:
    labels: dict[str, Anno] = {}
    for number, anno in enumerate(gt_annos):
        name = _frame_id(anno, f"labels of frame number {number}")
        if name in labels:
            raise DataError(f"LiDAR evaluation: frame {name} is labelled twice")
        labels[name] = anno
    return labels


def _frame_id(anno: Anno, where: str) -> str:
    if "frame_id" not in anno:
        listed = ", ".join(map(str, anno)) or "none"
        raise DataError(f"LiDAR evaluation: {where}: no 'frame_id' among its keys ({listed})")
    return str(anno["frame_id"])


def _pack_objects(annos: Mapping[str, Anno]) -> Objects:
    parts = []
    counts = []
    for frame_id, anno in annos.items():
        where = f"labels of frame {frame_id}"
        names, boxes = _names_and_boxes(anno, LABELLED, where)
        parts.append((names, boxes))
        counts.append(_numbers_of_points(anno, len(names), where))
    rows = _join(parts)
    return Objects(**vars(rows), num_points=np.concatenate(counts))


def _pack_detections(annos: Mapping[str, Anno]) -> Detections:
    parts = []
    scores = []
    for frame_id, anno in annos.items():
        where = f"detections of frame {frame_id}"
        names, boxes = _names_and_boxes(anno, "boxes_lidar", where)
        score = _column(anno, "score", where)
        _check_count(score, len(names), "score", where)
        best_first = np.argsort(-score, kind="stable")
        parts.append((names[best_first], boxes[best_first]))
        scores.append(score[best_first])
    rows = _join(parts)
    return Detections(**vars(rows), score=np.concatenate(scores))


def _join(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> Rows:
    counts = [len(names) for names, _ in parts]
    return Rows(
        num_frames=len(parts),
        frame=np.repeat(np.arange(len(parts)), counts),
        name=np.concatenate([names for names, _ in parts]),
        box=np.concatenate([boxes for _, boxes in parts]),
    )


def _names_and_boxes(anno: Anno, key: str, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Names (N,) and boxes (N, 9) of one frame, checked."""
    if "name" not in anno:
        listed = ", ".join(map(str, anno))
        raise DataError(f"LiDAR evaluation: {where}: no 'name' among its keys ({listed})")
    names = np.asarray(anno["name"]).astype(str)
    boxes = _boxes(anno, key, where)
    if len(names) != len(boxes):
        names = names[names != IN_IMAGE_ONLY]
    _check_count(boxes, len(names), key, where)
    return names, boxes


def _boxes(anno: Anno, key: str, where: str) -> np.ndarray:
    """Boxes (N, 9) float64 of one frame; velocities that are not given are NaN."""
    values = _column(anno, key, where)
    if values.size == 0:
        return np.zeros((0, ALL_COLUMNS))
    if values.ndim != 2 or values.shape[1] not in (BOX_COLUMNS, ALL_COLUMNS):
        raise DataError(
            f"LiDAR evaluation: {where}: '{key}' has the shape {values.shape}, expected "
            f"{BOX_COLUMNS} columns (x, y, z, dx, dy, dz, heading) or {ALL_COLUMNS} (and vx, vy)"
        )
    if key == LABELLED:
        _check_labelled(values, where)
    boxes = np.full((len(values), ALL_COLUMNS), np.nan)
    boxes[:, : values.shape[1]] = values
    return boxes


def _check_labelled(boxes: np.ndarray, where: str) -> None:
    """Refuse labels with NaN or without size; a model's detections may have both."""
    if not np.isfinite(boxes[:, :BOX_COLUMNS]).all():
        raise DataError(f"LiDAR evaluation: {where}: a labelled box holds NaN or infinity")
    if (boxes[:, SIZES] <= 0).any():
        raise DataError(f"LiDAR evaluation: {where}: a labelled box has a size of 0 or below")


def _numbers_of_points(anno: Anno, count: int, where: str) -> np.ndarray:
    """Points (N,) int64 of the objects of one frame."""
    if anno.get("num_points_in_gt") is None:
        return np.full(count, UNKNOWN_POINTS)
    numbers = _column(anno, "num_points_in_gt", where).astype(np.int64)
    if len(numbers) > count and (numbers[count:] == UNKNOWN_POINTS).all():
        numbers = numbers[:count]  # KITTI's infos have rows for regions of the image at the end
    _check_count(numbers, count, "num_points_in_gt", where)
    return numbers


def _column(anno: Anno, key: str, where: str) -> np.ndarray:
    if key not in anno:
        listed = ", ".join(map(str, anno))
        raise DataError(f"LiDAR evaluation: {where}: no '{key}' among its keys ({listed})")
    return np.asarray(anno[key], dtype=np.float64)


def _check_count(values: np.ndarray, count: int, key: str, where: str) -> None:
    if len(values) != count:
        raise DataError(
            f"LiDAR evaluation: {where}: '{key}' has {len(values)} rows, expected {count} as "
            "'name' has"
        )


def names_left_out(objects: Objects, class_names: Sequence[str]) -> Counter[str]:
    """How many labelled objects have a name that is not evaluated, by name."""
    others = ~np.isin(objects.name, list(class_names))
    return Counter(objects.name[others].tolist())
