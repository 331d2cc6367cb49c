"""Choosing and grouping points (PointNet++, NeurIPS 2017), by the rules of OpenPCDet's CUDA ops.

Two layouts: ``batch``, (B, N, 3) with equally many points in every item, and ``stack``, (N, 3) with the items one after
the other and their counts (B,). Whatever the layout, an index is a row: of the item in the batch layout, of the whole
stack in the stack layout. Nothing here mixes items.

On the CPU compiled kernels do the work; the ``*_plain`` twins are torch on any device and what CUDA runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .accelerated import point_kernels

MAX_THREADS = 1024  # of a block in the reference: decides which of equally far points is taken
FAR_M2 = 1e10
PAIRS_PER_CHUNK = 1 << 22
SMALLEST_DISTANCE_M = 1e-8
Counts = Sequence[int] | Tensor  # rows of each item of a stack


def furthest_point_sample(points: Tensor, num_samples: int) -> Tensor:
    """Rows (B, num_samples) int64 of the greedily furthest points of each item (B, N, 3+), starting with row 0.

    Of equally far points the one wins that the reference's threads leave over (see ``tie_order``). With fewer different
    points than samples row 0 is repeated.
    """
    total = points.shape[1]
    assert total > 0, "no points to sample from"
    threads = min(MAX_THREADS, 1 << (total.bit_length() - 1))
    return (
        torch.stack([_furthest(item, num_samples, threads) for item in points.detach()])
        if len(points)
        else points.new_zeros((0, num_samples), dtype=torch.int64)
    )


def stack_furthest_point_sample(
    points: Tensor, counts: Counts, num_samples: int | Sequence[int]
) -> Tensor:
    """Rows (sum of samples,) int64 of the furthest points of each item of a stack (N, 3+) with ``counts`` (B,).

    ``num_samples`` is one number for all items or one for each. An item without points gives no row.
    """
    starts = stack_starts(counts)
    wanted = (
        [num_samples] * (len(starts) - 1)
        if isinstance(num_samples, int)
        else list(map(int, num_samples))
    )
    chosen = [
        start + _furthest(points[start:stop].detach(), samples, MAX_THREADS)
        for start, stop, samples in zip(starts, starts[1:], wanted)
        if stop > start
    ]
    return torch.cat(chosen) if chosen else torch.zeros(0, dtype=torch.int64, device=points.device)


@lru_cache(maxsize=64)
def tie_order(total: int, threads: int) -> np.ndarray:
    """Rows (total,) int64 in the order in which they win among equals.

    In the reference thread t looks at the rows t, t + threads, ... and keeps its first best; then pairs of threads half
    the block apart are compared, then a quarter, and so on, the lower one winning ties. So the thread whose number is
    smallest when its bits are read backwards wins.
    """
    rows = np.arange(total)
    thread, backwards = rows % threads, np.zeros(total, np.int64)
    for bit in range(threads.bit_length() - 1):
        backwards = backwards * 2 + (thread >> bit & 1)
    return np.lexsort((rows, backwards))


def _furthest(points: Tensor, count: int, threads: int) -> Tensor:
    """Rows (count,) of one item's points (N, 3+)."""
    if points.device.type != "cpu":
        return furthest_point_sample_plain(points, count, threads)
    order = tie_order(len(points), threads)
    ordered = np.ascontiguousarray(points[:, :3].float().numpy()[order].T)
    return torch.from_numpy(order[point_kernels.furthest_points(ordered, count)])


def furthest_point_sample_plain(points: Tensor, count: int, threads: int) -> Tensor:
    """Rows (count,) int64 of the furthest points of (N, 3+): plain torch, any device."""
    order = torch.from_numpy(tie_order(len(points), threads)).to(points.device)
    xyz = points[order, :3].float()
    nearest = xyz.new_full((len(xyz),), FAR_M2)
    chosen = torch.zeros(count, dtype=torch.int64, device=points.device)
    for step in range(1, count):
        nearest = torch.minimum(nearest, _squared_distance(xyz, xyz[chosen[step - 1]]))
        chosen[step] = nearest.argmax()
    return order[chosen]


def ball_query(
    radius_m: float, num_neighbors: int, points: Tensor, centres: Tensor
) -> tuple[Tensor, Tensor]:
    """The first ``num_neighbors`` points (B, N, 3) nearer than ``radius_m`` to each centre (B, M, 3).

    Returns:
        rows (B, M, num_neighbors) int64, filled up with the first hit, all 0 for an empty ball; and how many of them
        were found (B, M) int64.
    """
    frames, total = points.shape[:2]
    rows, found = stack_ball_query(
        radius_m,
        num_neighbors,
        points.reshape(-1, 3),
        [total] * frames,
        centres.reshape(-1, 3),
        [centres.shape[1]] * frames,
    )
    shape = (frames, centres.shape[1])
    rows, found = rows.view(*shape, num_neighbors), found.view(shape)
    first = total * torch.arange(frames, device=points.device).view(-1, 1, 1)
    return torch.where(found.unsqueeze(-1) > 0, rows - first, 0), found


