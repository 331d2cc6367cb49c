"""PartA2FCHead: where in their object the points of a RoI lie, and what they look like (Part-A2, TPAMI 2020).

The grid of a RoI is mostly empty, so it is a sparse tensor until the fully connected layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...config import required
from ...ops.roi_pooling import roiaware_pool3d
from ...ops.sparse_conv import SparseConvTensor, SparseSequential, SubMConv3d
from ..backbones_3d.sparse_blocks import sparse_block
from ..model_utils.places import framed_places, roi_grid_points
from ..taps import TapInfo
from .roi_head_template import WHERE, RoIHeadTemplate

PART_CHANNELS = 4  # place in the object along x, y, z, and the score of being foreground


class PartA2FCHead(RoIHeadTemplate):
    """RoI-aware pooling, sparse convolutions on the grid, then fully connected layers."""

    def __init__(
        self, input_channels: int, model_cfg: Mapping[str, Any], num_class: int = 1, **kwargs: Any
    ) -> None:
        super().__init__(num_class=num_class, model_cfg=model_cfg)
        pooling, where = required(model_cfg, "ROI_AWARE_POOL", WHERE), f"{WHERE}.ROI_AWARE_POOL"
        self.pool_size = required(pooling, "POOL_SIZE", where)
        self.max_points_per_voxel = required(pooling, "MAX_POINTS_PER_VOXEL", where)
        width = required(pooling, "NUM_FEATURES", where)
        self.conv_part = _two_convolutions(PART_CHANNELS, width // 2)
        self.conv_rpn = _two_convolutions(input_channels, width // 2)
        self.merged_width = width // 2 * 2
        self.make_predictors(self.merged_width * self.pool_size**3)

    def taps(self) -> list[TapInfo]:
        """What can be captured, relative to this slot."""
        return [TapInfo("@roi_point_features", self.merged_width, None, "roi")]

    def refine(self, batch_dict: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Reads ``rois``, ``point_coords`` (N, 4), ``point_features`` (N, C), ``point_cls_scores`` (N,).

        Without DISABLE_PART also ``point_part_offset`` (N, 3). Writes ``roi_point_features`` and ``roi_point_coords``
        of the occupied cells of all RoIs.
        """
        parts, features = self.roiaware_pool(batch_dict)
        occupied = parts.ne(0).any(dim=-1).nonzero()
        roi, x, y, z = occupied.unbind(dim=1)
        tensor = SparseConvTensor(parts[roi, x, y, z], occupied.int(), parts.shape[1:4], len(parts))
        part_features = self.conv_part(tensor).features
        rpn_features = self.conv_rpn(tensor.replace_feature(features[roi, x, y, z])).features
        merged = tensor.replace_feature(torch.cat([rpn_features, part_features], dim=1))
        places = framed_places(
            batch_dict["rois"], roi_grid_points(batch_dict["rois"].flatten(0, 1), self.pool_size)
        )
        row = ((roi * self.pool_size + x) * self.pool_size + y) * self.pool_size + z
        batch_dict.update(roi_point_features=merged.features, roi_point_coords=places[row])
        return self.predict(merged.dense())

    def roiaware_pool(self, batch_dict: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Per RoI and cell: the mean part (B * R, x, y, z, 4), and the largest features (B * R, x, y, z, C)."""
        coords, scores = (
            batch_dict["point_coords"],
            batch_dict["point_cls_scores"].detach().reshape(-1, 1),
        )
        place = (
            coords[:, 1:4]
            if self.model_cfg.get("DISABLE_PART")
            else batch_dict["point_part_offset"]
        )
        is_foreground = scores >= required(self.model_cfg, "SEG_MASK_SCORE_THRESH", WHERE)
        parts = torch.cat([torch.where(is_foreground, place, 0.0), scores], dim=1)
        pooled_parts, pooled_features = [], []
        for frame, rois in enumerate(batch_dict["rois"]):
            own = coords[:, 0] == frame
            space = (rois[:, :7], coords[own, 1:4])
            options = (self.pool_size, self.max_points_per_voxel)
            pooled_parts.append(roiaware_pool3d(*space, parts[own], *options, pool_method="avg"))
            pooled_features.append(
                roiaware_pool3d(
                    *space, batch_dict["point_features"][own], *options, pool_method="max"
                )
            )
        return torch.cat(pooled_parts), torch.cat(pooled_features)


def _two_convolutions(input_channels: int, width: int) -> SparseSequential:
    """Submanifold convolutions; all that run on one grid share its rulebook."""
    return SparseSequential(
        sparse_block(SubMConv3d(input_channels, width, 3, padding=1, bias=False, indice_key="roi")),
        sparse_block(SubMConv3d(width, width, 3, padding=1, bias=False, indice_key="roi")),
    )
