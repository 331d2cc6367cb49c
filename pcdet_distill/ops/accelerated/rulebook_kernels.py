"""Numba kernels of sparse convolution on the CPU: rulebooks by a hash table, and rows added to rows.

Twins of the plain versions in ``rulebook`` and of ``index_add_``: the same pairs in the same order. Single-threaded, so
that every answer is the same in every run.
"""

from __future__ import annotations

import numba
import numpy as np

HASH_FACTOR = np.uint64(
    0x9E3779B97F4A7C15
)  # 2**64 / golden ratio: spreads neighbouring cells over the table


@numba.njit(cache=True)
def _empty_table(num_keys):
    """Keys and rows of an open-addressing table, at least half of it free; and how far a hash is shifted down."""
    bits = 5
    while (1 << bits) < 2 * num_keys:
        bits += 1
    return np.full(1 << bits, -1, np.int64), np.empty(1 << bits, np.int32), np.uint64(64 - bits)


@numba.njit(cache=True)
def _slot_of(key, keys, shift):
    """Where ``key`` stands in the table, or would stand."""
    slot = np.int64((np.uint64(key) * HASH_FACTOR) >> shift)
    while keys[slot] != key and keys[slot] >= 0:
        slot = (slot + 1) & (len(keys) - 1)
    return slot


@numba.njit(cache=True)
def _neighbours(cells, shape, shifts):
    """Row of the cell at each shift from each cell, and back: (2 * S, N) int32, -1 where it is not active.

    ``shifts`` (S, 3) are one half of a symmetric kernel; row 2 * S - 1 - s answers for the opposite of shift s.
    """
    keys, rows, down = _empty_table(len(cells))
    key_of_row = np.empty(len(cells), np.int64)
    for row in range(len(cells)):
        frame, z, y, x = np.int64(cells[row, 0]), cells[row, 1], cells[row, 2], cells[row, 3]
        key_of_row[row] = ((frame * shape[0] + z) * shape[1] + y) * shape[2] + x
        slot = _slot_of(key_of_row[row], keys, down)
        keys[slot], rows[slot] = key_of_row[row], row
    found = np.full((2 * len(shifts), len(cells)), -1, np.int32)
    for number in range(len(shifts)):
        step_z, step_y, step_x = shifts[number]
        step = (step_z * shape[1] + step_y) * shape[2] + step_x
        for row in range(len(cells)):
            z, y, x = cells[row, 1] + step_z, cells[row, 2] + step_y, cells[row, 3] + step_x
            if z < 0 or y < 0 or x < 0 or z >= shape[0] or y >= shape[1] or x >= shape[2]:
                continue
            key = key_of_row[row] + step
            slot = _slot_of(key, keys, down)
            if keys[slot] == key:
                found[number, row] = rows[slot]
                found[2 * len(shifts) - 1 - number, rows[slot]] = row
    return found


@numba.njit(cache=True)
def submanifold_pairs(cells, shape, shifts):
    """Pairs of a submanifold convolution, without those of the middle offset.

    Args:
        cells: (N, 4) int32 frame, z, y, x.
        shape: (3,) int64.
        shifts: (S, 3) int64, the offsets before the middle one, from the middle.

    Returns:
        in_rows (P,), out_rows (P,) int64 by offset and output row; counts (2 * S,) int64.
    """
    found = _neighbours(cells, shape, shifts)
    counts = np.zeros(len(found), np.int64)
    for number in range(len(found)):
        for row in range(found.shape[1]):
            counts[number] += found[number, row] >= 0
    in_rows, out_rows = np.empty(counts.sum(), np.int64), np.empty(counts.sum(), np.int64)
    pair = 0
    for number in range(len(found)):
        for row in range(found.shape[1]):
            if found[number, row] >= 0:
                in_rows[pair], out_rows[pair] = found[number, row], row
                pair += 1
    return in_rows, out_rows, counts


@numba.njit(cache=True)
def _count_reached(cells, reach_z, reach_y, reach_x):
    """Pairs of every offset: (Kz * Ky * Kx,) int64."""
    counts = np.zeros(len(reach_z) * len(reach_y) * len(reach_x), np.int64)
    for row in range(len(cells)):
        for at_z in range(len(reach_z)):
            if reach_z[at_z, cells[row, 1]] < 0:
                continue
            for at_y in range(len(reach_y)):
                if reach_y[at_y, cells[row, 2]] < 0:
                    continue
                for at_x in range(len(reach_x)):
                    number = (at_z * len(reach_y) + at_y) * len(reach_x) + at_x
                    counts[number] += reach_x[at_x, cells[row, 3]] >= 0
    return counts


@numba.njit(cache=True)
def _reached_keys(cells, reach_z, reach_y, reach_x, out_shape, counts):
    """Input row (P,) and key of the output cell (P,) of every pair, by offset and input row."""
    in_rows, keys = np.empty(counts.sum(), np.int64), np.empty(counts.sum(), np.int64)
    place = np.cumsum(counts) - counts
    for row in range(len(cells)):
        for at_z in range(len(reach_z)):
            z = reach_z[at_z, cells[row, 1]]
            if z < 0:
                continue
            for at_y in range(len(reach_y)):
                y = reach_y[at_y, cells[row, 2]]
                if y < 0:
                    continue
                for at_x in range(len(reach_x)):
                    x = reach_x[at_x, cells[row, 3]]
                    if x < 0:
                        continue
                    number = (at_z * len(reach_y) + at_y) * len(reach_x) + at_x
                    in_rows[place[number]] = row
                    keys[place[number]] = (
                        (np.int64(cells[row, 0]) * out_shape[0] + z) * out_shape[1] + y
                    ) * out_shape[2] + x
                    place[number] += 1
    return in_rows, keys


@numba.njit(cache=True)
def strided_pairs(cells, reach_z, reach_y, reach_x, out_shape):
    """Pairs and output cells of a convolution.

    Args:
        cells: (N, 4) int32 frame, z, y, x.
        reach_z: (Kz, Z) int32, the output coordinate that input coordinate z feeds at each offset, or -1; so are
            ``reach_y`` and ``reach_x``.
        out_shape: (3,) int64.

    Returns:
        in_rows (P,), out_rows (P,) int64 by offset and input row; counts (K,) int64; output cells (M, 4) int32.
    """
    counts = _count_reached(cells, reach_z, reach_y, reach_x)
    in_rows, wanted = _reached_keys(cells, reach_z, reach_y, reach_x, out_shape, counts)
    out_rows = np.empty(len(in_rows), np.int64)
    key_of_row = np.empty(len(in_rows), np.int64)
    keys, rows, down = _empty_table(len(in_rows))
    num_out = np.int32(0)
    for pair in range(len(in_rows)):
        slot = _slot_of(wanted[pair], keys, down)
        if keys[slot] < 0:
            keys[slot], rows[slot] = wanted[pair], num_out
            key_of_row[num_out] = wanted[pair]
            num_out += 1
        out_rows[pair] = rows[slot]
    out_cells = np.empty((num_out, 4), np.int32)
    for row in range(num_out):
        key = key_of_row[row]
        for axis in (2, 1, 0):
            out_cells[row, axis + 1] = key % out_shape[axis]
            key //= out_shape[axis]
        out_cells[row, 0] = key
    return in_rows, out_rows, counts, out_cells


@numba.njit(cache=True)
def add_to_rows(output, rows, values):
    """``output[rows[i]] += values[i]`` for every i, in order; output (N, C), rows (P,) int64, values (P, C)."""
    for index in range(len(rows)):
        row = rows[index]
        for channel in range(values.shape[1]):
            output[row, channel] += values[index, channel]
