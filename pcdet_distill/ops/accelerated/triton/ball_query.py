"""Ball query: a program searches around a few centres, tile by tile through the item's points.

The points are taken in the order of their rows. A running sum over each tile gives every hit its
place, and the search ends when all balls are full. Most tiles have no hit and skip the sum.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...stacks import Stack
from . import EXACT
from .common import append_members, squared_distance

CENTRES = 8
TILE = 256


@triton.jit
def _ball_kernel(
    columns,
    centres,
    point_starts,
    centre_starts,
    rows,
    found,
    num_points,
    radius_squared,
    limit,
    CENTRES: tl.constexpr,
    TILE: tl.constexpr,
):
    item = tl.program_id(1)
    start = tl.load(point_starts + item)
    end = tl.load(point_starts + item + 1)
    lane = tl.program_id(0).to(tl.int64) * CENTRES + tl.arange(0, CENTRES)
    centre = tl.load(centre_starts + item) + lane
    wanted = centre < tl.load(centre_starts + item + 1)
    centre_x = tl.load(centres + centre * 3, mask=wanted, other=0.0)[:, None]
    centre_y = tl.load(centres + centre * 3 + 1, mask=wanted, other=0.0)[:, None]
    centre_z = tl.load(centres + centre * 3 + 2, mask=wanted, other=0.0)[:, None]
    count = tl.where(wanted, 0, limit)
    while (start < end) & (tl.min(count, axis=0) < limit):
        row = start + tl.arange(0, TILE)
        inside = row < end
        x = tl.load(columns + row, mask=inside, other=0.0)[None, :]
        y = tl.load(columns + num_points + row, mask=inside, other=0.0)[None, :]
        z = tl.load(columns + 2 * num_points + row, mask=inside, other=0.0)[None, :]
        distance = squared_distance(x, y, z, centre_x, centre_y, centre_z)
        near = (distance < radius_squared) & inside[None, :] & wanted[:, None]
        if tl.max(tl.max(near.to(tl.int32), axis=1), axis=0) > 0:
            count = append_members(near, row[None, :], count, rows + centre * limit, limit)
        start += TILE
    tl.store(found + centre, count.to(tl.int64), mask=wanted)


def ball_query(
    radius_squared: float, num_neighbors: int, points: Stack, centres: Stack
) -> tuple[Tensor, Tensor]:
    """The first points in each centre's ball.

    Returns:
        rows (M, num_neighbors) int64, unused places 0; how many were found (M,) int64.
    """
    device = centres.xyz.device
    rows = torch.zeros((len(centres), num_neighbors), dtype=torch.int64, device=device)
    found = torch.zeros(len(centres), dtype=torch.int64, device=device)
    if len(centres) == 0 or num_neighbors == 0:
        return rows, found
    grid = (triton.cdiv(max(centres.sizes), CENTRES), centres.num_items)
    _ball_kernel[grid](
        points.xyz.T.contiguous(),
        centres.xyz.contiguous(),
        points.device_starts(),
        centres.device_starts(),
        rows,
        found,
        num_points=len(points),
        radius_squared=radius_squared,
        limit=num_neighbors,
        CENTRES=CENTRES,
        TILE=TILE,
        **EXACT,
    )
    return rows, found
