"""Group points into voxels (or pillars), to the bit as OpenPCDet's voxelizer does.

The rule: a point's cell is ``floor((xyz - range_min) / voxel_size)`` in float32; points outside the grid, or NaN, are
dropped. Points are taken in their order; a voxel's row is the order of its first point. A full voxel drops later
points. Once ``max_voxels`` are open no new one is opened, but the open ones go on filling.

Cells are found through a hash table as large as the number of points asks for, never through a dense grid: one of
1408 x 1600 x 40 cells would cost 360 MB.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import ArrayLike

HASH_FACTOR = np.uint64(
    0x9E3779B97F4A7C15
)  # 2**64 / golden ratio: spreads neighbouring cells over the table


def grid_size_of(point_cloud_range: ArrayLike, voxel_size: ArrayLike) -> np.ndarray:
    """Number of cells along x, y, z: (3,) int64."""
    limits = np.asarray(point_cloud_range, dtype=np.float32)
    cells = (limits[3:6] - limits[0:3]) / np.asarray(voxel_size, dtype=np.float64)
    return np.round(cells).astype(np.int64)


def voxelize(
    points: np.ndarray,
    point_cloud_range: ArrayLike,
    voxel_size: ArrayLike,
    max_points: int,
    max_voxels: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Voxels of a point cloud.

    Args:
        points: (N, C) float32, the first three columns are x, y, z in metres.
        point_cloud_range: x, y, z minimum, then x, y, z maximum; the maximum is outside.
        voxel_size: edge lengths along x, y, z in metres.
        max_points: points kept in one voxel, P.
        max_voxels: voxels kept.

    Returns:
        voxels (M, P, C) float32, unused slots zero; coords (M, 3) int32 as (z, y, x); num_points (M,) int32.
    """
    points = np.ascontiguousarray(points, dtype=np.float32)
    lower = np.asarray(point_cloud_range, dtype=np.float32)[:3]
    size = np.asarray(voxel_size, dtype=np.float32)
    row_of_point, coords = _assign_rows(
        points, lower, size, grid_size_of(point_cloud_range, voxel_size), max_voxels
    )
    voxels = np.zeros((len(coords), max_points, points.shape[1]), dtype=np.float32)
    num_points = np.zeros(len(coords), dtype=np.int32)
    _fill(points, row_of_point, voxels, num_points)
    return voxels, coords, num_points


@numba.njit(cache=True)
def _cell_of(point, lower, size, grid):
    """Linear cell number, or -1 for a point outside the grid. The comparisons are false for NaN."""
    cell = np.int64(0)
    for axis in (2, 1, 0):
        position = np.floor((point[axis] - lower[axis]) / size[axis])
        if not (position >= 0 and position < grid[axis]):
            return np.int64(-1)
        cell = cell * grid[axis] + np.int64(position)
    return cell


@numba.njit(cache=True)
def _assign_rows(points, lower, size, grid, max_voxels):
    """The voxel row of every point (-1: dropped), and the (z, y, x) cell of every row."""
    shift = 5
    while (1 << shift) < 2 * len(points):
        shift += 1
    mask = (1 << shift) - 1
    row_at_slot = np.full(1 << shift, -1, dtype=np.int32)
    cell_of_row = np.empty(min(len(points), max_voxels), dtype=np.int64)
    row_of_point = np.full(len(points), -1, dtype=np.int32)
    num_rows = 0
    for index in range(len(points)):
        cell = _cell_of(points[index], lower, size, grid)
        if cell < 0:
            continue
        slot = np.int64((np.uint64(cell) * HASH_FACTOR) >> np.uint64(64 - shift))
        while row_at_slot[slot] >= 0 and cell_of_row[row_at_slot[slot]] != cell:
            slot = (slot + 1) & mask
        if row_at_slot[slot] < 0:
            if num_rows >= max_voxels:
                continue
            row_at_slot[slot] = num_rows
            cell_of_row[num_rows] = cell
            num_rows += 1
        row_of_point[index] = row_at_slot[slot]
    coords = np.empty((num_rows, 3), dtype=np.int32)
    for row in range(num_rows):
        cell = cell_of_row[row]
        coords[row, 2] = cell % grid[0]
        coords[row, 1] = cell // grid[0] % grid[1]
        coords[row, 0] = cell // (grid[0] * grid[1])
    return row_of_point, coords


@numba.njit(cache=True)
def _fill(points, row_of_point, voxels, num_points):
    """Copy each point into the next free slot of its voxel, while there is one."""
    for index in range(len(points)):
        row = row_of_point[index]
        if row < 0 or num_points[row] >= voxels.shape[1]:
            continue
        for channel in range(points.shape[1]):
            voxels[row, num_points[row], channel] = points[index, channel]
        num_points[row] += 1
