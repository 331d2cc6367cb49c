"""Average precision, recall and the best score threshold of a list of right and wrong detections.

With the detections sorted by score, the best first, TP(s) and FP(s) count those with a score of at
least s that are right and wrong, and N is the number of objects.

    precision P(s) = TP(s) / (TP(s) + FP(s))      recall R(s) = TP(s) / N

The best precision from a recall on is p(r) = max of P(s) over R(s) >= r.

* exact area: the sum of (R_i - R_{i-1}) p(R_i) over all recalls R_i that are reached.
* R40 and R11: KITTI's means of p over the recalls 1/40, 2/40, ... 1 and 0, 1/10, ... 1. KITTI reads
  p at the scores that come nearest to these recalls, at most one score for each point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..few_objects import NUM_RECALL_POINTS
from ..kitti.matching import recall_thresholds

APS = ("area", "R40", "R11")


@dataclass(frozen=True)
class Figures:
    """What one class reaches by one criterion, on one part of the objects.

    All in percent; None where there is no object.

    Attributes:
        num_objects: the number of objects that all figures are based on.
        num_detections: right and wrong detections.
        area, R40, R11: average precision.
        recall: share of the objects that any detection found.
        best_f1: the best harmonic mean of precision and recall over all score thresholds.
        best_score: the score threshold that gives it; None without a right detection.
    """

    num_objects: int
    num_detections: int
    area: float | None = None
    R40: float | None = None
    R11: float | None = None
    recall: float | None = None
    best_f1: float | None = None
    best_score: float | None = None

    def average_precision(self, kind: str) -> float | None:
        """One of ``APS``."""
        value: float | None = getattr(self, kind)
        return value


@dataclass(frozen=True)
class Curve:
    """The best precision from each recall on; the area under its steps is the exact area.

    Attributes:
        recall: (L,) that is reached, rising, 0 to 1.
        precision: (L,) 0 to 1, falling.
    """

    recall: np.ndarray
    precision: np.ndarray


def best_curve(scores: np.ndarray, is_right: np.ndarray, num_objects: int) -> Curve:
    """The curve of detections (D,) with falling scores, of which some are right."""
    if num_objects == 0 or len(scores) == 0:
        return Curve(np.zeros(0), np.zeros(0))
    is_last = _is_last_of_equal(scores)
    right = np.cumsum(is_right)[is_last]
    precision = right / np.arange(1, len(scores) + 1)[is_last]
    return Curve(right / num_objects, _best_from_each_on(precision))


def _is_last_of_equal(scores: np.ndarray) -> np.ndarray:
    """Mask (D,) of the last detection of each score.

    Detections of equal score cannot be told apart by a threshold: all of them count at once.
    """
    return np.append(scores[1:] != scores[:-1], True)[: len(scores)]


def score_list(scores: np.ndarray, is_right: np.ndarray, num_objects: int) -> Figures:
    """The figures of detections (D,) of which some are right.

    Args:
        scores: (D,) falling.
        is_right: (D,) bool; the others are wrong.
        num_objects: objects to be found.
    """
    if num_objects == 0:
        return Figures(0, len(scores))
    right = np.cumsum(is_right)
    seen = np.arange(1, len(scores) + 1)
    is_last = _is_last_of_equal(scores)
    levels = scores[is_last]
    right = right[is_last]
    precision = right / seen[is_last]
    f1 = 2 * right / (seen[is_last] + num_objects)
    curve = kitti_curve(scores[is_right], levels, precision, num_objects)
    has_match = bool(is_right.any())
    return Figures(
        num_objects=num_objects,
        num_detections=len(scores),
        area=100 * area_under_curve(right / num_objects, precision),
        R40=100 * float(curve[1:].mean()),
        R11=100 * float(curve[::4].mean()),
        recall=100 * float(is_right.sum()) / num_objects,
        best_f1=100 * float(f1.max()) if has_match else 0.0,
        best_score=float(levels[f1.argmax()]) if has_match else None,
    )


def area_under_curve(recall: np.ndarray, precision: np.ndarray) -> float:
    """Exact area under the best precision from each recall on; recall (L,) rises."""
    best = _best_from_each_on(precision)
    steps = np.diff(recall, prepend=0.0)
    return float((steps * best).sum())


def kitti_curve(
    right_scores: np.ndarray, levels: np.ndarray, precision: np.ndarray, num_objects: int
) -> np.ndarray:
    """KITTI's best precision (41,) from the recalls 0, 1/40, ... 1 on; 0 where it is not reached.

    Args:
        right_scores: (T,) scores of the right detections, falling.
        levels: (L,) all scores, falling, each once.
        precision: (L,) precision of the detections from each of them up.
        num_objects: objects to be found.
    """
    curve = np.zeros(NUM_RECALL_POINTS)
    thresholds = recall_thresholds(right_scores, num_objects, NUM_RECALL_POINTS)
    at_threshold = precision[np.searchsorted(-levels, -thresholds)]
    curve[: len(thresholds)] = _best_from_each_on(at_threshold)
    return curve


def _best_from_each_on(values: np.ndarray) -> np.ndarray:
    return np.maximum.accumulate(values[::-1])[::-1]
