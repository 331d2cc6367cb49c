"""BaseBEVBackbone: strided blocks of 3x3 convolutions, each brought to one resolution, concatenated (SECOND's RPN)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ...config import required, same_length
from ...errors import ConfigError
from ..model_utils.channels_last_batch_norm import ChannelsLastBatchNorm2d
from ..taps import TapInfo

WHERE = "MODEL.BACKBONE_2D"


class BaseBEVBackbone(nn.Module):
    """``blocks`` go down in resolution, ``deblocks`` bring every block's output to a common one."""

    def __init__(self, model_cfg: Mapping[str, Any], input_channels: int, **kwargs: Any) -> None:
        super().__init__()
        self.model_cfg = model_cfg
        layer_nums, strides, widths = _three_lists(
            model_cfg, "LAYER_NUMS", "LAYER_STRIDES", "NUM_FILTERS"
        )
        upsample_strides = list(model_cfg.get("UPSAMPLE_STRIDES") or [])
        upsample_widths = list(model_cfg.get("NUM_UPSAMPLE_FILTERS") or [])
        same_length(
            {"UPSAMPLE_STRIDES": upsample_strides, "NUM_UPSAMPLE_FILTERS": upsample_widths}, WHERE
        )
        if upsample_strides and len(upsample_strides) not in (len(widths), len(widths) + 1):
            raise ConfigError(
                f"{WHERE}.UPSAMPLE_STRIDES has {len(upsample_strides)} entries for {len(widths)} blocks; "
                f"expected {len(widths)}, or one more for a last common upsampling"
            )
        inputs = [input_channels, *widths[:-1]]
        self.blocks = nn.ModuleList(map(_block, inputs, widths, strides, layer_nums))
        use_conv = model_cfg.get("USE_CONV_FOR_NO_STRIDE", False)
        self.deblocks = nn.ModuleList(
            _deblock(wide_in, wide_out, stride, use_conv)
            for wide_in, wide_out, stride in zip(widths, upsample_widths, upsample_strides)
        )
        self.num_bev_features = (
            sum(upsample_widths[: len(widths)]) if upsample_widths else sum(widths)
        )
        if len(upsample_strides) > len(widths):
            self.deblocks.append(
                _upsample(self.num_bev_features, self.num_bev_features, upsample_strides[-1])
            )
        self.block_strides = _cumulative_product(strides)
        self.output_stride = _output_stride(self.block_strides, upsample_strides)

    def taps(self) -> list[TapInfo]:
        """What can be captured, relative to this slot; strides relative to its input.

        ``deblocks.0`` is the first level brought to the common size, ``deblocks.0.1`` the same before its ReLU.
        """
        blocks = [
            TapInfo(f"blocks.{number}", _width(block), stride, "bev")
            for number, (block, stride) in enumerate(zip(self.blocks, self.block_strides))
        ]
        deblocks = [
            TapInfo(f"deblocks.{number}", _width(deblock), self.output_stride, "bev")
            for number, deblock in enumerate(self.deblocks[: len(self.blocks)])
        ]
        before_relu = [dataclasses.replace(info, path=f"{info.path}.1") for info in deblocks]
        whole = TapInfo("@spatial_features_2d", self.num_bev_features, self.output_stride, "bev")
        return [*blocks, *deblocks, *before_relu, whole]

    def forward(self, batch_dict: dict[str, Any]) -> dict[str, Any]:
        """Reads ``spatial_features`` (B, C, ny, nx); writes ``spatial_features_2d`` (B, C_out, ny/s, nx/s)."""
        features = batch_dict["spatial_features"]
        levels = []
        for number, block in enumerate(self.blocks):
            features = block(features)
            levels.append(self.deblocks[number](features) if len(self.deblocks) else features)
        if levels:
            features = torch.cat(levels, dim=1) if len(levels) > 1 else levels[0]
        if len(self.deblocks) > len(self.blocks):
            features = self.deblocks[-1](features)
        batch_dict["spatial_features_2d"] = features
        return batch_dict


