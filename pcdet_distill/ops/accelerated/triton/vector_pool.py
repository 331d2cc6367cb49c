"""Vector pooling: the points in a centre's cube, near its cells, and in its cells.

A program searches around one centre, tile by tile through the item's points in the order of their
rows. Most tiles have no point in the cube and cost three comparisons a point. The search ends when
as many points were found as may take part.
"""

from collections.abc import Sequence
from math import prod

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from ...stacks import Stack, starts_on
from ...vector_pool import cell_size, fill_first_cells
from . import EXACT
from .common import keep_three, squared_distance

TILE = 256
BLOCK = 4096  # distances between places and points that a program holds at once
NO_ROW = tl.constexpr(2**62)


@triton.jit
def _search_of_program(centres, point_starts, item_of_centre):
    """The number and place of this program's centre, and the rows of its item's points."""
    centre = tl.program_id(0).to(tl.int64)
    item = tl.load(item_of_centre + centre)
    start = tl.load(point_starts + item)
    end = tl.load(point_starts + item + 1)
    at = centres + centre * 3
    return centre, tl.load(at), tl.load(at + 1), tl.load(at + 2), start, end


@triton.jit
def _tile_at(columns, row, end, num_points):
    """Coordinates of points, and which of the rows exist."""
    exists = row < end
    x = tl.load(columns + row, mask=exists, other=0.0)
    y = tl.load(columns + num_points + row, mask=exists, other=0.0)
    z = tl.load(columns + 2 * num_points + row, mask=exists, other=0.0)
    return x, y, z, exists


@triton.jit
def _in_cube(x, y, z, centre_x, centre_y, centre_z, reach):
    """Which points lie in the cube, its surface included."""
    near_x = tl.abs(x - centre_x) <= reach
    near_y = tl.abs(y - centre_y) <= reach
    return near_x & near_y & (tl.abs(z - centre_z) <= reach)


@triton.jit
def _store_nearest(squared, rows, at, wanted, distance, row, best, best_row):
    """Store one of the three nearest; the nearest in its place where there are fewer."""
    exists = distance < float("inf")
    tl.store(squared + at, tl.where(exists, distance, best), mask=wanted)
    tl.store(rows + at, tl.where(exists, row, best_row), mask=wanted)


@triton.jit
def _three_nearest_kernel(
    columns,
    centres,
    offsets,
    point_starts,
    item_of_centre,
    rows,
    squared,
    found,
    num_points,
    num_places,
    reach,
    limit,
    PLACES: tl.constexpr,
    TILE: tl.constexpr,
):
    centre, centre_x, centre_y, centre_z, start, end = _search_of_program(
        centres, point_starts, item_of_centre
    )
    place = tl.arange(0, PLACES)
    is_place = place < num_places
    place_x = (centre_x + tl.load(offsets + place * 3, mask=is_place, other=0.0))[:, None]
    place_y = (centre_y + tl.load(offsets + place * 3 + 1, mask=is_place, other=0.0))[:, None]
    place_z = (centre_z + tl.load(offsets + place * 3 + 2, mask=is_place, other=0.0))[:, None]
    best = tl.full([PLACES], float("inf"), tl.float32)
    second = best
    third = best
    best_row = tl.zeros([PLACES], tl.int64)
    second_row = best_row
    third_row = best_row
    column = tl.arange(0, TILE)
    count = tl.zeros([], tl.int32)
    while (start < end) & (count < limit):
        x, y, z, exists = _tile_at(columns, start + column, end, num_points)
        inside = exists & _in_cube(x, y, z, centre_x, centre_y, centre_z, reach)
        hits = tl.sum(inside.to(tl.int32), axis=0)
        if hits > 0:
            inside = inside & (count + tl.cumsum(inside.to(tl.int32), axis=0) <= limit)
            distance = squared_distance(
                place_x, place_y, place_z, x[None, :], y[None, :], z[None, :]
            )
            distance = tl.where(inside[None, :], distance, float("inf"))
            # The three nearest of the tile, one after the other, each against those so far.
            for _ in tl.static_range(3):
                value, at = tl.min(
                    distance, axis=1, return_indices=True, return_indices_tie_break_left=True
                )
                row = start + at.to(tl.int64)
                best, second, third, best_row, second_row, third_row = keep_three(
                    value, row, best, second, third, best_row, second_row, third_row
                )
                distance = tl.where(column[None, :] == at[:, None], float("inf"), distance)
            count = tl.minimum(count + hits, limit)
        start += TILE
    at_place = (centre * num_places + place) * 3
    _store_nearest(squared, rows, at_place, is_place, best, best_row, best, best_row)
    _store_nearest(squared, rows, at_place + 1, is_place, second, second_row, best, best_row)
    _store_nearest(squared, rows, at_place + 2, is_place, third, third_row, best, best_row)
    tl.store(found + centre, count.to(tl.int64))


