"""SECONDHead: predicts how well a proposal overlaps its object, from the bird's eye view.

The boxes of the first stage stay as they are. The predicted IoU becomes their score: NMS then keeps
the box that fits best, which need not be the one with the highest class score.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...config import lookup, required
from ...ops.precision import at_least_float32
from ...types import BatchDict
from ..dense_heads.detection_head import sum_losses
from .fc_layers import init_fc
from .roi_head_template import WHERE, FirstStage, RoIHeadTemplate


class SECONDHead(RoIHeadTemplate):
    """RoI grid pooling on ``spatial_features_2d``, then fully connected layers to an IoU logit."""

    def build_layers(self, first_stage: FirstStage) -> None:
        """Make ``shared_fc_layer`` and ``iou_layers``."""
        pooling = required(self.model_cfg, "ROI_GRID_POOL", WHERE)
        where = f"{WHERE}.ROI_GRID_POOL"
        self.grid_size = required(pooling, "GRID_SIZE", where)
        channels = required(pooling, "IN_CHANNEL", where)
        stride = required(pooling, "DOWNSAMPLE_RATIO", where)
        self.origin_m = [float(value) for value in first_stage.point_cloud_range[:2]]
        self.cell_m = [float(size) * stride for size in first_stage.voxel_size[:2]]
        widths = list(required(self.model_cfg, "SHARED_FC", WHERE))
        iou_widths = required(self.model_cfg, "IOU_FC", WHERE)
        self.shared_fc_layer = self.make_shared_fc(channels * self.grid_size**2, widths)
        self.iou_layers = self.make_fc_layers(widths[-1], self.num_class, iou_widths)
        init_fc(self.shared_fc_layer)
        init_fc(self.iou_layers)

    def score_taps(self) -> list[str]:
        """None: this head predicts overlaps, and the classes are those of the first stage."""
        return []

    def forward(self, batch_dict: BatchDict) -> BatchDict:
        """Predict the IoU of every proposal with its object.

        Reads ``spatial_features_2d`` (B, C, H, W) and what ``proposal_layer`` reads, and writes
        what that writes. In eval also writes ``batch_cls_preds`` (B, R, 1), logits of the IoU, and
        the rois as ``batch_box_preds``.
        """
        targets = self.prepare_rois(batch_dict)
        rois = batch_dict["rois"]
        # Detached: the IoU branch must not change the features that the detections depend on.
        pooled = self.roi_grid_pool(batch_dict["spatial_features_2d"].detach(), rois)
        shared = self.shared_fc_layer(pooled.flatten(1).unsqueeze(-1))
        logits = self.iou_layers(shared).squeeze(-1)
        if self.training:
            self.forward_ret_dict = {**targets, "rcnn_iou": logits}
            return batch_dict
        batch_dict["batch_cls_preds"] = at_least_float32(logits).reshape(*rois.shape[:2], -1)
        batch_dict["batch_box_preds"] = rois
        batch_dict["cls_preds_normalized"] = False
        return batch_dict

    def roi_grid_pool(self, features: Tensor, rois: Tensor) -> Tensor:
        """Sample features (B, C, H, W) on a grid in each RoI (B, R, 7): (B * R, C, grid, grid)."""
        size = self.grid_size
        places = self.grid_places(rois, features.shape[2], features.shape[3])
        pooled = []
        for frame_features, frame_places in zip(features, places):
            num_rois = len(frame_places)
            # grid_sample takes one 2D grid for each map: the grids of all RoIs, stacked as rows.
            sampled = F.grid_sample(
                at_least_float32(frame_features)[None],
                frame_places.reshape(1, num_rois * size, size, 2),
                align_corners=True,
            )
            by_roi = sampled[0].reshape(-1, num_rois, size, size)
            pooled.append(by_roi.transpose(0, 1))
        return torch.cat(pooled)

    def grid_places(self, rois: Tensor, height: int, width: int) -> Tensor:
        """Where a map (H, W) is sampled: (B, R, grid, grid, 2) as x, y from -1 to 1.

        The unit grid is turned by the RoI's heading and then stretched along the axes of the map.
        Stretching along the axes of the RoI would be right, but OpenPCDet builds its affine matrix
        in this order, and its checkpoints were trained so.
        """
        unit = torch.linspace(-1, 1, self.grid_size, device=rois.device, dtype=rois.dtype)
        ahead = unit.view(1, -1)
        aside = unit.view(-1, 1)
        cos = torch.cos(rois[..., 6])[..., None, None]
        sin = torch.sin(rois[..., 6])[..., None, None]
        x = self._along_axis(rois, 0, ahead * cos - aside * sin, width)
        y = self._along_axis(rois, 1, ahead * sin + aside * cos, height)
        return torch.stack([x, y], dim=-1)

    def _along_axis(self, rois: Tensor, axis: int, unit: Tensor, num_cells: int) -> Tensor:
        """Places (B, R, grid, grid) along an axis of the map, -1 and 1 at its first and last cell.

        Args:
            rois: (B, R, 7).
            axis: 0 for x, 1 for y.
            unit: (B, R, grid, grid) places in the RoI, -1 and 1 at its borders.
            num_cells: cells of the map along the axis.
        """
        cell_m = self.cell_m[axis]
        centre = (rois[..., axis] - self.origin_m[axis]) / cell_m
        half_size = rois[..., 3 + axis] / cell_m / 2
        cell = centre[..., None, None] + unit * half_size[..., None, None]
        return 2 * cell / (num_cells - 1) - 1

    def get_loss(self) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted loss of the last forward, also as an entry for the log."""
        return sum_losses({"rcnn_loss_iou": self.get_box_iou_layer_loss()}, total="rcnn_loss")

    def get_box_iou_layer_loss(self) -> Tensor:
        """Mean loss of the predicted IoU over the sampled RoIs that are not ignored."""
        settings = self.model_cfg["LOSS_CONFIG"]
        name = required(settings, "IOU_LOSS", f"{WHERE}.LOSS_CONFIG")
        loss_function = lookup(IOU_LOSSES, name, f"{WHERE}.LOSS_CONFIG.IOU_LOSS")
        labels = self.forward_ret_dict["rcnn_cls_labels"].reshape(-1)
        counted = torch.nonzero(labels >= 0)[:, 0]
        logits = at_least_float32(self.forward_ret_dict["rcnn_iou"]).reshape(-1)[counted]
        loss = loss_function(logits, labels[counted].to(logits.dtype))
        return loss.sum() / max(len(counted), 1) * self.loss_weights["rcnn_iou_weight"]


def _binary_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none")


def _squared_error(logits: Tensor, target: Tensor) -> Tensor:
    return (logits - target).square()


def _smooth_l1(logits: Tensor, target: Tensor) -> Tensor:
    return F.smooth_l1_loss(logits, target, beta=1 / 9, reduction="none")


IOU_LOSSES = {
    "BinaryCrossEntropy": _binary_cross_entropy,
    "L2": _squared_error,
    "smoothL1": _smooth_l1,
}
