"""BaseBEVBackbone: the 2D backbone of SECOND and PointPillars, there called RPN.

Strided blocks of 3x3 convolutions; the output of each is upsampled to one resolution, and all are
concatenated. So the head sees features of several scales at every cell.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ...config import required, same_length
from ...errors import ConfigError
from ...types import BatchDict, ConfigDict
from ..model_utils.channels_last_batch_norm import ChannelsLastBatchNorm2d
from ..taps import TapInfo

WHERE = "MODEL.BACKBONE_2D"


class BaseBEVBackbone(nn.Module):
    """``blocks`` reduce the resolution, ``deblocks`` bring every block's output to a common one."""

    has_dense_pass = True

    def __init__(self, model_cfg: ConfigDict, input_channels: int, **unused: object) -> None:
        super().__init__()
        self.model_cfg = model_cfg
        layer_nums, strides, widths = _equally_long_lists(
            model_cfg, "LAYER_NUMS", "LAYER_STRIDES", "NUM_FILTERS"
        )
        upsample_strides = list(model_cfg.get("UPSAMPLE_STRIDES") or [])
        upsample_widths = list(model_cfg.get("NUM_UPSAMPLE_FILTERS") or [])
        upsampling = {
            "UPSAMPLE_STRIDES": upsample_strides,
            "NUM_UPSAMPLE_FILTERS": upsample_widths,
        }
        same_length(upsampling, WHERE)
        _check_number_of_upsamplings(len(upsample_strides), len(widths))
        self.blocks = nn.ModuleList()
        in_channels = input_channels
        for width, stride, num_layers in zip(widths, strides, layer_nums):
            self.blocks.append(_block(in_channels, width, stride, num_layers))
            in_channels = width
        use_conv = model_cfg.get("USE_CONV_FOR_NO_STRIDE", False)
        self.deblocks = nn.ModuleList()
        for width, up_width, up_stride in zip(widths, upsample_widths, upsample_strides):
            self.deblocks.append(_deblock(width, up_width, up_stride, use_conv))
        level_widths = upsample_widths[: len(widths)] if upsample_widths else widths
        self.num_bev_features = sum(level_widths)
        if len(upsample_strides) > len(widths):
            width = self.num_bev_features
            self.deblocks.append(_upsample(width, width, upsample_strides[-1]))
        self.block_strides = _cumulative_product(strides)
        self.output_stride = _output_stride(self.block_strides, upsample_strides)

    def taps(self) -> list[TapInfo]:
        """Features that can be captured, with paths and strides relative to this slot's input.

        ``deblocks.0`` is the first level at the common resolution, ``deblocks.0.1`` the same before
        its ReLU.
        """
        blocks = []
        for number, block in enumerate(self.blocks):
            stride = self.block_strides[number]
            blocks.append(TapInfo(f"blocks.{number}", _width(block), stride, "bev"))
        deblocks = []
        for number, deblock in enumerate(self.deblocks[: len(self.blocks)]):
            width = _width(deblock)
            deblocks.append(TapInfo(f"deblocks.{number}", width, self.output_stride, "bev"))
        before_relu = [dataclasses.replace(info, path=f"{info.path}.1") for info in deblocks]
        whole = TapInfo("@spatial_features_2d", self.num_bev_features, self.output_stride, "bev")
        return [*blocks, *deblocks, *before_relu, whole]

    def forward(self, batch_dict: BatchDict) -> BatchDict:
        """Run the blocks and join their outputs.

        Reads ``spatial_features`` (B, C, ny, nx). Writes ``spatial_features_2d``
        (B, C_out, ny/s, nx/s).
        """
        batch_dict["spatial_features_2d"] = self.dense_pass(batch_dict["spatial_features"])
        return batch_dict

    def dense_pass(self, features: Tensor) -> Tensor:
        """(B, C, ny, nx) -> (B, C_out, ny/s, nx/s)."""
        levels = []
        for number, block in enumerate(self.blocks):
            features = block(features)
            levels.append(self.deblocks[number](features) if len(self.deblocks) else features)
        if levels:
            features = torch.cat(levels, dim=1) if len(levels) > 1 else levels[0]
        if len(self.deblocks) > len(self.blocks):
            features = self.deblocks[-1](features)
        return features


