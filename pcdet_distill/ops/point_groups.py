"""Points of a batch by the cell of a grid that they fall into: dynamic voxels and pillars.

No point inside the grid is dropped (Zhou et al., MVF, CoRL 2019). A point's cell is
``floor((xyz - origin) / size)`` in float32. Points outside the grid, or NaN, have none.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import torch
from torch import Tensor

from .dispatch import Operator
from .rulebook import cells_of_keys

OUTSIDE = -1


@dataclasses.dataclass(frozen=True)
class PointGrid:
    """A grid of cells, and how they are numbered.

    Attributes:
        origin: (3,) float32 smallest x, y, z in metres, on the device of the points.
        size: (3,) float32 edges of a cell along x, y, z.
        cells: cells along x, y, z.
        axes: those that count, the slowest one first: (2, 1, 0) numbers by z, y, x. Along an axis
            that is left out a cell has no end.
    """

    origin: Tensor
    size: Tensor
    cells: tuple[int, int, int]
    axes: tuple[int, ...]

    @property
    def shape(self) -> list[int]:
        """Cells along the axes that count."""
        return [self.cells[axis] for axis in self.axes]

    def steps(self) -> tuple[int, int, int]:
        """How much the number grows from cell to cell along x, y, z; 0 for an axis left out."""
        steps = [0, 0, 0]
        step = 1
        for axis in reversed(self.axes):
            steps[axis] = step
            step *= self.cells[axis]
        x, y, z = steps
        return x, y, z


def point_keys(points: Tensor, grid: PointGrid) -> Tensor:
    """One number per frame and cell, or ``OUTSIDE``.

    Args:
        points: (N, 1 + 3+) frame, x, y, z, ...
        grid: the cells.

    Returns:
        (N,) int64.
    """
    return POINT_KEYS.on(points.device)(points.detach(), grid)


def point_keys_plain(points: Tensor, grid: PointGrid) -> Tensor:
    """``point_keys`` in plain torch, any device."""
    place = torch.floor((points[:, 1:4] - grid.origin) / grid.size)
    key = points[:, 0].long()
    inside = torch.ones_like(key, dtype=torch.bool)
    for axis in grid.axes:
        # Both comparisons are false for NaN.
        on_axis = (place[:, axis] >= 0) & (place[:, axis] < grid.cells[axis])
        cell = torch.where(on_axis, place[:, axis], 0).long()
        key = key * grid.cells[axis] + cell
        inside = inside & on_axis
    return torch.where(inside, key, OUTSIDE)


POINT_KEYS = Operator("cells of points", plain=point_keys_plain, triton="point_keys:point_keys")


class PointGroups(NamedTuple):
    """The points inside the grid, cell by cell.

    Attributes:
        rows: (R,) int64 rows of the points; those of one cell keep their order.
        owner: (R,) int64, the cell of each.
        counts: (M,) int64 points of each cell, all at least 1.
        cells: (M, 1 + axes) int64 frame and cell, in ascending order.
    """

    rows: Tensor
    owner: Tensor
    counts: Tensor
    cells: Tensor


def group_points(points: Tensor, grid: PointGrid) -> PointGroups:
    """Group points (N, 1+3+) frame, x, y, z, ...

    One sort brings the points of a cell together. How many points and cells there are is read from
    the device at once.
    """
    keys, order = torch.sort(point_keys(points, grid), stable=True)
    differs = torch.ones_like(keys, dtype=torch.bool)
    differs[1:] = keys[1:] != keys[:-1]
    # Points outside come first, because their key is the smallest one.
    begins = differs & (keys >= 0)
    number_of_point = torch.cumsum(begins, dim=0) - 1
    num_outside, num_cells = torch.stack([(keys < 0).sum(), begins.sum()]).tolist()
    owner = number_of_point[num_outside:]
    counts = torch.zeros(num_cells, dtype=torch.int64, device=keys.device)
    counts.index_add_(0, owner, torch.ones_like(owner))
    key_of_cell = torch.zeros_like(counts)
    key_of_cell[owner] = keys[num_outside:]
    cells = cells_of_keys(key_of_cell, grid.shape).long()
    return PointGroups(order[num_outside:], owner, counts, cells)