def stack_ball_query(
    radius_m: float,
    num_neighbors: int,
    points: Tensor,
    point_counts: Counts,
    centres: Tensor,
    centre_counts: Counts,
) -> tuple[Tensor, Tensor]:
    """``ball_query`` for stacks of points (N, 3) and centres (M, 3).

    Returns:
        rows (M, num_neighbors) int64 of the whole stack, filled up with the first hit, all 0 for an empty ball; and how
        many of them were found (M,) int64.
    """
    point_starts, centre_starts = stack_starts(point_counts), stack_starts(centre_counts)
    points, centres = points.detach()[:, :3].float(), centres.detach()[:, :3].float()
    limit = np.float32(radius_m) * np.float32(radius_m)
    if points.device.type != "cpu":
        return ball_query_plain(
            float(limit), num_neighbors, points, point_starts, centres, centre_starts
        )
    rows = np.zeros((len(centres), num_neighbors), np.int64)
    found = np.zeros(len(centres), np.int64)
    point_kernels.ball_neighbours(
        coordinate_rows(points),
        np.array(point_starts),
        centres.contiguous().numpy(),
        np.array(centre_starts),
        limit,
        rows,
        found,
    )
    return fill_with_first(torch.from_numpy(rows), torch.from_numpy(found))


def ball_query_plain(
    radius_squared: float,
    num_neighbors: int,
    points: Tensor,
    point_starts: Sequence[int],
    centres: Tensor,
    centre_starts: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """``stack_ball_query`` in plain torch, any device; items are given by where they start."""
    rows, found = [], []
    for item in range(len(point_starts) - 1):
        own = points[point_starts[item] : point_starts[item + 1]]
        for part in _parts(centres[centre_starts[item] : centre_starts[item + 1]], len(own)):
            hit = _squared_distance(own.unsqueeze(0), part.unsqueeze(1)) < radius_squared
            columns, count = first_true(hit, num_neighbors)
            rows.append(torch.where(count.unsqueeze(1) > 0, columns + point_starts[item], 0))
            found.append(count)
    if not rows:
        empty = torch.zeros(len(centres), dtype=torch.int64, device=centres.device)
        return empty.unsqueeze(1).repeat(1, num_neighbors), empty
    return torch.cat(rows), torch.cat(found)


def three_nn(points: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Distances (B, N, 3) and rows (B, N, 3) int64 of the three nearest of ``known`` (B, M, 3) to ``points`` (B, N, 3).

    Of equally near ones the lower row comes first. With fewer than three known points the rest is infinitely far.
    """
    frames, total = known.shape[:2]
    flat = points.detach().reshape(-1, 3).float()
    flat_known = known.detach().reshape(-1, 3).float()
    starts, known_starts = stack_starts([points.shape[1]] * frames), stack_starts([total] * frames)
    if points.device.type != "cpu":
        squared, rows = three_nn_plain(flat, starts, flat_known, known_starts)
    else:
        first = np.repeat(np.array(known_starts[:-1], np.int64), points.shape[1])
        found = np.repeat(first[:, None], 3, axis=1)
        distances = np.full((len(flat), 3), np.inf, np.float32)
        point_kernels.three_nearest(
            flat.contiguous().numpy(),
            np.array(starts),
            coordinate_rows(flat_known),
            np.array(known_starts),
            found,
            distances,
        )
        squared, rows = torch.from_numpy(distances), torch.from_numpy(found)
    shape = (frames, points.shape[1], 3)
    offset = total * torch.arange(frames, device=rows.device).view(-1, 1, 1)
    return squared.sqrt().view(shape), rows.view(shape) - offset


def three_nn_plain(
    points: Tensor, starts: Sequence[int], known: Tensor, known_starts: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Squared distances and rows of the three nearest in a stack: plain torch, any device."""
    squared = points.new_full((len(points), 3), torch.inf)
    rows = torch.zeros((len(points), 3), dtype=torch.int64, device=points.device)
    for item in range(len(starts) - 1):
        first, end = known_starts[item], known_starts[item + 1]
        rows[starts[item] : starts[item + 1]] = first
        at = starts[item]
        for part in _parts(points[starts[item] : starts[item + 1]], end - first):
            distance = _squared_distance(part.unsqueeze(1), known[first:end].unsqueeze(0))
            ordered, order = distance.sort(dim=1, stable=True)
            kept = min(3, end - first)
            squared[at : at + len(part), :kept] = ordered[:, :kept]
            rows[at : at + len(part), :kept] = order[:, :kept] + first
            at += len(part)
    return squared, rows


def interpolation_weights(distance: Tensor) -> Tensor:
    """Weights (..., 3) that sum to 1 from distances (..., 3): the inverse of each."""
    inverse = 1.0 / (distance + SMALLEST_DISTANCE_M)
    return inverse / inverse.sum(dim=-1, keepdim=True)


def three_interpolate(features: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums (B, N, C) of three rows each of features (B, M, C); rows and weights are (B, N, 3)."""
    frames, total, channels = features.shape
    stacked = features.reshape(-1, channels)
    rows = rows + total * torch.arange(frames, device=rows.device).view(-1, 1, 1)
    terms = [
        take_rows(stacked, rows[..., corner]) * weights[..., corner : corner + 1]
        for corner in range(3)
    ]
    return terms[0] + terms[1] + terms[2]


def group_points(features: Tensor, rows: Tensor) -> Tensor:
    """Rows (B, M, K) of features (B, N, C) as (B, M, K, C)."""
    frames, total, channels = features.shape
    first = total * torch.arange(frames, device=rows.device).view(-1, *[1] * (rows.dim() - 1))
    return take_rows(features.reshape(-1, channels), rows + first)


def take_rows(features: Tensor, rows: Tensor) -> Tensor:
    """``features[rows]``: (N, C) and (...) int64 to (..., C). The gradient adds up in a fixed order on the CPU.

    Queries answer row 0 where nothing is near; where there is not even a row 0 it counts as zeros.
    """
    if len(features) == 0:
        return (
            features.new_zeros(*rows.shape, features.shape[1]) + features.sum()
        )  # keeps the graph
    return _TakeRows.apply(features, rows.reshape(-1)).view(*rows.shape, features.shape[1])


class _TakeRows(torch.autograd.Function):
    """Row selection whose backward pass is one compiled loop on the CPU."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.total = len(features)
        return features.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return add_rows(grad, ctx.saved_tensors[0], ctx.total), None


def add_rows(source: Tensor, rows: Tensor, total: int) -> Tensor:
    """Sums (total, C) of the rows of ``source`` (R, C) that go to the same place ``rows`` (R,)."""
    target = source.new_zeros(total, source.shape[1])
    if (
        source.device.type != "cpu"
        or source.dtype not in (torch.float32, torch.float64)
        or source.requires_grad
    ):
        return target.index_add(0, rows, source)
    point_kernels.add_rows(rows.contiguous().numpy(), source.contiguous().numpy(), target.numpy())
    return target


def first_true(mask: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """Columns (M, limit) int64 of the first true values in each row of ``mask`` (M, N), and how many (M,), <= limit.

    Unused places repeat the first column; a row without any is all 0.
    """
    rank = mask.cumsum(dim=1)
    row, column = torch.nonzero(mask & (rank <= limit), as_tuple=True)
    columns = torch.zeros((len(mask), limit), dtype=torch.int64, device=mask.device)
    columns[row, rank[row, column] - 1] = column
    return fill_with_first(columns, mask.sum(dim=1).clamp_max(limit))


def fill_with_first(rows: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
    """``rows`` (M, K) with the places from ``found`` (M,) on taken by the first one; and ``found``."""
    used = torch.arange(rows.shape[1], device=rows.device) < found.unsqueeze(1)
    return torch.where(used, rows, rows[:, :1]), found


def _squared_distance(points: Tensor, others: Tensor) -> Tensor:
    """Squared distances of points (..., 3) that broadcast, added up as the reference does."""
    square = (points - others).square()
    return square[..., 0] + square[..., 1] + square[..., 2]


def stack_starts(counts: Counts) -> list[int]:
    """Where each item of a stack begins, and where the last one ends: (B + 1,)."""
    numbers = counts.tolist() if isinstance(counts, Tensor) else counts
    return [0, *np.cumsum([int(number) for number in numbers]).tolist()]


def coordinate_rows(points: Tensor) -> np.ndarray:
    """(N, 3) as three contiguous rows (3, N)."""
    return np.ascontiguousarray(points.numpy().T)


def _parts(points: Tensor, others: int) -> Sequence[Tensor]:
    """``points`` in pieces whose distances to so many others fit into a chunk."""
    return points.split(max(1, PAIRS_PER_CHUNK // max(others, 1)))
