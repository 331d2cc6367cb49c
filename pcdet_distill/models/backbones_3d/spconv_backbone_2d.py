"""Sparse 2D encoders of pillars (PillarNet, Shi et al., ECCV 2022).

Sparse levels down to an eighth of the resolution are followed by a dense level at a sixteenth,
whose wide view helps with large objects.

``NUM_FILTERS`` (not OpenPCDet's) sets the channels of conv1 to conv5, for students; without it they
are OpenPCDet's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...errors import ConfigError
from ...ops.sparse_conv import SparseConv2d, SparseConvTensor, SparseSequential, SubMConv2d
from ...types import BatchDict, ConfigDict
from ..model_utils.channels_last_batch_norm import ChannelsLastBatchNorm2d
from ..model_utils.map_layout import with_layout
from ..taps import TapInfo
from .sparse_blocks import (
    SparseBasicBlock,
    SparseLevels,
    submanifold_block,
)

STRIDES = {"x_conv1": 1, "x_conv2": 2, "x_conv3": 4, "x_conv4": 8, "x_conv5": 16}
SPARSE_LEVELS = ("x_conv1", "x_conv2", "x_conv3", "x_conv4")
DENSE_LEVELS = ("x_conv4", "x_conv5")


class SparseEncoder2d(SparseLevels):
    """Four sparse levels with strides 1, 2, 4, 8, and a dense level with stride 16.

    A subclass defines the layers of the levels.
    """

    default_widths = (32, 64, 128, 256, 256)
    convolution = SparseConv2d
    paddings = {2: 1, 3: 1, 4: 1}
    output_stride = 8

    def __init__(
        self,
        model_cfg: ConfigDict,
        input_channels: int,
        grid_size: Sequence[int],
        **unused: object,
    ) -> None:
        super().__init__(model_cfg)
        self.sparse_shape = [int(grid_size[1]), int(grid_size[0])]
        self.conv1 = SparseSequential(*self.first_layers(input_channels, self.widths[0]))
        self.conv2 = self.make_level(2)
        self.conv3 = self.make_level(3)
        self.conv4 = self.make_level(4)
        self.conv5 = nn.Sequential(
            _dense_block(self.widths[3], self.widths[4], stride=2),
            *self.dense_layers(self.widths[4]),
        )
        self.num_point_features = self.widths[4]
        self.backbone_channels = dict(zip(STRIDES, self.widths))

    def first_layers(self, input_channels: int, channels: int) -> list[nn.Module]:
        """The layers of the first level."""
        raise NotImplementedError(f"{type(self).__name__} does not define first_layers()")

    def dense_layers(self, channels: int) -> list[nn.Module]:
        """The layers of the dense level after its strided convolution."""
        raise NotImplementedError(f"{type(self).__name__} does not define dense_layers()")

    def taps(self) -> list[TapInfo]:
        """Features that can be captured, with paths relative to this slot."""
        taps = []
        for name in SPARSE_LEVELS:
            path = name.removeprefix("x_")
            taps.append(TapInfo(path, self.backbone_channels[name], STRIDES[name], "sparse"))
        for name in DENSE_LEVELS:
            path = f"@multi_scale_2d_features.{name}"
            taps.append(TapInfo(path, self.backbone_channels[name], STRIDES[name], "bev"))
        return taps

    def forward(self, batch_dict: BatchDict) -> BatchDict:
        """Encode the pillars.

        Reads ``pillar_features`` (M, C), ``pillar_coords`` (M, 3) as (batch, y, x), ``batch_size``.
        Writes ``multi_scale_2d_features``: sparse x_conv1 to x_conv3, dense x_conv4
        (B, C, ny/8, nx/8) and x_conv5 (B, C, ny/16, nx/16), laid out by ``with_layout``; and
        ``multi_scale_2d_strides``.
        """
        tensor = SparseConvTensor(
            batch_dict["pillar_features"],
            batch_dict["pillar_coords"].int(),
            self.sparse_shape,
            int(batch_dict["batch_size"]),
        )
        levels: dict[str, SparseConvTensor | Tensor] = {}
        for name, layer in zip(SPARSE_LEVELS, (self.conv1, self.conv2, self.conv3, self.conv4)):
            tensor = layer(tensor)
            levels[name] = tensor
        dense = with_layout(tensor.dense(channels_first=False).permute(0, 3, 1, 2))
        levels["x_conv4"] = dense
        levels["x_conv5"] = self.conv5(dense)
        batch_dict["multi_scale_2d_features"] = levels
        batch_dict["multi_scale_2d_strides"] = dict(STRIDES)
        return batch_dict


class PillarBackBone8x(SparseEncoder2d):
    """Two plain convolutions in every level, besides the strided one."""

    def first_layers(self, input_channels: int, channels: int) -> list[nn.Module]:
        """Submanifold convolutions."""
        return [
            submanifold_block(SubMConv2d, input_channels, channels, "subm1"),
            submanifold_block(SubMConv2d, channels, channels, "subm1"),
        ]

    def inner_layers(self, level: int, channels: int) -> list[nn.Module]:
        """Submanifold convolutions."""
        key = f"subm{level}"
        return [submanifold_block(SubMConv2d, channels, channels, key) for _ in range(2)]

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
                f"MODEL.VFE outputs {input_channels}; make them equal"
            )
        return self.inner_layers(1, channels)

    def inner_layers(self, level: int, channels: int) -> list[nn.Module]:
        """Sparse residual blocks."""
        key = f"res{level}"
        return [SparseBasicBlock(channels, key, True, SubMConv2d) for _ in range(2)]

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


def _dense_block(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, batch norm, ReLU."""
    convolution = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, _norm(out_channels), nn.ReLU())
