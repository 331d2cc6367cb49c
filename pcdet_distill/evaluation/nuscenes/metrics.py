"""Curves over recall of one class, and the AP and errors made from them.

From the description of the benchmark (Caesar et al., "nuScenes: A multimodal dataset for autonomous
driving", CVPR 2020, section 3.1), with the rules of its evaluation where the paper is silent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .matching import Matches
from .protocol import ERRORS, MIN_PRECISION, MIN_RECALL, NUM_RECALL_POINTS

# AP and errors are means over recalls above 10 %: below it one lucky detection decides.
FIRST_POINT = round(MIN_RECALL * (NUM_RECALL_POINTS - 1)) + 1


@dataclass(frozen=True)
class Curves:
    """Values at the recalls 0, 0.01, ... 1 (101,).

    Attributes:
        precision: 0 at recalls that are not reached.
        score: that of the detection which reaches the recall; 0 where none does.
        errors: by name, the mean error of all matches whose score is not lower.
    """

    precision: np.ndarray
    score: np.ndarray
    errors: dict[str, np.ndarray]

    @property
    def last_point(self) -> int:
        """Index of the largest recall that is reached; 0 without matches."""
        reached = np.flatnonzero(self.score)
        return int(reached[-1]) if len(reached) else 0

    def average_precision(self) -> float:
        """Mean over the recalls above 10 % of the precision above 10 %, from 0 to 1."""
        above = np.maximum(self.precision[FIRST_POINT:] - MIN_PRECISION, 0)
        return float(above.mean() / (1 - MIN_PRECISION))

    def mean_error(self, name: str) -> float:
        """Mean of an error over the recalls above 10 % that are reached; 1 if none is."""
        if self.last_point < FIRST_POINT:
            return 1.0
        return float(self.errors[name][FIRST_POINT : self.last_point + 1].mean())


def no_curves() -> Curves:
    """Curves of a class without labelled boxes or without matches."""
    zeros = np.zeros(NUM_RECALL_POINTS)
    return Curves(zeros, zeros, {name: np.ones(NUM_RECALL_POINTS) for name in ERRORS})


def curves(matches: Matches, num_truths: int) -> Curves:
    """The curves of one class at one distance."""
    is_match = matches.is_match
    if num_truths == 0 or not is_match.any():
        return no_curves()
    found = np.cumsum(is_match).astype(np.float64)
    precision = found / np.arange(1, len(found) + 1)
    recall = found / num_truths
    points = np.linspace(0, 1, NUM_RECALL_POINTS)
    score = np.interp(points, recall, matches.score, right=0)
    errors = {}
    for name, values in matches.errors.items():
        errors[name] = _over_score(score, matches.score[is_match], running_mean(values))
    return Curves(np.interp(points, recall, precision, right=0), score, errors)


def running_mean(values: np.ndarray) -> np.ndarray:
    """Mean of each value and all before it (N,), over the known ones.

    It is 0 while nothing is known yet. Where nothing is known at all, it is 1, the worst.
    """
    known = ~np.isnan(values)
    if not known.any():
        return np.ones(len(values))
    total = np.cumsum(np.where(known, values, 0))
    return total / np.maximum(np.cumsum(known), 1)


def _over_score(points: np.ndarray, scores: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values at falling scores, read at the falling scores ``points``."""
    return np.interp(points[::-1], scores[::-1], values[::-1])[::-1]
