"""Cubes of points around places, for vector pooling (PV-RCNN++, IJCV 2023), by the rules of OpenPCDet's CUDA ops.

A cube reaches so many metres from its centre along every axis, its surface included, and is divided into cells: x, y, z
of them, z running fastest. Sets are stacks as in ``point_sampling``; an index is a row of the whole stack, and items do
not mix. On the CPU compiled kernels do the work; the ``*_plain`` twins are torch on any device and what CUDA runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from .accelerated import vector_kernels
from .point_sampling import PAIRS_PER_CHUNK, Counts, coordinate_rows, first_true, stack_starts

MOST_NEIGHBOURS = 1000  # the reference looks at no more points of a cube when it interpolates


def cell_offsets(
    reach_m: float, shape: Sequence[int], device: torch.device | None = None
) -> Tensor:
    """Offsets (cells, 3) from the centre of a cube to the centres of its cells."""
    axes = [
        torch.tensor(
            [(2 * step + 1 - cells) * reach_m / cells for step in range(cells)], device=device
        )
        for cells in shape
    ]
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

    Args:
        points, centres: (N, 3) and (M, 3), with counts (B,) each.
        offsets: (G, 3) from a centre to its places.
        reach_m: of the cube.
        num_neighbors: looks only at the first so many points of a cube; -1: at the first MOST_NEIGHBOURS.

    Returns:
        distances (M, G, 3), infinite for an empty cube; rows (M, G, 3) int64, 0 for an empty cube; and how many points
        were looked at (M,) int64. Of fewer than three points the nearest is repeated; of equally near ones the lower
        row comes first.
    """
    limit = MOST_NEIGHBOURS if num_neighbors < 1 else min(num_neighbors, MOST_NEIGHBOURS)
    points, centres, starts, centre_starts = _as_stacks(
        points, point_counts, centres, centre_counts
    )
    offsets = offsets.float()
    if points.device.type != "cpu":
        return three_nn_in_cubes_plain(
            points, starts, centres, centre_starts, offsets, reach_m, limit
        )
    shape = (len(centres), len(offsets), 3)
    rows, squared = np.zeros(shape, np.int64), np.full(shape, np.inf, np.float32)
    found = np.zeros(len(centres), np.int64)
    vector_kernels.three_nearest_in_cube(
        coordinate_rows(points),
        np.array(starts),
        centres.contiguous().numpy(),
        np.array(centre_starts),
        offsets.contiguous().numpy(),
        np.float32(reach_m),
        limit,
        rows,
        squared,
        found,
    )
    return torch.from_numpy(squared).sqrt(), torch.from_numpy(rows), torch.from_numpy(found)


