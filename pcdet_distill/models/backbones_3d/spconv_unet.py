"""UNetV2: SECOND's encoder and a decoder back to the voxels, for point features (Shi et al., Part-A2, TPAMI 2020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...ops.sparse_conv import SparseConvTensor, SparseInverseConv3d, SparseSequential, SubMConv3d
from ..model_utils.places import register_first_centre
from ..taps import TapInfo
from .sparse_blocks import SparseBasicBlock, sparse_block
from .spconv_backbone import LEVELS, VoxelBackBone8x


class UNetV2(VoxelBackBone8x):
    """Each level of the decoder joins the encoder's cells with what comes up from below, then goes up itself.

    ``RETURN_ENCODED_TENSOR: False`` leaves out ``conv_out``, where no bird's eye view is needed.
    """

    def __init__(
        self,
        model_cfg: Mapping[str, Any],
        input_channels: int,
        grid_size: Sequence[int],
        voxel_size: Sequence[float],
        point_cloud_range: Sequence[float],
        **kwargs: Any,
    ) -> None:
        super().__init__(model_cfg, input_channels, grid_size)
        for level in (4, 3, 2, 1):
            channels = self.widths[level - 1]
            self.add_module(
                f"conv_up_t{level}", SparseBasicBlock(channels, f"subm{level}", bias=False)
            )
            self.add_module(
                f"conv_up_m{level}",
                sparse_block(
                    SubMConv3d(2 * channels, channels, 3, bias=False, indice_key=f"subm{level}")
                ),
            )
            if level > 1:
                self.add_module(
                    f"inv_conv{level}",
                    sparse_block(
                        SparseInverseConv3d(
                            channels,
                            self.widths[level - 2],
                            3,
                            indice_key=f"spconv{level}",
                            bias=False,
                        )
                    ),
                )
        width = self.widths[0]
        self.conv5 = SparseSequential(
            sparse_block(SubMConv3d(width, width, 3, bias=False, indice_key="subm1"))
        )
        self.num_point_features = width
        self.voxel_size: Tensor
        self.first_centre: Tensor
        register_first_centre(self, voxel_size, point_cloud_range)

    def make_conv_out(self) -> SparseSequential | None:
        """The layer that leads to the bird's eye view, unless there is none."""
        return (
            super().make_conv_out() if self.model_cfg.get("RETURN_ENCODED_TENSOR", True) else None
        )

    def taps(self) -> list[TapInfo]:
        """What can be captured, relative to this slot."""
        return [*super().taps(), TapInfo("@point_features", self.num_point_features, None, "point")]

    def join(
        self, level: int, lateral: SparseConvTensor, below: SparseConvTensor
    ) -> SparseConvTensor:
        """The encoder's cells ``lateral`` (N, C) and what came up from ``below`` (N, C), merged to (N, C)."""
        refined = getattr(self, f"conv_up_t{level}")(lateral)
        both = refined.replace_feature(torch.cat([below.features, refined.features], dim=1))
        merged = getattr(self, f"conv_up_m{level}")(both)
        channels = merged.features.shape[1]
        # The shortcut around the merging convolution adds up neighbouring pairs of channels.
        shortcut = both.features.view(len(both.features), channels, 2).sum(dim=2)
        return merged.replace_feature(merged.features + shortcut)

    def forward(self, batch_dict: dict[str, Any]) -> dict[str, Any]:
        """Reads ``voxel_features`` (M, C), ``voxel_coords`` (M, 4), ``batch_size``.

        Writes ``point_features`` (M, C'), ``point_coords`` (M, 4) frame and x, y, z of the voxels' centres in metres,
        and what the encoder writes towards the bird's eye view.
        """
        levels = self.encode(batch_dict)
        if self.conv_out is not None:
            self.write_encoded(batch_dict, levels["x_conv4"])
        tensor = levels["x_conv4"]
        for level in (4, 3, 2, 1):
            tensor = self.join(level, levels[LEVELS[level - 1]], tensor)
            tensor = (getattr(self, f"inv_conv{level}") if level > 1 else self.conv5)(tensor)
        batch_dict["point_features"] = tensor.features
        centres = tensor.indices[:, [3, 2, 1]] * self.voxel_size + self.first_centre
        batch_dict["point_coords"] = torch.cat(
            [tensor.indices[:, :1].to(centres.dtype), centres], dim=1
        )
        return batch_dict
