"""Sparse convolutions: submanifold, strided and inverse, in 3D and 2D (Graham et al., CVPR 2018; Yan et al., SECOND).

Modules have the names, arguments and weights (out, kz, ky, kx, in) of spconv 2. They run on any device, on CUDA through
spconv where it is installed. Cross-correlation like ``nn.Conv3d``: the result equals a dense convolution at the output
cells, where every cell that is not active counts as zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from .accelerated import spconv_adapter
from .pair_product import pair_product
from .rulebook import ConvolutionRecord, Kernel, Rulebook, strided_rulebook, submanifold_rulebook
from .sparse_tensor import SparseConvTensor

__all__ = [
    "SparseConv2d",
    "SparseConv3d",
    "SparseConvTensor",
    "SparseConvolution",
    "SparseInverseConv2d",
    "SparseInverseConv3d",
    "SparseModule",
    "SparseSequential",
    "SubMConv2d",
    "SubMConv3d",
]


class SparseModule(nn.Module):
    """A module that takes a SparseConvTensor; in a SparseSequential all others get its features."""


class SparseSequential(SparseModule, nn.Sequential):
    """Modules one after the other; ordinary ones (batch norm, ReLU) run on the rows of features."""

    def forward(self, tensor: SparseConvTensor) -> SparseConvTensor:
        """Run all modules."""
        for module in self:
            if isinstance(module, SparseModule):
                tensor = module(tensor)
            else:
                tensor = tensor.replace_feature(module(tensor.features))
        return tensor


class SparseConvolution(SparseModule):
    """What all sparse convolutions share: weight, bias, and the record under ``indice_key``.

    Args:
        in_channels: C_in.
        out_channels: C_out.
        kernel_size: cells along every axis, or one number for all; so are ``stride``, ``padding`` and ``dilation``.
        bias: add a learned (C_out,).
        indice_key: convolutions of one tensor and geometry share what is found under one key; an inverse convolution
            names the key of the one it undoes.
    """

    num_axes: int

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        indice_key: str | None = None,
        **unused: Any,
    ) -> None:
        super().__init__()
        if groups != 1:
            raise ConfigError(
                f"{type(self).__name__}: groups is {groups}, but sparse convolutions have one group only"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel = Kernel(
            *(self._per_axis(value) for value in (kernel_size, stride, padding, dilation))
        )
        self.indice_key = indice_key
        self.weight = nn.Parameter(torch.empty(out_channels, *self.kernel.size, in_channels))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def _per_axis(self, value: int | Sequence[int]) -> tuple[int, ...]:
        values = (
            (value,) * self.num_axes
            if isinstance(value, int)
            else tuple(int(number) for number in value)
        )
        if len(values) != self.num_axes:
            raise ConfigError(
                f"{type(self).__name__}: {value} has {len(values)} entries, expected {self.num_axes}"
            )
        return values

    def reset_parameters(self) -> None:
        """torch's own initialisation of convolutions."""
        fan_in = self.in_channels * self.kernel.volume
        nn.init.uniform_(self.weight, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))
        if self.bias is not None:
            nn.init.uniform_(self.bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))

    def extra_repr(self) -> str:
        """Shown by ``print(module)``."""
        kernel = self.kernel
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={kernel.size}, stride={kernel.stride}, "
            f"padding={kernel.padding}, indice_key={self.indice_key}"
        )

    def forward(self, tensor: SparseConvTensor) -> SparseConvTensor:
        """(N, C_in) -> (M, C_out)."""
        if spconv_adapter.usable(tensor):
            return spconv_adapter.convolve(self, tensor)
        return self.run(tensor)

    def run(self, tensor: SparseConvTensor) -> SparseConvTensor:
        """``forward`` without spconv."""
        raise AssertionError(f"{type(self).__name__} is no complete convolution")

    def convolve(self, features: Tensor, rulebook: Rulebook, inverse: bool = False) -> Tensor:
        """Rows of features by the rulebook's pairs, plus the bias."""
        weight = self.weight.reshape(self.out_channels, -1, self.in_channels)
        output = pair_product(features, weight, rulebook, inverse)
        return output if self.bias is None else output + self.bias

    def keep(self, tensor: SparseConvTensor, record: ConvolutionRecord) -> None:
        """Leave the record to later convolutions."""
        if self.indice_key is not None:
            tensor.indice_dict[self.indice_key] = record


