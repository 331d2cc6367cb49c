"""Coordinates of cells inside RoIs and of voxels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...ops.boxes import rotate_points_along_z
from ...ops.constants import constant


def roi_grid_points(rois: Tensor, grid_size: int) -> Tensor:
    """Centres (N, grid_size ** 3, 3) in metres of the cells that divide rois (N, 7).

    z is the fastest axis, then y: the order of OpenPCDet, which trained layers expect.
    """
    steps = torch.arange(grid_size, device=rois.device, dtype=rois.dtype)
    fraction = (torch.cartesian_prod(steps, steps, steps) + 0.5) / grid_size
    size = rois[:, None, 3:6]
    return rotate_points_along_z(fraction * size - size / 2, rois[:, 6]) + rois[:, None, :3]


def framed_places(rois: Tensor, places: Tensor) -> Tensor:
    """Rows (B * R * P, 4) of frame, x, y, z for the P places (B * R, P, 3) of each RoI.

    Args:
        rois: (B, R, 7). The frame is -1 for a RoI of padding, which has no size.
        places: (B * R, P, 3) metres.
    """
    frame_number = torch.arange(len(rois), device=rois.device).unsqueeze(1)
    is_real = (rois[..., 3:6] > 0).all(dim=-1)
    frame = torch.where(is_real, frame_number, -1).reshape(-1, 1, 1)
    frame_of_place = frame.expand(-1, places.shape[1], 1).to(places.dtype)
    return torch.cat([frame_of_place, places], dim=2).flatten(0, 1)


def voxel_centres(
    coords: Tensor, stride: int, voxel_size: Sequence[float], origin_m: Sequence[float]
) -> Tensor:
    """Centres (N, 3) in metres of voxels (N, 3), given as z, y, x.

    Args:
        coords: (N, 3) integer coordinates on a grid whose cells are ``stride`` voxels wide.
        voxel_size, origin_m: x, y, z of a voxel's size and of the grid's corner, metres.
    """
    size = constant([float(edge) * stride for edge in voxel_size], coords.device)
    origin = constant([float(value) for value in origin_m[:3]], coords.device)
    return (coords.flip(1).float() + 0.5) * size + origin


def register_first_centre(
    module: nn.Module, voxel_size: Sequence[float], origin_m: Sequence[float]
) -> None:
    """Register the buffers ``voxel_size`` (3,) and ``first_centre`` (3,) of the first voxel."""
    size = torch.tensor([float(edge) for edge in voxel_size])
    origin = torch.tensor([float(value) for value in origin_m[:3]])
    module.register_buffer("voxel_size", size, persistent=False)
    module.register_buffer("first_centre", size / 2 + origin, persistent=False)