@triton.jit
def _cell_along(offset, reach, size, cells):
    """Which of ``cells`` along one axis offsets from the centre fall into."""
    cell = tl.floor(tl.div_rn(offset + reach, size)).to(tl.int32)
    return tl.minimum(tl.maximum(cell, 0), cells - 1)


@triton.jit
def _first_in_cells_kernel(
    columns,
    centres,
    point_starts,
    item_of_centre,
    rows,
    num_points,
    reach,
    size_x,
    size_y,
    size_z,
    cells_x,
    cells_y,
    cells_z,
    CELLS: tl.constexpr,
    TILE: tl.constexpr,
):
    centre, centre_x, centre_y, centre_z, start, end = _search_of_program(
        centres, point_starts, item_of_centre
    )
    number = tl.arange(0, CELLS)
    num_cells = cells_x * cells_y * cells_z
    first = tl.where(number < num_cells, tl.full([CELLS], NO_ROW, tl.int64), -1)
    # The first member of a cell is in the first tile that has one: done when all cells have one.
    while (start < end) & (tl.max(first, axis=0) == NO_ROW):
        row = start + tl.arange(0, TILE)
        x, y, z, exists = _tile_at(columns, row, end, num_points)
        inside = exists & _in_cube(x, y, z, centre_x, centre_y, centre_z, reach)
        if tl.sum(inside.to(tl.int32), axis=0) > 0:
            cell_x = _cell_along(x - centre_x, reach, size_x, cells_x)
            cell_y = _cell_along(y - centre_y, reach, size_y, cells_y)
            cell_z = _cell_along(z - centre_z, reach, size_z, cells_z)
            cell = (cell_x * cells_y + cell_y) * cells_z + cell_z
            is_member = (number[:, None] == cell[None, :]) & inside[None, :]
            members = tl.where(is_member, row[None, :], NO_ROW)
            first = tl.minimum(first, tl.min(members, axis=1))
        start += TILE
    tl.store(rows + centre * num_cells + number, first, mask=number < num_cells)


@triton.jit
def _pairs_kernel(
    columns,
    centres,
    point_starts,
    item_of_centre,
    found,
    pair_starts,
    pairs,
    num_points,
    reach,
    limit,
    WRITE: tl.constexpr,
    TILE: tl.constexpr,
):
    centre, centre_x, centre_y, centre_z, start, end = _search_of_program(
        centres, point_starts, item_of_centre
    )
    count = tl.zeros([], tl.int64)
    while (start < end) & (count < limit):
        row = start + tl.arange(0, TILE)
        x, y, z, exists = _tile_at(columns, row, end, num_points)
        inside = exists & _in_cube(x, y, z, centre_x, centre_y, centre_z, reach)
        hits = tl.sum(inside.to(tl.int32), axis=0)
        if WRITE:
            place = count + tl.cumsum(inside.to(tl.int32), axis=0) - 1
            first_pair = tl.load(pair_starts + centre)
            tl.store(pairs + first_pair + place, row, mask=inside & (place < limit))
        count = tl.minimum(count + hits, limit)
        start += TILE
    if not WRITE:
        tl.store(found + centre, count)


