"""Building blocks of sparse backbones: convolution, batch norm, ReLU; and the residual block of two of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ...errors import ConfigError
from ...ops.sparse_conv import (
    SparseConvolution,
    SparseConvTensor,
    SparseModule,
    SparseSequential,
    SubMConv2d,
    SubMConv3d,
)
from ..model_utils.weighted_batch_norm import WeightedBatchNorm1d


def sparse_norm(channels: int) -> WeightedBatchNorm1d:
    """Batch norm over the active cells of the batch; takes batches of one cell or none."""
    return WeightedBatchNorm1d(channels, eps=1e-3, momentum=0.01)


def sparse_block(convolution: SparseConvolution) -> SparseSequential:
    """The convolution, batch norm and ReLU."""
    return SparseSequential(convolution, sparse_norm(convolution.out_channels), nn.ReLU())


class SparseBasicBlock(SparseModule):
    """Two submanifold 3 x 3 (x 3) convolutions with a shortcut (He et al., CVPR 2016)."""

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


def sparse_widths(model_cfg: Mapping[str, Any], usual: tuple[int, ...]) -> list[int]:
    """MODEL.BACKBONE_3D.NUM_FILTERS: channels of conv1, conv2, ... and last of conv_out; ``usual`` where not given."""
    widths = model_cfg.get("NUM_FILTERS")
    if widths is None:
        return list(usual)
    is_list = isinstance(widths, (list, tuple)) and all(
        type(width) is int and width > 0 for width in widths
    )
    if not is_list or len(widths) != len(usual):
        raise ConfigError(
            f"MODEL.BACKBONE_3D.NUM_FILTERS is {widths!r}, expected {len(usual)} channel numbers such as "
            f"{list(usual)}"
        )
    return list(widths)
