"""The arithmetic of sparse convolution: multiply rows pair by pair, add up by output row. Differentiable.

For every kernel offset the rows of its pairs are gathered and multiplied by the offset's matrix; then every output row
adds up its products, in the order of the rulebook. A row is added up by one thread, so the result does not depend on
the number of threads (as far as the matrix products do not) and is the same in every run.
"""
from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .rulebook import RowSums, Rulebook


def pair_product(features: Tensor, weight: Tensor, rulebook: Rulebook, inverse: bool = False) -> Tensor:
    """Convolve ``features`` by a rulebook.

    Args:
        features: (num_in, C_in), or (num_out, C_in) when ``inverse``.
        weight: (C_out, K, C_in).
        rulebook: the pairs, by offset.
        inverse: walk the pairs backwards, from output rows to input rows.

    Returns:
        (num_out, C_out), or (num_in, C_out) when ``inverse``.
    """
    with torch.autocast(features.device.type, enabled=False):
        return _PairProduct.apply(features.to(weight.dtype), weight, rulebook, inverse)


def _ends(rulebook: Rulebook, inverse: bool) -> tuple[Tensor, RowSums]:
    """Rows that are read, and how the rows that are written add up."""
    if inverse:
        return rulebook.out_rows, rulebook.into_inputs
    return rulebook.in_rows, rulebook.into_outputs


def add_products(features: Tensor, matrices: Tensor, rulebook: Rulebook, inverse: bool) -> Tensor:
    """Sum of ``features[row] @ matrices[offset]`` over the pairs of every output row.

    Args:
        features: (rows, C).
        matrices: (K, C, C').
        rulebook: the pairs.
        inverse: as in ``pair_product``.
    """
    rows, sums = _ends(rulebook, inverse)
    products = features.new_empty(len(rows), matrices.shape[2])
    start = 0
    for matrix, count in zip(matrices, rulebook.counts):
        if count:
            gathered = torch.index_select(features, 0, rows[start:start + count])
            torch.mm(gathered, matrix, out=products[start:start + count])
        start += count
    output = add_rows(products, sums)
    if rulebook.identity is not None:
        output.addmm_(features, matrices[rulebook.identity])
    return output


def add_rows(values: Tensor, sums: RowSums) -> Tensor:
    """Add up the rows of ``values`` (P, C) that ``sums`` lists for each of its R rows: (R, C)."""
    num_rows = len(sums.starts) - 1
    if len(values) == 0 or num_rows == 0:
        return values.new_zeros(num_rows, values.shape[1])
    return F.embedding_bag(sums.entries, values, sums.starts, mode="sum", include_last_offset=True)


def weight_gradient(features: Tensor, grad: Tensor, rulebook: Rulebook, inverse: bool) -> Tensor:
    """Sum of ``grad[end] x features[start]`` over the pairs of every offset: (C_out, K, C_in)."""
    starts, ends = rulebook.in_rows, rulebook.out_rows
    if inverse:
        starts, ends = ends, starts
    result = features.new_zeros(len(rulebook.counts), grad.shape[1], features.shape[1])
    start = 0
    for number, count in enumerate(rulebook.counts):
        if count:
            pairs = slice(start, start + count)
            gathered = torch.index_select(features, 0, starts[pairs])
            torch.mm(torch.index_select(grad, 0, ends[pairs]).t(), gathered, out=result[number])
        start += count
    if rulebook.identity is not None:
        torch.mm(grad.t(), features, out=result[rulebook.identity])
    return result.transpose(0, 1).contiguous()


class _PairProduct(torch.autograd.Function):
    """``pair_product`` with its gradients."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, rulebook: Rulebook, inverse: bool) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.rulebook, ctx.inverse = rulebook, inverse
        return add_products(features, weight.permute(1, 2, 0), rulebook, inverse)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        features, weight = ctx.saved_tensors
        grad = grad.contiguous()
        of_features = of_weight = None
        with torch.autocast(grad.device.type, enabled=False):
            if ctx.needs_input_grad[0]:
                of_features = add_products(grad, weight.transpose(0, 1), ctx.rulebook, not ctx.inverse)
            if ctx.needs_input_grad[1]:
                of_weight = weight_gradient(features, grad, ctx.rulebook, ctx.inverse)
        return of_features, of_weight, None, None
