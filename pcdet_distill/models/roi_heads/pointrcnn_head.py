"""PointRCNNHead: refines a proposal from the points inside it (PointRCNN, CVPR 2019, section 3.3).

The points are moved to the frame of the proposal. There all objects look alike, wherever they stand
and whichever way they face.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...config import required, same_length
from ...ops.boxes import rotate_points_along_z
from ...ops.roi_pooling import roipoint_pool3d
from ...types import BatchDict, ConfigDict
from ..model_utils.places import framed_places
from ..model_utils.pointnet2_modules import PointnetSAModule, SharedMLP, full_precision
from .fc_layers import init_fc
from .roi_head_template import WHERE, FirstStage, RoIHeadTemplate

# x, y, z in the proposal's frame, the point's score, and its distance from the sensor: the move to
# the proposal's frame loses the distance, on which the density of the points depends.
SPATIAL_CHANNELS = 5


class PointRCNNHead(RoIHeadTemplate):
    """Points inside each RoI through a small PointNet++, to a class and a box code."""

    def build_layers(self, first_stage: FirstStage) -> None:
        """Make the point layers, the set abstractions and the predictors."""
        config = self.model_cfg
        input_channels = first_stage.input_channels
        self.pooling = required(config, "ROI_POINT_POOL", WHERE)
        for key in ("POOL_EXTRA_WIDTH", "NUM_SAMPLED_POINTS", "DEPTH_NORMALIZER"):
            required(self.pooling, key, f"{WHERE}.ROI_POINT_POOL")
        self.pooled_channels = input_channels
        sa_width = self._make_set_abstractions(required(config, "SA_CONFIG", WHERE))
        use_bn = bool(config.get("USE_BN", False))
        up_widths = list(required(config, "XYZ_UP_LAYER", WHERE))
        self.xyz_up_layer = SharedMLP([SPATIAL_CHANNELS, *up_widths], use_bn)
        self.merge_down_layer = SharedMLP([up_widths[-1] + input_channels, input_channels], use_bn)
        cls_widths = required(config, "CLS_FC", WHERE)
        reg_widths = required(config, "REG_FC", WHERE)
        self.cls_layers = self.make_fc_layers(sa_width, self.num_class, cls_widths)
        self.reg_layers = self.make_fc_layers(sa_width, self.box_coder.code_size, reg_widths)
        init_fc(self.cls_layers)
        init_fc(self.reg_layers, output_std=0.001)

    def _make_set_abstractions(self, settings: ConfigDict) -> int:
        """Make ``SA_modules`` behind ``pooled_channels``; returns the channels they give."""
        where = f"{WHERE}.SA_CONFIG"
        lists = {}
        for key in ("NPOINTS", "RADIUS", "NSAMPLE", "MLPS"):
            lists[key] = required(settings, key, where)
        same_length(lists, where)
        self.SA_modules = nn.ModuleList()
        channels = self.pooled_channels
        for npoint, radius, nsample, widths in zip(*lists.values()):
            self.SA_modules.append(PointnetSAModule([channels, *widths], npoint, radius, nsample))
            channels = widths[-1]
        return channels

    def refine(self, batch_dict: BatchDict) -> tuple[Tensor, Tensor]:
        """Class logits and box codes of all RoIs.

        Reads ``rois`` (B, R, 7), ``point_coords`` (N, 4), ``point_features`` (N, C) and
        ``point_cls_scores`` (N,). Writes ``roi_point_features`` and ``roi_point_coords`` of the
        points sampled in all RoIs.
        """
        pooled = self.roipool3d(batch_dict).flatten(0, 1)
        num_rois, num_points = pooled.shape[:2]
        rows = pooled.flatten(0, 1)
        spatial = rows[:, :SPATIAL_CHANNELS]
        features = rows[:, SPATIAL_CHANNELS:]
        with full_precision(rows):
            lifted = self.xyz_up_layer(spatial)
            merged = self.merge_down_layer(torch.cat([lifted, features], dim=1))
        batch_dict["roi_point_features"] = merged
        batch_dict["roi_point_coords"] = scene_places(batch_dict["rois"], pooled)
        features = merged.view(num_rois, num_points, -1)
        xyz = pooled[..., :3]
        for module in self.SA_modules:
            xyz, features = module(xyz, features)
        shared = features.transpose(1, 2)
        return self.cls_layers(shared).flatten(1), self.reg_layers(shared).flatten(1)

    @torch.no_grad()
    def roipool3d(self, batch_dict: BatchDict) -> Tensor:
        """Points in every RoI (B, R, S, 5 + C), zeros in RoIs without any.

        No gradient reaches the first stage from here. PointRCNN trains its two stages apart, and
        OpenPCDet keeps them apart when it trains them together.
        """
        rois = batch_dict["rois"]
        num_frames = int(batch_dict["batch_size"])
        # Every frame has the same number of points.
        xyz = batch_dict["point_coords"][:, 1:4].view(num_frames, -1, 3)
        num_points = xyz.shape[1]
        scores = batch_dict["point_cls_scores"].view(num_frames, num_points, 1)
        features = batch_dict["point_features"].view(num_frames, num_points, -1)
        distance = xyz.norm(dim=2, keepdim=True)
        depth = distance / self.pooling["DEPTH_NORMALIZER"] - 0.5
        values = torch.cat([scores.float(), depth, features.float()], dim=2)
        pooled, is_empty = roipoint_pool3d(
            xyz,
            values,
            rois,
            self.pooling["NUM_SAMPLED_POINTS"],
            self.pooling["POOL_EXTRA_WIDTH"],
        )
        offset = pooled[..., :3] - rois[..., None, :3]
        heading = rois[..., 6].flatten()
        local = rotate_points_along_z(offset.flatten(0, 1), -heading)
        local = local.view(offset.shape)
        has_points = ~is_empty[..., None, None]
        return torch.cat([local, pooled[..., 3:]], dim=3) * has_points


def scene_places(rois: Tensor, pooled: Tensor) -> Tensor:
    """Where points in the frames of RoIs lie in the scene.

    Args:
        rois: (B, R, 7).
        pooled: (B * R, S, 3 + C), x, y, z in the frame of the RoI first; zeros in an empty RoI.

    Returns:
        (B * R * S, 4) frame, x, y, z. The frame is -1 where the RoI is padding or holds no points.
    """
    flat_rois = rois.flatten(0, 1)
    offset = rotate_points_along_z(pooled[..., :3], flat_rois[:, 6])
    rows = framed_places(rois, offset + flat_rois[:, None, :3])
    is_empty_roi = (pooled == 0).flatten(1).all(dim=1)
    is_empty = is_empty_roi.repeat_interleave(pooled.shape[1])
    rows[:, 0] = torch.where(is_empty, -1, rows[:, 0])
    return rows
