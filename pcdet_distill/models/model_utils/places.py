"""Places inside RoIs and inside voxels, and rows of a batch stacked frame by frame."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...ops.boxes import rotate_points_along_z


def roi_grid_points(rois: Tensor, grid_size: int) -> Tensor:
    """Centres (N, grid_size ** 3, 3) of the cells that divide rois (N, 7), in the scene; z runs fastest, then y."""
    steps = torch.arange(grid_size, device=rois.device, dtype=rois.dtype)
    fraction = (torch.cartesian_prod(steps, steps, steps) + 0.5) / grid_size
    size = rois[:, None, 3:6]
    return rotate_points_along_z(fraction * size - size / 2, rois[:, 6]) + rois[:, None, :3]


def framed_places(rois: Tensor, places: Tensor) -> Tensor:
    """Places (B * R, P, 3) that belong to rois (B, R, 7) as rows (B * R * P, 4): frame, x, y, z.

    The frame is -1 where the RoI is only padding.
    """
    number = torch.arange(len(rois), device=rois.device).unsqueeze(1)
    frame = torch.where((rois[..., 3:6] > 0).all(dim=-1), number, -1).reshape(-1, 1, 1)
    return torch.cat(
        [frame.expand(-1, places.shape[1], 1).to(places.dtype), places], dim=2
    ).flatten(0, 1)


def voxel_centres(
    coords: Tensor, stride: int, voxel_size: Sequence[float], origin_m: Sequence[float]
) -> Tensor:
    """Centres (N, 3) in metres of voxels (N, 3) given as z, y, x, ``stride`` times as large as the smallest ones."""
    size = torch.tensor([float(edge) * stride for edge in voxel_size], device=coords.device)
    origin = torch.tensor([float(value) for value in origin_m[:3]], device=coords.device)
    return (coords.flip(1).float() + 0.5) * size + origin


def register_first_centre(
    module: nn.Module, voxel_size: Sequence[float], origin_m: Sequence[float]
) -> None:
    """Buffers ``voxel_size`` and ``first_centre`` (3,), the middle of the voxel at the origin, for a module."""
    size = torch.tensor([float(edge) for edge in voxel_size])
    module.register_buffer("voxel_size", size, persistent=False)
    module.register_buffer(
        "first_centre",
        size / 2 + torch.tensor([float(value) for value in origin_m[:3]]),
        persistent=False,
    )


def stack_frames(frame: Tensor, batch_size: int, *columns: Tensor) -> tuple[Tensor, ...]:
    """How many rows each frame has (B,), and the columns (N, ...) with their rows ordered by ``frame`` (N,)."""
    frame = frame.long()
    counts = torch.bincount(frame, minlength=batch_size)
    if bool((frame[1:] < frame[:-1]).any()):
        order = torch.argsort(frame, stable=True)
        columns = tuple(column[order] for column in columns)
    return counts, *columns
