"""Pooling of point features inside boxes, by the rules of OpenPCDet's CUDA ops.

RoI point pooling is PointRCNN's (CVPR 2019), RoI-aware pooling Part-A2's (TPAMI 2020). Gradients
reach the features, but neither the boxes nor the points.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import ConfigError
from ..moved import forward_names
from .boxes import enlarge_box3d
from .constants import constant
from .dispatch import Operator
from .points import inside_boxes
from .rows import add_rows, take_rows
from .segments import group_argmax
from .voxel_query import voxel_query

__all__ = [
    "CellMembers",
    "cell_members",
    "pool_cells",
    "roi_point_rows",
    "roiaware_pool3d",
    "roipoint_pool3d",
    "stack_cell_members",
    "voxel_query",
]

POOL_METHODS = ("max", "avg")


def roipoint_pool3d(
    points: Tensor,
    features: Tensor,
    rois: Tensor,
    num_sampled: int,
    extra_width: Sequence[float] = (0, 0, 0),
) -> tuple[Tensor, Tensor]:
    """The first points inside every box, repeated from the start where there are too few.

    Args:
        points: (B, N, 3).
        features: (B, N, C).
        rois: (B, R, 7).
        num_sampled: points per box.
        extra_width: metres added to the sizes of the boxes, so that they include some context.

    Returns:
        xyz and features (B, R, num_sampled, 3 + C), zeros for a box without points; and which boxes
        are empty (B, R) bool.
    """
    rows, is_empty = _rows_in_turn(points, rois, num_sampled, extra_width)
    both = torch.cat([points, features], dim=2)
    pooled = [take_rows(of_frame, its_rows) for of_frame, its_rows in zip(both, rows)]
    return torch.stack(pooled) * ~is_empty[..., None, None], is_empty


def roi_point_rows(
    points: Tensor, rois: Tensor, num_sampled: int, extra_width: Sequence[float] = (0, 0, 0)
) -> tuple[Tensor, Tensor]:
    """The rows of the points of one frame that ``roipoint_pool3d`` takes.

    Args:
        points: (N, 3).
        rois: (R, 7).
        num_sampled: points per box.
        extra_width: metres added to the sizes of the boxes.

    Returns:
        rows (R, num_sampled) int64, and which boxes are empty (R,) bool.
    """
    rows, is_empty = _rows_in_turn(points[None], rois[None], num_sampled, extra_width)
    return rows[0], is_empty[0]


def _rows_in_turn(
    points: Tensor, rois: Tensor, num_sampled: int, extra_width: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """``roi_point_rows`` of points (B, N, 3) and boxes (B, R, 7): (B, R, K) and (B, R)."""
    boxes = rois[..., :7].flatten(0, 1)
    larger = enlarge_box3d(boxes, extra_width).view(*rois.shape[:2], 7)
    rows, found = FIRST_MEMBERS.on(points.device)(points.detach(), larger.detach(), num_sampled)
    slots = torch.arange(num_sampled, device=points.device)
    in_turn = slots % found.clamp_min(1).unsqueeze(-1)
    return rows.gather(-1, in_turn), found == 0


def first_members_plain(points: Tensor, boxes: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """The first points (B, N, 3+) inside each of boxes (B, T, 7), in the order of their rows.

    Returns:
        rows (B, T, limit) int64, unused places are any rows; how many were found (B, T) int64, at
        most ``limit``.
    """
    shape = (*boxes.shape[:2], limit)
    rows = torch.zeros(shape, dtype=torch.int64, device=points.device)
    found = torch.zeros(shape[:2], dtype=torch.int64, device=points.device)
    slots = torch.arange(limit, device=points.device)
    for frame, (of_frame, its_boxes) in enumerate(zip(points, boxes)):
        inside = inside_boxes(of_frame, its_boxes)
        count = inside.sum(dim=1)
        found[frame] = count.clamp_max(limit)
        members = torch.nonzero(inside)[:, 1]  # by box, then by row
        if len(members):
            index = (count.cumsum(0) - count).unsqueeze(1) + slots
            rows[frame] = members[index.clamp_max(len(members) - 1)]
    return rows, found


FIRST_MEMBERS = Operator(
    "RoI point pooling", plain=first_members_plain, triton="points_in_boxes:first_members"
)


def roiaware_pool3d(
    rois: Tensor,
    points: Tensor,
    features: Tensor,
    out_size: int | Sequence[int],
    max_points_per_voxel: int = 128,
    pool_method: str = "max",
) -> Tensor:
    """Features pooled over the cells of a grid in every box.

    Empty cells stay in the output. So it shows the shape of the box, which PointRCNN's pooling does
    not.

    Args:
        rois: (R, 7).
        points: (N, 3) of the same frame.
        features: (N, C) of the points.
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
    limit = max_points_per_voxel - 1
    members = stack_cell_members(rois[None], points, [len(points)], sizes, limit)
    return pool_cells(features, members, pool_method)


class CellMembers(NamedTuple):
    """The points that the grid cells of some boxes take.

    Attributes:
        cell: (P,) int64, numbered over box, x, y, z, in ascending order.
        point: (P,) int64, a point in that cell.
        shape: boxes, and cells along x, y, z.
    """

    cell: Tensor
    point: Tensor
    shape: tuple[int, ...]

    def with_points(self, row: Tensor) -> CellMembers:
        """The same, the points numbered by ``row`` (N,) of their old numbers."""
        return self._replace(point=row[self.point])


