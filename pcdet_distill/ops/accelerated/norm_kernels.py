"""Numba kernels for batch normalisation over weighted rows on the CPU: sums in float64, one pass over the rows each."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True)
def weighted_moments(rows, weight):
    """Mean and biased variance (C,) float64 of rows (R, C) that count ``weight`` (R,) float64 times each, R > 0.

    Squares are of differences from the first row, so that they lose no digits where the mean is large.
    """
    channels = rows.shape[1]
    first, total = np.zeros(channels), np.zeros(channels)
    first[:] = rows[0]
    square = np.zeros(channels)
    count = 0.0
    for r in range(rows.shape[0]):
        row, times = rows[r], weight[r]
        count += times
        for c in range(channels):
            difference = row[c] - first[c]
            total[c] += times * difference
            square[c] += times * difference * difference
    offset = total / count
    return first + offset, np.maximum(square / count - offset * offset, 0.0)


@numba.njit(cache=True)
def gradient_sums(grad, rows, mean):
    """Sums (C,) float64 of grad (R, C), and of grad times the difference of rows (R, C) from their mean (C,)."""
    channels = rows.shape[1]
    plain, along = np.zeros(channels), np.zeros(channels)
    for r in range(rows.shape[0]):
        slope, row = grad[r], rows[r]
        for c in range(channels):
            plain[c] += slope[c]
            along[c] += slope[c] * (row[c] - mean[c])
    return plain, along


@numba.njit(cache=True)
def row_gradient(grad, rows, mean, weight, scale, constant, slope, out):
    """``out = scale * grad - weight * (constant + slope * (rows - mean))``; the vectors (C,) have the rows' type."""
    for r in range(rows.shape[0]):
        upper, row, times, target = grad[r], rows[r], weight[r], out[r]
        for c in range(row.shape[0]):
            target[c] = scale[c] * upper[c] - times * (constant[c] + slope[c] * (row[c] - mean[c]))
