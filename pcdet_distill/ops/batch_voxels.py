"""Hard voxels of a whole batch on the device of its points, with the numbers of ``voxels``.

The rule is that of ``voxels.voxelize``, for each frame: points in their order, voxels numbered by
their first point, at most so many points and voxels. On a GPU nothing loops over frames, and the
host waits once, for the number of voxels.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from .constants import constant
from .dispatch import Form, form_for
from .occurrences import FirstOccurrences, first_occurrences
from .point_groups import PointGrid, point_keys
from .rulebook import cells_of_keys
from .voxels import grid_size_of, voxelize

ZYX = (2, 1, 0)


@dataclasses.dataclass(frozen=True)
class VoxelRule:
    """How points become voxels.

    Attributes:
        point_cloud_range: minimum x, y, z, then maximum x, y, z; the maximum is outside.
        voxel_size: edges along x, y, z in metres.
        max_points: points kept in one voxel, P.
        max_voxels: voxels kept of one frame.
    """

    point_cloud_range: ArrayLike
    voxel_size: ArrayLike
    max_points: int
    max_voxels: int

    def grid_on(self, device: torch.device) -> PointGrid:
        """The grid, with its numbers on a device."""
        lower = np.asarray(self.point_cloud_range, np.float32)[:3].tolist()
        size = np.asarray(self.voxel_size, np.float32).tolist()
        x, y, z = grid_size_of(self.point_cloud_range, self.voxel_size).tolist()
        return PointGrid(
            origin=constant(lower, device, torch.float32),
            size=constant(size, device, torch.float32),
            cells=(x, y, z),
            axes=ZYX,
        )


class BatchVoxels(NamedTuple):
    """Voxels of all frames, one frame after the other.

    Attributes:
        voxels: (M, P, C) float32 points, unused places zero.
        coords: (M, 4) int32 frame, z, y, x.
        num_points: (M,) int32.
    """

    voxels: Tensor
    coords: Tensor
    num_points: Tensor


def voxelize_batch(points: Tensor, batch_size: int, rule: VoxelRule) -> BatchVoxels:
    """Voxels of a batch.

    Args:
        points: (N, 1 + C) float32 frame, x, y, z, ...; the frames in ascending order.
        batch_size: frames, B, also those without points.
        rule: how points become voxels.
    """
    points = points.detach().float()
    if form_for(points.device) is Form.NUMBA:
        return _voxelize_frames(points, batch_size, rule)
    return voxelize_batch_on_device(points, batch_size, rule)


def _voxelize_frames(points: Tensor, batch_size: int, rule: VoxelRule) -> BatchVoxels:
    """``voxelize_batch`` by the compiled loop for a CPU, frame by frame."""
    sizes = torch.bincount(points[:, 0].long(), minlength=batch_size).tolist()
    voxels = []
    coords = []
    num_points = []
    for frame, rows in enumerate(points[:, 1:].split(sizes)):
        of_frame = voxelize(
            rows.numpy(),
            rule.point_cloud_range,
            rule.voxel_size,
            rule.max_points,
            rule.max_voxels,
        )
        voxels.append(torch.from_numpy(of_frame[0]))
        cells = torch.from_numpy(of_frame[1])
        coords.append(torch.nn.functional.pad(cells, (1, 0), value=frame))
        num_points.append(torch.from_numpy(of_frame[2]))
    return BatchVoxels(torch.cat(voxels), torch.cat(coords), torch.cat(num_points))


def voxelize_batch_on_device(points: Tensor, batch_size: int, rule: VoxelRule) -> BatchVoxels:
    """``voxelize_batch`` without a loop over points or frames, on any device."""
    grid = rule.grid_on(points.device)
    keys = point_keys(points, grid)
    first = first_occurrences(keys, len(keys))
    numbered = _number_voxels(points[:, 0].contiguous(), keys, first, batch_size, rule.max_voxels)
    num_voxels = int(numbered.voxels_of_frame.sum())
    coords = _cells_of_voxels(keys, first.is_first, numbered.rows, num_voxels, grid)
    return _fill_voxels(points, numbered.rows, coords, rule.max_points)


class _Numbered(NamedTuple):
    """The voxel of each point.

    Attributes:
        rows: (N,) int64, or ``NO_VOXEL``.
        voxels_of_frame: (B,) int64.
    """

    rows: Tensor
    voxels_of_frame: Tensor


NO_VOXEL = torch.iinfo(torch.int64).max  # sorts behind all voxels


def _number_voxels(
    frames: Tensor, keys: Tensor, first: FirstOccurrences, batch_size: int, max_voxels: int
) -> _Numbered:
    """Number the voxels of each frame up to its limit; a voxel beyond it is none.

    Args:
        frames: (N,) of the points, ascending.
        keys: (N,) int64, the frame and cell of each point.
        first: the numbers of the keys, without a limit.
        batch_size: B.
        max_voxels: of a frame.
    """
    borders = torch.arange(batch_size + 1, device=keys.device)
    starts = torch.searchsorted(frames, borders.to(frames.dtype))
    opened = torch.nn.functional.pad(torch.cumsum(first.is_first, dim=0), (1, 0))
    opened_before = opened[starts]
    voxels_of_frame = opened_before.diff().clamp(max=max_voxels)
    row_before = torch.cumsum(voxels_of_frame, dim=0) - voxels_of_frame
    frame = frames.long()
    number = first.numbers - opened_before[frame]
    is_kept = (keys >= 0) & (number < max_voxels)
    rows = torch.where(is_kept, row_before[frame] + number, NO_VOXEL)
    return _Numbered(rows, voxels_of_frame)


def _cells_of_voxels(
    keys: Tensor, is_first: Tensor, rows: Tensor, num_voxels: int, grid: PointGrid
) -> Tensor:
    """Frame and cell (M, 4) int32 of each voxel: those of its first point."""
    # All other points write to one place more, which is cut off.
    writes = is_first & (rows != NO_VOXEL)
    place = torch.where(writes, rows, num_voxels)
    key_of_voxel = keys.new_zeros(num_voxels + 1).index_copy(0, place, keys)
    return cells_of_keys(key_of_voxel[:num_voxels], grid.shape)


def _fill_voxels(points: Tensor, rows: Tensor, coords: Tensor, max_points: int) -> BatchVoxels:
    """The first points of each voxel, in their order."""
    sorted_rows, order = torch.sort(rows, stable=True)
    voxel = torch.arange(len(coords) + 1, device=rows.device)
    starts = torch.searchsorted(sorted_rows, voxel)
    num_points = starts.diff().clamp(max=max_points)
    slot = torch.arange(max_points, device=rows.device)
    is_used = slot < num_points[:, None]
    place = torch.where(is_used, starts[:-1, None] + slot, 0)
    if len(points) == 0:
        voxels = points.new_zeros(0, max_points, points.shape[1] - 1)
        return BatchVoxels(voxels, coords, num_points.int())
    taken = points[order[place], 1:]
    voxels = taken.masked_fill(~is_used[..., None], 0)
    return BatchVoxels(voxels, coords, num_points.int())