class SubMConvolution(SparseConvolution):
    """Submanifold: the output's active cells are the input's. Stride and padding do not matter."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        *args: Any,
        **options: Any,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, *args, **options)
        if any(size % 2 == 0 for size in self.kernel.size):
            raise ConfigError(
                f"{type(self).__name__}: kernel_size is {list(self.kernel.size)}, but a submanifold "
                "convolution needs a middle cell: odd sizes"
            )

    def run(self, tensor: SparseConvTensor) -> SparseConvTensor:
        """(N, C_in) -> (N, C_out) at the same cells."""
        record = tensor.find_indice_pair(self.indice_key)
        if record is None:
            rulebook = submanifold_rulebook(tensor.indices, tensor.spatial_shape, self.kernel)
            record = ConvolutionRecord(
                self.kernel,
                rulebook,
                tensor.indices,
                tensor.spatial_shape,
                tensor.indices,
                tensor.spatial_shape,
            )
            self.keep(tensor, record)
        same_kernel = (record.kernel.size, record.kernel.dilation) == (
            self.kernel.size,
            self.kernel.dilation,
        )
        if (
            not same_kernel
            or record.rulebook.num_in != len(tensor.features)
            or record.rulebook.identity is None
        ):
            raise ConfigError(
                f"{type(self).__name__}: indice_key '{self.indice_key}' belongs to a convolution of "
                "another kernel or of other cells; give each its own key"
            )
        return tensor.replace_feature(self.convolve(tensor.features, record.rulebook))


class StridedConvolution(SparseConvolution):
    """Every output cell that an active input cell reaches becomes active."""

    def run(self, tensor: SparseConvTensor) -> SparseConvTensor:
        """(N, C_in) -> (M, C_out) on the grid of the output."""
        out_shape = self.kernel.output_shape(tensor.spatial_shape)
        if min(out_shape) < 1:
            raise ConfigError(
                f"{type(self).__name__}: a grid of {tensor.spatial_shape} cells is too small for kernel "
                f"{list(self.kernel.size)} with padding {list(self.kernel.padding)}"
            )
        rulebook, cells = strided_rulebook(tensor.indices, tensor.spatial_shape, self.kernel)
        record = ConvolutionRecord(
            self.kernel, rulebook, tensor.indices, tensor.spatial_shape, cells, out_shape
        )
        self.keep(tensor, record)
        features = self.convolve(tensor.features, rulebook)
        return SparseConvTensor(features, cells, out_shape, tensor.batch_size, tensor.indice_dict)


class InverseConvolution(SparseConvolution):
    """Undoes the strides of an earlier convolution: its output cells are that one's input cells."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        indice_key: str,
        bias: bool = True,
        **unused: Any,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, bias=bias, indice_key=indice_key)

    def run(self, tensor: SparseConvTensor) -> SparseConvTensor:
        """(M, C_in) -> (N, C_out) at the cells that the convolution of the same ``indice_key`` started from."""
        record = tensor.find_indice_pair(self.indice_key)
        if (
            record is None
            or record.kernel.size != self.kernel.size
            or len(record.out_indices) != len(tensor.features)
        ):
            raise ConfigError(
                f"{type(self).__name__}: no convolution of kernel {list(self.kernel.size)} that leads to "
                f"these cells has left indice_key '{self.indice_key}'"
            )
        features = self.convolve(tensor.features, record.rulebook, inverse=True)
        return SparseConvTensor(
            features, record.in_indices, record.in_shape, tensor.batch_size, tensor.indice_dict
        )


class SubMConv2d(SubMConvolution):
    """Submanifold convolution on (batch, y, x)."""

    num_axes = 2


class SubMConv3d(SubMConvolution):
    """Submanifold convolution on (batch, z, y, x)."""

    num_axes = 3


class SparseConv2d(StridedConvolution):
    """Convolution on (batch, y, x)."""

    num_axes = 2


class SparseConv3d(StridedConvolution):
    """Convolution on (batch, z, y, x)."""

    num_axes = 3


class SparseInverseConv2d(InverseConvolution):
    """Inverse convolution on (batch, y, x)."""

    num_axes = 2


class SparseInverseConv3d(InverseConvolution):
    """Inverse convolution on (batch, z, y, x)."""

    num_axes = 3
