"""Numba kernels of sparse convolution on the CPU: rulebooks by a hash table, and sums by row.

Twins of the plain versions in ``rulebook`` and of ``index_add_``: the same pairs in the same order.
Single-threaded, so that every run gives the same result.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from .hash_table import FREE, HashTable, empty_table, insert, slot_of


class Reach(NamedTuple):
    """The output coordinate that an input coordinate feeds at each kernel offset, or -1.

    Attributes:
        z: (Kz, Z) int32 by offset and input coordinate.
        y: (Ky, Y) int32.
        x: (Kx, X) int32.
    """

    z: np.ndarray
    y: np.ndarray
    x: np.ndarray


@numba.njit(cache=True)
def _key_of(frame: int, z: int, y: int, x: int, shape: np.ndarray) -> int:
    """One number per frame and cell, as ``rulebook.cell_keys`` computes it."""
    return ((np.int64(frame) * shape[0] + z) * shape[1] + y) * shape[2] + x


@numba.njit(cache=True)
def _on_grid(z: int, y: int, x: int, shape: np.ndarray) -> bool:
    return z >= 0 and y >= 0 and x >= 0 and z < shape[0] and y < shape[1] and x < shape[2]


@numba.njit(cache=True)
def _table_of_cells(cells: np.ndarray, shape: np.ndarray) -> tuple[HashTable, np.ndarray]:
    """The table of all cells (N, 4), and the key of every row (N,) int64."""
    table = empty_table(len(cells))
    key_of_row = np.empty(len(cells), np.int64)
    for row in range(len(cells)):
        key = _key_of(cells[row, 0], cells[row, 1], cells[row, 2], cells[row, 3], shape)
        slot = slot_of(key, table)
        insert(table, slot, key, row)
        key_of_row[row] = key
    return table, key_of_row


@numba.njit(cache=True)
def _neighbours(cells: np.ndarray, shape: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Row of the cell at each shift from each cell: (2 * S, N) int32, -1 where it is not active.

    ``shifts`` (S, 3) are one half of a symmetric kernel. A pair at shift s is also a pair, with its
    sides swapped, at the opposite shift, which is number 2 * S - 1 - s. So half the searches do.
    """
    table, key_of_row = _table_of_cells(cells, shape)
    last = 2 * len(shifts) - 1
    found = np.full((2 * len(shifts), len(cells)), -1, np.int32)
    for number in range(len(shifts)):
        step_z, step_y, step_x = shifts[number]
        key_step = (step_z * shape[1] + step_y) * shape[2] + step_x
        for row in range(len(cells)):
            z = cells[row, 1] + step_z
            y = cells[row, 2] + step_y
            x = cells[row, 3] + step_x
            if not _on_grid(z, y, x, shape):
                continue
            key = key_of_row[row] + key_step
            slot = slot_of(key, table)
            if table.keys[slot] == key:
                neighbour = table.rows[slot]
                found[number, row] = neighbour
                found[last - number, neighbour] = row
    return found


@numba.njit(cache=True)
def submanifold_pairs(
    cells: np.ndarray, shape: np.ndarray, shifts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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
    in_rows = np.empty(counts.sum(), np.int64)
    out_rows = np.empty(counts.sum(), np.int64)
    pair = 0
    for number in range(len(found)):
        for row in range(found.shape[1]):
            if found[number, row] >= 0:
                in_rows[pair] = found[number, row]
                out_rows[pair] = row
                pair += 1
    return in_rows, out_rows, counts


@numba.njit(cache=True)
def _count_reached(cells: np.ndarray, reach: Reach) -> np.ndarray:
    """Number of pairs of every offset: (Kz * Ky * Kx,) int64."""
    counts = np.zeros(len(reach.z) * len(reach.y) * len(reach.x), np.int64)
    for row in range(len(cells)):
        for offset_z in range(len(reach.z)):
            if reach.z[offset_z, cells[row, 1]] < 0:
                continue
            for offset_y in range(len(reach.y)):
                if reach.y[offset_y, cells[row, 2]] < 0:
                    continue
                for offset_x in range(len(reach.x)):
                    number = (offset_z * len(reach.y) + offset_y) * len(reach.x) + offset_x
                    counts[number] += reach.x[offset_x, cells[row, 3]] >= 0
    return counts


@numba.njit(cache=True)
def _reached_keys(
    cells: np.ndarray, reach: Reach, out_shape: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Input row (P,) and key of the output cell (P,) of every pair, by offset and input row."""
    in_rows = np.empty(counts.sum(), np.int64)
    keys = np.empty(counts.sum(), np.int64)
    # Where the next pair of each offset is written; counting first lets one pass fill all offsets.
    position = np.cumsum(counts) - counts
    for row in range(len(cells)):
        for offset_z in range(len(reach.z)):
            z = reach.z[offset_z, cells[row, 1]]
            if z < 0:
                continue
            for offset_y in range(len(reach.y)):
                y = reach.y[offset_y, cells[row, 2]]
                if y < 0:
                    continue
                for offset_x in range(len(reach.x)):
                    x = reach.x[offset_x, cells[row, 3]]
                    if x < 0:
                        continue
                    number = (offset_z * len(reach.y) + offset_y) * len(reach.x) + offset_x
                    in_rows[position[number]] = row
                    keys[position[number]] = _key_of(cells[row, 0], z, y, x, out_shape)
                    position[number] += 1
    return in_rows, keys


@numba.njit(cache=True)
def _number_by_first_occurrence(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The number (P,) int64 of each key, and the distinct keys (M,) in order of occurrence."""
    table = empty_table(len(keys))
    numbers = np.empty(len(keys), np.int64)
    distinct = np.empty(len(keys), np.int64)
    count = np.int32(0)
    for index in range(len(keys)):
        key = keys[index]
        slot = slot_of(key, table)
        if table.keys[slot] == FREE:
            insert(table, slot, key, count)
            distinct[count] = key
            count += 1
        numbers[index] = table.rows[slot]
    return numbers, distinct[:count]


@numba.njit(cache=True)
def _cells_of_keys(keys: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """(M, 4) int32 frame, z, y, x: the inverse of ``_key_of``."""
    cells = np.empty((len(keys), 4), np.int32)
    for row in range(len(keys)):
        key = keys[row]
        for axis in (2, 1, 0):
            cells[row, axis + 1] = key % shape[axis]
            key //= shape[axis]
        cells[row, 0] = key
    return cells


@numba.njit(cache=True)
def strided_pairs(
    cells: np.ndarray, reach: Reach, out_shape: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pairs and output cells of a convolution.

    Args:
        cells: (N, 4) int32 frame, z, y, x.
        reach: output coordinates by offset and input coordinate.
        out_shape: (3,) int64.

    Returns:
        in_rows (P,), out_rows (P,) int64 by offset and input row; counts (K,) int64; output cells
        (M, 4) int32.
    """
    counts = _count_reached(cells, reach)
    in_rows, keys = _reached_keys(cells, reach, out_shape, counts)
    out_rows, out_keys = _number_by_first_occurrence(keys)
    return in_rows, out_rows, counts, _cells_of_keys(out_keys, out_shape)


@numba.njit(cache=True)
def add_to_rows(output: np.ndarray, rows: np.ndarray, values: np.ndarray) -> None:
    """``output[rows[i]] += values[i]`` for every i, in order.

    Args:
        output: (N, C), changed in place.
        rows: (P,) int64.
        values: (P, C).
    """
    for index in range(len(rows)):
        row = rows[index]
        for channel in range(values.shape[1]):
            output[row, channel] += values[index, channel]
