"""Numbers of text: one row of numbers a point."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ...errors import DataError

NAN_OF_WINDOWS = re.compile(rb"^[-+]?(nan\(\w*\)|1\.#(ind|qnan|snan)\w*)$", re.IGNORECASE)


def numbers_of_rows(data: bytes, num_rows: int, width: int, path: Path) -> np.ndarray:
    """(num_rows, width) float64 of the first lines of ``data`` that are not blank.

    Raises:
        DataError: a line has another number of values, or one is no number, or lines are missing.
    """
    words = data.split()
    if len(words) == num_rows * width and _lines_are_even(data, num_rows, width):
        numbers = _as_numbers(words)
        if numbers is not None:
            return numbers.reshape(num_rows, width)
    return _row_by_row(data, num_rows, width, path)


def _lines_are_even(data: bytes, num_rows: int, width: int) -> bool:
    """Whether every line that is not blank has ``width`` words."""
    widths = [len(line.split()) for line in data.splitlines()]
    return widths.count(width) == num_rows and widths.count(0) == len(widths) - num_rows


def _as_numbers(words: list[bytes]) -> np.ndarray | None:
    """(n,) float64 numbers; None if a word is none. Windows writes NaN as ``-nan(ind)``."""
    try:
        return np.array(words, dtype=np.bytes_).astype(np.float64)
    except ValueError:
        usual = [NAN_OF_WINDOWS.sub(b"nan", word) for word in words]
    return None if usual == words else _as_numbers(usual)


def _row_by_row(data: bytes, num_rows: int, width: int, path: Path) -> np.ndarray:
    """The slow way, which finds the line that is wrong."""
    rows: list[np.ndarray] = []
    for line in data.splitlines():
        if len(rows) == num_rows:
            break
        words = line.split()
        if not words:
            continue
        if len(words) != width:
            raise DataError(
                f"{path}: point {len(rows) + 1} of {num_rows} has {len(words)} values, "
                f"expected {width}"
            )
        row = _as_numbers(words)
        if row is None:
            shown = line.decode("latin-1").strip()[:60]
            raise DataError(f"{path}: point {len(rows) + 1} is '{shown}'; expected {width} numbers")
        rows.append(row)
    if len(rows) < num_rows:
        raise DataError(f"{path}: truncated: {len(rows)} of {num_rows} points are there")
    return np.array(rows).reshape(num_rows, width)
