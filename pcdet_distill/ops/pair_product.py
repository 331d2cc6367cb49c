"""The arithmetic of sparse convolution: multiply rows pair by pair, sum by output row.

For each kernel offset, the input rows of its pairs are gathered, multiplied by the offset's matrix
and added to the output rows. This is "gather-GEMM-scatter", as in spconv and SECOND. At one offset
every output row occurs once at most, and the offsets follow one another. So no two additions race,
and every run gives the same result. Triton's form on CUDA goes through the output rows instead.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .accelerated import rulebook_kernels
from .dispatch import Form, Operator, form_for
from .pairs import AnyRulebook


def pair_product(
    features: Tensor, weight: Tensor, rulebook: AnyRulebook, inverse: bool = False
) -> Tensor:
    """Convolve ``features`` by a rulebook; differentiable.

    Computes in the precision of the weight. Triton's form computes in that of autocast where it is
    on, as spconv does.

    Args:
        features: (num_in, C_in), or (num_out, C_in) when ``inverse``.
        weight: (C_out, K, C_in).
        rulebook: the pairs, by offset.
        inverse: use the pairs backwards, from output rows to input rows.

    Returns:
        (num_out, C_out), or (num_in, C_out) when ``inverse``.
    """
    dtype = _dtype_of_products(weight)
    output: Tensor = _PairProduct.apply(features.to(dtype), weight.to(dtype), rulebook, inverse)
    return output


def _dtype_of_products(weight: Tensor) -> torch.dtype:
    """The type in which rows are multiplied by the weight."""
    device_type = weight.device.type
    halves = form_for(weight.device) is Form.TRITON and torch.is_autocast_enabled(device_type)
    return torch.get_autocast_dtype(device_type) if halves else weight.dtype


class RowSum:
    """An output (N, C), and ``add``, which adds to some of its rows by a compiled loop on a CPU."""

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
    """Memory for the rows of one offset, reused for the next.

    A fresh allocation per offset would take as long as the sums themselves.
    """

    def __init__(self, like: Tensor, rows: int, channels: int) -> None:
        self.rows = like.new_empty(rows, channels)

    def gather(self, values: Tensor, rows: Tensor) -> Tensor:
        """``values[rows]``, valid until the next call."""
        return torch.index_select(values, 0, rows, out=self.rows[: len(rows)])

    def multiply(self, left: Tensor, right: Tensor) -> Tensor:
        """``left @ right``, valid until the next call."""
        return torch.mm(left, right, out=self.rows[: len(left)])


def convolve_rows_plain(
    features: Tensor, matrices: Tensor, rulebook: AnyRulebook, inverse: bool
) -> Tensor:
    """For each output row, the sum of ``features[source] @ matrices[offset]`` over its pairs.

    Args:
        features: (N, C).
        matrices: (K, C, C').
        rulebook: the pairs.
        inverse: as in ``pair_product``.

    Returns:
        (M, C').
    """
    rulebook = rulebook.listed
    in_channels, out_channels = matrices.shape[1:]
    if rulebook.identity is None:
        num_rows = rulebook.num_in if inverse else rulebook.num_out
        output = features.new_zeros(num_rows, out_channels)
    else:
        # The middle of a submanifold kernel pairs every row with itself: one product, no gather.
        output = torch.mm(features, matrices[rulebook.identity])
    most_pairs = max(rulebook.counts)
    gathered = Workspace(features, most_pairs, in_channels)
    products = Workspace(features, most_pairs, out_channels)
    total = RowSum(output)
    matrix_of = matrices.unbind()
    for number, sources, targets in rulebook.reversed_pairs if inverse else rulebook.pairs:
        rows = gathered.gather(features, sources)
        total.add(targets, products.multiply(rows, matrix_of[number]))
    return output


def gradients_plain(
    grad: Tensor, features: Tensor, matrices: Tensor, rulebook: AnyRulebook, inverse: bool
) -> tuple[Tensor, Tensor]:
    """Gradients of ``convolve_rows_plain`` with respect to its features and its matrices.

    Args:
        grad: (M, C') of the output.
        features: (N, C).
        matrices: (K, C, C').
        rulebook: the pairs.
        inverse: as in ``pair_product``.

    Returns:
        of the features (N, C), and of the transposed matrices (K, C', C).
    """
    rulebook = rulebook.listed
    transposed = matrices.transpose(1, 2)
    of_matrices = torch.zeros_like(transposed, memory_format=torch.contiguous_format)
    if rulebook.identity is None:
        of_features = torch.zeros_like(features)
    else:
        of_features = torch.mm(grad, transposed[rulebook.identity])
        torch.mm(grad.t(), features, out=of_matrices[rulebook.identity])
    most_pairs = max(rulebook.counts)
    gathered_inputs = Workspace(grad, most_pairs, features.shape[1])
    gathered_grads = Workspace(grad, most_pairs, grad.shape[1])
    products = Workspace(grad, most_pairs, features.shape[1])
    total = RowSum(of_features)
    transposed_of = transposed.unbind()
    of_matrix = of_matrices.unbind()
    for number, sources, targets in rulebook.reversed_pairs if inverse else rulebook.pairs:
        upstream = gathered_grads.gather(grad, targets)
        inputs = gathered_inputs.gather(features, sources)
        torch.mm(upstream.t(), inputs, out=of_matrix[number])
        total.add(sources, products.multiply(upstream, transposed_of[number]))
    return of_features, of_matrices


CONVOLVE_ROWS = Operator(
    "sparse convolution", plain=convolve_rows_plain, triton="sparse_products:convolve_rows"
)
CONVOLUTION_GRADIENTS = Operator(
    "the gradient of sparse convolution",
    plain=gradients_plain,
    triton="sparse_products:gradients",
)


class _PairProduct(torch.autograd.Function):
    """``pair_product`` with its gradients.

    Computes in the precision of its inputs, also under autocast.
    """

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, rulebook: AnyRulebook, inverse: bool
    ) -> Tensor:
        features = features.contiguous()
        ctx.save_for_backward(features, weight)
        ctx.rulebook = rulebook
        ctx.inverse = inverse
        with torch.autocast(features.device.type, enabled=False):
            convolve = CONVOLVE_ROWS.on(features.device)
            return convolve(features, weight.permute(1, 2, 0), rulebook, inverse)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        features, weight = ctx.saved_tensors
        matrices = weight.permute(1, 2, 0)
        with torch.autocast(grad.device.type, enabled=False):
            of_features, of_matrices = CONVOLUTION_GRADIENTS.on(grad.device)(
                grad.contiguous(), features, matrices, ctx.rulebook, ctx.inverse
            )
        return of_features, of_matrices.transpose(0, 1).contiguous(), None, None
