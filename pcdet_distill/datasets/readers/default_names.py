"""Names for the columns of files that name none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

USUAL_NAMES = ("x", "y", "z", "intensity")
MOST_RINGS = 256


def column_names(columns: Sequence[str] | int | None, count: int) -> tuple[str, ...]:
    """The told names, or the usual ones: x, y, z, intensity, column_4, column_5 ..."""
    if columns is not None and not isinstance(columns, int):
        return tuple(columns)
    further = [f"column_{number}" for number in range(len(USUAL_NAMES), count)]
    return (*USUAL_NAMES, *further)[:count]


def note_of_unnamed(names: Sequence[str], table: np.ndarray) -> str:
    """A sentence on the columns of ``table`` (N, C) that have no name; empty if all have one."""
    unnamed = [number for number, name in enumerate(names) if name == f"column_{number}"]
    if not unnamed:
        return ""
    shown = [f"{names[number]}{_what_it_may_be(table[:, number])}" for number in unnamed]
    return f"{', '.join(shown)}: not named by the file"


def _what_it_may_be(values: np.ndarray) -> str:
    finite = values[np.isfinite(values)]
    if len(finite) == 0:
        return ""
    lowest = float(finite.min())
    highest = float(finite.max())
    are_whole = bool((finite == np.round(finite)).all())
    if are_whole and lowest >= 0 and 0 < highest < MOST_RINGS:
        return f" (whole numbers {lowest:g}..{highest:g}, like rings)"
    return f" ({lowest:.4g}..{highest:.4g})"
