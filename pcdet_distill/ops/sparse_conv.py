"""Sparse convolutions: submanifold, strided and inverse, in 3D and 2D.

Submanifold convolutions are those of Graham et al. (CVPR 2018); SECOND (Sensors 2018) brought them
to LiDAR. Modules have the names, arguments and weights (out, kz, ky, kx, in) of spconv 2, so that
OpenPCDet's checkpoints load. They run on any device, on CUDA through spconv or spconv-triton where
one is installed.

They are cross-correlations like ``nn.Conv3d``. At its output cells a layer equals the dense
convolution of a grid in which every cell that is not active is zero.
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
from .pairs import AnyRulebook
from .rulebook import ConvolutionRecord, Kernel, strided_rulebook, submanifold_rulebook
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
    """A module that takes a SparseConvTensor; a SparseSequential runs others on the features."""


class SparseSequential(SparseModule, nn.Sequential):
    """Modules in a row; ordinary ones (batch norm, ReLU) run on the features (N, C)."""

    def forward(self, tensor: SparseConvTensor) -> SparseConvTensor:
        """Run all modules."""
        for module in self:
            if isinstance(module, SparseModule):
                tensor = module(tensor)
            else:
                tensor = tensor.replace_feature(module(tensor.features))
        return tensor


class SparseConvolution(SparseModule):
    """The base of all sparse convolutions: weight, bias, and the record under ``indice_key``.

    Args:
        in_channels: C_in.
        out_channels: C_out.
        kernel_size: cells along every axis, or one number for all axes.
        stride: likewise.
        padding: likewise.
        dilation: likewise.
        groups: 1; here because spconv has the argument.
        bias: add a learned (C_out,).
        indice_key: convolutions of one tensor and one geometry share a rulebook under one key. An
            inverse convolution names the key of the convolution it undoes.
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
                f"{type(self).__name__}: groups is {groups}, "
                "but sparse convolutions have one group only"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel = Kernel(
            size=self._per_axis(kernel_size),
            stride=self._per_axis(stride),
            padding=self._per_axis(padding),
            dilation=self._per_axis(dilation),
        )
        self.indice_key = indice_key
        self.weight = nn.Parameter(torch.empty(out_channels, *self.kernel.size, in_channels))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def _per_axis(self, value: int | Sequence[int]) -> tuple[int, ...]:
        if isinstance(value, int):
            return (value,) * self.num_axes
        values = tuple(int(number) for number in value)
        if len(values) != self.num_axes:
            raise ConfigError(
                f"{type(self).__name__}: {value} has {len(values)} entries, "
                f"expected {self.num_axes}"
            )
        return values

    def reset_parameters(self) -> None:
        """Initialise like ``nn.Conv3d``: uniform within 1 / sqrt(fan in)."""
        fan_in = self.in_channels * self.kernel.volume
        bound = 1 / math.sqrt(fan_in)
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        """Shown by ``print(module)``."""
        kernel = self.kernel
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={kernel.size}, "
            f"stride={kernel.stride}, padding={kernel.padding}, indice_key={self.indice_key}"
        )

    def forward(self, tensor: SparseConvTensor) -> SparseConvTensor:
        """(N, C_in) -> (M, C_out)."""
        library = spconv_adapter.library_for(tensor)
        if library is not None:
            return spconv_adapter.convolve(library, self, tensor)
        return self.run(tensor)

    def run(self, tensor: SparseConvTensor) -> SparseConvTensor:
        """``forward`` without spconv."""
        raise NotImplementedError(f"{type(self).__name__} does not define run()")

    def convolve(self, features: Tensor, rulebook: AnyRulebook, inverse: bool = False) -> Tensor:
        """Convolve the features (N, C_in) by the rulebook's pairs and add the bias."""
        weight = self.weight.reshape(self.out_channels, -1, self.in_channels)
        output = pair_product(features, weight, rulebook, inverse)
        return output if self.bias is None else output + self.bias

    def keep(self, tensor: SparseConvTensor, record: ConvolutionRecord) -> None:
        """Leave the record for later convolutions."""
        if self.indice_key is not None:
            tensor.indice_dict[self.indice_key] = record


