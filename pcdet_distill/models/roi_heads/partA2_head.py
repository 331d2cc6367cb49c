"""PartA2FCHead: pools where in their object the points of a RoI lie (Part-A2, TPAMI 2020).

The grid of a RoI is mostly empty. It stays a sparse tensor up to the fully connected layers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...config import required
from ...ops.frames import stack_frames
from ...ops.roi_pooling import pool_cells, stack_cell_members
from ...ops.sparse_conv import SparseConvTensor, SparseSequential, SubMConv3d
from ...types import BatchDict
from ..backbones_3d.sparse_blocks import sparse_block
from ..model_utils.places import framed_places, roi_grid_points
from .roi_head_template import WHERE, FirstStage, RoIHeadTemplate

PART_CHANNELS = 4  # place in the object along x, y, z, and the score of being foreground


class PartA2FCHead(RoIHeadTemplate):
    """RoI-aware pooling, sparse convolutions on the grid, then fully connected layers.

    The pooling keeps empty cells. Two boxes around the same points differ in which of their cells
    are empty, so their features differ too.
    """

    def build_layers(self, first_stage: FirstStage) -> None:
        """Make the convolutions and the predictors."""
        pooling = required(self.model_cfg, "ROI_AWARE_POOL", WHERE)
        where = f"{WHERE}.ROI_AWARE_POOL"
        self.pool_size = required(pooling, "POOL_SIZE", where)
        self.max_points_per_voxel = required(pooling, "MAX_POINTS_PER_VOXEL", where)
        half_width = required(pooling, "NUM_FEATURES", where) // 2
        self.conv_part = _two_convolutions(PART_CHANNELS, half_width)
        self.conv_rpn = _two_convolutions(first_stage.input_channels, half_width)
        self.pooled_channels = 2 * half_width
        self.make_predictors(self.pooled_channels * self.pool_size**3)

    def refine(self, batch_dict: BatchDict) -> tuple[Tensor, Tensor]:
        """Class logits and box codes of all RoIs.

        Reads ``rois`` (B, R, 7), ``point_coords`` (N, 4), ``point_features`` (N, C),
        ``point_cls_scores`` (N,) and, without DISABLE_PART, ``point_part_offset`` (N, 3). Writes
        ``roi_point_features`` and ``roi_point_coords`` of the occupied cells of all RoIs.
        """
        parts, features = self.roiaware_pool(batch_dict)
        occupied = parts.ne(0).any(dim=-1).nonzero()
        cell = occupied.unbind(dim=1)
        part_tensor = SparseConvTensor(
            parts[cell],
            occupied.int(),
            spatial_shape=parts.shape[1:4],
            batch_size=len(parts),
        )
        rpn_tensor = part_tensor.replace_feature(features[cell])
        part_features = self.conv_part(part_tensor).features
        rpn_features = self.conv_rpn(rpn_tensor).features
        merged_features = torch.cat([rpn_features, part_features], dim=1)
        batch_dict["roi_point_features"] = merged_features
        batch_dict["roi_point_coords"] = self._places_of_cells(batch_dict["rois"], occupied)
        merged = part_tensor.replace_feature(merged_features)
        return self.predict(merged.dense())

    def _places_of_cells(self, rois: Tensor, occupied: Tensor) -> Tensor:
        """Frame, x, y, z (K, 4) of the cells occupied (K, 4): RoI of the batch, x, y, z."""
        cells = roi_grid_points(rois.flatten(0, 1), self.pool_size)
        roi, x, y, z = occupied.unbind(dim=1)
        size = self.pool_size
        row = ((roi * size + x) * size + y) * size + z
        return framed_places(rois, cells)[row]

    def roiaware_pool(self, batch_dict: BatchDict) -> tuple[Tensor, Tensor]:
        """Parts and features of the points in every cell of every RoI.

        Returns:
            the mean part (B * R, x, y, z, 4) and the largest features (B * R, x, y, z, C).
        """
        coords = batch_dict["point_coords"]
        boxes = batch_dict["rois"][..., :7]
        row = torch.arange(len(coords), device=coords.device)
        counts, (xyz, row) = stack_frames(coords[:, 0], len(boxes), coords[:, 1:4], row)
        sizes = (self.pool_size,) * 3
        # Both poolings share the search for the points of each cell, and so do all frames.
        members = stack_cell_members(boxes, xyz, counts, sizes, self.max_points_per_voxel - 1)
        members = members.with_points(row)
        parts = pool_cells(self._parts_of_points(batch_dict), members, "avg")
        return parts, pool_cells(batch_dict["point_features"], members, "max")

    def _parts_of_points(self, batch_dict: BatchDict) -> Tensor:
        """(N, 4): place in the object and foreground score; the place is zero on the background.

        The score gets no gradient from here, so that the second stage does not change the
        segmentation of the first.
        """
        scores = batch_dict["point_cls_scores"].detach().reshape(-1, 1)
        if self.model_cfg.get("DISABLE_PART"):
            place = batch_dict["point_coords"][:, 1:4]
        else:
            place = batch_dict["point_part_offset"]
        threshold = required(self.model_cfg, "SEG_MASK_SCORE_THRESH", WHERE)
        place = torch.where(scores >= threshold, place, 0.0)
        return torch.cat([place, scores], dim=1)


def _two_convolutions(input_channels: int, width: int) -> SparseSequential:
    """Two submanifold convolutions; all that run on one grid share its rulebook."""
    first = SubMConv3d(input_channels, width, 3, padding=1, bias=False, indice_key="roi")
    second = SubMConv3d(width, width, 3, padding=1, bias=False, indice_key="roi")
    return SparseSequential(sparse_block(first), sparse_block(second))
