"""SECONDHead: how well a proposal overlaps its object, judged from the bird's eye view inside it.

The boxes of the first stage stay as they are; the predicted IoU becomes their score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...config import lookup, required
from ...ops.precision import at_least_float32
from .roi_head_template import WHERE, RoIHeadTemplate, init_fc, total_of


class SECONDHead(RoIHeadTemplate):
    """RoI grid pooling on ``spatial_features_2d``, then fully connected layers to one IoU logit."""

    def __init__(
        self,
        input_channels: int,
        model_cfg: Mapping[str, Any],
        point_cloud_range: Sequence[float],
        voxel_size: Sequence[float],
        num_class: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_class=num_class, model_cfg=model_cfg)
        pooling = required(model_cfg, "ROI_GRID_POOL", WHERE)
        self.grid_size = required(pooling, "GRID_SIZE", f"{WHERE}.ROI_GRID_POOL")
        channels = required(pooling, "IN_CHANNEL", f"{WHERE}.ROI_GRID_POOL")
        stride = required(pooling, "DOWNSAMPLE_RATIO", f"{WHERE}.ROI_GRID_POOL")
        self.origin_m = [float(value) for value in point_cloud_range[:2]]
        self.cell_m = [float(size) * stride for size in voxel_size[:2]]
        shared = list(required(model_cfg, "SHARED_FC", WHERE))
        self.shared_fc_layer = self.make_shared_fc(channels * self.grid_size**2, shared)
        self.iou_layers = self.make_fc_layers(
            shared[-1], num_class, required(model_cfg, "IOU_FC", WHERE)
        )
        init_fc(self.shared_fc_layer)
        init_fc(self.iou_layers)

    def score_taps(self) -> list[str]:
        """None: this head predicts overlaps; the classes are those of the first stage."""
        return []

    def forward(self, batch_dict: dict[str, Any]) -> dict[str, Any]:
        """Reads ``spatial_features_2d`` (B, C, H, W) and what ``proposal_layer`` reads; writes what that writes.

        In eval also writes ``batch_cls_preds`` (B, R, 1), logits of the IoU, and the rois as ``batch_box_preds``.
        """
        targets = self.prepare_rois(batch_dict)
        rois = batch_dict["rois"]
        # The second stage judges the features of the first; it does not shape them.
        pooled = self.roi_grid_pool(batch_dict["spatial_features_2d"].detach(), rois)
        logits = self.iou_layers(self.shared_fc_layer(pooled.flatten(1).unsqueeze(-1))).squeeze(-1)
        if self.training:
            self.forward_ret_dict = {**targets, "rcnn_iou": logits}
        else:
            logits = at_least_float32(logits).reshape(*rois.shape[:2], -1)
            batch_dict.update(
                batch_cls_preds=logits, batch_box_preds=rois, cls_preds_normalized=False
            )
        return batch_dict

    def roi_grid_pool(self, features: Tensor, rois: Tensor) -> Tensor:
        """Features (B, C, H, W) on a grid in each of the rois (B, R, 7): (B * R, C, grid, grid)."""
        pooled = []
        for frame_features, places in zip(
            features, self.grid_places(rois, features.shape[2], features.shape[3])
        ):
            count, size = len(places), self.grid_size
            sampled = F.grid_sample(
                at_least_float32(frame_features)[None],
                places.reshape(1, count * size, size, 2),
                align_corners=True,
            )
            pooled.append(sampled[0].reshape(-1, count, size, size).transpose(0, 1))
        return torch.cat(pooled)

    def grid_places(self, rois: Tensor, height: int, width: int) -> Tensor:
        """Where a map (H, W) is sampled for rois (B, R, 7): (B, R, grid, grid, 2) as x, y in [-1, 1].

        Checkpoints were trained with a grid that is turned before it is stretched along the axes of the map, not along
        those of the RoI.
        """
        unit = torch.linspace(-1, 1, self.grid_size, device=rois.device, dtype=rois.dtype)
        ahead, aside = unit.view(1, -1), unit.view(-1, 1)
        cos, sin = (turn(rois[..., 6])[..., None, None] for turn in (torch.cos, torch.sin))
        turned = (ahead * cos - aside * sin, ahead * sin + aside * cos)
        places = []
        for axis, cells in enumerate((width, height)):
            centre = (rois[..., axis] - self.origin_m[axis]) / self.cell_m[axis]
            half = rois[..., 3 + axis] / self.cell_m[axis] / 2
            cell = centre[..., None, None] + turned[axis] * half[..., None, None]
            places.append(2 * cell / (cells - 1) - 1)
        return torch.stack(places, dim=-1)

    def get_loss(self) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted loss of the last forward, and its parts for the log."""
        return total_of({"rcnn_loss_iou": self.get_box_iou_layer_loss()})

    def get_box_iou_layer_loss(self) -> Tensor:
        """Mean loss of the predicted IoU over the sampled RoIs that are not ignored."""
        labels = self.forward_ret_dict["rcnn_cls_labels"].reshape(-1)
        counted = labels >= 0
        logits = at_least_float32(self.forward_ret_dict["rcnn_iou"]).reshape(-1)[counted]
        name = required(self.model_cfg["LOSS_CONFIG"], "IOU_LOSS", f"{WHERE}.LOSS_CONFIG")
        loss = lookup(IOU_LOSSES, name, f"{WHERE}.LOSS_CONFIG.IOU_LOSS")(
            logits, labels[counted].to(logits.dtype)
        )
        return loss.sum() / counted.sum().clamp_min(1) * self.loss_weights["rcnn_iou_weight"]


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
