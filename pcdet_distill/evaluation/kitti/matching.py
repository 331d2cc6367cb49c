"""KITTI's greedy matching of objects with detections, and the counts at each score threshold.

The rules are those of KITTI's object development kit:

* Objects choose a detection one after another, in the order of the label file. A detection that is
  taken is gone for the objects behind; there is no globally best assignment.
* A first pass finds the score thresholds. There an object takes the detection of the best *score*.
* A second pass counts at each threshold. There an object takes the one of the best *overlap*.
* An ignored object or detection may be matched, and the match then counts neither for nor against.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np

from .frames import COUNTED, IGNORED, OUT

NONE = -1  # index of a detection where there is none
# A call would count references to every array of MatchInputs: a third of the whole time.
inlined = numba.njit(cache=True, inline="always")


class MatchInputs(NamedTuple):
    """Arrays that one class, difficulty and metric are matched by.

    Frame ``f`` owns the G objects ``gt_start[f]`` to ``gt_start[f + 1]`` and the detections
    ``dt_start[f]`` to ``dt_start[f + 1]``. The overlap of its detection d and its object g, both
    counted within the frame, is ``overlap[pair_start[f] + d * G + g]``.

    Attributes:
        gt_start, dt_start, pair_start: (F + 1,) int64.
        gt_role, dt_role: (N,) int8, COUNTED, IGNORED or OUT.
        gt_alpha, dt_alpha: (N,) float64 observation angles in radians.
        dt_score: (D,) float64.
        dt_dontcare: (D,) float32, share of the detection's image box in a DontCare region.
        overlap: (P,) float32.
        min_overlap: a match overlaps more than this.
    """

    gt_start: np.ndarray
    gt_role: np.ndarray
    gt_alpha: np.ndarray
    dt_start: np.ndarray
    dt_role: np.ndarray
    dt_alpha: np.ndarray
    dt_score: np.ndarray
    dt_dontcare: np.ndarray
    pair_start: np.ndarray
    overlap: np.ndarray
    min_overlap: float


@numba.njit(cache=True)
def matched_scores(inputs: MatchInputs) -> np.ndarray:
    """Scores (K,) float64 of the detections that match a counted object when all take part."""
    scores = np.empty(len(inputs.gt_role))
    num_matched = 0
    taken = np.zeros(len(inputs.dt_role), np.bool_)
    for frame in range(len(inputs.gt_start) - 1):
        for g in range(inputs.gt_start[frame], inputs.gt_start[frame + 1]):
            if inputs.gt_role[g] == OUT:
                continue
            best = _best_scored(inputs, frame, g, taken)
            if best == NONE:
                continue
            taken[best] = True
            if inputs.gt_role[g] == COUNTED and inputs.dt_role[best] == COUNTED:
                scores[num_matched] = inputs.dt_score[best]
                num_matched += 1
    return scores[:num_matched]


@numba.njit(cache=True)
def recall_thresholds(scores: np.ndarray, num_objects: int, num_points: int) -> np.ndarray:
    """Scores (T,) at which the recall comes nearest to 0, 1/40, 2/40, ... 1.

    Args:
        scores: (K,) of the matched detections, falling.
        num_objects: number of counted objects.
        num_points: number of recall points, 41.
    """
    thresholds = np.empty(min(len(scores), num_points))
    num_found = 0
    wanted_recall = 0.0
    for i in range(len(scores)):
        is_last = i == len(scores) - 1
        recall = (i + 1) / num_objects
        next_recall = recall if is_last else (i + 2) / num_objects
        # The next score comes nearer to the wanted recall than this one. The last is always taken.
        if (next_recall - wanted_recall < wanted_recall - recall) and not is_last:
            continue
        if num_found == num_points:
            break
        thresholds[num_found] = scores[i]
        num_found += 1
        wanted_recall += 1 / (num_points - 1.0)
    return thresholds[:num_found]


@numba.njit(cache=True)
def count_matches(inputs: MatchInputs, thresholds: np.ndarray) -> np.ndarray:
    """Counts (T, 3) float64 at each score threshold.

    The columns are true positives, false positives, and the orientation similarity summed over the
    true positives. Detections with a score below the threshold do not take part.
    """
    counts = np.zeros((len(thresholds), 3))
    taken = np.zeros(len(inputs.dt_role), np.bool_)
    for frame in range(len(inputs.gt_start) - 1):
        first = inputs.dt_start[frame]
        last = inputs.dt_start[frame + 1]
        if first == last:
            continue
        for t in range(len(thresholds)):
            taken[first:last] = False
            _count_true_positives(inputs, frame, thresholds[t], taken, counts[t])
            counts[t, 1] += _false_positives(inputs, frame, thresholds[t], taken)
    return counts


@inlined
def _count_true_positives(inputs, frame, threshold, taken, counts):
    """Match the objects of a frame: mark detections as ``taken``, add to ``counts`` (3,)."""
    for g in range(inputs.gt_start[frame], inputs.gt_start[frame + 1]):
        if inputs.gt_role[g] == OUT:
            continue
        best = _best_overlapping(inputs, frame, g, threshold, taken)
        if best == NONE:
            continue
        taken[best] = True
        if inputs.gt_role[g] == COUNTED and inputs.dt_role[best] == COUNTED:
            counts[0] += 1
            turn = inputs.gt_alpha[g] - inputs.dt_alpha[best]
            counts[2] += (1.0 + math.cos(turn)) / 2.0


@inlined
def _false_positives(inputs, frame, threshold, taken):
    """Detections of a frame that matched no object and lie in no DontCare region."""
    num_false = 0
    for d in range(inputs.dt_start[frame], inputs.dt_start[frame + 1]):
        takes_part = inputs.dt_role[d] == COUNTED and inputs.dt_score[d] >= threshold
        if takes_part and not taken[d] and not inputs.dt_dontcare[d] > inputs.min_overlap:
            num_false += 1
    return num_false


@inlined
def _best_scored(inputs, frame, g, taken):
    """The free detection of the best score that overlaps object ``g`` enough, or NONE."""
    first = inputs.dt_start[frame]
    width = inputs.gt_start[frame + 1] - inputs.gt_start[frame]
    column = inputs.pair_start[frame] + g - inputs.gt_start[frame]
    best = NONE
    for d in range(first, inputs.dt_start[frame + 1]):
        if inputs.dt_role[d] == OUT or taken[d]:
            continue
        # Written as "not more", so that the overlap NaN of a degenerate contact is no match.
        if not inputs.overlap[column + (d - first) * width] > inputs.min_overlap:
            continue
        if best == NONE or inputs.dt_score[d] > inputs.dt_score[best]:
            best = d
    return best


@inlined
def _best_overlapping(inputs, frame, g, threshold, taken):
    """The free detection that overlaps object ``g`` best, or NONE.

    A counted detection goes before every ignored one, however well that overlaps. Among ignored
    ones the first is taken, as in KITTI's own program.
    """
    first = inputs.dt_start[frame]
    width = inputs.gt_start[frame + 1] - inputs.gt_start[frame]
    column = inputs.pair_start[frame] + g - inputs.gt_start[frame]
    best = NONE
    best_overlap = 0.0
    for d in range(first, inputs.dt_start[frame + 1]):
        if inputs.dt_role[d] == OUT or taken[d] or inputs.dt_score[d] < threshold:
            continue
        overlap = inputs.overlap[column + (d - first) * width]
        if not overlap > inputs.min_overlap:
            continue
        if inputs.dt_role[d] == COUNTED and overlap > best_overlap:
            best = d
            best_overlap = overlap
        elif inputs.dt_role[d] == IGNORED and best == NONE:
            best = d
    return best
