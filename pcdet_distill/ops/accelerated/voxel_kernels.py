"""Numba kernels that sort points into voxels. Points are taken in their order, in one thread."""

from __future__ import annotations

import numba
import numpy as np

from .hash_table import FREE, empty_table, insert, slot_of

OUTSIDE = np.int64(-1)
DROPPED = -1


@numba.njit(cache=True)
def _cell_of(point: np.ndarray, lower: np.ndarray, size: np.ndarray, grid: np.ndarray) -> int:
    """The number of the point's cell, x fastest, or -1 for a point outside the grid."""
    cell = np.int64(0)
    for axis in (2, 1, 0):
        position = np.floor((point[axis] - lower[axis]) / size[axis])
        # Both comparisons are false for NaN, so that such a point is outside.
        if not (position >= 0 and position < grid[axis]):
            return OUTSIDE
        cell = cell * grid[axis] + np.int64(position)
    return cell


@numba.njit(cache=True)
def _coords_of(cells: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Cells (M, 3) int32 as (z, y, x) of their numbers (M,)."""
    coords = np.empty((len(cells), 3), dtype=np.int32)
    for row in range(len(cells)):
        cell = cells[row]
        coords[row, 2] = cell % grid[0]
        coords[row, 1] = cell // grid[0] % grid[1]
        coords[row, 0] = cell // (grid[0] * grid[1])
    return coords


@numba.njit(cache=True)
def assign_rows(
    points: np.ndarray, lower: np.ndarray, size: np.ndarray, grid: np.ndarray, max_voxels: int
) -> tuple[np.ndarray, np.ndarray]:
    """The voxel that each point belongs to.

    Args:
        points: (N, 3+) float32.
        lower: (3,) float32 smallest x, y, z of the grid.
        size: (3,) float32 edges of a voxel.
        grid: (3,) int64 cells along x, y, z.
        max_voxels: voxels at most.

    Returns:
        rows (N,) int32, -1 for a dropped point; cells (M, 3) int32 (z, y, x) of the voxels.
    """
    table = empty_table(len(points))
    cell_of_row = np.empty(min(len(points), max_voxels), dtype=np.int64)
    row_of_point = np.full(len(points), DROPPED, dtype=np.int32)
    num_rows = 0
    for index in range(len(points)):
        cell = _cell_of(points[index], lower, size, grid)
        if cell == OUTSIDE:
            continue
        slot = slot_of(cell, table)
        if table.keys[slot] == FREE:
            if num_rows >= max_voxels:
                continue
            insert(table, slot, cell, num_rows)
            cell_of_row[num_rows] = cell
            num_rows += 1
        row_of_point[index] = table.rows[slot]
    return row_of_point, _coords_of(cell_of_row[:num_rows], grid)


@numba.njit(cache=True)
def fill_voxels(
    points: np.ndarray, row_of_point: np.ndarray, voxels: np.ndarray, num_points: np.ndarray
) -> None:
    """Copy each point to the next free place of its voxel, while there is one.

    Args:
        points: (N, C) float32.
        row_of_point: (N,) int32 from ``assign_rows``.
        voxels: (M, P, C) float32, written to.
        num_points: (M,) int32, zeros; counts the points of each voxel.
    """
    for index in range(len(points)):
        row = row_of_point[index]
        if row == DROPPED or num_points[row] >= voxels.shape[1]:
            continue
        for channel in range(points.shape[1]):
            voxels[row, num_points[row], channel] = points[index, channel]
        num_points[row] += 1
