"""Numba kernels for batch normalisation over weighted rows on the CPU.

Sums are in float64, and each kernel passes over the rows once.
"""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True)
def weighted_moments(rows: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance (C,) float64 of weighted rows.

    Squares are of differences from the first row. They keep their digits where the mean is large.

    Args:
        rows: (R, C), R > 0.
        weight: (R,) float64; a row counts so many times.
    """
    channels = rows.shape[1]
    first = np.zeros(channels)
    first[:] = rows[0]
    total = np.zeros(channels)
    square = np.zeros(channels)
    count = 0.0
    for r in range(rows.shape[0]):
        row = rows[r]
        times = weight[r]
        count += times
        for c in range(channels):
            difference = row[c] - first[c]
            total[c] += times * difference
            square[c] += times * difference * difference
    offset = total / count
    variance = np.maximum(square / count - offset * offset, 0.0)
    return first + offset, variance


@numba.njit(cache=True)
def gradient_sums(
    grad: np.ndarray, rows: np.ndarray, mean: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Two sums (C,) float64 over rows: of ``grad``, and of ``grad * (rows - mean)``.

    Args:
        grad: (R, C).
        rows: (R, C).
        mean: (C,).
    """
    channels = rows.shape[1]
    plain = np.zeros(channels)
    along = np.zeros(channels)
    for r in range(rows.shape[0]):
        slope = grad[r]
        row = rows[r]
        for c in range(channels):
            plain[c] += slope[c]
            along[c] += slope[c] * (row[c] - mean[c])
    return plain, along


@numba.njit(cache=True)
def row_gradient(
    grad: np.ndarray,
    rows: np.ndarray,
    mean: np.ndarray,
    weight: np.ndarray,
    scale: np.ndarray,
    constant: np.ndarray,
    slope: np.ndarray,
    out: np.ndarray,
) -> None:
    """``out = scale * grad - weight * (constant + slope * (rows - mean))``.

    Args:
        grad: (R, C) of the output.
        rows: (R, C) of the input.
        mean: (C,), in the type of the rows, as are ``scale``, ``constant`` and ``slope``.
        weight: (R,).
        scale: (C,).
        constant: (C,).
        slope: (C,).
        out: (R, C), written to.
    """
    for r in range(rows.shape[0]):
        upper = grad[r]
        row = rows[r]
        times = weight[r]
        target = out[r]
        for c in range(row.shape[0]):
            correction = constant[c] + slope[c] * (row[c] - mean[c])
            target[c] = scale[c] * upper[c] - times * correction
