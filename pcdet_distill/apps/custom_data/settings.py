"""The values of the yaml that depend on the data: range, pillars, anchors, limits, epochs.

Each is computed from the labelled boxes and some of the clouds, by a rule that the yaml's comments
state. The rules give KITTI's published values when they are applied to KITTI.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...ops.boxes import boxes3d_nearest_bev_iou, boxes_to_corners_3d
from .survey import ClassStats

# A pillar is a quarter of the narrowest class: KITTI has 0.16 m for pedestrians of 0.6 m.
PILLARS_PER_WIDTH = 4
PILLAR_STEP_M = 0.02
SMALLEST_PILLAR_M = 0.08
LARGEST_PILLAR_M = 0.32
MOST_PILLARS = 512 * 512  # of the whole grid; memory and time grow with it
COARSEST = 2.0  # times the wanted pillar; above it the farthest boxes are given up
KEPT_SHARES = (1.0, 0.98, 0.95, 0.9, 0.85, 0.8)
GRID_MULTIPLE = 16  # the backbone halves the map three times
MANY_BOXES = 200  # with fewer, no box counts as an outlier
OUTLIERS_PERCENT = 0.5
FEWEST_POINTS = 5  # a farther object with fewer is hardly ever found
MARGIN_M = 1.0
MARGIN_Z_M = 0.5
ONE_SIDED = 0.1  # with fewer of the boxes on one side, the sensor looks to the other
LARGE_FOOTPRINT_M2 = 2.0  # cars and larger are matched more strictly, as on KITTI
FEATURE_MAP_STRIDE = 2
SPARE_TRAIN = 1.3  # pasted objects make further pillars
SPARE_TEST = 2.0  # a new place may have more of them than the frames here
FEWEST_VOXELS = 2000
TRAIN_STEPS = 4000
FEWEST_EPOCHS = 20
MOST_EPOCHS = 80
SHORT_TRAINING_STEPS = 5000


@dataclass(frozen=True)
class Anchor:
    """The anchor of a class.

    Attributes:
        size: length, width and height in metres.
        bottom_m: z of its underside.
        matched, unmatched: IoU from which it is an object, below which it is background.
    """

    name: str
    size: tuple[float, float, float]
    bottom_m: float
    matched: float
    unmatched: float


@dataclass(frozen=True)
class Grid:
    """The part of the world that the detector sees, and its pillars.

    Attributes:
        limits: x, y, z minimum, then maximum, in metres.
        pillar_m: edge of a pillar.
        flip_axes: axes of ``random_world_flip`` that keep the objects inside.
    """

    limits: tuple[float, ...]
    pillar_m: float
    flip_axes: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Pillars along x and y."""
        nx = round((self.limits[3] - self.limits[0]) / self.pillar_m)
        ny = round((self.limits[4] - self.limits[1]) / self.pillar_m)
        return nx, ny


@dataclass(frozen=True)
class VoxelLimits:
    """How many pillars, and points in a pillar, the detector takes.

    Attributes:
        most: pillars with points in the fullest of the counted frames.
    """

    max_points: int
    train: int
    test: int
    most: int


@dataclass(frozen=True)
class Sampling:
    """How many objects of a class are pasted into a frame, and how many points each must have."""

    count: int
    min_points: int


@dataclass(frozen=True)
class Schedule:
    """How long the detector is trained."""

    batch_size: int
    epochs: int
    is_short: bool


def choose_grid(classes: Sequence[ClassStats]) -> Grid:
    """Range and pillars by the boxes of the trained classes that hold points enough to be found.

    Few far boxes may ask for a range with too many pillars, or with pillars too coarse for the
    narrowest class. Then the farthest are given up, up to a fifth.
    """
    boxes = _boxes_with_points(classes)
    distances_m = np.linalg.norm(boxes[:, :2], axis=1)
    narrowest_m = min(float(entry.size[:2].min()) for entry in classes)
    wanted_m = _wanted_pillar(narrowest_m)
    for share in KEPT_SHARES:
        near = boxes[distances_m <= np.quantile(distances_m, share)]
        grid = _grid_of_boxes(near, wanted_m)
        if grid.pillar_m <= COARSEST * wanted_m:
            break
    return grid


