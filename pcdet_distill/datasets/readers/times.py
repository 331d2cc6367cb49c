"""Times of points in seconds, small enough for float32."""

from __future__ import annotations

import numpy as np

UNIT_BY_ENDING = {"_ns": 1e-9, "_us": 1e-6, "_ms": 1e-3}
# Ouster's and Livox's drivers write these as unsigned integers of nanoseconds.
NANOSECONDS_IF_UNSIGNED = ("t", "offset_time")
# Times since 1970, told by their size: one is (lowest value, its unit in seconds).
UNIT_BY_SIZE = ((1e17, 1e-9), (1e14, 1e-6), (1e11, 1e-3))
LONGEST_SCAN_S = 100.0  # times that begin later count from the earliest point
LARGEST_TIME = 1e19  # nanoseconds since 1970 in the year 2286; more is no time

UNIT_NAMES = {1e-9: "nanoseconds", 1e-6: "microseconds", 1e-3: "milliseconds"}


def times_in_seconds(raw_name: str, values: np.ndarray) -> tuple[np.ndarray, str]:
    """The times (N,) in seconds and a sentence on what was changed; empty if nothing was.

    Times since 1970 need 64 bits, so they are counted from the earliest point. A time whose unit
    the file does not tell stays as it is.
    """
    finite = values[np.isfinite(values)]
    if len(finite) == 0 or float(np.abs(finite).max()) > LARGEST_TIME:
        return values, ""
    unit = _unit_s(raw_name, values.dtype, float(np.abs(finite).max()))
    earliest = finite.min()
    changes = []
    if unit != 1.0:
        changes.append(f"is converted from {UNIT_NAMES[unit]} to seconds")
    if abs(float(earliest)) * unit > LONGEST_SCAN_S:
        changes.append(f"counts from the earliest point, at {float(earliest) * unit:.6f} s")
        # Subtracted in the type of the file: float64 cannot hold nanoseconds since 1970.
        values = values - earliest
        finite = finite - earliest
    highest_s = float(np.abs(finite).max()) * unit
    if highest_s > LONGEST_SCAN_S:
        changes.append(f"reaches {highest_s:g}, so its unit is not seconds")
    note = f"timestamp {' and '.join(changes)}" if changes else ""
    return values * unit if unit != 1.0 else values, note


def _unit_s(raw_name: str, dtype: np.dtype, largest: float) -> float:
    """The unit of the times in seconds; 1 if the file does not tell."""
    for ending, unit in UNIT_BY_ENDING.items():
        if raw_name.endswith(ending):
            return unit
    if raw_name in NANOSECONDS_IF_UNSIGNED and dtype.kind == "u":
        return 1e-9
    for lowest, unit in UNIT_BY_SIZE:
        if largest >= lowest:
            return unit
    return 1.0
