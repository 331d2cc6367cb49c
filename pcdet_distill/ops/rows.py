"""Selecting and adding rows of features, with gradients that add up in a fixed order on a CPU.

On CUDA the order is fixed where ``torch.use_deterministic_algorithms`` asks for it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .accelerated import point_kernels
from .dispatch import Form, Operator, form_for

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
    """Row selection whose backward pass is ``add_rows``."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.num_rows = len(features)
        return TAKE_ROWS.on(features.device)(features, rows)

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
    if source.requires_grad or not _is_compiled(source):
        return add_rows_plain(source, rows, total)
    return ADD_ROWS.on(source.device)(source, rows, total)


def move_rows(features: Tensor, sources: Tensor, targets: Tensor, total: int) -> Tensor:
    """Sums of selected rows: ``add_rows(take_rows(features, sources), targets, total)``.

    On CUDA the selected rows are never in memory. A point lies in the cubes of many centres, so
    that they are many times the features.

    Args:
        features: (N, C).
        sources: (R,) int64 rows of the features.
        targets: (R,) int64 places.
        total: number of places.

    Returns:
        (total, C).
    """
    moved: Tensor = _MoveRows.apply(features, sources, targets, total)
    return moved


class _MoveRows(torch.autograd.Function):
    """The gradient goes the same ways back."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, sources: Tensor, targets: Tensor, total: int) -> Tensor:
        ctx.save_for_backward(sources, targets)
        ctx.num_rows = len(features)
        return _move(features, sources, targets, total)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        sources, targets = ctx.saved_tensors
        return _move(grad, targets, sources, ctx.num_rows), None, None, None


def _move(features: Tensor, sources: Tensor, targets: Tensor, total: int) -> Tensor:
    """``move_rows`` without its gradient."""
    form = MOVE_ROWS.on(features.device) if _is_compiled(features) else move_rows_plain
    return form(features, sources, targets, total)


def _is_compiled(source: Tensor) -> bool:
    """Whether a compiled form adds such rows.

    Triton's adds in an order that changes, so a fixed order is left to PyTorch.
    """
    if form_for(source.device) is Form.TRITON:
        return source.is_floating_point() and not torch.are_deterministic_algorithms_enabled()
    return source.dtype in COMPILED_DTYPES


def add_rows_plain(source: Tensor, rows: Tensor, total: int) -> Tensor:
    """``add_rows`` in plain torch: any device, any type, with a gradient."""
    return source.new_zeros(total, source.shape[1]).index_add(0, rows, source)


def _add_rows_numba(source: Tensor, rows: Tensor, total: int) -> Tensor:
    """``add_rows``, compiled for the CPU: in the order of the rows."""
    target = source.new_zeros(total, source.shape[1])
    point_kernels.add_rows(rows.contiguous().numpy(), source.contiguous().numpy(), target.numpy())
    return target


def take_rows_plain(features: Tensor, rows: Tensor) -> Tensor:
    """Rows (R,) of features (N, C) in plain torch, any device."""
    return features.index_select(0, rows)


def add_weighted_rows_plain(source: Tensor, rows: Tensor, weights: Tensor, total: int) -> Tensor:
    """Row n of ``source`` (N, C) times each of ``weights`` (N, K), added at ``rows`` (N, K).

    Returns:
        sums (total, C).
    """
    products = source.unsqueeze(1) * weights.unsqueeze(2)
    return add_rows(products.flatten(0, 1), rows.flatten(), total)


def sum_rows(features: Tensor, rows: Tensor) -> Tensor:
    """Sums (M, C) of the rows (M, K) int64 of features (N, C), as for the neighbours of a query."""
    form = SUM_ROWS.on(features.device) if _is_compiled(features) else sum_rows_plain
    return form(features, rows)


def sum_rows_plain(features: Tensor, rows: Tensor) -> Tensor:
    """``sum_rows`` in plain torch, any device."""
    return functional.embedding_bag(rows, features, mode="sum")


SUM_ROWS = Operator("sums of neighbours", plain=sum_rows_plain, triton="rows:sum_rows")


def move_rows_plain(features: Tensor, sources: Tensor, targets: Tensor, total: int) -> Tensor:
    """``move_rows`` in plain torch, any device."""
    return add_rows(features.index_select(0, sources), targets, total)


TAKE_ROWS = Operator("selecting rows", plain=take_rows_plain, triton="rows:take_rows")
ADD_ROWS = Operator(
    "adding rows", plain=add_rows_plain, numba=_add_rows_numba, triton="rows:add_rows"
)
MOVE_ROWS = Operator("sums of selected rows", plain=move_rows_plain, triton="rows:move_rows")
ADD_WEIGHTED_ROWS = Operator(
    "the gradient of interpolation",
    plain=add_weighted_rows_plain,
    triton="interpolation:add_weighted_rows",
)


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
