"""Read .bin files: the numbers of all points in a row, with nothing that says how many columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...errors import DataError
from .cloud import PointCloud
from .column_count import FEWEST, MOST, contradicted_by, guess_columns
from .columns import cloud_of_columns
from .content import check_content, read_bytes
from .default_names import column_names, note_of_unnamed

NUSCENES_SUFFIX = ".pcd.bin"
NUSCENES_COLUMNS = ("x", "y", "z", "intensity", "ring")

# Numbers that a LiDAR's file may hold. Half of all random bits are no such numbers.
SMALLEST = 1e-8
LARGEST = 1e12
PLAUSIBLE_SHARE = 0.9
QUIET_NANS = (0x7FC00000, 0xFFC00000)


def read_bin(path: Path, columns: Sequence[str] | int | None = None) -> PointCloud:
    """The cloud of a .bin file.

    Args:
        path: the file; float32, or float64 if only that makes sense.
        columns: their names, or how many there are; None guesses.

    Raises:
        DataError: the size fits no whole number of points, or the values fit another number.
    """
    content = read_bytes(path)
    check_content(path, content, ("",))
    values, type_note = _numbers(path, content)
    if path.name.endswith(NUSCENES_SUFFIX) and columns in (None, len(NUSCENES_COLUMNS)):
        columns = NUSCENES_COLUMNS
    if columns is None:
        count, note = _guessed(path, values)
    else:
        count = columns if isinstance(columns, int) else len(columns)
        note = ""
        _check_told(path, values, count)
    names = column_names(columns, count)
    table = values.reshape(-1, count)
    notes = [note or type_note, note_of_unnamed(names, table)]
    return cloud_of_columns(dict(zip(names, table.T)), path, notes)


def _numbers(path: Path, content: bytes) -> tuple[np.ndarray, str]:
    """The float32 numbers of a file, or its float64 numbers if only those make sense."""
    if len(content) % 4:
        raise DataError(
            f"{path}: {len(content)} bytes are not a whole number of float32 (4 bytes each); the "
            "file is truncated or of another format"
        )
    values = np.frombuffer(content, "<f4")
    if _plausible_share(values) >= PLAUSIBLE_SHARE:
        return values, ""
    if len(content) % 8 == 0:
        doubles = np.frombuffer(content, "<f8")
        if _plausible_share(doubles) >= PLAUSIBLE_SHARE:
            return doubles, "read as float64"
    raise DataError(
        f"{path}: its bytes are no float32 coordinates; the file is of another format or damaged"
    )


def _plausible_share(values: np.ndarray) -> float:
    """The share of numbers that a sensor may have measured."""
    with np.errstate(invalid="ignore"):
        size = np.abs(values)
    plausible = ((size > SMALLEST) & (size < LARGEST)) | (size == 0) | np.isinf(values)
    if values.itemsize == 4:
        plausible |= np.isin(values.view("<u4"), QUIET_NANS)
    else:
        plausible |= np.isnan(values)
    return float(plausible.mean())


def _guessed(path: Path, values: np.ndarray) -> tuple[int, str]:
    """The guessed number of columns, and a sentence that says why."""
    guess = guess_columns(values)
    if guess is None:
        raise DataError(
            f"{path}: {len(values)} numbers are not whole points of {FEWEST} to {MOST} columns; "
            "the file is truncated or of another format"
        )
    why = f"it seems to have {guess.count} columns, but "
    check_whole(path, values.nbytes, guess.count, values.itemsize, why)
    reason = "its values show it" if guess.is_clear else "the usual number that fits its size"
    kind = f"float{8 * values.itemsize}"
    return guess.count, f"read as {guess.count} columns of {kind} (guessed: {reason})"


def _check_told(path: Path, values: np.ndarray, count: int) -> None:
    """Refuse a told number of columns that the file excludes."""
    if count < FEWEST:
        raise DataError(f"{path}: {count} columns are asked for; expected x, y, z and maybe more")
    check_whole(path, values.nbytes, count, values.itemsize, f"{count} columns are asked for, but ")
    check_columns(path, values, count)


def check_whole(path: Path, num_bytes: int, count: int, itemsize: int = 4, why: str = "") -> None:
    """Refuse a file that ends within a point.

    Args:
        count: columns of a point.
        itemsize: bytes of a number.
        why: what the number of columns is by, as the begin of a sentence.
    """
    point_bytes = count * itemsize
    if num_bytes % point_bytes:
        raise DataError(
            f"{path}: {why}{num_bytes} bytes are not a whole number of points of {count} "
            f"float{8 * itemsize} ({point_bytes} bytes each); the file is truncated or of another "
            "format"
        )


def check_columns(path: Path, values: np.ndarray, count: int) -> None:
    """Refuse numbers (n,) that clearly are points of another number of columns."""
    shown = contradicted_by(values, count)
    if shown is not None:
        raise DataError(
            f"{path}: {count} columns are asked for, but its values repeat every {shown} numbers, "
            f"so it has {shown} columns"
        )
