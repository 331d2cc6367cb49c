"""KITTI's greedy matching of objects with detections, frame by frame, and the counts at each score threshold.

Objects choose in their given order. To find the score thresholds, an object takes the free detection with the best
score among those that overlap enough; to count, the one with the best overlap, and an ignored one only for lack of any
other.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from .frames import COUNTED, IGNORED, OUT

NOTHING = -1


@numba.njit(cache=True)
def matched_scores(
    gt_start, gt_role, dt_start, dt_role, dt_score, pair_start, overlap, min_overlap
):
    """Scores (K,) float64 of the detections that match a counted object when all detections take part."""
    scores = np.empty(len(gt_role))
    found = 0
    taken = np.zeros(len(dt_role), np.bool_)
    for frame in range(len(gt_start) - 1):
        first, width = dt_start[frame], gt_start[frame + 1] - gt_start[frame]
        for g in range(gt_start[frame], gt_start[frame + 1]):
            if gt_role[g] == OUT:
                continue
            column = pair_start[frame] + g - gt_start[frame]
            best = NOTHING
            for d in range(first, dt_start[frame + 1]):
                if (
                    dt_role[d] == OUT
                    or taken[d]
                    or not overlap[column + (d - first) * width] > min_overlap
                ):
                    continue
                if best == NOTHING or dt_score[d] > dt_score[best]:
                    best = d
            if best == NOTHING:
                continue
            taken[best] = True
            if gt_role[g] == COUNTED and dt_role[best] == COUNTED:
                scores[found] = dt_score[best]
                found += 1
    return scores[:found]


@numba.njit(cache=True)
def recall_thresholds(scores, num_objects, num_points):
    """Scores (T,) of ``scores`` (K,), sorted falling, at which the recall comes nearest to 0, 1/40, 2/40, ... 1."""
    thresholds = np.empty(min(len(scores), num_points))
    found = 0
    recall = 0.0
    for i in range(len(scores)):
        is_last = i == len(scores) - 1
        here = (i + 1) / num_objects
        after = here if is_last else (i + 2) / num_objects
        if (after - recall < recall - here) and not is_last:
            continue
        if found == num_points:
            break
        thresholds[found] = scores[i]
        found += 1
        recall += 1 / (num_points - 1.0)
    return thresholds[:found]


@numba.njit(cache=True)
def count_matches(
    gt_start,
    gt_role,
    gt_alpha,
    dt_start,
    dt_role,
    dt_alpha,
    dt_score,
    dt_dontcare,
    pair_start,
    overlap,
    min_overlap,
    thresholds,
):
    """Counts (T, 3) float64 at each score threshold: true positives, false positives, summed orientation similarity.

    A false positive that lies in a DontCare region by more than ``min_overlap`` (``dt_dontcare``) is not counted.
    """
    counts = np.zeros((len(thresholds), 3))
    taken = np.zeros(len(dt_role), np.bool_)
    for frame in range(len(gt_start) - 1):
        first, last, width = (
            dt_start[frame],
            dt_start[frame + 1],
            gt_start[frame + 1] - gt_start[frame],
        )
        if first == last:
            continue
        for t in range(len(thresholds)):
            taken[first:last] = False
            for g in range(gt_start[frame], gt_start[frame + 1]):
                if gt_role[g] == OUT:
                    continue
                column = pair_start[frame] + g - gt_start[frame]
                best = NOTHING
                best_overlap = 0.0
                for d in range(first, last):
                    if dt_role[d] == OUT or taken[d] or dt_score[d] < thresholds[t]:
                        continue
                    value = overlap[column + (d - first) * width]
                    if not value > min_overlap:
                        continue
                    if dt_role[d] == COUNTED and value > best_overlap:
                        best, best_overlap = d, value
                    elif dt_role[d] == IGNORED and best == NOTHING:
                        best = d
                if best == NOTHING:
                    continue
                taken[best] = True
                if gt_role[g] == COUNTED and dt_role[best] == COUNTED:
                    counts[t, 0] += 1
                    counts[t, 2] += (1.0 + math.cos(gt_alpha[g] - dt_alpha[best])) / 2.0
            for d in range(first, last):
                if dt_role[d] == COUNTED and not taken[d] and dt_score[d] >= thresholds[t]:
                    counts[t, 1] += 0 if dt_dontcare[d] > min_overlap else 1
    return counts