class SubMConvolution(SparseConvolution):
    """The output's active cells are the input's; stride and padding do not matter.

    A strided convolution activates every cell it reaches, so that stacked layers of them fill the
    grid. This one keeps LiDAR scans as sparse as they are.
    """

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
                f"{type(self).__name__}: kernel_size is {list(self.kernel.size)}, but a "
                "submanifold convolution needs a middle cell: odd sizes"
            )

    def run(self, tensor: SparseConvTensor) -> SparseConvTensor:
        """(N, C_in) -> (N, C_out) at the same cells."""
        record = tensor.find_indice_pair(self.indice_key)
        if record is None:
            record = self._make_record(tensor)
            self.keep(tensor, record)
        elif not self._fits(record, tensor):
            raise ConfigError(
                f"{type(self).__name__}: indice_key '{self.indice_key}' belongs to a convolution "
                "of another kernel or of other cells; give each its own key"
            )
        return tensor.replace_feature(self.convolve(tensor.features, record.rulebook))

    def _make_record(self, tensor: SparseConvTensor) -> ConvolutionRecord:
        rulebook = submanifold_rulebook(tensor.indices, tensor.spatial_shape, self.kernel)
        return ConvolutionRecord(
            kernel=self.kernel,
            rulebook=rulebook,
            in_indices=tensor.indices,
            in_shape=tensor.spatial_shape,
            out_indices=tensor.indices,
            out_shape=tensor.spatial_shape,
        )

    def _fits(self, record: ConvolutionRecord, tensor: SparseConvTensor) -> bool:
        """Whether the record is of a submanifold convolution of this geometry and these cells."""
        return (
            record.kernel.size == self.kernel.size
            and record.kernel.dilation == self.kernel.dilation
            and record.rulebook.num_in == len(tensor.features)
            and record.rulebook.identity is not None
        )


class StridedConvolution(SparseConvolution):
    """Every output cell that an active input cell reaches becomes active."""

    def run(self, tensor: SparseConvTensor) -> SparseConvTensor:
        """(N, C_in) -> (M, C_out) on the grid of the output."""
        out_shape = self.kernel.output_shape(tensor.spatial_shape)
        if min(out_shape) < 1:
            raise ConfigError(
                f"{type(self).__name__}: a grid of {tensor.spatial_shape} cells is too small for "
                f"kernel {list(self.kernel.size)} with padding {list(self.kernel.padding)}"
            )
        rulebook, cells = strided_rulebook(tensor.indices, tensor.spatial_shape, self.kernel)
        record = ConvolutionRecord(
            kernel=self.kernel,
            rulebook=rulebook,
            in_indices=tensor.indices,
            in_shape=tensor.spatial_shape,
            out_indices=cells,
            out_shape=out_shape,
        )
        self.keep(tensor, record)
        features = self.convolve(tensor.features, rulebook)
        return SparseConvTensor(features, cells, out_shape, tensor.batch_size, tensor.indice_dict)


class InverseConvolution(SparseConvolution):
    """Undoes the strides of an earlier convolution: its output cells are that one's input cells.

    Used to upsample in U-Nets; it reads the earlier convolution's pairs backwards.
    """

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
        """(M, C_in) -> (N, C_out) at the input cells of the convolution with this key."""
        record = tensor.find_indice_pair(self.indice_key)
        if (
            record is None
            or record.kernel.size != self.kernel.size
            or len(record.out_indices) != len(tensor.features)
        ):
            raise ConfigError(
                f"{type(self).__name__}: no convolution of kernel {list(self.kernel.size)} that "
                f"leads to these cells has left indice_key '{self.indice_key}'"
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
