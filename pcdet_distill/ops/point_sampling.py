"""Choosing and grouping points (PointNet++, NeurIPS 2017), by the rules of OpenPCDet's CUDA ops.

Two layouts: in a batch (B, N, 3) every item has equally many points; in a stack (N, 3) the items
follow each other, with counts (B,). An index is a row of the item in a batch, and a row of the
whole stack in a stack. Neighbours are searched within an item only.

Compiled kernels do the work, on the CPU by numba and on CUDA by Triton (``dispatch``). The
``*_plain`` versions are torch on any device.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from .accelerated import point_kernels
from .dispatch import Operator
from .rows import fill_with_first, first_true, take_rows
from .stacks import Counts, Stack, item_offsets, squared_distances

MAX_THREADS = 1024  # of a block in the reference: decides which of equally far points is taken
FAR_M2 = 1e10  # what the reference starts its smallest distances with
SMALLEST_DISTANCE_M = 1e-8


def furthest_point_sample(points: Tensor, num_samples: int) -> Tensor:
    """Rows of the greedily furthest points of each item, starting with row 0.

    Each step takes the point whose nearest chosen point is furthest away, so that the samples cover
    the whole item. For equally far points see ``tie_order``. With fewer different points than
    samples, row 0 is repeated.

    Args:
        points: (B, N, 3+).
        num_samples: per item.

    Returns:
        (B, num_samples) int64.
    """
    total = points.shape[1]
    assert total > 0, "no points to sample from"
    if len(points) == 0:
        return points.new_zeros((0, num_samples), dtype=torch.int64)
    # The reference starts as many threads as the largest power of two up to the number of points.
    threads = min(MAX_THREADS, 1 << (total.bit_length() - 1))
    frames = len(points)
    rows = FURTHEST_POINTS.on(points.device)(
        Stack.of_batch(points), [num_samples] * frames, threads
    ).view(frames, num_samples)
    return rows - item_offsets(frames, total, rows.device).view(-1, 1)


def stack_furthest_point_sample(
    points: Tensor, counts: Counts, num_samples: int | Sequence[int]
) -> Tensor:
    """``furthest_point_sample`` for a stack.

    Args:
        points: (N, 3+).
        counts: (B,) points of each item; an item without points gives no row.
        num_samples: one number for all items, or one for each.

    Returns:
        (sum of samples,) int64.
    """
    stack = Stack.of_counts(points, counts)
    samples = [num_samples] * stack.num_items if isinstance(num_samples, int) else num_samples
    return FURTHEST_POINTS.on(points.device)(stack, samples, MAX_THREADS)


@lru_cache(maxsize=64)
def tie_order(total: int, threads: int) -> np.ndarray:
    """Rows in the order in which they win among equally far points: (total,) int64.

    In the reference thread t compares the rows t, t + threads, ... and keeps the first best one.
    Then pairs of threads half a block apart are compared, then a quarter apart, and so on; the
    lower thread wins ties. So the winner is the thread whose number is smallest with its bits
    reversed.
    """
    rows = np.arange(total)
    thread = rows % threads
    reversed_bits = np.zeros(total, np.int64)
    for bit in range(threads.bit_length() - 1):
        reversed_bits = reversed_bits * 2 + (thread >> bit & 1)
    return np.lexsort((rows, reversed_bits))


def furthest_point_sample_plain(points: Tensor, count: int, threads: int) -> Tensor:
    """Rows (count,) int64 of the furthest points of (N, 3+): plain torch, any device."""
    order = torch.from_numpy(tie_order(len(points), threads)).to(points.device)
    xyz = points[order, :3].float()
    nearest = xyz.new_full((len(xyz),), FAR_M2)
    chosen = torch.zeros(count, dtype=torch.int64, device=points.device)
    for step in range(1, count):
        last = xyz[chosen[step - 1]]
        nearest = torch.minimum(nearest, squared_distances(xyz, last))
        chosen[step] = nearest.argmax()
    return order[chosen]


def stack_furthest_points_plain(points: Stack, samples: Sequence[int], threads: int) -> Tensor:
    """``stack_furthest_point_sample`` in plain torch, with the reference's number of threads."""
    chosen = [torch.zeros(0, dtype=torch.int64, device=points.xyz.device)]
    for item, count in enumerate(samples):
        rows = points.rows_of(item)
        if rows.stop > rows.start:
            of_item = furthest_point_sample_plain(points.xyz[rows], int(count), threads)
            chosen.append(rows.start + of_item)
    return torch.cat(chosen)


