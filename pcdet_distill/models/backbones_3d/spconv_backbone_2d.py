"""Sparse 2D encoders of pillars, down to an eighth, with a dense level at a sixteenth (PillarNet, ECCV 2022).

``NUM_FILTERS`` (not OpenPCDet's) sets the channels of conv1 to conv5, for students; without it they are OpenPCDet's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ConfigError
from ...ops.sparse_conv import SparseConv2d, SparseConvTensor, SparseSequential, SubMConv2d
from ..model_utils.channels_last_batch_norm import ChannelsLastBatchNorm2d
from ..taps import TapInfo
from .sparse_blocks import SparseBasicBlock, sparse_block, sparse_widths

STRIDES = {"x_conv1": 1, "x_conv2": 2, "x_conv3": 4, "x_conv4": 8, "x_conv5": 16}
USUAL_WIDTHS = (32, 64, 128, 256, 256)


class SparseEncoder2d(nn.Module):
    """Four sparse levels with strides 1, 2, 4, 8, and a dense one with 16; a subclass says what is inside them."""

    output_stride = 8

    def __init__(
        self,
        model_cfg: Mapping[str, Any],
        input_channels: int,
        grid_size: Sequence[int],
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self.model_cfg = model_cfg
        self.sparse_shape = [int(grid_size[1]), int(grid_size[0])]
        self.widths = sparse_widths(model_cfg, USUAL_WIDTHS)
        self.conv1 = SparseSequential(*self.first_layers(input_channels, self.widths[0]))
        for level in (2, 3, 4):
            wide_in, wide_out = self.widths[level - 2 : level]
            down = sparse_block(
                SparseConv2d(
                    wide_in,
                    wide_out,
                    3,
                    stride=2,
                    padding=1,
                    bias=False,
                    indice_key=f"spconv{level}",
                )
            )
            self.add_module(
                f"conv{level}", SparseSequential(down, *self.inner_layers(level, wide_out))
            )
        self.conv5 = nn.Sequential(
            _dense_block(self.widths[3], self.widths[4], stride=2),
            *self.dense_layers(self.widths[4]),
        )
        self.num_point_features = self.widths[4]
        self.backbone_channels = dict(zip(STRIDES, self.widths))

    def first_layers(self, input_channels: int, channels: int) -> list[nn.Module]:
        """The layers of the first level."""
        raise AssertionError(f"{type(self).__name__} does not say which layers its first level has")

    def inner_layers(self, level: int, channels: int) -> list[nn.Module]:
        """The layers of a sparse level behind its strided convolution."""
        raise AssertionError(f"{type(self).__name__} does not say which layers its levels have")

    def dense_layers(self, channels: int) -> list[nn.Module]:
        """The layers of the dense level behind its strided convolution."""
        raise AssertionError(f"{type(self).__name__} does not say which layers its last level has")

    def taps(self) -> list[TapInfo]:
        """What can be captured, relative to this slot."""
        sparse = [
            TapInfo(name.removeprefix("x_"), self.backbone_channels[name], stride, "sparse")
            for name, stride in STRIDES.items()
            if name != "x_conv5"
        ]
        dense = [
            TapInfo(
                f"@multi_scale_2d_features.{name}",
                self.backbone_channels[name],
                STRIDES[name],
                "bev",
            )
            for name in ("x_conv4", "x_conv5")
        ]
        return [*sparse, *dense]

    def forward(self, batch_dict: dict[str, Any]) -> dict[str, Any]:
        """Reads ``pillar_features`` (M, C), ``pillar_coords`` (M, 3) as (batch, y, x), ``batch_size``.

        Writes ``multi_scale_2d_features``: sparse x_conv1 to x_conv3, dense x_conv4 (B, C, ny/8, nx/8) and x_conv5
        (B, C, ny/16, nx/16), channels_last in memory; and ``multi_scale_2d_strides``.
        """
        tensor = SparseConvTensor(
            batch_dict["pillar_features"],
            batch_dict["pillar_coords"].int(),
            self.sparse_shape,
            int(batch_dict["batch_size"]),
        )
        levels: dict[str, SparseConvTensor | Tensor] = {}
        for number in (1, 2, 3, 4):
            levels[f"x_conv{number}"] = tensor = getattr(self, f"conv{number}")(tensor)
        dense = tensor.dense(channels_first=False).permute(0, 3, 1, 2)
        levels["x_conv4"], levels["x_conv5"] = dense, self.conv5(dense)
        batch_dict["multi_scale_2d_features"] = levels
        batch_dict["multi_scale_2d_strides"] = dict(STRIDES)
        return batch_dict


class PillarBackBone8x(SparseEncoder2d):
    """Two plain convolutions in every level, besides the strided one."""

    def first_layers(self, input_channels: int, channels: int) -> list[nn.Module]:
        """Submanifold convolutions."""
        return [
            sparse_block(SubMConv2d(wide_in, channels, 3, bias=False, indice_key="subm1"))
            for wide_in in (input_channels, channels)
        ]

    def inner_layers(self, level: int, channels: int) -> list[nn.Module]:
        """Submanifold convolutions."""
        return [
            sparse_block(SubMConv2d(channels, channels, 3, bias=False, indice_key=f"subm{level}"))
            for _ in range(2)
        ]

    def dense_layers(self, channels: int) -> list[nn.Module]:
        """Convolutions."""
        return [_dense_block(channels, channels) for _ in range(2)]


class PillarRes18BackBone8x(SparseEncoder2d):
    """Two residual blocks in every level."""

    def first_layers(self, input_channels: int, channels: int) -> list[nn.Module]:
        """Residual blocks, which keep the channels of the pillars."""
        if input_channels != channels:
            raise ConfigError(
                f"MODEL.BACKBONE_3D: PillarRes18BackBone8x starts with {channels} channels, but "
                f"MODEL.VFE puts out {input_channels}; make them equal"
            )
        return self.inner_layers(1, channels)

    def inner_layers(self, level: int, channels: int) -> list[nn.Module]:
        """Sparse residual blocks."""
        return [
            SparseBasicBlock(channels, f"res{level}", bias=True, convolution=SubMConv2d)
            for _ in range(2)
        ]

    def dense_layers(self, channels: int) -> list[nn.Module]:
        """Dense residual blocks."""
        return [BasicBlock(channels) for _ in range(2)]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut (He et al., CVPR 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn1 = _norm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn2 = _norm(channels)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        hidden = torch.relu(self.bn1(self.conv1(features)))
        return torch.relu(self.bn2(self.conv2(hidden)) + features)


def _norm(channels: int) -> ChannelsLastBatchNorm2d:
    return ChannelsLastBatchNorm2d(channels, eps=1e-3, momentum=0.01)


def _dense_block(wide_in: int, wide_out: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, batch norm, ReLU."""
    convolution = nn.Conv2d(wide_in, wide_out, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, _norm(wide_out), nn.ReLU())
