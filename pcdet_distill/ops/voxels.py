"""Group points into voxels (or pillars), bit for bit as OpenPCDet's voxelizer does.

A point's cell is ``floor((xyz - range_min) / voxel_size)`` in float32. Points outside the grid, or
NaN, are dropped. Points are taken in their order, and voxels are numbered by their first point. A
full voxel drops later points. After ``max_voxels`` voxels no new one is opened, but points still
fill the open ones.

Cells are found through a hash table whose size follows the number of points. A dense grid of
1408 x 1600 x 40 cells would take 360 MB.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .accelerated import voxel_kernels


def grid_size_of(point_cloud_range: ArrayLike, voxel_size: ArrayLike) -> np.ndarray:
    """Number of cells along x, y, z: (3,) int64."""
    limits = np.asarray(point_cloud_range, dtype=np.float32)
    extent = limits[3:6] - limits[0:3]
    cells = extent / np.asarray(voxel_size, dtype=np.float64)
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
        point_cloud_range: minimum x, y, z, then maximum x, y, z; the maximum is outside.
        voxel_size: edges along x, y, z in metres.
        max_points: points kept in one voxel, P.
        max_voxels: voxels kept.

    Returns:
        voxels (M, P, C) float32, unused places zero; coords (M, 3) int32 as (z, y, x); num_points
        (M,) int32.
    """
    points = np.ascontiguousarray(points, dtype=np.float32)
    lower = np.asarray(point_cloud_range, dtype=np.float32)[:3]
    size = np.asarray(voxel_size, dtype=np.float32)
    grid = grid_size_of(point_cloud_range, voxel_size)
    row_of_point, coords = voxel_kernels.assign_rows(points, lower, size, grid, max_voxels)
    num_channels = points.shape[1]
    voxels = np.zeros((len(coords), max_points, num_channels), dtype=np.float32)
    num_points = np.zeros(len(coords), dtype=np.int32)
    voxel_kernels.fill_voxels(points, row_of_point, voxels, num_points)
    return voxels, coords, num_points
