"""Sparse 3D encoders: voxels to an eighth of their resolution (Yan et al., SECOND, Sensors 2018).

``NUM_FILTERS`` (not OpenPCDet's) sets the channels of conv1 to conv4 and conv_out, for students;
without it they are OpenPCDet's.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ...ops.sparse_conv import SparseConv3d, SparseConvTensor, SparseSequential, SubMConv3d
from ...types import BatchDict, ConfigDict
from ..taps import TapInfo
from .sparse_blocks import (
    SparseBasicBlock,
    SparseLevels,
    sparse_block,
    submanifold_block,
)

LEVELS = ("x_conv1", "x_conv2", "x_conv3", "x_conv4")
STRIDES = {"x_conv1": 1, "x_conv2": 2, "x_conv3": 4, "x_conv4": 8}
# Padding of each strided convolution. Along z the grid has 41, 21, 11, 5 cells: the last level has
# no padding in height.
PADDINGS: dict[int, int | tuple[int, ...]] = {2: 1, 3: 1, 4: (0, 1, 1)}


class SparseEncoder(SparseLevels):
    """conv_input, four levels with strides 1, 2, 4, 8, and conv_out, which halves the height.

    A subclass defines the default widths and the layers of a level. conv1 has no strided
    convolution, only ``inner_layers``.
    """

    convolution = SparseConv3d
    paddings = PADDINGS
    output_stride = 8

    def __init__(
        self,
        model_cfg: ConfigDict,
        input_channels: int,
        grid_size: Sequence[int],
        **unused: object,
    ) -> None:
        super().__init__(model_cfg)
        cells_x, cells_y, cells_z = (int(cells) for cells in grid_size)
        # OpenPCDet adds one layer: 41 cells become 5 with the paddings above, 40 would become 4.
        self.sparse_shape = [cells_z + 1, cells_y, cells_x]
        self.conv_input = submanifold_block(SubMConv3d, input_channels, self.widths[0], "subm1")
        self.conv1 = SparseSequential(*self.inner_layers(1, self.widths[0]))
        self.conv2 = self.make_level(2)
        self.conv3 = self.make_level(3)
        self.conv4 = self.make_level(4)
        self.make_deep_levels()
        self.conv_out = self.make_conv_out()
        self.num_point_features = self.widths[4]
        self.backbone_channels = dict(zip(LEVELS, self.widths))

    def make_deep_levels(self) -> None:
        """Levels after conv4, where a subclass has some."""

    def make_conv_out(self) -> SparseSequential | None:
        """The layer before the bird's eye view; a kernel and stride along z only."""
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
        """Features that can be captured, with paths relative to this slot."""
        taps = []
        for number, name in enumerate(LEVELS, start=1):
            taps.append(
                TapInfo(f"conv{number}", self.backbone_channels[name], STRIDES[name], "sparse")
            )
        if self.conv_out is not None:
            for path in ("conv_out", "@encoded_spconv_tensor"):
                taps.append(TapInfo(path, self.widths[4], self.output_stride, "sparse"))
        return taps

    def encode(self, batch_dict: BatchDict) -> dict[str, SparseConvTensor]:
        """The four levels by name.

        Reads ``voxel_features`` (M, C), ``voxel_coords`` (M, 4) as (batch, z, y, x) and
        ``batch_size``.
        """
        tensor = SparseConvTensor(
            batch_dict["voxel_features"],
            batch_dict["voxel_coords"].int(),
            self.sparse_shape,
            batch_dict["batch_size"],
        )
        tensor = self.conv_input(tensor)
        levels = {}
        for name, layer in zip(LEVELS, (self.conv1, self.conv2, self.conv3, self.conv4)):
            tensor = layer(tensor)
            levels[name] = tensor
        return levels

    def write_encoded(self, batch_dict: BatchDict, deepest: SparseConvTensor) -> None:
        """Writes ``encoded_spconv_tensor`` and ``encoded_spconv_tensor_stride``."""
        assert self.conv_out is not None
        batch_dict["encoded_spconv_tensor"] = self.conv_out(deepest)
        batch_dict["encoded_spconv_tensor_stride"] = self.output_stride

    def forward(self, batch_dict: BatchDict) -> BatchDict:
        """Encode the voxels.

        Reads ``voxel_features`` (M, C), ``voxel_coords`` (M, 4), ``batch_size``. Writes
        ``encoded_spconv_tensor`` (stride 8), ``multi_scale_3d_features`` {x_conv1 to x_conv4} and
        their strides.
        """
        levels = self.encode(batch_dict)
        self.write_encoded(batch_dict, levels["x_conv4"])
        self.write_levels(batch_dict, levels)
        return batch_dict

    @staticmethod
    def write_levels(batch_dict: BatchDict, levels: dict[str, SparseConvTensor]) -> None:
        """Writes ``multi_scale_3d_features`` and their strides."""
        batch_dict["multi_scale_3d_features"] = levels
        batch_dict["multi_scale_3d_strides"] = dict(STRIDES)


class VoxelBackBone8x(SparseEncoder):
    """SECOND's encoder: one submanifold convolution in the first level, two in the others."""

    default_widths = (16, 32, 64, 64, 128)

    def inner_layers(self, level: int, channels: int) -> list[nn.Module]:
        """Submanifold convolutions."""
        count = 1 if level == 1 else 2
        key = f"subm{level}"
        return [submanifold_block(SubMConv3d, channels, channels, key) for _ in range(count)]


class VoxelResBackBone8x(SparseEncoder):
    """An encoder of residual blocks, two in every level."""

    default_widths = (16, 32, 64, 128, 128)

    def inner_layers(self, level: int, channels: int) -> list[nn.Module]:
        """Residual blocks; ``USE_BIAS`` gives their convolutions a bias (the default)."""
        use_bias = self.model_cfg.get("USE_BIAS")
        bias = True if use_bias is None else bool(use_bias)
        return [SparseBasicBlock(channels, f"res{level}", bias) for _ in range(2)]