def _grid_of_boxes(boxes: np.ndarray, wanted_m: float) -> Grid:
    """The range of boxes (M, 7), with pillars of ``wanted_m`` or what its area allows."""
    corners = boxes_to_corners_3d(boxes.astype(np.float32))
    low = _low(corners.min(axis=1)) - [MARGIN_M, MARGIN_M, MARGIN_Z_M]
    high = _high(corners.max(axis=1)) + [MARGIN_M, MARGIN_M, MARGIN_Z_M]
    flip_axes = []
    for axis, flipped_along in ((0, "y"), (1, "x")):
        if _is_two_sided(boxes[:, axis]):
            # A flipped scene must fit into the range as well.
            reach = max(-low[axis], high[axis])
            low[axis], high[axis] = -reach, reach
            flip_axes.append(flipped_along)
    pillar_m = _affordable_pillar(wanted_m, float(np.prod((high - low)[:2])))
    x0, x1 = _whole_pillars(low[0], high[0], pillar_m)
    y0, y1 = _whole_pillars(low[1], high[1], pillar_m)
    z0 = math.floor(low[2] * 10) / 10
    z1 = math.ceil(high[2] * 10) / 10
    limits = tuple(round(value, 2) for value in (x0, y0, z0, x1, y1, z1))
    return Grid(limits, pillar_m, tuple(sorted(flip_axes)))


def covered_share(classes: Sequence[ClassStats], grid: Grid) -> float:
    """The share of all boxes whose centres lie in the range."""
    centres = np.concatenate([entry.boxes[:, :3] for entry in classes])
    low = np.array(grid.limits[:3])
    high = np.array(grid.limits[3:])
    return float(((centres >= low) & (centres <= high)).all(axis=1).mean())


def _boxes_with_points(classes: Sequence[ClassStats]) -> np.ndarray:
    """(M, 7) the boxes with FEWEST_POINTS; those with any, or all, where there are none."""
    for least in (FEWEST_POINTS, 1, 0):
        boxes = np.concatenate([entry.boxes[entry.num_points >= least] for entry in classes])
        if len(boxes):
            break
    return boxes


def _low(values: np.ndarray) -> np.ndarray:
    percent = OUTLIERS_PERCENT if len(values) >= MANY_BOXES else 0.0
    return np.asarray(np.percentile(values, percent, axis=0), dtype=np.float64)


def _high(values: np.ndarray) -> np.ndarray:
    percent = OUTLIERS_PERCENT if len(values) >= MANY_BOXES else 0.0
    return np.asarray(np.percentile(values, 100 - percent, axis=0), dtype=np.float64)


def _is_two_sided(places: np.ndarray) -> bool:
    """Whether boxes lie on both sides of the sensor along an axis."""
    positive = float((places > 0).mean())
    return ONE_SIDED <= positive <= 1 - ONE_SIDED


def _wanted_pillar(narrowest_m: float) -> float:
    """The edge of a pillar that is fine enough for the narrowest class."""
    wanted_m = narrowest_m / PILLARS_PER_WIDTH
    wanted_m = min(max(wanted_m, SMALLEST_PILLAR_M), LARGEST_PILLAR_M)
    return round(round(wanted_m / PILLAR_STEP_M) * PILLAR_STEP_M, 2)


def _affordable_pillar(wanted_m: float, area_m2: float) -> float:
    """The wanted edge, or a longer one with which the area has MOST_PILLARS."""
    affordable_m = math.sqrt(area_m2 / MOST_PILLARS)
    affordable_m = math.ceil(affordable_m / PILLAR_STEP_M) * PILLAR_STEP_M
    return round(max(wanted_m, affordable_m), 2)


def _whole_pillars(low_m: float, high_m: float, pillar_m: float) -> tuple[float, float]:
    """The ends moved outwards, so that a multiple of GRID_MULTIPLE pillars lies between."""
    unit = GRID_MULTIPLE * pillar_m
    length = math.ceil((high_m - low_m) / unit - 1e-6) * unit
    middle = (low_m + high_m) / 2
    # Ends on whole pillars keep the numbers short: -25.6 instead of -25.531.
    first = round((middle - length / 2) / pillar_m) * pillar_m
    return first, first + length


