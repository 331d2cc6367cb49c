"""The three nearest points, weighted sums of their features, and the gradient of those sums.

The search has one thread a query, and all threads of a program look at the same known point. There
are many queries: the points of a frame, or the cells around keypoints.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...rows import ADD_WEIGHTED_ROWS, add_weighted_rows_plain, take_rows
from ...stacks import Stack
from . import EXACT
from .common import keep_three, squared_distance
from .rows import block_grid, block_of_program, block_shape, sum_dtype

QUERIES = 128


@triton.jit
def _nearest_kernel(
    queries, known, query_starts, known_starts, rows, squared, QUERIES: tl.constexpr
):
    item = tl.program_id(1)
    first = tl.load(known_starts + item)
    count = (tl.load(known_starts + item + 1) - first).to(tl.int32)
    lane = tl.program_id(0).to(tl.int64) * QUERIES + tl.arange(0, QUERIES)
    query = tl.load(query_starts + item) + lane
    wanted = query < tl.load(query_starts + item + 1)
    x = tl.load(queries + query * 3, mask=wanted, other=0.0)
    y = tl.load(queries + query * 3 + 1, mask=wanted, other=0.0)
    z = tl.load(queries + query * 3 + 2, mask=wanted, other=0.0)
    best = tl.full([QUERIES], float("inf"), tl.float32)
    second = best
    third = best
    best_row = tl.zeros([QUERIES], tl.int32)
    second_row = best_row
    third_row = best_row
    for row in range(0, count):
        at = known + (first + row) * 3
        distance = squared_distance(x, y, z, tl.load(at), tl.load(at + 1), tl.load(at + 2))
        best, second, third, best_row, second_row, third_row = keep_three(
            distance, row, best, second, third, best_row, second_row, third_row
        )
    tl.store(squared + query * 3, best, mask=wanted)
    tl.store(squared + query * 3 + 1, second, mask=wanted)
    tl.store(squared + query * 3 + 2, third, mask=wanted)
    tl.store(rows + query * 3, first + best_row, mask=wanted)
    tl.store(rows + query * 3 + 1, first + second_row, mask=wanted)
    tl.store(rows + query * 3 + 2, first + third_row, mask=wanted)


@triton.jit
def _weighted_sum_kernel(
    features,
    rows,
    weights,
    sums,
    num_rows,
    num_channels,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    row, channel, wanted = block_of_program(num_rows, num_channels, ROWS, CHANNELS)
    exists = row < num_rows
    total = tl.zeros([ROWS, CHANNELS], sums.dtype.element_ty)
    for neighbour in tl.static_range(3):
        source = tl.load(rows + row * 3 + neighbour, mask=exists, other=0)
        weight = tl.load(weights + row * 3 + neighbour, mask=exists, other=0.0)
        value = tl.load(features + source * num_channels + channel, mask=wanted, other=0.0)
        total += value.to(total.dtype) * weight.to(total.dtype)
    tl.store(sums + row * num_channels + channel, total, mask=wanted)


@triton.jit
def _weighted_add_kernel(
    source, rows, weights, sums, num_rows, num_channels, ROWS: tl.constexpr, CHANNELS: tl.constexpr
):
    row, channel, wanted = block_of_program(num_rows, num_channels, ROWS, CHANNELS)
    exists = row < num_rows
    value = tl.load(source + row * num_channels + channel, mask=wanted, other=0.0)
    value = value.to(sums.dtype.element_ty)
    for neighbour in tl.static_range(3):
        target = tl.load(rows + row * 3 + neighbour, mask=exists, other=0)
        weight = tl.load(weights + row * 3 + neighbour, mask=exists, other=0.0)
        place = sums + target * num_channels + channel
        tl.atomic_add(place, value * weight.to(value.dtype), mask=wanted, sem="relaxed")


def three_nearest(points: Stack, known: Stack) -> tuple[Tensor, Tensor]:
    """Squared distances and rows of the three nearest of each point's item.

    Returns:
        squared distances (N, 3) float32 and rows (N, 3) int64 of ``known``. Where an item has fewer
        than three, the rest is its first row at infinite distance.
    """
    squared = points.xyz.new_empty((len(points), 3))
    rows = torch.empty((len(points), 3), dtype=torch.int64, device=squared.device)
    if len(points) == 0:
        return squared, rows
    grid = (triton.cdiv(max(points.sizes), QUERIES), points.num_items)
    _nearest_kernel[grid](
        points.xyz.contiguous(),
        known.xyz.contiguous(),
        points.device_starts(),
        known.device_starts(),
        rows,
        squared,
        QUERIES=QUERIES,
        **EXACT,
    )
    return squared, rows


def three_interpolate(features: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums (N, C) of three rows (N, 3) of features (M, C) each, with weights (N, 3)."""
    interpolated: Tensor = _Interpolate.apply(features, rows, weights)
    return interpolated


class _Interpolate(torch.autograd.Function):
    """Three rows are read and one is written, without the products in between."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(features, rows, weights)
        return _weighted_sum(features, rows, weights)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, Tensor | None]:
        features, rows, weights = ctx.saved_tensors
        of_features = of_weights = None
        if ctx.needs_input_grad[0]:
            # Atomic sums change their order; a fixed order is left to PyTorch.
            fixed = torch.are_deterministic_algorithms_enabled()
            add = add_weighted_rows_plain if fixed else ADD_WEIGHTED_ROWS.on(grad.device)
            of_features = add(grad, rows, weights, len(features)).to(features.dtype)
        if ctx.needs_input_grad[2]:
            products = take_rows(features, rows) * grad.unsqueeze(1)
            of_weights = products.sum(dim=2).to(weights.dtype)
        return of_features, None, of_weights


def _weighted_sum(features: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """``three_interpolate`` without its gradient."""
    num_channels = features.shape[1]
    dtype = torch.promote_types(features.dtype, weights.dtype)
    sums = features.new_empty(len(rows), num_channels, dtype=sum_dtype(dtype))
    if sums.numel() == 0:
        return sums.to(dtype)
    height, width = block_shape(num_channels)
    _weighted_sum_kernel[block_grid(len(rows), num_channels)](
        features.contiguous(),
        rows.contiguous(),
        weights.contiguous(),
        sums,
        len(rows),
        num_channels,
        ROWS=height,
        CHANNELS=width,
        **EXACT,
    )
    return sums.to(dtype)


def add_weighted_rows(source: Tensor, rows: Tensor, weights: Tensor, total: int) -> Tensor:
    """Sums (total, C): row n of ``source`` (N, C) goes to three places (N, 3), weighted (N, 3)."""
    num_channels = source.shape[1]
    dtype = torch.promote_types(source.dtype, weights.dtype)
    sums = source.new_zeros(total, num_channels, dtype=sum_dtype(dtype))
    if source.numel() == 0:
        return sums.to(dtype)
    height, width = block_shape(num_channels)
    _weighted_add_kernel[block_grid(len(rows), num_channels)](
        source.contiguous(),
        rows.contiguous(),
        weights.contiguous(),
        sums,
        len(rows),
        num_channels,
        ROWS=height,
        CHANNELS=width,
        **EXACT,
    )
    return sums.to(dtype)