class BaseBEVBackboneV1(nn.Module):
    """PillarNet's neck: the deeper of two levels is refined and upsampled, then both are joined.

    In checkpoints ``blocks.1`` refines the deeper level and ``blocks.0`` the joined features.
    """

    has_dense_pass = True

    def __init__(self, model_cfg: ConfigDict, **unused: object) -> None:
        super().__init__()
        self.model_cfg = model_cfg
        layer_nums, _, widths = _equally_long_lists(
            model_cfg, "LAYER_NUMS", "LAYER_STRIDES", "NUM_FILTERS"
        )
        upsample_strides = list(required(model_cfg, "UPSAMPLE_STRIDES", WHERE))
        upsample_widths = list(required(model_cfg, "NUM_UPSAMPLE_FILTERS", WHERE))
        if not len(widths) == len(upsample_strides) == len(upsample_widths) == 2:
            raise ConfigError(
                f"{WHERE}: BaseBEVBackboneV1 has 2 levels, but NUM_FILTERS is {widths}, "
                f"UPSAMPLE_STRIDES {upsample_strides}, NUM_UPSAMPLE_FILTERS {upsample_widths}"
            )
        if sum(upsample_widths) != widths[0]:
            raise ConfigError(
                f"{WHERE}.NUM_FILTERS[0] is {widths[0]}, expected the sum of NUM_UPSAMPLE_FILTERS, "
                f"{sum(upsample_widths)}"
            )
        self.level_widths = {"x_conv4": widths[0], "x_conv5": widths[1]}
        self.blocks = nn.ModuleList()
        for width, num_layers in zip(widths, layer_nums):
            self.blocks.append(_block(width, width, 1, num_layers))
        self.deblocks = nn.ModuleList()
        for width, up_width, up_stride in zip(widths, upsample_widths, upsample_strides):
            self.deblocks.append(_deblock(width, up_width, up_stride, use_conv_for_no_stride=False))
        self.num_bev_features = widths[0]

    def taps(self) -> list[TapInfo]:
        """Features that can be captured; paths relative to this slot, strides to x_conv4."""
        return [
            TapInfo("blocks.0", _width(self.blocks[0]), 1, "bev"),
            TapInfo("blocks.1", _width(self.blocks[1]), 2, "bev"),
            TapInfo("deblocks.0", _width(self.deblocks[0]), 1, "bev"),
            TapInfo("deblocks.1", _width(self.deblocks[1]), 1, "bev"),
            TapInfo("@spatial_features_2d", self.num_bev_features, 1, "bev"),
        ]

    def forward(self, batch_dict: BatchDict) -> BatchDict:
        """Join the two deepest levels of the 3D backbone.

        Reads x_conv4 (B, C, H, W) and x_conv5 (B, C, H/2, W/2) of ``multi_scale_2d_features``.
        Writes ``spatial_features_2d`` (B, C_out, H, W).
        """
        levels = batch_dict["multi_scale_2d_features"]
        for name, width in self.level_widths.items():
            channels = levels[name].shape[1]
            if channels != width:
                raise ConfigError(
                    f"{WHERE}.NUM_FILTERS expects {width} channels in {name}, but "
                    f"MODEL.BACKBONE_3D outputs {channels}"
                )
        batch_dict["spatial_features_2d"] = self.dense_pass(levels["x_conv4"], levels["x_conv5"])
        return batch_dict

    def dense_pass(self, conv4: Tensor, conv5: Tensor) -> Tensor:
        """Maps (B, C, H, W) and (B, C, H/2, W/2) -> (B, C_out, H, W)."""
        upper = self.deblocks[0](conv4)
        deeper = self.deblocks[1](self.blocks[1](conv5))
        if upper.shape[2:] != deeper.shape[2:]:
            raise ConfigError(
                f"{WHERE}.UPSAMPLE_STRIDES: the two levels meet as {list(upper.shape[2:])} and "
                f"{list(deeper.shape[2:])} cells; expected the same, as with a grid of a multiple "
                "of 16"
            )
        joined: Tensor = self.blocks[0](torch.cat([upper, deeper], dim=1))
        return joined