def _items(centres: Stack) -> Tensor:
    """The item (M,) int64 of each centre."""
    row = torch.arange(len(centres), device=centres.xyz.device)
    return torch.searchsorted(starts_on(row.device, centres.starts)[1:], row, right=True)


def three_nearest_in_cubes(
    points: Stack, centres: Stack, offsets: Tensor, reach_m: float, limit: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The three points of each centre's cube that are nearest to each of its places.

    Returns:
        distances (M, G, 3) in metres, infinite for an empty cube; rows (M, G, 3) int64, 0 for an
        empty cube; how many points took part (M,) int64.
    """
    num_centres, num_places = len(centres), len(offsets)
    device = centres.xyz.device
    shape = (num_centres, num_places, 3)
    squared = torch.empty(shape, device=device)
    rows = torch.empty(shape, dtype=torch.int64, device=device)
    found = torch.empty(num_centres, dtype=torch.int64, device=device)
    if rows.numel() == 0:
        return squared, rows, found.zero_()
    places = triton.next_power_of_2(num_places)
    _three_nearest_kernel[(num_centres,)](
        points.xyz.T.contiguous(),
        centres.xyz.contiguous(),
        offsets.contiguous(),
        points.device_starts(),
        _items(centres),
        rows,
        squared,
        found,
        len(points),
        num_places,
        np.float32(reach_m).item(),
        limit,
        PLACES=places,
        TILE=max(16, min(TILE, BLOCK // places)),
        **EXACT,
    )
    return squared.sqrt(), rows, found


def first_in_cells(
    points: Stack, centres: Stack, reach_m: float, shape: Sequence[int], limit: int
) -> Tensor:
    """Row (M, cells) int64 of the first point in every cell of each centre's cube.

    No more than ``limit`` cells of a cube are filled; -1 for an empty cell.
    """
    cells_x, cells_y, cells_z = (int(cells) for cells in shape)
    size_x, size_y, size_z = cell_size(reach_m, shape).tolist()
    num_cells = prod(shape)
    device = centres.xyz.device
    rows = torch.empty((len(centres), num_cells), dtype=torch.int64, device=device)
    if rows.numel() == 0:
        return rows
    cells = triton.next_power_of_2(num_cells)
    _first_in_cells_kernel[(len(centres),)](
        points.xyz.T.contiguous(),
        centres.xyz.contiguous(),
        points.device_starts(),
        _items(centres),
        rows,
        len(points),
        np.float32(reach_m).item(),
        size_x,
        size_y,
        size_z,
        cells_x,
        cells_y,
        cells_z,
        CELLS=cells,
        TILE=max(16, min(TILE, BLOCK // cells)),
        **EXACT,
    )
    return fill_first_cells(rows, NO_ROW.value, limit)


def cube_pairs(points: Stack, centres: Stack, reach_m: float, limit: int) -> tuple[Tensor, Tensor]:
    """All pairs in which a point lies in a centre's cube, ``limit`` points a centre at most.

    The kernel runs twice: it counts, so that it can write into tensors of the right size.

    Returns:
        rows of centres (R,) and of points (R,) int64, ordered by both.
    """
    device = centres.xyz.device
    found = torch.zeros(len(centres), dtype=torch.int64, device=device)
    pairs = torch.empty(0, dtype=torch.int64, device=device)
    if len(centres) == 0 or len(points) == 0:
        return pairs, pairs.clone()
    columns, places = points.xyz.T.contiguous(), centres.xyz.contiguous()
    starts, items = points.device_starts(), _items(centres)
    numbers = (len(points), np.float32(reach_m).item(), limit)
    grid = (len(centres),)
    _pairs_kernel[grid](
        columns, places, starts, items, found, found, pairs, *numbers, WRITE=False, TILE=TILE
    )
    ends = found.cumsum(0)
    pairs = pairs.new_empty(int(ends[-1]))
    _pairs_kernel[grid](
        columns, places, starts, items, found, ends - found, pairs, *numbers, WRITE=True, TILE=TILE
    )
    rows = torch.arange(len(centres), device=device)
    return torch.repeat_interleave(rows, found, output_size=len(pairs)), pairs
