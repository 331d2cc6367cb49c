"""What point heads share: targets of every point, losses and the decoding of boxes (PointRCNN, CVPR 2019; Part-A2).

A point inside a box belongs to the box's class. A point just outside, inside the box enlarged by GT_EXTRA_WIDTH, is
ignored: whether it belongs to the object is a matter of centimetres.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...config import lookup, required
from ...ops.boxes import enlarge_box3d, rotate_points_along_z
from ...ops.points import points_in_boxes
from ..model_utils.box_coders import POINT_BOX_CODERS
from ..model_utils.losses import SigmoidFocalClassificationLoss, WeightedSmoothL1Loss
from ..model_utils.precision import at_least_float32
from ..model_utils.weighted_batch_norm import WeightedBatchNorm1d
from .detection_head import DetectionHead
from .prediction_layout import PredictionLayout

WHERE = "MODEL.POINT_HEAD"
IGNORED = -1


class PointHeadTemplate(DetectionHead):
    """Base of the point heads; a subclass predicts and fills ``forward_ret_dict``."""

    def __init__(
        self,
        model_cfg: Mapping[str, Any],
        num_class: int,
        predict_boxes_when_training: bool = False,
    ) -> None:
        super().__init__(model_cfg, num_class, predict_boxes_when_training)
        losses = required(model_cfg, "LOSS_CONFIG", WHERE)
        self.loss_weights = required(losses, "LOSS_WEIGHTS", f"{WHERE}.LOSS_CONFIG")
        self.cls_loss_func = SigmoidFocalClassificationLoss(alpha=0.25, gamma=2.0)
        self.reg_loss_func = _box_loss(losses.get("LOSS_REG"), self.loss_weights)
        self.box_coder = self._build_box_coder(required(model_cfg, "TARGET_CONFIG", WHERE))

    def score_taps(self) -> list[str]:
        """The layers of the classes."""
        return ["cls_layers"]

    def prediction_layout(self) -> PredictionLayout | None:
        """None: without boxes there is nothing to match."""
        return None

    @staticmethod
    def _build_box_coder(settings: Mapping[str, Any]) -> Any:
        if settings.get("BOX_CODER") is None:
            return None
        coder = lookup(POINT_BOX_CODERS, settings["BOX_CODER"], f"{WHERE}.TARGET_CONFIG.BOX_CODER")
        return coder(**settings.get("BOX_CODER_CONFIG", {}))

    @staticmethod
    def make_fc_layers(
        fc_cfg: Sequence[int], input_channels: int, output_channels: int
    ) -> nn.Sequential:
        """Linear, batch norm and ReLU for every width in ``fc_cfg``, then a linear layer to the outputs."""
        layers: list[nn.Module] = []
        for width in fc_cfg:
            layers += [
                nn.Linear(input_channels, width, bias=False),
                WeightedBatchNorm1d(width),
                nn.ReLU(),
            ]
            input_channels = width
        return nn.Sequential(*layers, nn.Linear(input_channels, output_channels))

    def features_of(self, batch_dict: Mapping[str, Any]) -> Tensor:
        """The point features (N, C) this head looks at."""
        before_fusion = self.model_cfg.get("USE_POINT_FEATURES_BEFORE_FUSION")
        return batch_dict["point_features_before_fusion" if before_fusion else "point_features"]

    @torch.no_grad()
    def assign_targets(
        self,
        batch_dict: Mapping[str, Any],
        ret_box_labels: bool = False,
        ret_part_labels: bool = False,
    ) -> dict[str, Tensor]:
        """Targets for ``point_coords`` (N, 4) and ``gt_boxes`` (B, G, 7 + C + 1).

        Returns:
            ``point_cls_labels`` (N,) int64: class from 1, 0 for background, -1 ignored; ``point_box_labels``
            (N, code_size) where asked for, ``point_part_labels`` (N, 3) likewise; both 0 outside of boxes.
        """
        points, gt_boxes = batch_dict["point_coords"], batch_dict["gt_boxes"]
        width = required(
            required(self.model_cfg, "TARGET_CONFIG", WHERE),
            "GT_EXTRA_WIDTH",
            f"{WHERE}.TARGET_CONFIG",
        )
        labels = torch.zeros(len(points), dtype=torch.int64, device=points.device)
        owners = points.new_zeros(len(points), gt_boxes.shape[-1])
        for frame, boxes in enumerate(gt_boxes):
            rows = torch.nonzero(points[:, 0] == frame).flatten()
            boxes = boxes[boxes.ne(0).any(dim=1)]
            owner = points_in_boxes(points[rows, 1:4], boxes)
            nearly = points_in_boxes(points[rows, 1:4], enlarge_box3d(boxes, width))
            inside = owner >= 0
            owners[rows[inside]] = boxes[owner[inside]].to(owners.dtype)
            labels[rows[inside != (nearly >= 0)]] = IGNORED
        return self._targets_of_owners(
            points[:, 1:4], owners, labels, ret_box_labels, ret_part_labels
        )

    def _targets_of_owners(
        self,
        xyz: Tensor,
        owners: Tensor,
        labels: Tensor,
        ret_box_labels: bool,
        ret_part_labels: bool,
    ) -> dict[str, Tensor]:
        """Targets of points (N, 3) from the box (N, 7 + C + 1) each lies in, a row of zeros where there is none."""
        positive = owners.ne(0).any(dim=1) & (labels != IGNORED)
        boxes, classes = owners[positive, :-1], owners[positive, -1].long()
        labels[positive] = 1 if self.num_class == 1 else classes
        targets = {"point_cls_labels": labels}
        if ret_box_labels:
            codes = xyz.new_zeros(len(xyz), self.box_coder.code_size)
            codes[positive] = self.box_coder.encode_torch(boxes, xyz[positive], classes)
            targets["point_box_labels"] = codes
        if ret_part_labels:
            parts = xyz.new_zeros(len(xyz), 3)
            parts[positive] = places_in_boxes(xyz[positive], boxes)
            targets["point_part_labels"] = parts
        return targets

    def get_loss(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum of the weighted losses of the last forward, and each of them for the log, still on its device."""
        losses = {"point_loss_cls": self.get_cls_layer_loss()}
        if "point_part_preds" in self.forward_ret_dict:
            losses["point_loss_part"] = self.get_part_layer_loss()
        if "point_box_preds" in self.forward_ret_dict:
            losses["point_loss_box"] = self.get_box_layer_loss()
        parts = {name: value.detach() for name, value in losses.items()}
        parts["point_pos_num"] = (self.forward_ret_dict["point_cls_labels"] > 0).sum()
        return torch.stack(list(losses.values())).sum(), parts

    def get_cls_layer_loss(self) -> Tensor:
        """Focal loss over all points that are not ignored, by the number of points on objects."""
        labels = self.forward_ret_dict["point_cls_labels"]
        logits = at_least_float32(self.forward_ret_dict["point_cls_preds"]).view(-1, self.num_class)
        weights = (labels >= 0) / (labels > 0).sum().clamp_min(1)
        classes = torch.arange(1, self.num_class + 1, device=labels.device)
        target = (labels.unsqueeze(1) == classes).to(logits.dtype)
        return (
            self.cls_loss_func(logits, target, weights=weights).sum()
            * self.loss_weights["point_cls_weight"]
        )

    def get_box_layer_loss(self) -> Tensor:
        """Loss of the box codes of points on objects, by their number."""
        positive = self.forward_ret_dict["point_cls_labels"] > 0
        codes = at_least_float32(self.forward_ret_dict["point_box_preds"])[positive]
        loss = self.reg_loss_func(codes, self.forward_ret_dict["point_box_labels"][positive])
        return loss.sum() / positive.sum().clamp_min(1) * self.loss_weights["point_box_weight"]

    def get_part_layer_loss(self) -> Tensor:
        """Cross entropy of the places in the box of points on objects, by their number."""
        positive = self.forward_ret_dict["point_cls_labels"] > 0
        logits = at_least_float32(self.forward_ret_dict["point_part_preds"])[positive]
        target = self.forward_ret_dict["point_part_labels"][positive]
        loss = F.binary_cross_entropy_with_logits(logits, target, reduction="sum")
        return loss / (3 * positive.sum().clamp_min(1)) * self.loss_weights["point_part_weight"]

    def generate_predicted_boxes(
        self, points: Tensor, cls_preds: Tensor, box_preds: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Logits (N, num_class) and boxes (N, 7 + C) that points (N, 3) propose, sized for their best class."""
        logits = at_least_float32(cls_preds)
        boxes = self.box_coder.decode_torch(
            at_least_float32(box_preds), points, logits.argmax(dim=-1) + 1
        )
        return logits, boxes

    def publish_boxes(
        self, batch_dict: dict[str, Any], cls_preds: Tensor, box_preds: Tensor
    ) -> None:
        """In eval, or for a second stage, write what the points propose."""
        if self.training and not self.predict_boxes_when_training:
            return
        coords = batch_dict["point_coords"]
        logits, boxes = self.generate_predicted_boxes(coords[:, 1:4], cls_preds, box_preds)
        batch_dict.update(
            batch_cls_preds=logits,
            batch_box_preds=boxes,
            batch_index=coords[:, 0],
            cls_preds_normalized=False,
        )


def places_in_boxes(points: Tensor, boxes: Tensor) -> Tensor:
    """Where points (N, 3) lie in their boxes (N, 7+), along the box's own axes: (N, 3), 0 to 1."""
    offset = rotate_points_along_z((points - boxes[:, :3]).unsqueeze(1), -boxes[:, 6]).squeeze(1)
    return (offset / boxes[:, 3:6] + 0.5).clamp(0, 1)


class _PlainLoss(nn.Module):
    """A loss of torch without code weights."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """(N, codes) and (N, codes) to (N, codes)."""
        return self.function(prediction, target, reduction="none")


def _box_loss(name: str | None, weights: Mapping[str, Any]) -> nn.Module:
    """The loss of box codes that LOSS_REG names."""
    losses = {
        "smooth-l1": lambda: _PlainLoss(F.smooth_l1_loss),
        "l1": lambda: _PlainLoss(F.l1_loss),
        "WeightedSmoothL1Loss": lambda: WeightedSmoothL1Loss(
            code_weights=weights.get("code_weights")
        ),
    }
    return lookup(losses, name or "smooth-l1", f"{WHERE}.LOSS_CONFIG.LOSS_REG")()