def _stack_furthest_points_numba(points: Stack, samples: Sequence[int], threads: int) -> Tensor:
    """``stack_furthest_points_plain``, compiled for the CPU."""
    chosen = [torch.zeros(0, dtype=torch.int64)]
    for item, count in enumerate(samples):
        rows = points.rows_of(item)
        if rows.stop > rows.start:
            order = tie_order(rows.stop - rows.start, threads)
            columns = np.ascontiguousarray(points.xyz[rows].numpy()[order].T)
            of_item = order[point_kernels.furthest_points(columns, int(count))]
            chosen.append(rows.start + torch.from_numpy(of_item))
    return torch.cat(chosen)


FURTHEST_POINTS = Operator(
    "furthest point sampling",
    plain=stack_furthest_points_plain,
    numba=_stack_furthest_points_numba,
    triton="furthest_points:furthest_points",
)


def ball_query(
    radius_m: float, num_neighbors: int, points: Tensor, centres: Tensor
) -> tuple[Tensor, Tensor]:
    """The first points nearer than ``radius_m`` to each centre, in the order of their rows.

    Args:
        radius_m: metres.
        num_neighbors: points per centre, K.
        points: (B, N, 3).
        centres: (B, M, 3).

    Returns:
        rows (B, M, K) int64, unused places repeat the first row, all 0 for an empty ball; and how
        many points were found (B, M) int64.
    """
    frames, total = points.shape[:2]
    shape = (frames, centres.shape[1])
    point_stack = Stack.of_batch(points)
    rows, found = _ball_query(radius_m, num_neighbors, point_stack, Stack.of_batch(centres))
    rows = rows.view(*shape, num_neighbors) - item_offsets(frames, total, points.device)
    found = found.view(shape)
    return torch.where(found.unsqueeze(-1) > 0, rows, 0), found


def stack_ball_query(
    radius_m: float,
    num_neighbors: int,
    points: Tensor,
    point_counts: Counts,
    centres: Tensor,
    centre_counts: Counts,
) -> tuple[Tensor, Tensor]:
    """``ball_query`` for stacks.

    Args:
        radius_m: metres.
        num_neighbors: points per centre, K.
        points: (N, 3).
        point_counts: (B,).
        centres: (M, 3).
        centre_counts: (B,).

    Returns:
        rows (M, K) int64 of the whole stack, unused places repeat the first row, all 0 for an empty
        ball; and how many points were found (M,) int64.
    """
    point_stack = Stack.of_counts(points, point_counts)
    centre_stack = Stack.of_counts(centres, centre_counts)
    return _ball_query(radius_m, num_neighbors, point_stack, centre_stack)


def _ball_query(
    radius_m: float, num_neighbors: int, points: Stack, centres: Stack
) -> tuple[Tensor, Tensor]:
    """``stack_ball_query`` of stacks."""
    radius_squared = float(np.float32(radius_m) * np.float32(radius_m))
    search = BALL_QUERY.on(points.xyz.device)
    rows, found = search(radius_squared, num_neighbors, points, centres)
    return fill_with_first(rows, found), found


def _ball_query_numba(
    radius_squared: float, num_neighbors: int, points: Stack, centres: Stack
) -> tuple[Tensor, Tensor]:
    """``ball_query_plain``, compiled for the CPU; unused places are 0."""
    rows, found = point_kernels.ball_neighbours(
        points.as_searched(), centres.as_queries(), np.float32(radius_squared), num_neighbors
    )
    return torch.from_numpy(rows), torch.from_numpy(found)


def ball_query_plain(
    radius_squared: float, num_neighbors: int, points: Stack, centres: Stack
) -> tuple[Tensor, Tensor]:
    """``stack_ball_query`` in plain torch, any device."""
    device = centres.xyz.device
    rows = torch.zeros((len(centres), num_neighbors), dtype=torch.int64, device=device)
    found = torch.zeros(len(centres), dtype=torch.int64, device=device)
    for item in range(points.num_items):
        candidates = points.xyz[points.rows_of(item)].unsqueeze(0)
        for part in centres.parts_of(item, work_per_point=candidates.shape[1]):
            distances = squared_distances(candidates, centres.xyz[part].unsqueeze(1))
            columns, count = first_true(distances < radius_squared, num_neighbors)
            stacked = columns + points.starts[item]
            rows[part] = torch.where(count.unsqueeze(1) > 0, stacked, 0)
            found[part] = count
    return rows, found