class BaseBEVBackboneV1(nn.Module):
    """PillarNet's neck: the deeper of two levels is refined and brought up, both are joined and refined.

    Checkpoints count ``blocks.1`` at the deeper level and ``blocks.0`` behind the joint.
    """

    def __init__(self, model_cfg: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__()
        self.model_cfg = model_cfg
        layer_nums, _, widths = _three_lists(
            model_cfg, "LAYER_NUMS", "LAYER_STRIDES", "NUM_FILTERS"
        )
        upsample_strides, upsample_widths = (
            list(required(model_cfg, key, WHERE))
            for key in ("UPSAMPLE_STRIDES", "NUM_UPSAMPLE_FILTERS")
        )
        if not len(widths) == len(upsample_strides) == len(upsample_widths) == 2:
            raise ConfigError(
                f"{WHERE}: BaseBEVBackboneV1 has 2 levels, but NUM_FILTERS is {widths}, UPSAMPLE_STRIDES "
                f"{upsample_strides}, NUM_UPSAMPLE_FILTERS {upsample_widths}"
            )
        if sum(upsample_widths) != widths[0]:
            raise ConfigError(
                f"{WHERE}.NUM_FILTERS[0] is {widths[0]}, expected the sum of NUM_UPSAMPLE_FILTERS, "
                f"{sum(upsample_widths)}"
            )
        self.level_widths = {"x_conv4": widths[0], "x_conv5": widths[1]}
        self.blocks = nn.ModuleList(map(_block, widths, widths, (1, 1), layer_nums))
        self.deblocks = nn.ModuleList(
            _deblock(wide_in, wide_out, stride, use_conv_for_no_stride=False)
            for wide_in, wide_out, stride in zip(widths, upsample_widths, upsample_strides)
        )
        self.num_bev_features = widths[0]

    def taps(self) -> list[TapInfo]:
        """What can be captured, relative to this slot; strides relative to x_conv4."""
        return [
            TapInfo("blocks.0", _width(self.blocks[0]), 1, "bev"),
            TapInfo("blocks.1", _width(self.blocks[1]), 2, "bev"),
            *(
                TapInfo(f"deblocks.{number}", _width(self.deblocks[number]), 1, "bev")
                for number in (0, 1)
            ),
            TapInfo("@spatial_features_2d", self.num_bev_features, 1, "bev"),
        ]

    def forward(self, batch_dict: dict[str, Any]) -> dict[str, Any]:
        """Reads x_conv4 (B, C, H, W) and x_conv5 (B, C, H/2, W/2) of ``multi_scale_2d_features``.

        Writes ``spatial_features_2d`` (B, C_out, H, W).
        """
        levels = batch_dict["multi_scale_2d_features"]
        for name, width in self.level_widths.items():
            if levels[name].shape[1] != width:
                raise ConfigError(
                    f"{WHERE}.NUM_FILTERS expects {width} channels in {name}, but MODEL.BACKBONE_3D puts "
                    f"out {levels[name].shape[1]}"
                )
        upper = self.deblocks[0](levels["x_conv4"])
        deeper = self.deblocks[1](self.blocks[1](levels["x_conv5"]))
        if upper.shape[2:] != deeper.shape[2:]:
            raise ConfigError(
                f"{WHERE}.UPSAMPLE_STRIDES: the two levels meet as {list(upper.shape[2:])} and "
                f"{list(deeper.shape[2:])} cells; expected the same, as with a grid of a multiple of 16"
            )
        batch_dict["spatial_features_2d"] = self.blocks[0](torch.cat([upper, deeper], dim=1))
        return batch_dict


def _three_lists(model_cfg: Mapping[str, Any], *keys: str) -> list[list]:
    """The lists that describe the blocks, equally long."""
    lists = {key: list(required(model_cfg, key, WHERE)) for key in keys}
    same_length(lists, WHERE)
    return list(lists.values())


def _norm_and_relu(width: int) -> list[nn.Module]:
    return [ChannelsLastBatchNorm2d(width, eps=1e-3, momentum=0.01), nn.ReLU()]


def _block(wide_in: int, wide_out: int, stride: int, num_layers: int) -> nn.Sequential:
    """One strided convolution, then ``num_layers`` more."""
    # The Identity stands where checkpoints count a padding layer; the convolution pads by itself, without a copy.
    layers = [nn.Identity(), nn.Conv2d(wide_in, wide_out, 3, stride=stride, padding=1, bias=False)]
    layers += _norm_and_relu(wide_out)
    for _ in range(num_layers):
        layers += [
            nn.Conv2d(wide_out, wide_out, 3, padding=1, bias=False),
            *_norm_and_relu(wide_out),
        ]
    return nn.Sequential(*layers)


def _upsample(wide_in: int, wide_out: int, stride: int) -> nn.Sequential:
    layer = nn.ConvTranspose2d(wide_in, wide_out, stride, stride=stride, bias=False)
    return nn.Sequential(layer, *_norm_and_relu(wide_out))


def _deblock(
    wide_in: int, wide_out: int, stride: float, use_conv_for_no_stride: bool
) -> nn.Sequential:
    """Up by ``stride``, or down by 1/stride when it is below 1."""
    if stride > 1 or (stride == 1 and not use_conv_for_no_stride):
        return _upsample(wide_in, wide_out, int(stride))
    down = round(1 / stride)
    layer = nn.Conv2d(wide_in, wide_out, down, stride=down, bias=False)
    return nn.Sequential(layer, *_norm_and_relu(wide_out))


def _width(sequential: Any) -> int:
    """Channels that leave a block: those of its last batch norm."""
    return sequential[-2].num_features


def _cumulative_product(strides: list[int]) -> list[int]:
    products: list[int] = []
    for stride in strides:
        products.append(stride * (products[-1] if products else 1))
    return products


def _output_stride(block_strides: list[int], upsample_strides: list[float]) -> int:
    """Stride of ``spatial_features_2d`` against ``spatial_features``; all levels must meet at one."""
    if not block_strides:
        return 1
    reached = [
        stride / up
        for stride, up in zip(block_strides, upsample_strides or [1] * len(block_strides))
    ]
    if max(reached) - min(reached) > 1e-6:
        raise ConfigError(
            f"{WHERE}: the levels do not meet at one resolution: block strides {block_strides} divided "
            f"by UPSAMPLE_STRIDES {upsample_strides} give {[round(stride, 3) for stride in reached]}"
        )
    extra = upsample_strides[-1] if len(upsample_strides) > len(block_strides) else 1
    return max(1, round(reached[0] / extra))
