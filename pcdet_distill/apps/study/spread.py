"""Mean and standard deviation over the seeds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (n - 1; None for one value) of some values."""

    mean: float
    deviation: float | None
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """None of no values."""
        if not values:
            return None
        deviation = statistics.stdev(values) if len(values) > 1 else None
        return cls(statistics.fmean(values), deviation, tuple(values))

    def text(self, digits: int = 1, sign: str = "+-", plus: str = "") -> str:
        """``34.3+-1.7``, without a spread for one value; ``plus`` is ``+`` where a positive mean shows its sign."""
        spread = "" if self.deviation is None else f"{sign}{self.deviation:.{digits}f}"
        return f"{self.mean:{plus}.{digits}f}{spread}"
