"""Voxel query: the voxels in a ball around each place, found by their cells.

The voxels are sorted by frame, z, y and x. So those within reach along x follow each other, and one
binary search finds the first of them in each line. A thread does this for one place.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...rulebook import cell_keys
from ...voxel_query import SearchRange, VoxelPlaces
from . import EXACT
from .common import squared_distance

PLACES = 64  # of a program


@triton.jit
def _first_not_below(keys, wanted, num_keys, BITS: tl.constexpr):
    """Position of the first of the sorted keys that is not below each wanted one."""
    position = tl.zeros(wanted.shape, tl.int64)
    step = tl.full([], 1, tl.int64) << BITS
    for _ in range(0, BITS + 1):
        # The longest run of smaller keys, from the largest power of two down.
        last = position + step - 1
        exists = last < num_keys
        key = tl.load(keys + last, mask=exists, other=0)
        position = tl.where(exists & (key < wanted), position + step, position)
        step = step >> 1
    return position


@triton.jit
def _voxel_kernel(
    keys,
    order,
    centres,
    places,
    cells,
    rows,
    found,
    num_voxels,
    num_places,
    depth,
    height,
    width,
    reach_z,
    reach_y,
    reach_x,
    radius_squared,
    limit,
    BITS: tl.constexpr,
    PLACES: tl.constexpr,
):
    place = tl.program_id(0).to(tl.int64) * PLACES + tl.arange(0, PLACES)
    wanted = place < num_places
    place_x = tl.load(places + place * 3, mask=wanted, other=0.0)
    place_y = tl.load(places + place * 3 + 1, mask=wanted, other=0.0)
    place_z = tl.load(places + place * 3 + 2, mask=wanted, other=0.0)
    frame = tl.load(cells + place * 4, mask=wanted, other=0)
    cell_z = tl.load(cells + place * 4 + 1, mask=wanted, other=0)
    cell_y = tl.load(cells + place * 4 + 2, mask=wanted, other=0)
    cell_x = tl.load(cells + place * 4 + 3, mask=wanted, other=0)
    first_x = tl.maximum(cell_x - reach_x, 0)
    last_x = tl.minimum(cell_x + reach_x, width - 1)
    count = tl.where(wanted, 0, limit)
    for step_z in range(-reach_z, reach_z + 1):
        z = cell_z + step_z
        for step_y in range(-reach_y, reach_y + 1):
            y = cell_y + step_y
            on_grid = (z >= 0) & (z < depth) & (y >= 0) & (y < height) & (first_x <= last_x)
            line = ((frame * depth + z) * height + y) * width
            last_key = line + last_x
            position = _first_not_below(keys, line + first_x, num_voxels, BITS)
            for _ in range(0, 2 * reach_x + 1):
                searching = on_grid & (count < limit) & (position < num_voxels)
                key = tl.load(keys + position, mask=searching, other=0)
                searching = searching & (key <= last_key)
                row = tl.load(order + position, mask=searching, other=0)
                x = tl.load(centres + row * 3, mask=searching, other=0.0)
                y_m = tl.load(centres + row * 3 + 1, mask=searching, other=0.0)
                z_m = tl.load(centres + row * 3 + 2, mask=searching, other=0.0)
                distance = squared_distance(x, y_m, z_m, place_x, place_y, place_z)
                near = searching & (distance <= radius_squared)
                tl.store(rows + place * limit + count, row, mask=near)
                count = tl.where(near, count + 1, count)
                position += 1
    tl.store(found + place, count.to(tl.int64), mask=wanted)


def voxel_query(
    voxels: VoxelPlaces, spatial_shape: Sequence[int], queries: VoxelPlaces, within: SearchRange
) -> tuple[Tensor, Tensor]:
    """The first voxels around each place, in ascending z, y, x.

    Returns:
        rows (M, K) int64, unused places 0; how many were found (M,) int64.
    """
    device = queries.centres.device
    limit = within.num_neighbors
    rows = torch.zeros((len(queries), limit), dtype=torch.int64, device=device)
    found = torch.zeros(len(queries), dtype=torch.int64, device=device)
    if len(voxels) == 0 or rows.numel() == 0:
        return rows, found
    keys, order = torch.sort(cell_keys(voxels.coords, spatial_shape))
    depth, height, width = (int(cells) for cells in spatial_shape)
    reach_z, reach_y, reach_x = (int(cells) for cells in within.reach)
    _voxel_kernel[(triton.cdiv(len(queries), PLACES),)](
        keys,
        order,
        voxels.centres.contiguous(),
        queries.centres.contiguous(),
        queries.coords.contiguous(),
        rows,
        found,
        len(voxels),
        len(queries),
        depth,
        height,
        width,
        reach_z,
        reach_y,
        reach_x,
        float(within.radius_squared),
        limit,
        BITS=len(voxels).bit_length() - 1,
        PLACES=PLACES,
        num_warps=2,
        **EXACT,
    )
    return rows, found
