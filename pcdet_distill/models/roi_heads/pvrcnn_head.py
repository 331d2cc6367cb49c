"""PVRCNNHead: a grid in every RoI gathers features of keypoints (PV-RCNN, CVPR 2020).

Each cell gathers by set abstraction, or by vector pooling (PV-RCNN++, IJCV 2023).
"""

from __future__ import annotations

from torch import Tensor

from ...config import required
from ...ops.frames import stack_frames
from ...types import BatchDict
from ..model_utils.local_aggregation import build_local_aggregation
from ..model_utils.places import framed_places, roi_grid_points
from .roi_head_template import WHERE, FirstStage, RoIHeadTemplate


class PVRCNNHead(RoIHeadTemplate):
    """RoI grid pooling of ``point_features``, then fully connected layers."""

    def build_layers(self, first_stage: FirstStage) -> None:
        """Make the pooling layer and the predictors."""
        pooling = required(self.model_cfg, "ROI_GRID_POOL", WHERE)
        where = f"{WHERE}.ROI_GRID_POOL"
        self.grid_size = required(pooling, "GRID_SIZE", where)
        self.roi_grid_pool_layer = build_local_aggregation(
            pooling, first_stage.input_channels, where
        )
        pooled_channels = self.roi_grid_pool_layer.num_output_features
        assert isinstance(pooled_channels, int)
        self.pooled_channels = pooled_channels
        self.make_predictors(self.pooled_channels * self.grid_size**3)

    def refine(self, batch_dict: BatchDict) -> tuple[Tensor, Tensor]:
        """Class logits and box codes of all RoIs.

        Reads ``rois`` (B, R, 7), ``point_coords`` (K, 4), ``point_features`` (K, C) and
        ``point_cls_scores`` (K,). Writes ``roi_point_features`` and ``roi_point_coords`` of the
        cells of all RoIs.
        """
        return self.predict(self.roi_grid_pool(batch_dict).transpose(1, 2))

    def roi_grid_pool(self, batch_dict: BatchDict) -> Tensor:
        """Features (B * R, cells, C) of the cells of all RoIs.

        Keypoints on the background carry little of an object. Their features are scaled down by
        the foreground score (predicted keypoint weighting).
        """
        rois = batch_dict["rois"]
        frame = batch_dict["point_coords"][:, 0]
        scores = batch_dict["point_cls_scores"].reshape(-1, 1)
        weighted_features = batch_dict["point_features"] * scores
        counts, (coords, features) = stack_frames(
            frame, len(rois), batch_dict["point_coords"], weighted_features
        )
        cells = roi_grid_points(rois.flatten(0, 1), self.grid_size)
        cell_counts = [rois.shape[1] * cells.shape[1]] * len(counts)
        xyz = coords[:, 1:4].contiguous()
        _, pooled = self.roi_grid_pool_layer(
            xyz, counts, cells.reshape(-1, 3), cell_counts, features
        )
        if len(features) == 0:
            # Adds zero, so that the layers that make keypoints get a gradient without any.
            pooled = pooled + features.sum()
        batch_dict["roi_point_features"] = pooled
        batch_dict["roi_point_coords"] = framed_places(rois, cells)
        return pooled.reshape(*cells.shape[:2], -1)