def pool_cells(features: Tensor, members: CellMembers, method: str) -> Tensor:
    """Features (boxes, x, y, z, C) pooled over the members of each cell; 0 where there are none.

    Args:
        features: (N, C) of all points.
        members: of each cell.
        method: ``max`` or ``avg``.
    """
    pool = _pool_maximum if method == "max" else _pool_average
    pooled = pool(features, members.cell, members.point, prod(members.shape))
    return pooled.view(*members.shape, features.shape[1])


def cell_members(
    rois: Tensor, points: Tensor, sizes: Sequence[int], limit: int
) -> tuple[Tensor, Tensor]:
    """The first points of every grid cell of every box.

    Args:
        rois: (R, 7).
        points: (N, 3).
        sizes: cells along the box's own x, y, z.
        limit: points per cell.

    Returns:
        for each pair of a cell and a point in it, ordered by cell: the cells (P,) int64, numbered
        over box, x, y, z, and the points (P,) int64.
    """
    members = stack_cell_members(rois[None], points, [len(points)], sizes, limit)
    return members.cell, members.point


@torch.no_grad()
def stack_cell_members(
    rois: Tensor, points: Tensor, counts: Sequence[int], sizes: Sequence[int], limit: int
) -> CellMembers:
    """``cell_members`` of a batch, whose sizes the host learns together.

    Args:
        rois: (B, R, 7); the boxes of all frames are numbered one after the other.
        points: (N, 3), those of each frame one after the other.
        counts: points of each frame.
        sizes: cells along the box's own x, y, z.
        limit: points per cell.
    """
    roi, point = _points_in_rois(rois, points, counts)
    cell = roi
    boxes = rois.flatten(0, 1)[roi]
    for index, size in zip(_cell_indices(boxes, points[point], sizes), sizes):
        cell = cell * size + index
    cell, order = torch.sort(cell, stable=True)
    position = torch.arange(len(cell), device=cell.device)
    rank_in_cell = position - torch.searchsorted(cell, cell)
    taken = torch.nonzero(rank_in_cell < limit)[:, 0]
    shape = (rois.shape[0] * rois.shape[1], *sizes)
    return CellMembers(cell[taken], point[order[taken]], shape)


def _points_in_rois(rois: Tensor, points: Tensor, counts: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Each pair (P,) int64 of a box and a point of its frame inside it; points of a box ascend."""
    masks = []
    for of_frame, boxes in zip(points.split(list(counts)), rois):
        masks.append(inside_boxes(of_frame, boxes))
    # One search for all frames: the columns are the points of the whole batch.
    box, point = torch.nonzero(torch.cat(masks, dim=1), as_tuple=True)
    ends = constant([int(count) for count in counts], point.device).cumsum(0)
    frame = torch.searchsorted(ends, point, right=True)
    return frame * rois.shape[1] + box, point


def _cell_indices(boxes: Tensor, points: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Cells (P,) along x, y and z of points (P, 3+) in boxes (P, 7).

    Rounded towards zero in float32, as the reference rounds.
    """
    offset_x, offset_y, offset_z = (points[:, :3].float() - boxes[:, :3]).unbind(dim=1)
    cos = torch.cos(boxes[:, 6])
    sin = torch.sin(boxes[:, 6])
    local_x = offset_x * cos + offset_y * sin
    local_y = offset_y * cos - offset_x * sin
    indices = []
    for axis, local in enumerate((local_x, local_y, offset_z)):
        extent = boxes[:, 3 + axis]
        cells = sizes[axis]
        index = (local + extent / 2) / (extent / cells)
        indices.append(index.long().clamp(0, cells - 1))
    return indices


def _pool_average(features: Tensor, cell: Tensor, point: Tensor, num_cells: int) -> Tensor:
    """Mean (num_cells, C) of the features (N, C) of the members of each cell."""
    count = torch.bincount(cell, minlength=num_cells).clamp_min(1).to(features.dtype)
    total: Tensor = _SumRows.apply(take_rows(features, point), cell, num_cells)
    return total / count.unsqueeze(1)


class _SumRows(torch.autograd.Function):
    """Sums of rows that go to the same place; the backward pass is a selection."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, place: Tensor, total: int) -> Tensor:
        ctx.save_for_backward(place)
        return add_rows(rows.detach(), place, total)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (place,) = ctx.saved_tensors
        return grad.index_select(0, place), None, None


def _pool_maximum(features: Tensor, cell: Tensor, point: Tensor, num_cells: int) -> Tensor:
    """Maximum (num_cells, C) of the features (N, C) of the members of each cell.

    The gradient goes to the first of equal ones, as in the reference.
    """
    if len(cell) == 0:
        # The empty sum keeps the output connected to the graph of the features.
        return features.new_zeros(num_cells, features.shape[1]) + features[:0].sum()
    winner = CELL_ARGMAX.on(features.device)(features.detach(), cell, point, num_cells)
    largest = features.gather(0, winner.clamp_min(0))
    return torch.where(winner >= 0, largest, 0)


def cell_argmax_plain(features: Tensor, cell: Tensor, point: Tensor, num_cells: int) -> Tensor:
    """Row (num_cells, C) int64 of the first of the largest features (N, C) in each cell.

    -1 where a cell has no member.

    Args:
        features: (N, C).
        cell: (P,) int64 in ascending order, P above 0.
        point: (P,) int64 row of the member that lies in that cell.
        num_cells: cells of all boxes.
    """
    winner = group_argmax(features[point], cell, num_cells)
    has_members = winner < len(cell)
    return torch.where(has_members, point[winner.clamp_max(len(cell) - 1)], -1)


CELL_ARGMAX = Operator(
    "RoI-aware pooling", plain=cell_argmax_plain, triton="roi_pooling:cell_argmax"
)


# Old names, for one more version.
__getattr__ = forward_names(__name__, "pcdet_distill.ops.voxel_query", ["voxel_query_plain"])
