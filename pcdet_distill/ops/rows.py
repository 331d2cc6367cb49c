"""Selecting and adding rows of features, with gradients that add up in a fixed order on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .accelerated import point_kernels

COMPILED_DTYPES = (torch.float32, torch.float64)


def take_rows(features: Tensor, rows: Tensor) -> Tensor:
    """``features[rows]``.

    A query without a neighbour returns row 0. Where there is no row 0 either, it counts as zeros.

    Args:
        features: (N, C).
        rows: (...) int64.

    Returns:
        (..., C).
    """
    num_channels = features.shape[1]
    if len(features) == 0:
        # The empty sum keeps the output connected to the graph of the features.
        return features.new_zeros(*rows.shape, num_channels) + features.sum()
    taken: Tensor = _TakeRows.apply(features, rows.reshape(-1))
    return taken.view(*rows.shape, num_channels)


class _TakeRows(torch.autograd.Function):
    """Row selection whose backward pass is one compiled loop on the CPU."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.num_rows = len(features)
        return features.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors
        return add_rows(grad, rows, ctx.num_rows), None


def add_rows(source: Tensor, rows: Tensor, total: int) -> Tensor:
    """Sums of the rows of ``source`` that go to the same place.

    Args:
        source: (R, C).
        rows: (R,) int64 places.
        total: number of places.

    Returns:
        (total, C).
    """
    target = source.new_zeros(total, source.shape[1])
    on_cpu = source.device.type == "cpu"
    if not on_cpu or source.dtype not in COMPILED_DTYPES or source.requires_grad:
        return target.index_add(0, rows, source)
    point_kernels.add_rows(rows.contiguous().numpy(), source.contiguous().numpy(), target.numpy())
    return target


def first_true(mask: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """Columns of the first true values in each row of a mask.

    Args:
        mask: (M, N) bool.
        limit: columns per row.

    Returns:
        columns (M, limit) int64, where unused places repeat the first column and a row without any
        is all 0; and how many there are (M,), at most ``limit``.
    """
    rank = mask.cumsum(dim=1)
    row, column = torch.nonzero(mask & (rank <= limit), as_tuple=True)
    columns = torch.zeros((len(mask), limit), dtype=torch.int64, device=mask.device)
    columns[row, rank[row, column] - 1] = column
    count = mask.sum(dim=1).clamp_max(limit)
    return fill_with_first(columns, count), count


def fill_with_first(rows: Tensor, count: Tensor) -> Tensor:
    """``rows`` (M, K), of which ``count`` (M,) are used; the others repeat the first one."""
    used = torch.arange(rows.shape[1], device=rows.device) < count.unsqueeze(1)
    return torch.where(used, rows, rows[:, :1])
