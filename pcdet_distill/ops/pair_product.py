"""The arithmetic of sparse convolution: multiply rows pair by pair, add up by output row. Differentiable.

Kernel offset by kernel offset, the rows of its pairs are gathered, multiplied by the offset's matrix, and added to the
output rows. At one offset every output row occurs once at most, and one offset follows the other: nothing races, and
the result is the same in every run.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .accelerated import rulebook_kernels
from .rulebook import Rulebook


def pair_product(
    features: Tensor, weight: Tensor, rulebook: Rulebook, inverse: bool = False
) -> Tensor:
    """Convolve ``features`` by a rulebook.

    Args:
        features: (num_in, C_in), or (num_out, C_in) when ``inverse``.
        weight: (C_out, K, C_in).
        rulebook: the pairs, by offset.
        inverse: walk the pairs backwards, from output rows to input rows.

    Returns:
        (num_out, C_out), or (num_in, C_out) when ``inverse``.
    """
    return _PairProduct.apply(features.to(weight.dtype), weight, rulebook, inverse)


class RowSum:
    """An output (N, C) to whose rows others are added. On a CPU by a compiled kernel."""

    def __init__(self, output: Tensor) -> None:
        self.output = output
        self.array = output.numpy() if output.device.type == "cpu" else None

    def add(self, rows: Tensor, values: Tensor) -> None:
        """``output[rows] += values``: rows (P,), values (P, C)."""
        if self.array is None:
            self.output.index_add_(0, rows, values)
        else:
            rulebook_kernels.add_to_rows(self.array, rows.numpy(), values.numpy())


class Workspace:
    """Memory for the rows of one offset, used for all of them: fresh memory for each would cost as much as the sums."""

    def __init__(self, like: Tensor, rows: int, channels: int) -> None:
        self.rows = like.new_empty(rows, channels)

    def gather(self, values: Tensor, rows: Tensor) -> Tensor:
        """``values[rows]``, valid until the next call."""
        return torch.index_select(values, 0, rows, out=self.rows[: len(rows)])

    def multiply(self, left: Tensor, right: Tensor) -> Tensor:
        """``left @ right``, valid until the next call."""
        return torch.mm(left, right, out=self.rows[: len(left)])


def convolve_rows(features: Tensor, matrices: Tensor, rulebook: Rulebook, inverse: bool) -> Tensor:
    """Sum of ``features[start] @ matrices[offset]`` over the pairs that end in a row: features (N, C) -> (M, C').

    Args:
        features: (N, C).
        matrices: (K, C, C').
        rulebook: the pairs.
        inverse: as in ``pair_product``.
    """
    channels = matrices.shape[2]
    if rulebook.identity is None:
        output = features.new_zeros(rulebook.num_in if inverse else rulebook.num_out, channels)
    else:
        output = torch.mm(features, matrices[rulebook.identity])
    most = max(rulebook.counts)
    gathered, products = (
        Workspace(features, most, features.shape[1]),
        Workspace(features, most, channels),
    )
    by_offset, total = matrices.unbind(), RowSum(output)
    for number, start, end in rulebook.reversed_pairs if inverse else rulebook.pairs:
        total.add(end, products.multiply(gathered.gather(features, start), by_offset[number]))
    return output


def gradients(
    grad: Tensor, features: Tensor, matrices: Tensor, rulebook: Rulebook, inverse: bool
) -> tuple[Tensor, Tensor]:
    """Gradients of ``convolve_rows`` with respect to its features (N, C) and to its matrices, transposed: (K, C', C).

    Args:
        grad: (M, C').
        features: (N, C).
        matrices: (K, C, C').
        rulebook: the pairs.
        inverse: as in ``pair_product``.
    """
    transposed = matrices.transpose(1, 2)
    of_matrices = torch.zeros_like(transposed, memory_format=torch.contiguous_format)
    if rulebook.identity is None:
        of_features = torch.zeros_like(features)
    else:
        of_features = torch.mm(grad, transposed[rulebook.identity])
        torch.mm(grad.t(), features, out=of_matrices[rulebook.identity])
    most = max(rulebook.counts)
    gathered, products, upstream = (
        Workspace(grad, most, width.shape[1]) for width in (features, features, grad)
    )
    by_offset, results, total = transposed.unbind(), of_matrices.unbind(), RowSum(of_features)
    for number, start, end in rulebook.reversed_pairs if inverse else rulebook.pairs:
        wanted = upstream.gather(grad, end)
        torch.mm(wanted.t(), gathered.gather(features, start), out=results[number])
        total.add(start, products.multiply(wanted, by_offset[number]))
    return of_features, of_matrices


class _PairProduct(torch.autograd.Function):
    """``pair_product`` with its gradients. Always computes in the precision of the weight."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, rulebook: Rulebook, inverse: bool
    ) -> Tensor:
        features = features.contiguous()
        ctx.save_for_backward(features, weight)
        ctx.rulebook, ctx.inverse = rulebook, inverse
        with torch.autocast(features.device.type, enabled=False):
            return convolve_rows(features, weight.permute(1, 2, 0), rulebook, inverse)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        features, weight = ctx.saved_tensors
        matrices = weight.permute(1, 2, 0)
        with torch.autocast(grad.device.type, enabled=False):
            of_features, of_matrices = gradients(
                grad.contiguous(), features, matrices, ctx.rulebook, ctx.inverse
            )
        return of_features, of_matrices.transpose(0, 1).contiguous(), None, None
