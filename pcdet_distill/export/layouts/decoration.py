"""What Autoware's node and CUDA-PointPillars compute before their networks, in numpy.

Both take the points of a pillar, at most 32, and write a row for each: the point's own columns, its
offsets to the mean of the pillar's points, its offsets to the centre of the pillar. Empty slots are
zero. Which 32 points of a full pillar they take is random; here they are the first.

Written from the facts of their preprocessing kernels, to check exported networks without a GPU.
docs/export_layouts.md names the files.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...ops.voxels import voxelize
from ..config import ExportConfig
from .pillars import SLOTS, TO_CENTRE, TO_MEAN


def group_points(
    points: np.ndarray, config: ExportConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pillars of points (N, C): voxels (P, 32, C), coords (P, 3) z, y, x, number of points (P,)."""
    max_voxels = config.voxels.max_voxels
    assert max_voxels is not None
    return voxelize(points, config.points.range_m, config.voxels.size_m, SLOTS, max_voxels)


def decorate(
    voxels: np.ndarray,
    num_points: np.ndarray,
    coords: np.ndarray,
    *,
    columns: Sequence[str],
    config: ExportConfig,
) -> np.ndarray:
    """The other program's table of decorated points.

    Args:
        voxels: (P, 32, C) points of the pillars, unused slots zero.
        num_points: (P,) points of each pillar.
        coords: (P, 3) z, y, x of the pillars.
        columns: names of the columns of the table; point columns that the config lacks are zero.
        config: names the C columns of a point, the pillars' size and where they begin.

    Returns:
        (P, 32, columns) float32.
    """
    size = np.asarray(config.voxels.size_m, np.float32)
    lower = np.asarray(config.points.range_m[:3], np.float32)
    count = np.maximum(num_points, 1).astype(np.float32)
    mean = voxels[..., :3].sum(axis=1) / count[:, None]
    centre = size / 2 + coords[:, ::-1].astype(np.float32) * size + lower
    parts = dict(zip(config.points.features, np.moveaxis(voxels, 2, 0)))
    parts.update(zip(TO_MEAN, np.moveaxis(voxels[..., :3] - mean[:, None], 2, 0)))
    parts.update(zip(TO_CENTRE, np.moveaxis(voxels[..., :3] - centre[:, None], 2, 0)))
    empty = np.zeros(voxels.shape[:2], np.float32)
    table = np.stack([parts.get(name, empty) for name in columns], axis=2)
    is_point = np.arange(SLOTS) < np.asarray(num_points)[:, None]
    return (table * is_point[..., None]).astype(np.float32)
