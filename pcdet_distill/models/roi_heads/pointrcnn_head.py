"""PointRCNNHead: refines a proposal from the points inside, in its own frame (PointRCNN, CVPR 2019, section 3.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...config import required, same_length
from ...ops.boxes import rotate_points_along_z
from ...ops.roi_pooling import roipoint_pool3d
from ..model_utils.places import framed_places
from ..model_utils.pointnet2_modules import PointnetSAModule, SharedMLP, full_precision
from ..taps import TapInfo
from .roi_head_template import WHERE, RoIHeadTemplate, init_fc

SPATIAL_CHANNELS = 5  # x, y, z in the proposal's frame, the point's score, its depth


class PointRCNNHead(RoIHeadTemplate):
    """Points inside the RoI with their features through a small PointNet++, to a class and box codes."""

    def __init__(
        self, input_channels: int, model_cfg: Mapping[str, Any], num_class: int = 1, **kwargs: Any
    ) -> None:
        super().__init__(num_class=num_class, model_cfg=model_cfg)
        self.pooling = required(model_cfg, "ROI_POINT_POOL", WHERE)
        for key in ("POOL_EXTRA_WIDTH", "NUM_SAMPLED_POINTS", "DEPTH_NORMALIZER"):
            required(self.pooling, key, f"{WHERE}.ROI_POINT_POOL")
        settings = required(model_cfg, "SA_CONFIG", WHERE)
        lists = {
            key: required(settings, key, f"{WHERE}.SA_CONFIG")
            for key in ("NPOINTS", "RADIUS", "NSAMPLE", "MLPS")
        }
        same_length(lists, f"{WHERE}.SA_CONFIG")
        self.SA_modules = nn.ModuleList()
        self.merged_width = channels = input_channels
        for npoint, radius, nsample, widths in zip(*lists.values()):
            self.SA_modules.append(PointnetSAModule([channels, *widths], npoint, radius, nsample))
            channels = widths[-1]
        use_bn = bool(model_cfg.get("USE_BN", False))
        up = list(required(model_cfg, "XYZ_UP_LAYER", WHERE))
        self.xyz_up_layer = SharedMLP([SPATIAL_CHANNELS, *up], use_bn)
        self.merge_down_layer = SharedMLP([up[-1] + input_channels, input_channels], use_bn)
        self.cls_layers = self.make_fc_layers(
            channels, num_class, required(model_cfg, "CLS_FC", WHERE)
        )
        self.reg_layers = self.make_fc_layers(
            channels, self.box_coder.code_size, required(model_cfg, "REG_FC", WHERE)
        )
        init_fc(self.cls_layers)
        init_fc(self.reg_layers, output_std=0.001)

    def taps(self) -> list[TapInfo]:
        """What can be captured, relative to this slot."""
        return [TapInfo("@roi_point_features", self.merged_width, None, "roi")]

    def refine(self, batch_dict: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Reads ``rois`` (B, R, 7), ``point_coords`` (N, 4), ``point_features`` (N, C), ``point_cls_scores`` (N,).

        Writes ``roi_point_features`` and ``roi_point_coords`` of the points drawn in all RoIs.
        """
        pooled = self.roipool3d(batch_dict).flatten(0, 1)
        rois, sampled = pooled.shape[:2]
        rows = pooled.flatten(0, 1)
        with full_precision(rows):
            lifted = self.xyz_up_layer(rows[:, :SPATIAL_CHANNELS])
            merged = self.merge_down_layer(torch.cat([lifted, rows[:, SPATIAL_CHANNELS:]], dim=1))
        batch_dict.update(
            roi_point_features=merged, roi_point_coords=scene_places(batch_dict["rois"], pooled)
        )
        features = merged.view(rois, sampled, -1)
        xyz = pooled[..., :3]
        for module in self.SA_modules:
            xyz, features = module(xyz, features)
        shared = features.transpose(1, 2)
        return self.cls_layers(shared).flatten(1), self.reg_layers(shared).flatten(1)

    @torch.no_grad()
    def roipool3d(self, batch_dict: Mapping[str, Any]) -> Tensor:
        """Points in every RoI: (B, R, S, 5 + C), zeros in RoIs without any. No gradient leads to the first stage."""
        rois, frames = batch_dict["rois"], int(batch_dict["batch_size"])
        xyz = batch_dict["point_coords"][:, 1:4].view(frames, -1, 3)
        scores = batch_dict["point_cls_scores"].view(frames, -1, 1)
        depth = xyz.norm(dim=2, keepdim=True) / self.pooling["DEPTH_NORMALIZER"] - 0.5
        features = batch_dict["point_features"].view(frames, xyz.shape[1], -1)
        pooled, empty = roipoint_pool3d(
            xyz,
            torch.cat([scores.float(), depth, features.float()], dim=2),
            rois,
            self.pooling["NUM_SAMPLED_POINTS"],
            self.pooling["POOL_EXTRA_WIDTH"],
        )
        offset = (pooled[..., :3] - rois[..., None, :3]).flatten(0, 1)
        local = rotate_points_along_z(offset, -rois[..., 6].flatten()).view(*pooled.shape[:3], 3)
        return torch.cat([local, pooled[..., 3:]], dim=3) * ~empty[..., None, None]


def scene_places(rois: Tensor, pooled: Tensor) -> Tensor:
    """Rows (B * R * S, 4) frame, x, y, z of points (B * R, S, 3 ...) in the frames of rois (B, R, 7).

    The frame is -1 where the RoI holds no points.
    """
    flat = rois.flatten(0, 1)
    places = rotate_points_along_z(pooled[..., :3], flat[:, 6]) + flat[:, None, :3]
    rows = framed_places(rois, places)
    empty = (pooled == 0).flatten(1).all(dim=1).repeat_interleave(pooled.shape[1])
    rows[:, 0] = torch.where(empty, -1, rows[:, 0])
    return rows
