"""UNetV2: SECOND's encoder with a decoder back to the voxels (Shi et al., Part-A2, TPAMI 2020).

Part-A2 needs a feature for every voxel, to predict where in its object each voxel lies. PointRCNN
gets point features from PointNet++; a sparse U-Net is faster.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...ops.sparse_conv import SparseConvTensor, SparseInverseConv3d, SparseSequential, SubMConv3d
from ...types import BatchDict, ConfigDict
from ..model_utils.places import register_first_centre
from ..taps import TapInfo
from .sparse_blocks import SparseBasicBlock, sparse_block, submanifold_block
from .spconv_backbone import LEVELS, VoxelBackBone8x


class UNetV2(VoxelBackBone8x):
    """Each level of the decoder merges the encoder's features with those from below, and upsamples.

    ``RETURN_ENCODED_TENSOR: False`` leaves out ``conv_out``, where no bird's eye view is needed.
    """

    def __init__(
        self,
        model_cfg: ConfigDict,
        input_channels: int,
        grid_size: Sequence[int],
        voxel_size: Sequence[float],
        point_cloud_range: Sequence[float],
        **unused: object,
    ) -> None:
        super().__init__(model_cfg, input_channels, grid_size)
        for level in (4, 3, 2, 1):
            self._add_decoder_level(level)
        width = self.widths[0]
        self.conv5 = SparseSequential(submanifold_block(SubMConv3d, width, width, "subm1"))
        self.num_point_features = width
        self.voxel_size: Tensor
        self.first_centre: Tensor
        register_first_centre(self, voxel_size, point_cloud_range)

    def _add_decoder_level(self, level: int) -> None:
        """Register the modules of a decoder level under the names of OpenPCDet's checkpoints."""
        channels = self.widths[level - 1]
        key = f"subm{level}"
        lateral = SparseBasicBlock(channels, key, bias=False)
        self.add_module(f"conv_up_t{level}", lateral)
        merge = submanifold_block(SubMConv3d, 2 * channels, channels, key)
        self.add_module(f"conv_up_m{level}", merge)
        if level > 1:
            upsample = SparseInverseConv3d(
                channels, self.widths[level - 2], 3, indice_key=f"spconv{level}", bias=False
            )
            self.add_module(f"inv_conv{level}", sparse_block(upsample))

    def make_conv_out(self) -> SparseSequential | None:
        """The layer before the bird's eye view, unless there is none."""
        if not self.model_cfg.get("RETURN_ENCODED_TENSOR", True):
            return None
        return super().make_conv_out()

    def taps(self) -> list[TapInfo]:
        """Features that can be captured, with paths relative to this slot."""
        return [*super().taps(), TapInfo("@point_features", self.num_point_features, None, "point")]

    def join(
        self, level: int, lateral: SparseConvTensor, below: SparseConvTensor
    ) -> SparseConvTensor:
        """Merge the encoder's level ``lateral`` (N, C) with what comes from ``below``: (N, C)."""
        refined = self.get_submodule(f"conv_up_t{level}")(lateral)
        both = refined.replace_feature(torch.cat([below.features, refined.features], dim=1))
        merged = self.get_submodule(f"conv_up_m{level}")(both)
        channels = merged.features.shape[1]
        # The shortcut around the merging convolution adds neighbouring pairs of channels.
        pairs = both.features.view(len(both.features), channels, 2)
        return merged.replace_feature(merged.features + pairs.sum(dim=2))

    def forward(self, batch_dict: BatchDict) -> BatchDict:
        """Compute a feature for every voxel.

        Reads ``voxel_features`` (M, C), ``voxel_coords`` (M, 4), ``batch_size``. Writes
        ``point_features`` (M, C'), ``point_coords`` (M, 4) frame and x, y, z of the voxels' centres
        in metres, and the encoder's output for the bird's eye view.
        """
        levels = self.encode(batch_dict)
        if self.conv_out is not None:
            self.write_encoded(batch_dict, levels["x_conv4"])
        tensor = levels["x_conv4"]
        for level in (4, 3, 2, 1):
            tensor = self.join(level, levels[LEVELS[level - 1]], tensor)
            upsample = self.get_submodule(f"inv_conv{level}") if level > 1 else self.conv5
            tensor = upsample(tensor)
        frame = tensor.indices[:, :1]
        centres = tensor.indices[:, [3, 2, 1]] * self.voxel_size + self.first_centre
        batch_dict["point_features"] = tensor.features
        batch_dict["point_coords"] = torch.cat([frame.to(centres.dtype), centres], dim=1)
        return batch_dict
