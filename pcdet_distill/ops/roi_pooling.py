"""Pooling of point features inside boxes, and neighbouring voxels of a place, by the rules of OpenPCDet's CUDA ops.

RoI point pooling is PointRCNN's (CVPR 2019), RoI-aware pooling Part-A2's (TPAMI 2020), the voxel query Voxel R-CNN's
(AAAI 2021). Which points belong to which box or voxel carries no gradient; the features do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError
from .accelerated import point_kernels
from .boxes import enlarge_box3d
from .point_sampling import PAIRS_PER_CHUNK, add_rows, fill_with_first, first_true, take_rows
from .points import inside_boxes
from .rulebook import cell_keys

POOL_METHODS = ("max", "avg")


def roipoint_pool3d(
    points: Tensor,
    features: Tensor,
    rois: Tensor,
    num_sampled: int,
    extra_width: Sequence[float] = (0, 0, 0),
) -> tuple[Tensor, Tensor]:
    """The first ``num_sampled`` points inside every box, repeated from the start when there are fewer.

    Args:
        points: (B, N, 3).
        features: (B, N, C).
        rois: (B, R, 7), enlarged by ``extra_width`` metres before the points are looked up.

    Returns:
        xyz and features (B, R, num_sampled, 3 + C), zeros for a box without points; and (B, R) bool, which are empty.
    """
    pooled, empty = [], []
    for frame_points, frame_features, boxes in zip(points, features, rois):
        rows, none = roi_point_rows(frame_points, boxes, num_sampled, extra_width)
        both = take_rows(torch.cat([frame_points, frame_features], dim=1), rows)
        pooled.append(both * ~none.view(-1, 1, 1))
        empty.append(none)
    return torch.stack(pooled), torch.stack(empty)


def roi_point_rows(
    points: Tensor, rois: Tensor, num_sampled: int, extra_width: Sequence[float] = (0, 0, 0)
) -> tuple[Tensor, Tensor]:
    """Rows (R, num_sampled) int64 of the points (N, 3) of one frame that ``roipoint_pool3d`` takes; and (R,) empty."""
    inside = inside_boxes(points, enlarge_box3d(rois[:, :7], extra_width))
    count = inside.sum(dim=1)
    members = torch.nonzero(inside)[:, 1]
    first = count.cumsum(0) - count
    slot = torch.arange(num_sampled, device=points.device) % count.clamp_min(1).unsqueeze(1)
    if len(members) == 0:
        return torch.zeros_like(slot), count == 0
    return members[(first.unsqueeze(1) + slot).clamp_max(len(members) - 1)], count == 0


def roiaware_pool3d(
    rois: Tensor,
    points: Tensor,
    features: Tensor,
    out_size: int | Sequence[int],
    max_points_per_voxel: int = 128,
    pool_method: str = "max",
) -> Tensor:
    """Features pooled over the cells of a grid in every box.

    Args:
        rois: (R, 7).
        points, features: (N, 3) and (N, C) of the same frame.
        out_size: cells along the box's own x, y, z.
        max_points_per_voxel: a cell takes the first ``max_points_per_voxel - 1`` of its points.
        pool_method: ``max`` or ``avg``.

    Returns:
        (R, out_x, out_y, out_z, C); 0 where a cell is empty.
    """
    if pool_method not in POOL_METHODS:
        raise ConfigError(
            f"pool_method of RoI-aware pooling is '{pool_method}', expected one of {POOL_METHODS}"
        )
    sizes = (out_size,) * 3 if isinstance(out_size, int) else tuple(out_size)
    cell, point = cell_members(rois, points, sizes, max_points_per_voxel - 1)
    cells = len(rois) * sizes[0] * sizes[1] * sizes[2]
    pool = _pool_maximum if pool_method == "max" else _pool_average
    return pool(features, cell, point, cells).view(len(rois), *sizes, features.shape[1])


@torch.no_grad()
def cell_members(
    rois: Tensor, points: Tensor, sizes: Sequence[int], limit: int
) -> tuple[Tensor, Tensor]:
    """The first ``limit`` points of every grid cell of every box: cells (P,) and points (P,), ordered by cell.

    Cells count over box, x, y, z. P is what fits; cells and points are int64.
    """
    roi, point = torch.nonzero(inside_boxes(points, rois), as_tuple=True)
    cell = roi
    for index, extent in zip(_cell_indices(rois[roi], points[point], sizes), sizes):
        cell = cell * extent + index
    cell, order = torch.sort(cell, stable=True)
    rank = torch.arange(len(cell), device=cell.device) - torch.searchsorted(cell, cell)
    return cell[rank < limit], point[order][rank < limit]


def _cell_indices(boxes: Tensor, points: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Cells (P,) along x, y and z of points (P, 3+) in boxes (P, 7): float32, towards zero, as the reference rounds."""
    offset = points[:, :3].float() - boxes[:, :3]
    cos, sin = torch.cos(boxes[:, 6]), torch.sin(boxes[:, 6])
    local = (
        offset[:, 0] * cos + offset[:, 1] * sin,
        offset[:, 1] * cos - offset[:, 0] * sin,
        offset[:, 2],
    )
    found = []
    for axis, (place, extent) in enumerate(zip(local, sizes)):
        size = boxes[:, 3 + axis]
        found.append(((place + size / 2) / (size / extent)).long().clamp(0, extent - 1))
    return found


def _pool_average(features: Tensor, cell: Tensor, point: Tensor, cells: int) -> Tensor:
    """Mean (cells, C) of the members of each cell."""
    count = torch.bincount(cell, minlength=cells).clamp_min(1).to(features.dtype)
    return _SumRows.apply(take_rows(features, point), cell, cells) / count.unsqueeze(1)


