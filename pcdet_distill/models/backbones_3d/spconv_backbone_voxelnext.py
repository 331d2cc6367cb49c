"""VoxelNeXt's encoder: predictions from sparse voxels, without a dense map (CVPR 2023).

Two more strided levels give every voxel a wide view. Their voxels are moved to the resolution of
the fourth level, and all three levels are joined and summed up along the height. So the features of
an object also lie near its centre, where LiDAR measures nothing.

``NUM_FILTERS`` (not OpenPCDet's) sets the channels of conv1 to conv4 and of the output, for
students. conv5 and conv6 have those of conv4, because they are summed up with it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ...ops.constants import constant_like
from ...ops.rulebook import cell_keys
from ...ops.sparse_conv import (
    SparseConv2d,
    SparseConv3d,
    SparseConvTensor,
    SparseSequential,
    SubMConv2d,
)
from ...types import BatchDict, ConfigDict
from ..model_utils.weighted_batch_norm import WeightedBatchNorm1d
from ..taps import TapInfo
from .sparse_blocks import downsampling_block, sparse_block
from .spconv_backbone import VoxelResBackBone8x

# Cells of the fourth level along an edge of a voxel of the level.
SCALES = {5: 2, 6: 4}


class VoxelResBackBone8xVoxelNeXt(VoxelResBackBone8x):
    """Residual levels of strides 1 to 32, joined at stride 8 on the ground."""

    paddings = {2: 1, 3: 1, 4: 1}

    def make_deep_levels(self) -> None:
        """conv5 and conv6."""
        self.conv5 = self._make_deep_level(5)
        self.conv6 = self._make_deep_level(6)

    def _make_deep_level(self, level: int) -> SparseSequential:
        width = self.widths[3]
        down = downsampling_block(
            SparseConv3d, width, width, padding=1, indice_key=f"spconv{level}"
        )
        return SparseSequential(down, *self.inner_layers(level, width))

    def make_conv_out(self) -> SparseSequential:
        """A layer on the ground, which also activates the cells around the voxels."""
        return sparse_block(
            SparseConv2d(
                self.widths[3],
                self.widths[4],
                3,
                stride=1,
                padding=1,
                bias=False,
                indice_key="spconv_down2",
            )
        )

    def __init__(
        self,
        model_cfg: ConfigDict,
        input_channels: int,
        grid_size: Sequence[int],
        **unused: object,
    ) -> None:
        super().__init__(model_cfg, input_channels, grid_size)
        width = self.widths[4]
        self.shared_conv = SparseSequential(
            SubMConv2d(width, width, 3, bias=True, indice_key="shared"),
            WeightedBatchNorm1d(width),
            nn.ReLU(),
        )

    def taps(self) -> list[TapInfo]:
        """Features that can be captured, with paths relative to this slot."""
        deep = [
            TapInfo(f"conv{level}", self.widths[3], 8 * SCALES[level], "sparse") for level in SCALES
        ]
        return [*super().taps(), *deep, TapInfo("shared_conv", self.widths[4], 8, "sparse")]

    def forward(self, batch_dict: BatchDict) -> BatchDict:
        """Encode the voxels.

        Reads ``voxel_features`` (M, C), ``voxel_coords`` (M, 4), ``batch_size``. Writes
        ``encoded_spconv_tensor``, sparse in 2D with stride 8, its stride, and
        ``multi_scale_3d_features`` {x_conv1 to x_conv4} with their strides.
        """
        levels = self.encode(batch_dict)
        fifth = self.conv5(levels["x_conv4"])
        sixth = self.conv6(fifth)
        ground = sum_on_ground(levels["x_conv4"], {SCALES[5]: fifth, SCALES[6]: sixth})
        assert self.conv_out is not None
        batch_dict["encoded_spconv_tensor"] = self.shared_conv(self.conv_out(ground))
        batch_dict["encoded_spconv_tensor_stride"] = self.output_stride
        self.write_levels(batch_dict, levels)
        return batch_dict


def sum_on_ground(
    finest: SparseConvTensor, deeper: dict[int, SparseConvTensor]
) -> SparseConvTensor:
    """All voxels on the grid of ``finest`` seen from above; those of one cell are summed up.

    Args:
        finest: 3D.
        deeper: 3D levels by the number of cells of ``finest`` along an edge of their voxels. A
            voxel goes to the first of its cells.
    """
    cells = [finest.indices[:, [0, 2, 3]]]
    features = [finest.features]
    for scale, tensor in deeper.items():
        factors = constant_like([1, scale, scale], tensor.indices)
        cells.append(tensor.indices[:, [0, 2, 3]] * factors)
        features.append(tensor.features)
    shape = finest.spatial_shape[1:]
    all_cells = torch.cat(cells)
    keys, row = cell_keys(all_cells, shape).unique(return_inverse=True)
    all_features = torch.cat(features)
    summed = all_features.new_zeros(len(keys), all_features.shape[1])
    summed = summed.index_add(0, row, all_features)
    ny, nx = shape
    frame = torch.div(keys, ny * nx, rounding_mode="floor")
    y = torch.div(keys, nx, rounding_mode="floor") % ny
    indices = torch.stack([frame, y, keys % nx], dim=1).int()
    return SparseConvTensor(summed, indices, shape, finest.batch_size)
