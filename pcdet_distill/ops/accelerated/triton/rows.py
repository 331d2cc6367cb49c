"""Selecting rows of features, adding rows to the places they came from (its gradient), and both.

A program moves a block of rows and channels, so that neighbouring threads touch neighbouring
channels. Sums are atomic: their order, and with it the last bit, may change from run to run, as in
PyTorch's own ``index_add``. Halves are added up in float32.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...rows import move_rows as move_rows_anywhere
from . import EXACT

MAX_CHANNELS = 128  # of a block
BLOCK = 2048  # numbers of a block
SUMMED_ROWS = 8  # of a block that sums over neighbours


@triton.jit
def block_of_program(num_rows, num_channels, ROWS: tl.constexpr, CHANNELS: tl.constexpr):
    """Row (ROWS, 1), channel (1, CHANNELS) and mask of this program's block."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    return row, channel, (row < num_rows) & (channel < num_channels)


@triton.jit
def _take_kernel(
    features, rows, taken, num_rows, num_channels, ROWS: tl.constexpr, CHANNELS: tl.constexpr
):
    row, channel, wanted = block_of_program(num_rows, num_channels, ROWS, CHANNELS)
    source = tl.load(rows + row, mask=row < num_rows, other=0)
    value = tl.load(features + source * num_channels + channel, mask=wanted, other=0.0)
    tl.store(taken + row * num_channels + channel, value, mask=wanted)


@triton.jit
def _add_kernel(
    source, rows, sums, num_rows, num_channels, ROWS: tl.constexpr, CHANNELS: tl.constexpr
):
    row, channel, wanted = block_of_program(num_rows, num_channels, ROWS, CHANNELS)
    target = tl.load(rows + row, mask=row < num_rows, other=0)
    value = tl.load(source + row * num_channels + channel, mask=wanted, other=0.0)
    value = value.to(sums.dtype.element_ty)
    tl.atomic_add(sums + target * num_channels + channel, value, mask=wanted, sem="relaxed")


@triton.jit
def _move_kernel(
    features,
    sources,
    targets,
    sums,
    num_rows,
    num_channels,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    row, channel, wanted = block_of_program(num_rows, num_channels, ROWS, CHANNELS)
    source = tl.load(sources + row, mask=row < num_rows, other=0)
    target = tl.load(targets + row, mask=row < num_rows, other=0)
    value = tl.load(features + source * num_channels + channel, mask=wanted, other=0.0)
    value = value.to(sums.dtype.element_ty)
    tl.atomic_add(sums + target * num_channels + channel, value, mask=wanted, sem="relaxed")


@triton.jit
def _sum_kernel(
    features,
    rows,
    sums,
    num_rows,
    num_neighbours,
    num_channels,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    row, channel, wanted = block_of_program(num_rows, num_channels, ROWS, CHANNELS)
    total = tl.zeros([ROWS, CHANNELS], sums.dtype.element_ty)
    for number in range(0, num_neighbours):
        source = tl.load(rows + row * num_neighbours + number, mask=row < num_rows, other=0)
        value = tl.load(features + source * num_channels + channel, mask=wanted, other=0.0)
        total += value.to(total.dtype)
    tl.store(sums + row * num_channels + channel, total, mask=wanted)


def block_shape(num_channels: int) -> tuple[int, int]:
    """Rows and channels of a block; both are powers of two."""
    channels = min(MAX_CHANNELS, triton.next_power_of_2(num_channels))
    return BLOCK // channels, channels


def block_grid(num_rows: int, num_channels: int) -> tuple[int, int]:
    """Programs along the rows and along the channels."""
    rows, channels = block_shape(num_channels)
    return triton.cdiv(num_rows, rows), triton.cdiv(num_channels, channels)


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type in which numbers of another type are added up."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def take_rows(features: Tensor, rows: Tensor) -> Tensor:
    """Rows (R,) int64 of features (N, C): (R, C)."""
    num_channels = features.shape[1]
    taken = features.new_empty(len(rows), num_channels)
    if taken.numel() == 0:
        return taken
    height, width = block_shape(num_channels)
    _take_kernel[block_grid(len(rows), num_channels)](
        features.contiguous(),
        rows.contiguous(),
        taken,
        len(rows),
        num_channels,
        ROWS=height,
        CHANNELS=width,
        **EXACT,
    )
    return taken


def add_rows(source: Tensor, rows: Tensor, total: int) -> Tensor:
    """Sums (total, C) of the rows of ``source`` (R, C) that go to the same of ``rows`` (R,)."""
    num_channels = source.shape[1]
    sums = source.new_zeros(total, num_channels, dtype=sum_dtype(source.dtype))
    if source.numel() == 0:
        return sums.to(source.dtype)
    height, width = block_shape(num_channels)
    _add_kernel[block_grid(len(rows), num_channels)](
        source.contiguous(),
        rows.contiguous(),
        sums,
        len(rows),
        num_channels,
        ROWS=height,
        CHANNELS=width,
        **EXACT,
    )
    return sums.to(source.dtype)


def move_rows(features: Tensor, sources: Tensor, targets: Tensor, total: int) -> Tensor:
    """Sums (total, C): row ``sources[r]`` of features (N, C) goes to row ``targets[r]``."""
    num_channels = features.shape[1]
    sums = features.new_zeros(total, num_channels, dtype=sum_dtype(features.dtype))
    if len(sources) == 0 or sums.numel() == 0:
        return sums.to(features.dtype)
    height, width = block_shape(num_channels)
    _move_kernel[block_grid(len(sources), num_channels)](
        features.contiguous(),
        sources.contiguous(),
        targets.contiguous(),
        sums,
        len(sources),
        num_channels,
        ROWS=height,
        CHANNELS=width,
        **EXACT,
    )
    return sums.to(features.dtype)


def sum_rows(features: Tensor, rows: Tensor) -> Tensor:
    """Sums (M, C) of the rows (M, K) int64 of features (N, C), with a gradient."""
    sums: Tensor = _SumRows.apply(features, rows)
    return sums


class _SumRows(torch.autograd.Function):
    """A sum in the order of the neighbours; its gradient goes to each of them."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.num_rows = len(features)
        return _sum_rows(features, rows)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors
        sources = torch.arange(len(rows), device=rows.device).repeat_interleave(rows.shape[1])
        return move_rows_anywhere(grad, sources, rows.flatten(), ctx.num_rows), None


def _sum_rows(features: Tensor, rows: Tensor) -> Tensor:
    """``sum_rows`` without its gradient."""
    num_channels = features.shape[1]
    shape = (len(rows), num_channels)
    sums = torch.empty(shape, dtype=sum_dtype(features.dtype), device=features.device)
    if sums.numel() == 0:
        return sums.to(features.dtype)
    height, width = block_shape(num_channels)
    # Few queries with many neighbours: small blocks, so that there are enough programs.
    height = min(height, SUMMED_ROWS)
    grid = (triton.cdiv(len(rows), height), triton.cdiv(num_channels, width))
    _sum_kernel[grid](
        features.contiguous(),
        rows.contiguous(),
        sums,
        len(rows),
        rows.shape[1],
        num_channels,
        ROWS=height,
        CHANNELS=width,
        **EXACT,
    )
    return sums.to(features.dtype)
