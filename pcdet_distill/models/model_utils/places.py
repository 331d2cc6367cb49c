"""Coordinates of cells inside RoIs and of voxels, and rows of a batch grouped by frame."""

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


def split_by_frame(frame: Tensor, batch_size: int) -> tuple[Tensor, ...]:
    """The rows (int64) of each frame, in their order; the host waits once for all their numbers.

    Args:
        frame: (N,) the frame of each row.
        batch_size: B.
    """
    order = torch.argsort(frame, stable=True)
    return order.split(rows_by_frame(frame, batch_size))


def rows_by_frame(frame: Tensor, batch_size: int) -> list[int]:
    """How many of the rows (N,) each frame has."""
    numbers = torch.arange(batch_size, device=frame.device)
    # Not bincount: it waits for the highest frame.
    counts: list[int] = (frame == numbers[:, None]).sum(dim=1).tolist()
    return counts


def rows_of_masks(masks: Sequence[Tensor]) -> list[Tensor]:
    """The rows (int64) that each mask (N_i,) keeps, in their order; the host waits once for all.

    ``nonzero`` of each mask would wait for each. Sorting does not wait, and puts the rows that are
    kept first.
    """
    if len(masks) == 0:
        return []
    counts: list[int] = torch.stack([mask.sum() for mask in masks]).tolist()
    rows = []
    for mask, count in zip(masks, counts):
        order = torch.argsort((~mask).to(torch.uint8), stable=True)
        rows.append(order[:count])
    return rows


def stack_frames(
    frame: Tensor, batch_size: int, *columns: Tensor
) -> tuple[list[int], tuple[Tensor, ...]]:
    """Group rows by frame: the number of rows of each frame, and the columns in that order.

    Args:
        frame: (N,) the frame of each row.
        columns: (N, ...) each.
    """
    # On a GPU sorting is faster than learning whether the rows are sorted already.
    if frame.device.type != "cpu" or bool((frame[1:] < frame[:-1]).any()):
        order = torch.argsort(frame, stable=True)
        columns = tuple(column[order] for column in columns)
    return rows_by_frame(frame, batch_size), columns