class _SumRows(torch.autograd.Function):
    """Sums of rows that go to the same place; backward is a selection."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, place: Tensor, total: int) -> Tensor:
        ctx.save_for_backward(place)
        return add_rows(rows.detach(), place, total)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad.index_select(0, ctx.saved_tensors[0]), None, None


def _pool_maximum(features: Tensor, cell: Tensor, point: Tensor, cells: int) -> Tensor:
    """Largest (cells, C) of the members of each cell; the gradient goes to the first of equal ones."""
    channels = features.shape[1]
    with torch.no_grad():
        rows = features[point]
        place = cell.unsqueeze(1).expand(-1, channels)
        best = rows.new_full((cells, channels), -torch.inf).scatter_reduce(0, place, rows, "amax")
        order = torch.arange(len(cell), device=cell.device).unsqueeze(1)
        first = torch.where(rows == best[cell], order, len(cell))
        winner = first.new_full((cells, channels), len(cell)).scatter_reduce(
            0, place, first, "amin"
        )
    filled = winner < len(cell)
    if len(cell) == 0:
        return features.new_zeros(cells, channels) + features[:0].sum()  # keeps the graph
    source = point[winner.clamp_max(len(cell) - 1)]
    return torch.where(filled, features.gather(0, source), 0)


def voxel_query(
    reach: Sequence[int],
    radius_m: float,
    num_neighbors: int,
    voxels: Tensor,
    voxel_coords: Tensor,
    spatial_shape: Sequence[int],
    centres: Tensor,
    centre_coords: Tensor,
) -> tuple[Tensor, Tensor]:
    """The first voxels around each place, in ascending z, y, x, whose centres are not further than ``radius_m``.

    Args:
        reach: how many voxels to look along z, y, x.
        voxels: (N, 3) centres in metres.
        voxel_coords: (N, 4) frame, z, y, x.
        spatial_shape: voxels along z, y, x.
        centres: (M, 3) places in metres.
        centre_coords: (M, 4) the voxels they lie in; may be outside the grid.

    Returns:
        rows (M, num_neighbors) int64 of ``voxels``, filled up with the first hit, all 0 without any; and how many were
        found (M,) int64.
    """
    voxels, centres = voxels.detach()[:, :3].float(), centres.detach()[:, :3].float()
    coords, cells = voxel_coords.long(), centre_coords.long()
    limit = np.float32(radius_m) * np.float32(radius_m)
    if voxels.device.type != "cpu":
        return voxel_query_plain(
            reach, float(limit), num_neighbors, voxels, coords, spatial_shape, centres, cells
        )
    depth, height = int(spatial_shape[0]), int(spatial_shape[1])
    frames = (
        int(torch.cat([coords[:, 0], cells[:, 0]]).max()) + 1 if len(coords) + len(cells) else 0
    )
    line = (coords[:, 0] * depth + coords[:, 1]) * height + coords[:, 2]
    order = torch.argsort(line * int(spatial_shape[2]) + coords[:, 3])
    starts = torch.nn.functional.pad(
        torch.bincount(line, minlength=frames * depth * height).cumsum(0), (1, 0)
    )
    rows = np.zeros((len(centres), num_neighbors), np.int64)
    found = np.zeros(len(centres), np.int64)
    point_kernels.voxel_neighbours(
        starts.numpy(),
        coords[order, 3].numpy(),
        order.numpy(),
        voxels.contiguous().numpy(),
        np.array(spatial_shape, np.int64),
        centres.contiguous().numpy(),
        cells.contiguous().numpy(),
        np.array(reach, np.int64),
        limit,
        rows,
        found,
    )
    return fill_with_first(torch.from_numpy(rows), torch.from_numpy(found))


def voxel_query_plain(
    reach: Sequence[int],
    radius_squared: float,
    num_neighbors: int,
    voxels: Tensor,
    coords: Tensor,
    spatial_shape: Sequence[int],
    centres: Tensor,
    cells: Tensor,
) -> tuple[Tensor, Tensor]:
    """``voxel_query`` in plain torch, any device: every cell within reach is looked up in the sorted voxels."""
    if len(voxels) == 0 or len(centres) == 0:
        none = torch.zeros(len(centres), dtype=torch.int64, device=centres.device)
        return none.unsqueeze(1).repeat(1, num_neighbors), none
    shape = torch.tensor([int(extent) for extent in spatial_shape], device=voxels.device)
    keys, order = torch.sort(cell_keys(coords, spatial_shape))
    steps = torch.cartesian_prod(
        *[torch.arange(-far, far + 1, device=voxels.device) for far in reach]
    ).view(-1, 3)
    rows, found = [], []
    for part, places in zip(
        *(tensor.split(max(1, PAIRS_PER_CHUNK // len(steps))) for tensor in (cells, centres))
    ):
        around = part[:, None, 1:] + steps
        on_grid = ((around >= 0) & (around < shape)).all(dim=2)
        frame = part[:, None, :1].expand(-1, len(steps), 1)
        key = cell_keys(torch.cat([frame, around], dim=2), spatial_shape)
        at = torch.searchsorted(keys, key).clamp_max(len(keys) - 1)
        candidate = order[at]
        square = (voxels[candidate] - places.unsqueeze(1)).square()
        near = square[..., 0] + square[..., 1] + square[..., 2] <= radius_squared
        columns, count = first_true(on_grid & (keys[at] == key) & near, num_neighbors)
        rows.append(torch.where(count.unsqueeze(1) > 0, candidate.gather(1, columns), 0))
        found.append(count)
    return torch.cat(rows), torch.cat(found)
