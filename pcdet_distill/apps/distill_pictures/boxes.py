"""Which boxes one detector has and the other has not, and whether they are right."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch

from ...ops.boxes import boxes_iou_bev

SAME_OBJECT_IOU = 0.1  # two boxes of one class that overlap so much mean the same thing
RIGHT_IOU = 0.5  # a box with so much overlap with a labelled one of its class is right
MOVED_M = 0.2  # a centre that moved less stands where it stood
TURNED_RAD = math.radians(10)


@dataclasses.dataclass(frozen=True)
class Boxes:
    """Detections or labels of one frame: (N, 7 + C), (N,), (N,)."""

    boxes: np.ndarray
    scores: np.ndarray
    names: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)

    def above(self, score: float) -> Boxes:
        """Those with at least this score."""
        kept = self.scores >= score
        return Boxes(self.boxes[kept], self.scores[kept], self.names[kept])


@dataclasses.dataclass(frozen=True)
class Change:
    """One box that differs.

    Attributes:
        kind: ``gained``, ``lost`` or ``moved``.
        name: its class.
        before, after: rows; -1 for none.
        is_right: whether it overlaps a labelled object of its class; of a moved box, whether it
            does so afterwards.
        error_before_m, error_after_m: distance of the centre from that of the labelled object; NaN
            where there is none.
    """

    kind: str
    name: str
    before: int
    after: int
    is_right: bool
    error_before_m: float = math.nan
    error_after_m: float = math.nan


def changed_boxes(before: Boxes, after: Boxes, truth: Boxes) -> list[Change]:
    """What ``after`` gained, lost and moved, compared with ``before``."""
    partner = partners(before, after, SAME_OBJECT_IOU)
    right_before = partners(before, truth, RIGHT_IOU)
    right_after = partners(after, truth, RIGHT_IOU)
    changes = []
    for row, other in enumerate(partner):
        label_before = int(right_before[row])
        error_before = centre_distance(before, row, truth, label_before)
        if other < 0:
            changes.append(
                Change(
                    "lost",
                    str(before.names[row]),
                    row,
                    -1,
                    label_before >= 0,
                    error_before_m=error_before,
                )
            )
        elif has_moved(before.boxes[row], after.boxes[other]):
            label = int(right_after[other])
            known = label if label >= 0 else label_before
            changes.append(
                Change(
                    "moved",
                    str(before.names[row]),
                    row,
                    int(other),
                    label >= 0,
                    centre_distance(before, row, truth, known),
                    centre_distance(after, int(other), truth, known),
                )
            )
    for row in sorted(set(range(len(after))) - set(partner.tolist())):
        label = int(right_after[row])
        error = centre_distance(after, row, truth, label)
        name = str(after.names[row])
        changes.append(Change("gained", name, -1, row, label >= 0, error_after_m=error))
    return changes


def partners(first: Boxes, second: Boxes, least_iou: float) -> np.ndarray:
    """(N,) row of ``second`` that belongs to each of ``first``; -1 for none.

    Pairs of one class by their overlap seen from above, the largest first; each box has one
    partner.
    """
    partner = np.full(len(first), -1)
    if len(first) == 0 or len(second) == 0:
        return partner
    overlap = boxes_iou_bev(as_tensor(first.boxes), as_tensor(second.boxes)).numpy()
    same_class = first.names[:, None] == second.names[None]
    overlap = np.where(same_class, overlap, 0.0)
    taken = np.zeros(len(second), dtype=bool)
    for place in np.argsort(-overlap, axis=None, kind="stable"):
        row, column = np.unravel_index(place, overlap.shape)
        if overlap[row, column] < least_iou:
            break
        if partner[row] < 0 and not taken[column]:
            partner[row] = column
            taken[column] = True
    return partner


def has_moved(box: np.ndarray, other: np.ndarray) -> bool:
    """Whether centre or heading differ by more than a little; half turns count as none."""
    shift_m = math.hypot(*(other[:2] - box[:2]))
    turn_rad = abs(math.remainder(float(other[6] - box[6]), math.pi))
    return shift_m > MOVED_M or turn_rad > TURNED_RAD


def centre_distance(boxes: Boxes, row: int, truth: Boxes, label: int) -> float:
    """Metres between a box and a labelled one, seen from above; NaN without one."""
    if label < 0:
        return math.nan
    return math.hypot(*(boxes.boxes[row, :2] - truth.boxes[label, :2]))


def as_tensor(boxes: np.ndarray) -> torch.Tensor:
    """(N, 7) float32."""
    return torch.from_numpy(np.ascontiguousarray(boxes[:, :7], dtype=np.float32))
