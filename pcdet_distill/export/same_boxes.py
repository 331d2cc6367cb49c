"""The final boxes of two sides: whether they are the same, but for what rounding decides.

A threshold is a step: of the scores 0.1000001 and 0.0999999 one is a detection. A box that only one
side has is excused where rounding explains it:

* the other side has it too when a threshold is moved by the tolerance, or when the number of boxes
  has no limit: at the limit, the last of several equal scores drop out;
* or a box with the same score to the last digit took its place in NMS;
* or such a box, which only the other side has, suppresses it.

Every excused box is counted, so that a report can say so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

import numpy as np

from .boxes import FrameBoxes
from .config import NmsGroup, PostProcessing
from .raw_outputs import TOLERANCE, with_nearest_heading

# The final boxes of one side, by these rules.
Select: TypeAlias = Callable[[PostProcessing], FrameBoxes]


class Side(NamedTuple):
    """One of the two.

    Attributes:
        boxes: its final boxes.
        select: gives its boxes by other rules.
    """

    boxes: FrameBoxes
    select: Select


@dataclasses.dataclass(frozen=True)
class BoxComparison:
    """The final boxes of one frame on two sides.

    Attributes:
        num_same: boxes that both have.
        num_excused: boxes that one side has because of rounding.
        missing: expected boxes that were not found.
        unexpected: found boxes that were not expected.
    """

    num_same: int
    num_excused: int
    missing: FrameBoxes
    unexpected: FrameBoxes

    @property
    def is_same(self) -> bool:
        """Whether no box is missing or unexpected."""
        return not len(self.missing.scores) and not len(self.unexpected.scores)


def same_boxes(expected: Side, found: Side, rules: PostProcessing | None = None) -> BoxComparison:
    """Compare the final boxes of one frame, and excuse what rounding decides.

    Args:
        expected, found: the two sides.
        rules: that made the boxes. None when these are themselves in question: then only boxes of
            equal scores may stand for each other.
    """
    strict = without_excuse(expected.boxes, found.boxes)
    missing, unexpected = strict.missing, strict.unexpected
    first = _is_explained(missing, found, rules)
    second = _is_explained(unexpected, expected, rules)
    # A box that took another's place suppresses neighbours of its own, and these again others.
    while True:
        more_of_first = first | _are_near(missing, _rows(unexpected, second))
        more_of_second = second | _are_near(unexpected, _rows(missing, first))
        if (more_of_first == first).all() and (more_of_second == second).all():
            break
        first, second = more_of_first, more_of_second
    return BoxComparison(
        num_same=strict.num_same,
        num_excused=int(first.sum() + second.sum()),
        missing=_rows(missing, ~first),
        unexpected=_rows(unexpected, ~second),
    )


def without_excuse(expected: FrameBoxes, found: FrameBoxes) -> BoxComparison:
    """Compare two sides box by box."""
    partners = partners_of(expected, found)
    is_taken = np.zeros(len(found.scores), dtype=bool)
    is_taken[partners[partners >= 0]] = True
    return BoxComparison(
        num_same=int(is_taken.sum()),
        num_excused=0,
        missing=_rows(expected, partners < 0),
        unexpected=_rows(found, ~is_taken),
    )


def _rows(boxes: FrameBoxes, chosen: np.ndarray) -> FrameBoxes:
    return FrameBoxes(*(column[chosen] for column in boxes))


def partners_of(own: FrameBoxes, other: FrameBoxes) -> np.ndarray:
    """For each box the row of the same box on the other side, -1 where there is none: (M,).

    Same is the label; score and numbers of the box agree to the tolerance. A box is the partner of
    one other at most.
    """
    partners = np.full(len(own.scores), -1)
    is_free = np.ones(len(other.scores), dtype=bool)
    for row, box in enumerate(own.boxes):
        mine = np.broadcast_to(box, other.boxes.shape)
        theirs = with_nearest_heading(other.boxes, mine)
        limit = TOLERANCE * np.maximum(np.abs(mine), 1)
        agrees = (np.abs(theirs - mine) <= limit).all(axis=1)
        agrees &= np.abs(other.scores - own.scores[row]) <= TOLERANCE
        agrees &= other.labels == own.labels[row]
        candidates = np.flatnonzero(agrees & is_free)
        if len(candidates):
            partners[row] = candidates[0]
            is_free[candidates[0]] = False
    return partners


def _is_explained(alone: FrameBoxes, other: Side, rules: PostProcessing | None) -> np.ndarray:
    """(M,) bool: which boxes without a partner on the other side are only a rounding away."""
    explained = _are_near(alone, other.boxes, same_score=True)
    if rules is not None and len(alone.scores):
        for moved in _moved_rules(rules):
            explained |= partners_of(alone, other.select(moved)) >= 0
    return explained


def _are_near(boxes: FrameBoxes, others: FrameBoxes, same_score: bool = False) -> np.ndarray:
    """(M,) bool: which boxes have one of the others so near that both may overlap.

    Args:
        same_score: only those of the others count that have the same score to the last digit.
    """
    offset_m = boxes.boxes[:, None, :2] - others.boxes[None, :, :2]
    half_diagonals = [np.linalg.norm(side.boxes[:, 3:5], axis=1) / 2 for side in (boxes, others)]
    reach_m = half_diagonals[0][:, None] + half_diagonals[1][None]
    is_near = np.linalg.norm(offset_m, axis=2) <= reach_m
    if same_score:
        is_near &= np.abs(boxes.scores[:, None] - others.scores[None]) <= TOLERANCE
    return is_near.any(axis=1)


def _moved_rules(rules: PostProcessing) -> Iterator[PostProcessing]:
    """The rules with thresholds a little lower and higher, and without limits of number."""
    for sign in (-1, 1):
        threshold = rules.score_threshold + sign * TOLERANCE
        yield dataclasses.replace(rules, score_threshold=threshold)
        groups = [_with_threshold(group, sign * TOLERANCE) for group in rules.nms]
        yield dataclasses.replace(rules, nms=tuple(groups))
    # Raw outputs agree, so a box that only one side admits has the score of the last that both do.
    groups = [
        dataclasses.replace(group, pre_maxsize=None, post_maxsize=None) for group in rules.nms
    ]
    yield dataclasses.replace(rules, nms=tuple(groups))


def _with_threshold(group: NmsGroup, change: float) -> NmsGroup:
    threshold = group.threshold + change * max(group.threshold, 1)
    return dataclasses.replace(group, threshold=threshold)