def _equally_long_lists(model_cfg: ConfigDict, *keys: str) -> list[list[int]]:
    """The values of the keys, which describe the blocks one by one."""
    lists = {key: list(required(model_cfg, key, WHERE)) for key in keys}
    same_length(lists, WHERE)
    return list(lists.values())


def _check_number_of_upsamplings(count: int, num_blocks: int) -> None:
    if count and count not in (num_blocks, num_blocks + 1):
        raise ConfigError(
            f"{WHERE}.UPSAMPLE_STRIDES has {count} entries for {num_blocks} blocks; expected "
            f"{num_blocks}, or one more for a last common upsampling"
        )


def _norm_and_relu(width: int) -> list[nn.Module]:
    return [ChannelsLastBatchNorm2d(width, eps=1e-3, momentum=0.01), nn.ReLU()]


def _block(in_channels: int, out_channels: int, stride: int, num_layers: int) -> nn.Sequential:
    """One strided convolution, then ``num_layers`` more."""
    # OpenPCDet has a padding layer first, and checkpoints count it. Here the convolution itself
    # pads, without a copy, and an Identity takes that place.
    layers: list[nn.Module] = [nn.Identity()]
    layers.append(nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False))
    layers += _norm_and_relu(out_channels)
    for _ in range(num_layers):
        layers.append(nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False))
        layers += _norm_and_relu(out_channels)
    return nn.Sequential(*layers)


def _upsample(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    layer = nn.ConvTranspose2d(in_channels, out_channels, stride, stride=stride, bias=False)
    return nn.Sequential(layer, *_norm_and_relu(out_channels))


def _deblock(
    in_channels: int, out_channels: int, stride: float, use_conv_for_no_stride: bool
) -> nn.Sequential:
    """Upsample by ``stride``, or downsample by 1 / stride when it is below 1."""
    if stride > 1 or (stride == 1 and not use_conv_for_no_stride):
        return _upsample(in_channels, out_channels, int(stride))
    down = round(1 / stride)
    layer = nn.Conv2d(in_channels, out_channels, down, stride=down, bias=False)
    return nn.Sequential(layer, *_norm_and_relu(out_channels))


def _width(block: nn.Module) -> int:
    """Output channels of a block: those of its batch norm, the last layer but one."""
    norm = cast(nn.Sequential, block)[-2]
    return cast(ChannelsLastBatchNorm2d, norm).num_features


def _cumulative_product(strides: Sequence[int]) -> list[int]:
    """Stride of each block's output relative to the input of the first."""
    products = []
    product = 1
    for stride in strides:
        product *= stride
        products.append(product)
    return products


def _output_stride(block_strides: Sequence[int], upsample_strides: Sequence[float]) -> int:
    """Stride of ``spatial_features_2d`` relative to ``spatial_features``.

    All levels must reach the same resolution, because they are concatenated.
    """
    if not block_strides:
        return 1
    level_strides = []
    for number, stride in enumerate(block_strides):
        upsample = upsample_strides[number] if upsample_strides else 1
        level_strides.append(stride / upsample)
    if max(level_strides) - min(level_strides) > 1e-6:
        rounded = [round(stride, 3) for stride in level_strides]
        raise ConfigError(
            f"{WHERE}: the levels do not meet at one resolution: block strides "
            f"{list(block_strides)} divided by UPSAMPLE_STRIDES {list(upsample_strides)} give "
            f"{rounded}"
        )
    has_common_upsampling = len(upsample_strides) > len(block_strides)
    common = upsample_strides[-1] if has_common_upsampling else 1
    return max(1, round(level_strides[0] / common))
