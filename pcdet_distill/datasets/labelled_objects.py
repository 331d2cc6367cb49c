"""Labelled objects with the points around them.

Most checks ask whether a box would hold more points if it were turned, moved or resized. For that
each object keeps the points around it, and the height of the ground beneath it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..ops.boxes import along_and_across
from ..ops.points import points_in_boxes_mask

MARGIN_M = 2.5  # points are kept so far beyond the corners of a box
MOST_REACH_M = 20.0  # of any box, also of one in centimetres
MOST_POINTS = 3000  # kept around one object
LEAST_GROUND_POINTS = 8
GROUND_PERCENTILE = 10
ABOVE_GROUND_M = 0.25  # higher points belong to objects
TALL_M = 1e4  # height of a box that is a column


@dataclass(frozen=True)
class LabelledObject:
    """One labelled box.

    Attributes:
        name: its class.
        box: (7 or more,) metres, and radians.
        around: (K, 3) points around it.
        raised: (K,) bool, those of them above the ground.
        ground_z: height of the ground beside it; NaN where too few points show it.
        num_points: points inside the box.
    """

    name: str
    box: np.ndarray
    around: np.ndarray
    raised: np.ndarray
    ground_z: float
    num_points: int

    @property
    def distance_m(self) -> float:
        """From the sensor, on the ground plane."""
        return float(np.hypot(self.box[0], self.box[1]))

    @property
    def bottom_z(self) -> float:
        """Height of its lower face."""
        return float(self.box[2] - self.box[5] / 2)

    def counts(self, boxes: np.ndarray) -> np.ndarray:
        """How many of the raised points each of boxes (H, 7) holds: (H,)."""
        if len(self.around) == 0:
            return np.zeros(len(boxes), dtype=np.int64)
        inside = points_in_boxes_mask(self.around[self.raised], boxes)
        return inside.sum(axis=1, dtype=np.int64)


@dataclass(frozen=True)
class Labelled:
    """The labels of a frame.

    Attributes:
        names: (M,) as they stand in the labels.
        boxes: (M, 7 or more) as the dataset loads them.
        objects: those with a finite box, with the points around them.
    """

    names: np.ndarray
    boxes: np.ndarray
    objects: list[LabelledObject]


def label_objects(points: np.ndarray, boxes: np.ndarray, names: np.ndarray) -> Labelled:
    """The labels of a frame with points (N, C) and boxes (M, 7 or more)."""
    places = np.ascontiguousarray(points[:, :3], dtype=np.float32)
    places = places[np.isfinite(places).all(axis=1)]
    objects = []
    for name, box in zip(names, boxes):
        if np.isfinite(box[:7]).all():
            objects.append(_with_points(str(name), box, places))
    return Labelled(names, boxes, objects)


def _with_points(name: str, box: np.ndarray, places: np.ndarray) -> LabelledObject:
    half_diagonal = float(np.hypot(box[3], box[4])) / 2
    reach = min(half_diagonal + MARGIN_M, MOST_REACH_M)
    offset = places[:, :2] - box[:2].astype(np.float32)
    around = places[(np.abs(offset) <= reach).all(axis=1)]
    inside = points_in_boxes_mask(around, box[None, :7].astype(np.float32))
    ground_z = ground_beside(around, box)
    if len(around) > MOST_POINTS:
        step = len(around) / MOST_POINTS
        kept = (np.arange(MOST_POINTS) * step).astype(int)
        around = around[kept]
    lowest = ground_z
    if np.isnan(lowest):
        lowest = float(around[:, 2].min()) if len(around) else 0.0
    return LabelledObject(
        name=name,
        box=box,
        around=around,
        raised=around[:, 2] > lowest + ABOVE_GROUND_M,
        ground_z=ground_z,
        num_points=int(inside.sum()),
    )


def ground_beside(around: np.ndarray, box: np.ndarray) -> float:
    """Height of the ground in points (K, 3) around a box; NaN where they do not show it.

    The ground is the low end of the points beside the footprint: most of them lie on it, and a few
    reflections below it must not count.
    """
    along, across = along_and_across(around[:, :2], box[None, :7])
    beside = (np.abs(along[0]) > box[3] / 2 + 0.2) | (np.abs(across[0]) > box[4] / 2 + 0.2)
    if np.count_nonzero(beside) < LEAST_GROUND_POINTS:
        return float("nan")
    return float(np.percentile(around[beside, 2], GROUND_PERCENTILE))


def tall(boxes: np.ndarray) -> np.ndarray:
    """Boxes (H, 7) as columns, whose heights do not matter."""
    columns = np.array(boxes, dtype=np.float32)[:, :7]
    columns[:, 5] = TALL_M
    return columns


@dataclass(frozen=True)
class Votes:
    """Objects whose box holds more points after a change, and those whose box holds fewer.

    Attributes:
        gains: number of objects that hold clearly more.
        losses: number that hold clearly fewer.
        informative: number of objects with enough points to say anything.
        before: points inside all boxes.
        after: the same after the change.
    """

    gains: int
    losses: int
    informative: int
    before: int
    after: int

    @property
    def share(self) -> float:
        """Gains of gains and losses."""
        return self.gains / max(self.gains + self.losses, 1)

    @property
    def gaining(self) -> float:
        """Share of the informative objects that gain."""
        return self.gains / max(self.informative, 1)


LEAST_POINTS = 8  # an object says nothing with fewer points in either box
CLEARLY_MORE = 1.25


def is_clearly_more(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Where one count of points (K,) is above another by more than chance."""
    return points > CLEARLY_MORE * others + 2


def vote(before: np.ndarray, after: np.ndarray) -> Votes:
    """Compare counts (K,) of points inside K boxes before and after a change."""
    enough = np.maximum(before, after) >= LEAST_POINTS
    gains = enough & is_clearly_more(after, before)
    losses = enough & is_clearly_more(before, after)
    return Votes(
        gains=int(gains.sum()),
        losses=int(losses.sum()),
        informative=int(enough.sum()),
        before=int(before.sum()),
        after=int(after.sum()),
    )


BoxChange = Callable[[np.ndarray], np.ndarray]


def counts_of_changes(
    objects: Iterable[LabelledObject], changes: Sequence[BoxChange], *, grounded: bool
) -> np.ndarray:
    """Raised points inside each object's box after each change: (objects, changes).

    Args:
        objects: with the points around them.
        changes: each maps a box (7,) to another.
        grounded: put every box on the ground first, so that wrong heights do not hide the rest.
    """
    rows = []
    for labelled in objects:
        boxes = np.stack([change(labelled.box[:7].copy()) for change in changes])
        if grounded and np.isfinite(labelled.ground_z):
            boxes[:, 2] = labelled.ground_z + boxes[:, 5] / 2
        rows.append(labelled.counts(boxes.astype(np.float32)))
    return np.array(rows, dtype=np.int64).reshape(-1, len(changes))


def has_size(labelled: LabelledObject) -> bool:
    """Whether the box has a volume."""
    return bool((labelled.box[3:6] > 0).all())
