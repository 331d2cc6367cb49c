"""Building blocks of sparse backbones: convolution with batch norm and ReLU; residual blocks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ...errors import ConfigError
from ...ops.sparse_conv import (
    SparseConv2d,
    SparseConv3d,
    SparseConvolution,
    SparseConvTensor,
    SparseModule,
    SparseSequential,
    SubMConv2d,
    SubMConv3d,
)
from ...types import ConfigDict
from ..model_utils.weighted_batch_norm import WeightedBatchNorm1d


def sparse_norm(channels: int) -> WeightedBatchNorm1d:
    """Batch norm over the active cells of the batch, also of one cell or none."""
    return WeightedBatchNorm1d(channels, eps=1e-3, momentum=0.01)


def sparse_block(convolution: SparseConvolution) -> SparseSequential:
    """The convolution, batch norm and ReLU."""
    return SparseSequential(convolution, sparse_norm(convolution.out_channels), nn.ReLU())


def submanifold_block(
    convolution: type[SubMConv3d] | type[SubMConv2d],
    in_channels: int,
    out_channels: int,
    indice_key: str,
) -> SparseSequential:
    """A submanifold convolution of size 3, batch norm and ReLU; the active cells stay the same."""
    layer = convolution(in_channels, out_channels, 3, bias=False, indice_key=indice_key)
    return sparse_block(layer)


def downsampling_block(
    convolution: type[SparseConv3d] | type[SparseConv2d],
    in_channels: int,
    out_channels: int,
    *,
    padding: int | Sequence[int],
    indice_key: str,
) -> SparseSequential:
    """A convolution of size 3 and stride 2, batch norm and ReLU."""
    layer = convolution(
        in_channels,
        out_channels,
        3,
        stride=2,
        padding=padding,
        bias=False,
        indice_key=indice_key,
    )
    return sparse_block(layer)


class SparseBasicBlock(SparseModule):
    """Two submanifold convolutions of size 3 with a shortcut (He et al., CVPR 2016)."""

    def __init__(
        self,
        channels: int,
        indice_key: str,
        bias: bool,
        convolution: type[SubMConv3d] | type[SubMConv2d] = SubMConv3d,
    ) -> None:
        super().__init__()
        self.conv1 = convolution(channels, channels, 3, bias=bias, indice_key=indice_key)
        self.bn1 = sparse_norm(channels)
        self.conv2 = convolution(channels, channels, 3, bias=bias, indice_key=indice_key)
        self.bn2 = sparse_norm(channels)

    def forward(self, tensor: SparseConvTensor) -> SparseConvTensor:
        """(N, C) -> (N, C) at the same cells."""
        hidden = self.conv1(tensor)
        hidden = hidden.replace_feature(torch.relu(self.bn1(hidden.features)))
        hidden = self.conv2(hidden)
        return hidden.replace_feature(torch.relu(self.bn2(hidden.features) + tensor.features))


class SparseLevels(nn.Module):
    """Base of the sparse encoders: levels of which each has half the resolution of the one before.

    Attributes:
        default_widths: the channels where the yaml has no NUM_FILTERS.
        convolution: class of the strided convolution at the start of a level.
        paddings: its padding by level; the first level has no strided convolution.
    """

    default_widths: tuple[int, ...]
    convolution: type[SparseConv3d] | type[SparseConv2d]
    paddings: dict[int, int | tuple[int, ...]]

    def __init__(self, model_cfg: ConfigDict) -> None:
        super().__init__()
        self.model_cfg = model_cfg
        self.widths = sparse_widths(model_cfg, self.default_widths)

    def make_level(self, level: int) -> SparseSequential:
        """The strided convolution of a level, and its further layers."""
        out_channels = self.widths[level - 1]
        down = downsampling_block(
            self.convolution,
            self.widths[level - 2],
            out_channels,
            padding=self.paddings[level],
            indice_key=f"spconv{level}",
        )
        return SparseSequential(down, *self.inner_layers(level, out_channels))

    def inner_layers(self, level: int, channels: int) -> list[nn.Module]:
        """The layers of a level after its strided convolution."""
        raise NotImplementedError(f"{type(self).__name__} does not define inner_layers()")


def sparse_widths(model_cfg: ConfigDict, default: Sequence[int]) -> list[int]:
    """MODEL.BACKBONE_3D.NUM_FILTERS: the channels of conv1, conv2, ... and last of conv_out.

    OpenPCDet has no such key. Students use it; without it the widths are OpenPCDet's, ``default``.
    """
    widths = model_cfg.get("NUM_FILTERS")
    if widths is None:
        return list(default)
    if not _is_list_of_channels(widths) or len(widths) != len(default):
        raise ConfigError(
            f"MODEL.BACKBONE_3D.NUM_FILTERS is {widths!r}, expected {len(default)} channel numbers "
            f"such as {list(default)}"
        )
    return list(widths)


def _is_list_of_channels(widths: object) -> bool:
    if not isinstance(widths, (list, tuple)):
        return False
    return all(type(width) is int and width > 0 for width in widths)
