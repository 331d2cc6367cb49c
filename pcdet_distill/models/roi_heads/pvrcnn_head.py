"""PVRCNNHead: a grid in every RoI gathers the features of the keypoints around its cells (PV-RCNN, CVPR 2020).

By set abstraction, or by vector pooling (PV-RCNN++, IJCV 2023).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...config import required
from ..model_utils.local_aggregation import build_local_aggregation
from ..model_utils.places import framed_places, roi_grid_points, stack_frames
from ..taps import TapInfo
from .roi_head_template import WHERE, RoIHeadTemplate


class PVRCNNHead(RoIHeadTemplate):
    """RoI grid pooling on ``point_features``, then fully connected layers."""

    def __init__(
        self, input_channels: int, model_cfg: Mapping[str, Any], num_class: int = 1, **kwargs: Any
    ) -> None:
        super().__init__(num_class=num_class, model_cfg=model_cfg)
        pooling, where = required(model_cfg, "ROI_GRID_POOL", WHERE), f"{WHERE}.ROI_GRID_POOL"
        self.grid_size = required(pooling, "GRID_SIZE", where)
        self.roi_grid_pool_layer = build_local_aggregation(pooling, input_channels, where)
        self.pooled_channels: int = self.roi_grid_pool_layer.num_output_features  # type: ignore[assignment]
        self.make_predictors(self.pooled_channels * self.grid_size**3)

    def taps(self) -> list[TapInfo]:
        """What can be captured, relative to this slot."""
        return [TapInfo("@roi_point_features", self.pooled_channels, None, "roi")]

    def refine(self, batch_dict: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Reads ``rois``, ``point_coords`` (K, 4), ``point_features`` (K, C), ``point_cls_scores`` (K,).

        Writes ``roi_point_features`` and ``roi_point_coords`` of the cells of all RoIs.
        """
        return self.predict(self.roi_grid_pool(batch_dict).transpose(1, 2))

    def roi_grid_pool(self, batch_dict: dict[str, Any]) -> Tensor:
        """Features (B * R, cells, C) of the cells of all RoIs; background keypoints count less."""
        rois, coords = batch_dict["rois"], batch_dict["point_coords"]
        features = batch_dict["point_features"] * batch_dict["point_cls_scores"].reshape(-1, 1)
        counts, coords, features = stack_frames(coords[:, 0], len(rois), coords, features)
        cells = roi_grid_points(rois.flatten(0, 1), self.grid_size)
        cell_counts = torch.full_like(counts, rois.shape[1] * cells.shape[1])
        _, pooled = self.roi_grid_pool_layer(
            coords[:, 1:4].contiguous(), counts, cells.reshape(-1, 3), cell_counts, features
        )
        if len(features) == 0:
            pooled = (
                pooled + features.sum()
            )  # zero: what makes keypoints stays in the graph when there are none
        batch_dict.update(roi_point_features=pooled, roi_point_coords=framed_places(rois, cells))
        return pooled.reshape(*cells.shape[:2], -1)
