"""What a data set holds: points, columns, classes, sizes, distances, points in boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...datasets.custom.labels import FrameLabels
from ...ops.points import points_in_boxes_mask


@dataclass(frozen=True)
class FrameStats:
    """What one frame holds.

    Attributes:
        frame: its name.
        num_points: points that are stored.
        num_bad: points that were dropped, because they hold NaN or infinity.
        lowest, highest: (C,) range of each column.
        points_in_boxes: (M,) points in each box.
        boxes: (M, 7) its boxes, moved with the cloud where that has an offset.
        offset: what was subtracted from world coordinates.
        note: the reader's note on the file.
    """

    frame: str
    num_points: int
    num_bad: int
    lowest: np.ndarray
    highest: np.ndarray
    points_in_boxes: np.ndarray
    boxes: np.ndarray
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    note: str = ""


@dataclass(frozen=True)
class ClassStats:
    """The objects of one class; sizes in metres.

    Attributes:
        boxes: (M, 7) all of them.
        num_points: (M,) points in each.
        num_frames: frames that hold some.
    """

    name: str
    boxes: np.ndarray
    num_points: np.ndarray
    num_frames: int

    @property
    def distances_m(self) -> np.ndarray:
        """(M,) from the sensor, on the ground."""
        distances: np.ndarray = np.linalg.norm(self.boxes[:, :2], axis=1)
        return distances

    @property
    def size(self) -> np.ndarray:
        """(3,) median length, width and height."""
        size: np.ndarray = np.median(self.boxes[:, 3:6], axis=0)
        return size

    @property
    def empty_share(self) -> float:
        """The share of boxes that hold no point."""
        return float((self.num_points == 0).mean())


@dataclass(frozen=True)
class Survey:
    """What a data set holds: its frames, its columns and its classes."""

    frames: tuple[FrameStats, ...]
    features: tuple[str, ...]
    classes: tuple[ClassStats, ...]

    @property
    def lowest(self) -> np.ndarray:
        """(C,) the smallest value of each column."""
        lowest: np.ndarray = np.min([frame.lowest for frame in self.frames], axis=0)
        return lowest

    @property
    def highest(self) -> np.ndarray:
        """(C,) the largest value of each column."""
        highest: np.ndarray = np.max([frame.highest for frame in self.frames], axis=0)
        return highest

    @property
    def is_constant(self) -> list[bool]:
        """Whether each column has one value in all frames."""
        return [bool(low == high) for low, high in zip(self.lowest, self.highest)]

    def of_classes(self, names: Sequence[str]) -> list[ClassStats]:
        """The classes of these names, in their order."""
        by_name = {entry.name: entry for entry in self.classes}
        return [by_name[name] for name in names]


def survey_frame(
    frame: str, points: np.ndarray, boxes: np.ndarray, *, num_bad: int = 0, note: str = ""
) -> FrameStats:
    """The statistics of a frame of points (N, C) and boxes (M, 7)."""
    inside = points_in_boxes_mask(points, boxes).sum(axis=1)
    return FrameStats(
        frame=frame,
        num_points=len(points),
        num_bad=num_bad,
        lowest=points.min(axis=0),
        highest=points.max(axis=0),
        points_in_boxes=inside.astype(np.int64),
        boxes=boxes,
        note=note,
    )


def survey_classes(
    frames: Sequence[FrameStats], labels: Mapping[str, FrameLabels]
) -> tuple[ClassStats, ...]:
    """The objects of every class, most frequent first."""
    boxes: dict[str, list[np.ndarray]] = {}
    counts: dict[str, list[int]] = {}
    in_frames: dict[str, int] = {}
    for stats in frames:
        if stats.frame not in labels:
            continue
        names = labels[stats.frame].names
        for name, box, count in zip(names, stats.boxes, stats.points_in_boxes):
            boxes.setdefault(str(name), []).append(box)
            counts.setdefault(str(name), []).append(int(count))
        for name in set(map(str, names)):
            in_frames[name] = in_frames.get(name, 0) + 1
    classes = [
        ClassStats(name, np.array(boxes[name]), np.array(counts[name]), in_frames[name])
        for name in boxes
    ]
    return tuple(sorted(classes, key=lambda entry: (-len(entry.boxes), entry.name)))