def three_nn_in_cubes_plain(
    points: Tensor,
    starts: Sequence[int],
    centres: Tensor,
    centre_starts: Sequence[int],
    offsets: Tensor,
    reach_m: float,
    limit: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """``three_nn_in_cubes`` in plain torch, any device; items are given by where they start."""
    shape = (len(centres), len(offsets), 3)
    rows = torch.zeros(shape, dtype=torch.int64, device=points.device)
    squared = points.new_full(shape, torch.inf)
    found = torch.zeros(len(centres), dtype=torch.int64, device=points.device)
    work = limit * len(offsets)
    for part, first, own, inside in _cubes(points, starts, centres, centre_starts, reach_m, work):
        columns, count = first_true(inside, min(limit, len(own)))
        places = centres[part].unsqueeze(1) + offsets
        near = own[columns]
        square = (places.unsqueeze(2) - near.unsqueeze(1)).square()
        distance = square[..., 0] + square[..., 1] + square[..., 2]  # (m, G, K)
        unused = torch.arange(columns.shape[1], device=points.device) >= count.unsqueeze(1)
        distance = distance.masked_fill(unused.unsqueeze(1), torch.inf)
        for rank in range(min(3, columns.shape[1])):
            best = distance.argmin(dim=2, keepdim=True)
            squared[part, :, rank] = distance.gather(2, best)[..., 0]
            rows[part, :, rank] = columns.gather(1, best[..., 0]) + first
            distance = distance.scatter(2, best, torch.inf)
        found[part] = count
    repeated = squared.isinf()
    rows = torch.where(repeated, rows[..., :1], rows) * (found > 0).view(-1, 1, 1)
    return torch.where(repeated, squared[..., :1], squared).sqrt(), rows, found


def first_in_cells(
    points: Tensor,
    point_counts: Counts,
    centres: Tensor,
    centre_counts: Counts,
    reach_m: float,
    shape: Sequence[int],
    num_neighbors: int = -1,
) -> Tensor:
    """Rows (M, cells) int64 of the first point in every cell of each centre's cube, -1 for an empty cell.

    Args:
        points, centres: (N, 3) and (M, 3), with counts (B,) each.
        shape: cells along x, y, z.
        num_neighbors: fills only the first so many cells that a point falls into; -1: all of them.
    """
    cells = int(np.prod(shape))
    limit = cells if num_neighbors < 1 else min(num_neighbors, cells)
    points, centres, starts, centre_starts = _as_stacks(
        points, point_counts, centres, centre_counts
    )
    if points.device.type != "cpu":
        return first_in_cells_plain(points, starts, centres, centre_starts, reach_m, shape, limit)
    rows = np.full((len(centres), cells), -1, np.int64)
    vector_kernels.first_in_cells(
        coordinate_rows(points),
        np.array(starts),
        centres.contiguous().numpy(),
        np.array(centre_starts),
        np.float32(reach_m),
        _cell_size(reach_m, shape),
        np.array(shape, np.int64),
        limit,
        rows,
    )
    return torch.from_numpy(rows)


def first_in_cells_plain(
    points: Tensor,
    starts: Sequence[int],
    centres: Tensor,
    centre_starts: Sequence[int],
    reach_m: float,
    shape: Sequence[int],
    limit: int,
) -> Tensor:
    """``first_in_cells`` in plain torch, any device; items are given by where they start."""
    cells = int(np.prod(shape))
    nobody = len(points)
    rows = torch.full((len(centres), cells), nobody, dtype=torch.int64, device=points.device)
    centre, point = cube_pairs_plain(points, starts, centres, centre_starts, reach_m, nobody)
    cell = cells_of_pairs(points, centres, centre, point, reach_m, shape)
    rows.view(-1).scatter_reduce_(0, centre * cells + cell, point, "amin")
    order = rows.argsort(dim=1)
    rank = torch.empty_like(order).scatter_(
        1, order, torch.arange(cells, device=rows.device).expand_as(order)
    )
    return torch.where((rows < nobody) & (rank < limit), rows, -1)


def cube_pairs(
    points: Tensor,
    point_counts: Counts,
    centres: Tensor,
    centre_counts: Counts,
    reach_m: float,
    num_neighbors: int = -1,
) -> tuple[Tensor, Tensor]:
    """Centre (R,) and point (R,) int64 of every pair in which a point lies in a centre's cube, ordered by both.

    Args:
        points, centres: (N, 3) and (M, 3), with counts (B,) each.
        num_neighbors: takes only the first so many points of a cube; -1: all.
    """
    points, centres, starts, centre_starts = _as_stacks(
        points, point_counts, centres, centre_counts
    )
    limit = len(points) if num_neighbors < 1 else num_neighbors
    if points.device.type != "cpu":
        return cube_pairs_plain(points, starts, centres, centre_starts, reach_m, limit)
    pairs = vector_kernels.cube_pairs(
        coordinate_rows(points),
        np.array(starts),
        centres.contiguous().numpy(),
        np.array(centre_starts),
        np.float32(reach_m),
        limit,
    )
    return torch.from_numpy(pairs[0]), torch.from_numpy(pairs[1])


def cube_pairs_plain(
    points: Tensor,
    starts: Sequence[int],
    centres: Tensor,
    centre_starts: Sequence[int],
    reach_m: float,
    limit: int,
) -> tuple[Tensor, Tensor]:
    """``cube_pairs`` in plain torch, any device; items are given by where they start."""
    found = [torch.zeros((0, 2), dtype=torch.int64, device=points.device)]
    for part, first, _, inside in _cubes(points, starts, centres, centre_starts, reach_m):
        pairs = torch.nonzero(inside & (inside.cumsum(dim=1) <= limit))
        found.append(pairs + torch.tensor([part.start, first], device=points.device))
    centre, point = torch.cat(found).unbind(dim=1)
    return centre, point


def cells_of_pairs(
    points: Tensor,
    centres: Tensor,
    centre: Tensor,
    point: Tensor,
    reach_m: float,
    shape: Sequence[int],
) -> Tensor:
    """The cell (R,) int64 of the centre's cube that the point of each pair falls into."""
    size = torch.from_numpy(_cell_size(reach_m, shape)).to(points.device)
    along = (
        torch.div(points[point] - centres[centre] + np.float32(reach_m).item(), size).floor().long()
    )
    along = torch.minimum(along.clamp_min(0), torch.tensor(list(shape), device=points.device) - 1)
    return (along[:, 0] * shape[1] + along[:, 1]) * shape[2] + along[:, 2]


def _cell_size(reach_m: float, shape: Sequence[int]) -> np.ndarray:
    """Edges (3,) float32 of a cell."""
    return np.float32(reach_m) * np.float32(2) / np.array(shape, np.float32)


def _as_stacks(
    points: Tensor, point_counts: Counts, centres: Tensor, centre_counts: Counts
) -> tuple[Tensor, Tensor, list[int], list[int]]:
    """Coordinates (N, 3) and (M, 3) as float32 without a graph, and where the items of both start."""
    points, centres = points.detach()[:, :3].float(), centres.detach()[:, :3].float()
    return points, centres, stack_starts(point_counts), stack_starts(centre_counts)


def _cubes(
    points: Tensor,
    starts: Sequence[int],
    centres: Tensor,
    centre_starts: Sequence[int],
    reach_m: float,
    work_per_centre: int = 0,
) -> Iterator[tuple[slice, int, Tensor, Tensor]]:
    """Centres in parts whose pairs, and further work, fit into a chunk.

    Yields the centres' rows, the first row and the points of their item, and which of these (m, n) lie in the cubes.
    Items without points are left out.
    """
    for item in range(len(starts) - 1):
        own = points[starts[item] : starts[item + 1]]
        step = max(1, PAIRS_PER_CHUNK // max(len(own), work_per_centre, 1))
        for start in range(centre_starts[item], centre_starts[item + 1] if len(own) else 0, step):
            part = slice(start, min(start + step, centre_starts[item + 1]))
            distance = (own.unsqueeze(0) - centres[part].unsqueeze(1)).abs()
            yield part, starts[item], own, (distance <= np.float32(reach_m).item()).all(dim=2)
