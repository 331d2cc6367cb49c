"""A loaded frame as the viewer shows it: finite points, not too many, and boxes with counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...ops.points import points_in_boxes_mask
from ...report.viewer import ViewedBoxes, ViewedFrame
from .loaded import FrameBoxes, LoadedFrame

INTENSITY = "intensity"
# A LiDAR sees some hundred metres. One wild point would spoil the steps of all coordinates.
FARTHEST_M = 1000.0
IS_SIZE = np.isin(np.arange(7), (3, 4, 5))  # of the columns of a box


@dataclass(frozen=True)
class Cleaned:
    """Points that can be shown.

    Attributes:
        points: (N, 3) finite.
        intensity: (N,); None where there is none.
        notes: what was left out.
    """

    points: np.ndarray
    intensity: np.ndarray | None
    notes: list[str]


def view_frame(
    name: str, frame: LoadedFrame, boxes: Mapping[str, FrameBoxes], max_points: int
) -> ViewedFrame:
    """The frame with at most ``max_points`` points, and the boxes of each source.

    The points in a box are counted before the cloud is thinned.
    """
    cleaned = clean(frame)
    viewed: dict[str, ViewedBoxes] = {}
    notes = cleaned.notes
    for source, found in boxes.items():
        viewed[source], num_bad = count_points(found, cleaned.points)
        if num_bad:
            notes.append(f"{num_bad} boxes of {source} with NaN or without a size left out")
    points, intensity = cleaned.points, cleaned.intensity
    kept = thinned(len(points), max_points)
    if kept is not None:
        notes.append(f"{max_points:,} of {len(points):,} points shown, drawn evenly")
        points = points[kept]
        intensity = None if intensity is None else intensity[kept]
    return ViewedFrame(name, points, intensity, viewed, notes)


def clean(frame: LoadedFrame) -> Cleaned:
    """Without NaN, infinity, and points far beyond what a sensor sees."""
    cloud = frame.cloud
    columns = cloud.points[:, :3]
    intensity = None
    if INTENSITY in cloud.features:
        intensity = cloud.points[:, cloud.features.index(INTENSITY)]
        columns = np.column_stack([columns, intensity])
    good = np.isfinite(columns).all(axis=1)
    notes = []
    if not good.all():
        num_bad = len(good) - int(good.sum())
        notes.append(f"{num_bad:,} of {len(good):,} points hold NaN or infinity, left out")
    points = cloud.points[good, :3]
    near = np.ones(len(points), dtype=bool)
    if len(points):
        middle = np.median(points, axis=0)
        near = (np.abs(points - middle) <= FARTHEST_M).all(axis=1)
    if not near.all():
        num_far = len(near) - int(near.sum())
        notes.append(f"{num_far:,} points farther than {FARTHEST_M:g} m away left out")
    if not near.any():
        notes.append("it holds no points")
    return Cleaned(points[near], None if intensity is None else intensity[good][near], notes)


def thinned(num_points: int, max_points: int) -> np.ndarray | None:
    """Which points to keep of too many; None for all.

    They are drawn by chance. Every k-th point would be one beam of a sensor that stores a column
    of k beams after the other.
    """
    if num_points <= max_points:
        return None
    drawn = np.random.default_rng(0).choice(num_points, max_points, replace=False)
    return np.sort(drawn)


def count_points(found: FrameBoxes, points: np.ndarray) -> tuple[ViewedBoxes, int]:
    """The boxes that can be drawn with the points inside each, and how many cannot be drawn."""
    places = np.asarray(found.boxes[:, :7], dtype=np.float64)
    usable = np.isfinite(places) & ((places > 0) | ~IS_SIZE)
    good: np.ndarray = np.all(usable, axis=1)
    boxes = found.boxes[good]
    # One box at a time: the mask of all would take a byte for each box and point.
    counts = [int(points_in_boxes_mask(points, box[None, :7]).sum()) for box in boxes]
    viewed = ViewedBoxes(
        boxes=boxes,
        names=[str(name) for name in found.names[good]],
        num_points=np.array(counts, dtype=np.int64),
        scores=None if found.scores is None else found.scores[good],
    )
    return viewed, len(good) - int(good.sum())