BALL_QUERY = Operator(
    "ball query", plain=ball_query_plain, numba=_ball_query_numba, triton="ball_query:ball_query"
)


def three_nn(points: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """The three nearest known points to each point; of equally near ones the lower row comes first.

    Args:
        points: (B, N, 3).
        known: (B, M, 3).

    Returns:
        distances (B, N, 3) in metres and rows (B, N, 3) int64. With fewer than three known points
        the rest is row 0 at infinite distance.
    """
    frames, total = known.shape[:2]
    point_stack = Stack.of_batch(points)
    known_stack = Stack.of_batch(known)
    squared, rows = THREE_NEAREST.on(points.device)(point_stack, known_stack)
    shape = (frames, points.shape[1], 3)
    distances = squared.sqrt().view(shape)
    return distances, rows.view(shape) - item_offsets(frames, total, rows.device)


def three_nn_plain(points: Stack, known: Stack) -> tuple[Tensor, Tensor]:
    """Squared distances and rows of the three nearest in a stack: plain torch, any device."""
    squared = points.xyz.new_full((len(points), 3), torch.inf)
    rows = torch.zeros((len(points), 3), dtype=torch.int64, device=squared.device)
    for item in range(points.num_items):
        first = known.starts[item]
        candidates = known.xyz[known.rows_of(item)].unsqueeze(0)
        count = candidates.shape[1]
        kept = min(3, count)
        rows[points.rows_of(item)] = first
        for part in points.parts_of(item, work_per_point=count):
            distances = squared_distances(points.xyz[part].unsqueeze(1), candidates)
            ordered, order = distances.sort(dim=1, stable=True)
            squared[part, :kept] = ordered[:, :kept]
            rows[part, :kept] = order[:, :kept] + first
    return squared, rows


def _three_nn_numba(points: Stack, known: Stack) -> tuple[Tensor, Tensor]:
    """``three_nn_plain``, compiled for the CPU."""
    rows, squared = point_kernels.three_nearest(points.as_queries(), known.as_searched())
    return torch.from_numpy(squared), torch.from_numpy(rows)


THREE_NEAREST = Operator(
    "three nearest neighbours",
    plain=three_nn_plain,
    numba=_three_nn_numba,
    triton="interpolation:three_nearest",
)


def interpolation_weights(distance: Tensor) -> Tensor:
    """Weights (..., 3) proportional to the inverse of distances (..., 3); they sum to 1."""
    inverse = 1.0 / (distance + SMALLEST_DISTANCE_M)
    return inverse / inverse.sum(dim=-1, keepdim=True)


def three_interpolate(features: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of three rows of features each.

    Args:
        features: (B, M, C).
        rows: (B, N, 3) int64.
        weights: (B, N, 3).

    Returns:
        (B, N, C).
    """
    frames, total, channels = features.shape
    stacked = features.reshape(-1, channels)
    rows = rows + item_offsets(frames, total, rows.device)
    # Without features there is no row to read; the plain form counts it as zeros.
    interpolate = INTERPOLATE.on(features.device) if len(stacked) else three_interpolate_plain
    sums = interpolate(stacked, rows.reshape(-1, 3), weights.reshape(-1, 3))
    return sums.view(*rows.shape[:2], channels)


def three_interpolate_plain(features: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums (N, C) of rows (N, 3) of features (M, C): plain torch, any device."""
    first, second, third = [
        take_rows(features, of_neighbour) * weight.unsqueeze(-1)
        for of_neighbour, weight in zip(rows.unbind(dim=-1), weights.unbind(dim=-1))
    ]
    return first + second + third


INTERPOLATE = Operator(
    "interpolation", plain=three_interpolate_plain, triton="interpolation:three_interpolate"
)


def group_points(features: Tensor, rows: Tensor) -> Tensor:
    """Rows (B, M, K) int64 of features (B, N, C) as (B, M, K, C)."""
    frames, total, channels = features.shape
    stacked = features.reshape(-1, channels)
    return take_rows(stacked, rows + item_offsets(frames, total, rows.device))