def choose_anchor(entry: ClassStats, pillar_m: float) -> Anchor:
    """The anchor of a class: median size and underside; thresholds that its boxes can reach."""
    length, width, height = (round(float(value), 2) for value in entry.size)
    bottoms = entry.boxes[:, 2] - entry.boxes[:, 5] / 2
    is_large = length * width >= LARGE_FOOTPRINT_M2
    matched = 0.6 if is_large else 0.5
    reachable = min(_iou_of_usual_box(entry), _iou_between_anchors(length, width, pillar_m))
    # At least half of the boxes shall have an anchor: classes of many sizes, and objects narrower
    # than two pillars, need a lower threshold.
    if reachable < matched:
        matched = max(0.3, math.floor(reachable * 20) / 20)
    return Anchor(
        name=entry.name,
        size=(length, width, height),
        bottom_m=round(float(np.median(bottoms)), 2),
        matched=matched,
        unmatched=round(matched - 0.15, 2),
    )


def _iou_of_usual_box(entry: ClassStats) -> float:
    """The IoU from above that half of the boxes have with an anchor at their own place."""
    anchor = np.zeros((1, 7), dtype=np.float32)
    anchor[0, 3:6] = entry.size
    boxes = entry.boxes.astype(np.float32)
    boxes[:, :3] = 0
    turned = anchor.copy()
    turned[0, 6] = np.pi / 2
    overlaps = boxes3d_nearest_bev_iou(
        torch.from_numpy(boxes), torch.from_numpy(np.concatenate([anchor, turned]))
    )
    return float(overlaps.max(dim=1).values.median())


def _iou_between_anchors(length_m: float, width_m: float, pillar_m: float) -> float:
    """The IoU from above of a box with the nearest anchor of its size, at the mean distance."""
    step_m = FEATURE_MAP_STRIDE * pillar_m
    shift_m = step_m / 4  # mean distance to the nearest anchor along each axis
    overlap = max(length_m - shift_m, 0) * max(width_m - shift_m, 0)
    return overlap / (2 * length_m * width_m - overlap)


def choose_voxel_limits(clouds: Iterable[np.ndarray], grid: Grid) -> VoxelLimits:
    """Limits by the pillars that some clouds (N, 3+) fill."""
    num_pillars = []
    points_in_pillars = []
    for points in clouds:
        counts = _points_in_pillars(points, grid)
        num_pillars.append(len(counts))
        points_in_pillars.append(counts)
    most = max(num_pillars)
    counts = np.concatenate(points_in_pillars)
    usual = float(np.percentile(counts, 95)) if len(counts) else 1.0
    return VoxelLimits(
        max_points=min(max(math.ceil(usual), 10), 32),
        train=max(FEWEST_VOXELS, _thousands(most * SPARE_TRAIN)),
        test=max(FEWEST_VOXELS, _thousands(most * SPARE_TEST)),
        most=most,
    )


def _points_in_pillars(points: np.ndarray, grid: Grid) -> np.ndarray:
    """The number of points in each pillar that has some."""
    low = np.array(grid.limits[:3])
    high = np.array(grid.limits[3:])
    inside = ((points[:, :3] >= low) & (points[:, :3] < high)).all(axis=1)
    cells = np.floor((points[inside, :2] - low[:2]) / grid.pillar_m).astype(np.int64)
    # One number a pillar: sorting numbers is ten times as fast as sorting rows.
    _, counts = np.unique(cells[:, 0] * (grid.shape[1] + 1) + cells[:, 1], return_counts=True)
    return counts


def _thousands(count: float) -> int:
    return math.ceil(count / 1000) * 1000


def choose_sampling(entry: ClassStats) -> Sampling:
    """Up to 15 pasted objects of a class, of at least 5 points; fewer where the data has fewer."""
    with_points = entry.num_points[entry.num_points > 0]
    median = float(np.median(with_points)) if len(with_points) else 0.0
    return Sampling(
        count=min(15, max(1, len(entry.boxes) // 2)), min_points=min(5, max(1, int(median)))
    )


def choose_schedule(num_train: int) -> Schedule:
    """About 4000 steps, within 20 to 80 epochs."""
    batch_size = 4 if num_train >= 400 else 2
    steps_an_epoch = math.ceil(num_train / batch_size)
    epochs = min(max(math.ceil(TRAIN_STEPS / steps_an_epoch), FEWEST_EPOCHS), MOST_EPOCHS)
    return Schedule(batch_size, epochs, epochs * steps_an_epoch < SHORT_TRAINING_STEPS)
