"""Two rows compared seed by seed: mean difference and its standard error.

Runs with the same seed see the same frames in the same order, so they are paired. The spread that
both rows share then leaves the difference. The standard error is the standard deviation of the
differences (n - 1) divided by the square root of their number.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from ..spec import RowSpec
from ..survey import FINISHED, Outcome, mean_ap

Scores = Mapping[int, float]  # 3D mAP of the finished runs of a row, by seed


@dataclass(frozen=True)
class Paired:
    """The difference of two rows: its value for every seed that both rows have."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, scores: Scores, others: Scores) -> Paired | None:
        """``scores`` minus ``others``; None when they share no seed."""
        values = tuple(scores[seed] - others[seed] for seed in sorted(scores) if seed in others)
        return cls(values) if values else None

    @property
    def seeds(self) -> int:
        """The number of pairs."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """The mean difference."""
        return statistics.fmean(self.values)

    @property
    def standard_error(self) -> float | None:
        """The standard error of the mean; one pair has none."""
        if self.seeds < 2:
            return None
        return statistics.stdev(self.values) / math.sqrt(self.seeds)

    def text(self, sign: str = "+-") -> str:
        """``+1.3+-0.4``: mean and standard error; only the mean for one pair."""
        error = self.standard_error
        return f"{self.mean:+.1f}" if error is None else f"{self.mean:+.1f}{sign}{error:.1f}"


def scores_of(row: RowSpec, outcomes: Mapping[str, Outcome], split: str) -> Scores:
    """3D mAP of a row's finished runs, by seed."""
    scores = {}
    for outcome in outcomes.values():
        if outcome.run.row.name == row.name and outcome.status == FINISHED:
            scores[outcome.run.seed] = mean_ap(outcome.ap[split], "3d")
    return scores
