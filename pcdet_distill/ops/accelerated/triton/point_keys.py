"""The cell that each point falls into, as one number per frame and cell.

The quotient is rounded as IEEE asks, as in PyTorch and on the CPU. Otherwise points on the border
of two cells would change sides.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...point_groups import PointGrid
from . import EXACT

POINTS = 256  # of a program


@triton.jit
def _along_axis(points, origin, size, row, exists, stride_n, stride_c, cells, AXIS: tl.constexpr):
    """Cell of points along an axis, and whether it is on the grid."""
    column = points + row * stride_n + (AXIS + 1) * stride_c
    metres = tl.load(column, mask=exists, other=0.0)
    place = tl.floor(tl.div_rn(metres - tl.load(origin + AXIS), tl.load(size + AXIS)))
    # Both comparisons are false for NaN.
    inside = (place >= 0) & (place < cells)
    return tl.where(inside, place, 0.0).to(tl.int64), inside


@triton.jit
def _point_keys_kernel(
    points,
    origin,
    size,
    keys,
    num_points,
    stride_n,
    stride_c,
    cells_x,
    cells_y,
    cells_z,
    step_x,
    step_y,
    step_z,
    step_frame,
    POINTS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * POINTS + tl.arange(0, POINTS)
    exists = row < num_points
    frame = tl.load(points + row * stride_n, mask=exists, other=0.0).to(tl.int64)
    x, in_x = _along_axis(points, origin, size, row, exists, stride_n, stride_c, cells_x, 0)
    y, in_y = _along_axis(points, origin, size, row, exists, stride_n, stride_c, cells_y, 1)
    z, in_z = _along_axis(points, origin, size, row, exists, stride_n, stride_c, cells_z, 2)
    # An axis that does not count has the step 0.
    inside = (in_x | (step_x == 0)) & (in_y | (step_y == 0)) & (in_z | (step_z == 0))
    key = frame * step_frame + x * step_x + y * step_y + z * step_z
    tl.store(keys + row, tl.where(inside, key, -1), mask=exists)


def point_keys(points: Tensor, grid: PointGrid) -> Tensor:
    """``point_groups.point_keys``."""
    points = points.float()
    keys = torch.empty(len(points), dtype=torch.int64, device=points.device)
    if len(points) == 0:
        return keys
    cells_of_frame = int(torch.Size(grid.shape).numel())
    _point_keys_kernel[(triton.cdiv(len(points), POINTS),)](
        points,
        grid.origin,
        grid.size,
        keys,
        len(points),
        *points.stride(),
        *grid.cells,
        *grid.steps(),
        cells_of_frame,
        POINTS=POINTS,
        **EXACT,
    )
    return keys
