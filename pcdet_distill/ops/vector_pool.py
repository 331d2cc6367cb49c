"""Cubes of points around places, for vector pooling (PV-RCNN++, IJCV 2023).

A cube reaches some metres from its centre along every axis, its surface included. It is divided
into cells along x, y and z; z runs fastest. Vector pooling gives every cell of a cube its own
channels, so that the result keeps where a feature was. The rules are those of OpenPCDet's CUDA ops.

Sets of points are stacks (``stacks.py``): the items of a batch, such as its frames, one after the
other. An index is a row of the whole stack, and points are searched within an item only. Each
operator has a form compiled by numba for the CPU, one by Triton for CUDA, and a plain one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .accelerated import vector_kernels
from .constants import constant
from .dispatch import Operator
from .rows import first_true
from .stacks import Counts, Stack, squared_distances

# The reference interpolates from at most so many points of a cube.
MOST_NEIGHBOURS = 1000


def cell_offsets(
    reach_m: float, shape: Sequence[int], device: torch.device | None = None
) -> Tensor:
    """Offsets (cells, 3) from the centre of a cube to the centres of its cells."""
    axes = []
    for cells in shape:
        steps = [(2 * step + 1 - cells) * reach_m / cells for step in range(cells)]
        axes.append(constant(steps, device))
    return torch.cartesian_prod(*axes)


def three_nn_in_cubes(
    points: Tensor,
    point_counts: Counts,
    centres: Tensor,
    centre_counts: Counts,
    offsets: Tensor,
    reach_m: float,
    num_neighbors: int = -1,
) -> tuple[Tensor, Tensor, Tensor]:
    """The three points of a centre's cube that are nearest to each of its places.

    Of equally near points the lower row comes first; of fewer than three the nearest is repeated.

    Args:
        points: (N, 3).
        point_counts: (B,).
        centres: (M, 3).
        centre_counts: (B,).
        offsets: (G, 3) from a centre to its places.
        reach_m: of the cube.
        num_neighbors: most points of a cube that take part, the first ones; -1: MOST_NEIGHBOURS.

    Returns:
        distances (M, G, 3) in metres, infinite for an empty cube; rows (M, G, 3) int64, 0 for an
        empty cube; and how many points took part (M,) int64.
    """
    limit = MOST_NEIGHBOURS if num_neighbors < 1 else min(num_neighbors, MOST_NEIGHBOURS)
    point_stack = Stack.of_counts(points, point_counts)
    centre_stack = Stack.of_counts(centres, centre_counts)
    offsets = offsets.float()
    search = THREE_IN_CUBES.on(point_stack.xyz.device)
    return search(point_stack, centre_stack, offsets, reach_m, limit)


def _three_nn_in_cubes_numba(
    points: Stack, centres: Stack, offsets: Tensor, reach_m: float, limit: int
) -> tuple[Tensor, Tensor, Tensor]:
    """``three_nn_in_cubes_plain``, compiled for the CPU."""
    rows, squared, found = vector_kernels.three_nearest_in_cube(
        points.as_searched(),
        centres.as_queries(),
        offsets.contiguous().numpy(),
        np.float32(reach_m),
        limit,
    )
    return torch.from_numpy(squared).sqrt(), torch.from_numpy(rows), torch.from_numpy(found)


def three_nn_in_cubes_plain(
    points: Stack, centres: Stack, offsets: Tensor, reach_m: float, limit: int
) -> tuple[Tensor, Tensor, Tensor]:
    """``three_nn_in_cubes`` in plain torch, any device."""
    shape = (len(centres), len(offsets), 3)
    device = points.xyz.device
    rows = torch.zeros(shape, dtype=torch.int64, device=device)
    squared = points.xyz.new_full(shape, torch.inf)
    found = torch.zeros(len(centres), dtype=torch.int64, device=device)
    for cubes in _cubes(points, centres, reach_m, work_per_centre=limit * len(offsets)):
        columns, count = first_true(cubes.inside, min(limit, cubes.inside.shape[1]))
        members = columns + cubes.first_point
        places = centres.xyz[cubes.centres].unsqueeze(1) + offsets
        distances = squared_distances(places.unsqueeze(2), points.xyz[members].unsqueeze(1))
        unused = torch.arange(columns.shape[1], device=device) >= count.unsqueeze(1)
        distances = distances.masked_fill(unused.unsqueeze(1), torch.inf)  # (m, G, K)
        # The smallest distance three times, each time without those found before. topk need not
        # take the lower row of two equal distances.
        for rank in range(min(3, columns.shape[1])):
            best = distances.argmin(dim=2, keepdim=True)
            squared[cubes.centres, :, rank] = distances.gather(2, best)[..., 0]
            rows[cubes.centres, :, rank] = members.gather(1, best[..., 0])
            distances = distances.scatter(2, best, torch.inf)
        found[cubes.centres] = count
    is_missing = squared.isinf()
    rows = torch.where(is_missing, rows[..., :1], rows)
    squared = torch.where(is_missing, squared[..., :1], squared)
    has_points = (found > 0).view(-1, 1, 1)
    return squared.sqrt(), rows * has_points, found


THREE_IN_CUBES = Operator(
    "three nearest neighbours in cubes",
    plain=three_nn_in_cubes_plain,
    numba=_three_nn_in_cubes_numba,
    triton="vector_pool:three_nearest_in_cubes",
)


def first_in_cells(
    points: Tensor,
    point_counts: Counts,
    centres: Tensor,
    centre_counts: Counts,
    reach_m: float,
    shape: Sequence[int],
    num_neighbors: int = -1,
) -> Tensor:
    """Rows of the first point in every cell of each centre's cube.

    Args:
        points: (N, 3).
        point_counts: (B,).
        centres: (M, 3).
        centre_counts: (B,).
        reach_m: of the cube.
        shape: cells along x, y, z.
        num_neighbors: most cells of a cube that are filled, the first ones that a point falls into;
            -1: all of them.

    Returns:
        (M, cells) int64, -1 for an empty cell.
    """
    cells = int(np.prod(shape))
    limit = cells if num_neighbors < 1 else min(num_neighbors, cells)
    point_stack = Stack.of_counts(points, point_counts)
    centre_stack = Stack.of_counts(centres, centre_counts)
    search = FIRST_IN_CELLS.on(point_stack.xyz.device)
    return search(point_stack, centre_stack, reach_m, shape, limit)


def _first_in_cells_numba(
    points: Stack, centres: Stack, reach_m: float, shape: Sequence[int], limit: int
) -> Tensor:
    """``first_in_cells_plain``, compiled for the CPU."""
    grid = vector_kernels.CellGrid(cell_size(reach_m, shape), np.array(shape, np.int64))
    rows = vector_kernels.first_in_cells(
        points.as_searched(), centres.as_queries(), np.float32(reach_m), grid, limit
    )
    return torch.from_numpy(rows)


def first_in_cells_plain(
    points: Stack, centres: Stack, reach_m: float, shape: Sequence[int], limit: int
) -> Tensor:
    """``first_in_cells`` in plain torch, any device."""
    cells = int(np.prod(shape))
    no_point = len(points)
    device = points.xyz.device
    rows = torch.full((len(centres), cells), no_point, dtype=torch.int64, device=device)
    centre, point = cube_pairs_plain(points, centres, reach_m, limit=no_point)
    cell = cells_of_pairs(points.xyz, centres.xyz, centre, point, reach_m, shape)
    rows.view(-1).scatter_reduce_(0, centre * cells + cell, point, "amin")
    return fill_first_cells(rows, no_point, limit)


def fill_first_cells(rows: Tensor, no_point: int, limit: int) -> Tensor:
    """``rows`` (M, cells) of which no more than ``limit`` cells of a cube are filled.

    Args:
        rows: the first point of each cell, ``no_point`` where there is none.
        no_point: above all rows of points.
        limit: cells are filled in the order of their first points.

    Returns:
        (M, cells), -1 for a cell that is not filled.
    """
    order = rows.argsort(dim=1)
    numbers = torch.arange(rows.shape[1], device=rows.device).expand_as(order)
    rank = torch.empty_like(order).scatter_(1, order, numbers)  # the place of a cell in that order
    is_filled = (rows < no_point) & (rank < limit)
    return torch.where(is_filled, rows, -1)


FIRST_IN_CELLS = Operator(
    "the first point in each cell",
    plain=first_in_cells_plain,
    numba=_first_in_cells_numba,
    triton="vector_pool:first_in_cells",
)


def cube_pairs(
    points: Tensor,
    point_counts: Counts,
    centres: Tensor,
    centre_counts: Counts,
    reach_m: float,
    num_neighbors: int = -1,
) -> tuple[Tensor, Tensor]:
    """All pairs in which a point lies in a centre's cube.

    Args:
        points: (N, 3).
        point_counts: (B,).
        centres: (M, 3).
        centre_counts: (B,).
        reach_m: of the cube.
        num_neighbors: most points of a cube that are taken, the first ones; -1: all.

    Returns:
        rows of centres (R,) and of points (R,) int64, ordered by both.
    """
    point_stack = Stack.of_counts(points, point_counts)
    centre_stack = Stack.of_counts(centres, centre_counts)
    limit = len(points) if num_neighbors < 1 else num_neighbors
    return CUBE_PAIRS.on(points.device)(point_stack, centre_stack, reach_m, limit)


def _cube_pairs_numba(
    points: Stack, centres: Stack, reach_m: float, limit: int
) -> tuple[Tensor, Tensor]:
    """``cube_pairs_plain``, compiled for the CPU."""
    centre, point = vector_kernels.cube_pairs(
        points.as_searched(), centres.as_queries(), np.float32(reach_m), limit
    )
    return torch.from_numpy(centre), torch.from_numpy(point)


def cube_pairs_plain(
    points: Stack, centres: Stack, reach_m: float, limit: int
) -> tuple[Tensor, Tensor]:
    """``cube_pairs`` in plain torch, any device."""
    device = points.xyz.device
    pairs = [torch.zeros((0, 2), dtype=torch.int64, device=device)]
    for cubes in _cubes(points, centres, reach_m):
        rank = cubes.inside.cumsum(dim=1)  # from 1, of each point among those in its cube
        pairs_of_part = torch.nonzero(cubes.inside & (rank <= limit))
        first_rows = constant([cubes.centres.start, cubes.first_point], device)
        pairs.append(pairs_of_part + first_rows)
    centre, point = torch.cat(pairs).unbind(dim=1)
    return centre, point


CUBE_PAIRS = Operator(
    "points in cubes",
    plain=cube_pairs_plain,
    numba=_cube_pairs_numba,
    triton="vector_pool:cube_pairs",
)


def cells_of_pairs(
    points: Tensor,
    centres: Tensor,
    centre: Tensor,
    point: Tensor,
    reach_m: float,
    shape: Sequence[int],
) -> Tensor:
    """The cell of the centre's cube that the point of each pair falls into.

    Args:
        points: (N, 3).
        centres: (M, 3).
        centre: (R,) rows of centres.
        point: (R,) rows of points.
        reach_m: of the cube.
        shape: cells along x, y, z.

    Returns:
        (R,) int64.
    """
    size = torch.from_numpy(cell_size(reach_m, shape)).to(points.device)
    offset = points[point] - centres[centre] + np.float32(reach_m).item()
    cells = torch.div(offset, size).floor().long()
    last = constant(list(shape), points.device) - 1
    x, y, z = torch.minimum(cells.clamp_min(0), last).unbind(dim=1)
    return (x * shape[1] + y) * shape[2] + z


def cell_size(reach_m: float, shape: Sequence[int]) -> np.ndarray:
    """Edges (3,) float32 of a cell."""
    edge = np.float32(reach_m) * np.float32(2)
    return edge / np.array(shape, np.float32)


class _Cubes(NamedTuple):
    """The cubes of some centres of one item.

    Attributes:
        centres: m rows of the stack of centres.
        first_point: the row at which the item begins in the stack of points.
        inside: (m, n) bool, which of the item's n points lie in each cube.
    """

    centres: slice
    first_point: int
    inside: Tensor


def _cubes(
    points: Stack, centres: Stack, reach_m: float, work_per_centre: int = 0
) -> Iterator[_Cubes]:
    """All cubes in parts that fit into memory, without those of items without points.

    Args:
        points: the stack that is searched.
        centres: the centres of the cubes.
        reach_m: of the cubes.
        work_per_centre: intermediate numbers that the caller needs for one centre.
    """
    reach = np.float32(reach_m).item()
    for item in range(points.num_items):
        candidates = points.xyz[points.rows_of(item)].unsqueeze(0)
        count = candidates.shape[1]
        if count == 0:
            continue
        for part in centres.parts_of(item, max(count, work_per_centre)):
            distance = (candidates - centres.xyz[part].unsqueeze(1)).abs()
            yield _Cubes(part, points.starts[item], (distance <= reach).all(dim=2))
