"""Mean and standard deviation over the seeds of a row."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (n - 1) of some values; one value has no deviation."""

    mean: float
    deviation: float | None
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """The spread of ``values``; None when there are none."""
        return cls.over(values) if values else None

    @classmethod
    def over(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        deviation = statistics.stdev(values) if len(values) > 1 else None
        return cls(statistics.fmean(values), deviation, tuple(values))

    def text(self, digits: int = 1, sign: str = "+-", plus: str = "") -> str:
        """The numbers as in a table: ``34.3+-1.7``, or ``34.3`` for one value.

        Args:
            digits: decimals of both numbers.
            sign: stands between mean and deviation.
            plus: ``"+"`` writes the sign of a positive mean too.
        """
        mean = f"{self.mean:{plus}.{digits}f}"
        if self.deviation is None:
            return mean
        return f"{mean}{sign}{self.deviation:.{digits}f}"
