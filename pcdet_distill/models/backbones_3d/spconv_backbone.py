"""Sparse 3D encoders: voxels to an eighth of their resolution (Yan et al., SECOND, Sensors 2018).

``NUM_FILTERS`` (not OpenPCDet's) sets the channels of conv1 to conv4 and conv_out, for students; without it they are
OpenPCDet's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from ...ops.sparse_conv import SparseConv3d, SparseConvTensor, SparseSequential, SubMConv3d
from ..taps import TapInfo
from .sparse_blocks import SparseBasicBlock, sparse_block, sparse_widths

LEVELS = ("x_conv1", "x_conv2", "x_conv3", "x_conv4")
STRIDES = {"x_conv1": 1, "x_conv2": 2, "x_conv3": 4, "x_conv4": 8}
# Along z the grid has 41, 21, 11, 5 cells: the last level leaves out the padding below and above.
PADDINGS: tuple[int | tuple[int, int, int], ...] = (1, 1, (0, 1, 1))


class SparseEncoder(nn.Module):
    """conv_input, four levels with strides 1, 2, 4, 8, and conv_out, which halves the height once more.

    A subclass says how wide the levels are by default and which layers follow the strided one of each.
    """

    usual_widths: tuple[int, ...]
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
        self.sparse_shape = [int(grid_size[2]) + 1, int(grid_size[1]), int(grid_size[0])]
        self.widths = sparse_widths(model_cfg, self.usual_widths)
        self.conv_input = sparse_block(
            SubMConv3d(input_channels, self.widths[0], 3, bias=False, indice_key="subm1")
        )
        self.conv1 = SparseSequential(*self.inner_layers(1, self.widths[0]))
        for level, padding in enumerate(PADDINGS, start=2):
            wide_in, wide_out = self.widths[level - 2 : level]
            down = sparse_block(
                SparseConv3d(
                    wide_in,
                    wide_out,
                    3,
                    stride=2,
                    padding=padding,
                    bias=False,
                    indice_key=f"spconv{level}",
                )
            )
            self.add_module(
                f"conv{level}", SparseSequential(down, *self.inner_layers(level, wide_out))
            )
        self.conv_out = self.make_conv_out()
        self.num_point_features = self.widths[4]
        self.backbone_channels = dict(zip(LEVELS, self.widths))

    def inner_layers(self, level: int, channels: int) -> list[nn.Module]:
        """The layers of a level behind its strided convolution (conv1 has none)."""
        raise AssertionError(f"{type(self).__name__} does not say which layers its levels have")

    def make_conv_out(self) -> SparseSequential | None:
        """The layer that leads to the bird's eye view."""
        return sparse_block(
            SparseConv3d(
                self.widths[3],
                self.widths[4],
                (3, 1, 1),
                stride=(2, 1, 1),
                padding=self.model_cfg.get("last_pad", 0),
                bias=False,
                indice_key="spconv_down2",
            )
        )

    def taps(self) -> list[TapInfo]:
        """What can be captured, relative to this slot."""
        levels = [
            TapInfo(
                f"conv{STRIDES[name].bit_length()}",
                self.backbone_channels[name],
                STRIDES[name],
                "sparse",
            )
            for name in LEVELS
        ]
        if self.conv_out is None:
            return levels
        return [
            *levels,
            TapInfo("conv_out", self.widths[4], 8, "sparse"),
            TapInfo("@encoded_spconv_tensor", self.widths[4], 8, "sparse"),
        ]

    def encode(self, batch_dict: Mapping[str, Any]) -> dict[str, SparseConvTensor]:
        """The four levels of ``voxel_features`` (M, C) at ``voxel_coords`` (M, 4) as (batch, z, y, x)."""
        tensor = SparseConvTensor(
            batch_dict["voxel_features"],
            batch_dict["voxel_coords"].int(),
            self.sparse_shape,
            batch_dict["batch_size"],
        )
        tensor = self.conv_input(tensor)
        levels = {}
        for number, name in enumerate(LEVELS, start=1):
            levels[name] = tensor = getattr(self, f"conv{number}")(tensor)
        return levels

    def write_encoded(self, batch_dict: dict[str, Any], deepest: SparseConvTensor) -> None:
        """Writes ``encoded_spconv_tensor`` and ``encoded_spconv_tensor_stride``."""
        assert self.conv_out is not None
        batch_dict["encoded_spconv_tensor"] = self.conv_out(deepest)
        batch_dict["encoded_spconv_tensor_stride"] = self.output_stride

    def forward(self, batch_dict: dict[str, Any]) -> dict[str, Any]:
        """Reads ``voxel_features`` (M, C), ``voxel_coords`` (M, 4), ``batch_size``.

        Writes ``encoded_spconv_tensor`` (stride 8), ``multi_scale_3d_features`` {x_conv1 to x_conv4} and their strides.
        """
        levels = self.encode(batch_dict)
        self.write_encoded(batch_dict, levels["x_conv4"])
        batch_dict["multi_scale_3d_features"] = levels
        batch_dict["multi_scale_3d_strides"] = dict(STRIDES)
        return batch_dict


class VoxelBackBone8x(SparseEncoder):
    """SECOND's encoder: one submanifold convolution in the first level, two in each further one."""

    usual_widths = (16, 32, 64, 64, 128)

    def inner_layers(self, level: int, channels: int) -> list[nn.Module]:
        """Submanifold convolutions."""
        return [
            sparse_block(SubMConv3d(channels, channels, 3, bias=False, indice_key=f"subm{level}"))
            for _ in range(min(level, 2))
        ]


class VoxelResBackBone8x(SparseEncoder):
    """An encoder of residual blocks, two in every level."""

    usual_widths = (16, 32, 64, 128, 128)

    def inner_layers(self, level: int, channels: int) -> list[nn.Module]:
        """Residual blocks; ``USE_BIAS`` gives their convolutions a bias (the default)."""
        bias = self.model_cfg.get("USE_BIAS")
        return [
            SparseBasicBlock(channels, f"res{level}", bias=True if bias is None else bool(bias))
            for _ in range(2)
        ]
