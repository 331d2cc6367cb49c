"""How many columns a file of plain numbers has.

A .bin file is one row of numbers. With the right number of columns each column holds one quantity:
x reaches far, z is narrow, intensities are positive. With a wrong number the columns mix them. So
the right number is the one whose columns are most alike within: the entropy of a value, when its
column is known, is the lowest.

A multiple of the right number separates the quantities as well. It is taken only if the two columns
that it makes of one differ from each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FEWEST = 3
MOST = 16
USUAL = (4, 5, 3, 6, 7, 8)  # the order in which numbers are tried that fit equally well
SAMPLE = 65_536  # values that are looked at
FEWEST_VALUES = 400  # below them chance decides the entropies
MOST_BINS = 64
VALUES_PER_BIN = 200
CLEAR_NATS = 0.1  # entropy that a number must save to be called clear
CONTRADICTION_NATS = 0.2
DIFFERENT_NATS = 0.15  # divergence of two columns of different quantities


@dataclass(frozen=True)
class ColumnGuess:
    """A guessed number of columns.

    Attributes:
        count: the number.
        is_clear: the values show it; else it is only the usual number that fits the size.
    """

    count: int
    is_clear: bool


def guess_columns(values: np.ndarray) -> ColumnGuess | None:
    """The number of columns of a row of numbers (n,); None if no number from 3 to 16 fits.

    A clear number may not divide n: then the file is truncated.
    """
    shown = _shown_by(column_entropies(values))
    if shown is not None:
        return ColumnGuess(shown, True)
    others = [count for count in range(FEWEST, MOST + 1) if count not in USUAL]
    for count in (*USUAL, *others):
        if len(values) % count == 0:
            return ColumnGuess(count, False)
    return None


def contradicted_by(values: np.ndarray, count: int) -> int | None:
    """The number of columns that the values (n,) clearly show, if it excludes ``count``."""
    entropies = column_entropies(values)
    shown = _shown_by(entropies)
    if shown is None or count % shown == 0 or count not in entropies:
        return None
    excess_nats = float(entropies[count].mean() - entropies[shown].mean())
    return shown if excess_nats > CONTRADICTION_NATS else None


def _shown_by(entropies: dict[int, np.ndarray]) -> int | None:
    """The number of columns that the entropies clearly show."""
    if not entropies:
        return None
    best = min(entropies, key=lambda count: float(entropies[count].mean()))
    count = _without_multiples(best, entropies)
    return count if _saved_nats(count, entropies) > CLEAR_NATS else None


def column_entropies(values: np.ndarray) -> dict[int, np.ndarray]:
    """For 1 and each possible number of columns the entropy in nats of every column.

    It is empty for too few values.
    """
    sample = values[:SAMPLE]
    finite = sample[np.isfinite(sample)]
    if len(finite) < FEWEST_VALUES:
        return {}
    num_bins = min(MOST_BINS, len(sample) // VALUES_PER_BIN)
    edges = np.quantile(finite, np.linspace(0, 1, num_bins + 1)[1:-1])
    bins = np.searchsorted(edges, sample)
    return {count: _entropies(bins, count, num_bins) for count in (1, *range(FEWEST, MOST + 1))}


def _entropies(bins: np.ndarray, count: int, num_bins: int) -> np.ndarray:
    """(count,) the entropy of the bins in each of ``count`` columns."""
    num_rows = len(bins) // count
    rows = bins[: num_rows * count].reshape(num_rows, count)
    cells = rows + num_bins * np.arange(count)
    share = np.bincount(cells.ravel(), minlength=num_bins * count) / num_rows
    share = share.reshape(count, num_bins)
    logarithm = np.log(share, out=np.zeros_like(share), where=share > 0)
    # Few values make a column look more ordered than it is; this is Miller's correction.
    used_bins = (share > 0).sum(axis=1)
    return -(share * logarithm).sum(axis=1) + (used_bins - 1) / (2 * num_rows)


def _saved_nats(count: int, entropies: dict[int, np.ndarray]) -> float:
    """How much entropy the columns take from a value."""
    return float(entropies[1].mean() - entropies[count].mean())


def _without_multiples(count: int, entropies: dict[int, np.ndarray]) -> int:
    """The smallest divisor of ``count`` that separates the quantities as well."""
    for divisor in range(FEWEST, count):
        if count % divisor == 0 and not _splits_quantities(divisor, count, entropies):
            return divisor
    return count


def _splits_quantities(divisor: int, count: int, entropies: dict[int, np.ndarray]) -> bool:
    """Whether most columns of ``divisor`` fall into different quantities among ``count``.

    The measure is the Jensen-Shannon divergence of the parts of each column. The median ignores a
    ring number, whose values of alternate points differ where the rings are recorded in turn.
    """
    parts = entropies[count].reshape(-1, divisor).mean(axis=0)
    divergence = entropies[divisor] - parts
    return float(np.median(divergence)) > DIFFERENT_NATS
