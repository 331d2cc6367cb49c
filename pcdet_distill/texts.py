"""Small pieces of text for messages and pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def listed(names: Iterable[object], most: int = 5) -> str:
    """The first names and how many more there are: ``a, b, c and 4 more``."""
    texts = [str(name) for name in names]
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def plural(number: int, noun: str) -> str:
    """``1 object``, ``2 objects``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def duration_in_words(seconds: float) -> str:
    """``75`` as ``1 min 15 s``, ``7500`` as ``2 h 5 min``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def in_columns(lines: Sequence[Sequence[str]]) -> list[str]:
    """Cells in columns: names to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*lines)]
    texts = []
    for name, *cells in lines:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:])]
        texts.append("  ".join([name.ljust(widths[0]), *padded]).rstrip())
    return texts
