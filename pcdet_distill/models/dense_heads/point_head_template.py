"""PointHeadTemplate: targets, losses and box decoding of point heads (PointRCNN, 2019; Part-A2).

A point inside a box belongs to the class of the box. A point just outside of it, inside the box
enlarged by GT_EXTRA_WIDTH, is ignored: labels are not exact enough to call it background.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...config import lookup, required
from ...ops.boxes import enlarge_box3d, rotate_points_along_z
from ...ops.frames import split_by_frame
from ...ops.points import points_in_boxes
from ...ops.precision import at_least_float32
from ...types import BatchDict, ConfigDict
from ..model_utils.box_coders import POINT_BOX_CODERS, PointResidualCoder
from ..model_utils.losses import SigmoidFocalClassificationLoss, WeightedSmoothL1Loss
from ..model_utils.weighted_batch_norm import WeightedBatchNorm1d
from .detection_head import DetectionHead, one_hot_labels
from .prediction_layout import PointLayout

WHERE = "MODEL.POINT_HEAD"
TARGETS = f"{WHERE}.TARGET_CONFIG"
IGNORED = -1
FAR_M = 1e6


class PointHeadTemplate(DetectionHead):
    """Base of the point heads.

    A subclass makes its layers in ``build_layers``, and predicts in ``forward``.

    Args:
        model_cfg: the POINT_HEAD block.
        num_class: number of classes to predict.
        input_channels: channels of the point features.
        predict_boxes_when_training: decode boxes in training too, as proposals of a second stage.
        others: what OpenPCDet passes to every point head, not needed here.
    """

    def __init__(
        self,
        *,
        model_cfg: ConfigDict,
        num_class: int,
        input_channels: int,
        predict_boxes_when_training: bool = False,
        **others: object,
    ) -> None:
        super().__init__(model_cfg, num_class, predict_boxes_when_training)
        losses_cfg = required(model_cfg, "LOSS_CONFIG", WHERE)
        self.loss_weights = required(losses_cfg, "LOSS_WEIGHTS", f"{WHERE}.LOSS_CONFIG")
        self.cls_loss_func = SigmoidFocalClassificationLoss(alpha=0.25, gamma=2.0)
        self.reg_loss_func = _box_loss(losses_cfg.get("LOSS_REG"), self.loss_weights)
        self.box_coder = _box_coder(required(model_cfg, "TARGET_CONFIG", WHERE))
        self.box_layers: nn.Sequential | None = None
        self.build_layers(input_channels)

    def build_layers(self, input_channels: int) -> None:
        """Make the layers of the head."""
        raise NotImplementedError(f"{type(self).__name__} does not define build_layers")

    def make_fc_layers(self, key: str, input_channels: int, output_channels: int) -> nn.Sequential:
        """Fully connected layers with the hidden widths of the yaml key ``key``.

        Each hidden layer is linear, batch norm and ReLU; the last one is linear.
        """
        layers: list[nn.Module] = []
        for width in required(self.model_cfg, key, WHERE):
            layers.append(nn.Linear(input_channels, width, bias=False))
            layers.append(WeightedBatchNorm1d(width))
            layers.append(nn.ReLU())
            input_channels = width
        layers.append(nn.Linear(input_channels, output_channels))
        return nn.Sequential(*layers)

    def score_taps(self) -> list[str]:
        """The layers of the classes."""
        return ["cls_layers"]

    def prediction_layout(self) -> PointLayout | None:
        """The outputs of class and box layers, by point; None without boxes."""
        if self.box_layers is None or self.box_coder is None:
            return None
        return PointLayout(
            modules=("cls_layers", "box_layers"),
            num_class=self.num_class,
            box_coder=self.box_coder,
        )

    def features_of(self, batch_dict: BatchDict) -> Tensor:
        """The point features (N, C) that this head reads.

        PV-RCNN's keypoints are scored by their features before the fusion, so that the fused ones
        serve the second stage alone.
        """
        if self.model_cfg.get("USE_POINT_FEATURES_BEFORE_FUSION"):
            return batch_dict["point_features_before_fusion"]
        return batch_dict["point_features"]

    @torch.no_grad()
    def assign_targets(
        self,
        batch_dict: BatchDict,
        ret_box_labels: bool = False,
        ret_part_labels: bool = False,
    ) -> dict[str, Tensor]:
        """Targets for ``point_coords`` (N, 4) and ``gt_boxes`` (B, G, 7 + C + 1).

        Returns:
            ``point_cls_labels`` (N,) int64: class from 1, 0 for background, -1 ignored. With
            ``ret_box_labels`` also ``point_box_labels`` (N, code_size), and with
            ``ret_part_labels`` ``point_part_labels`` (N, 3); both are 0 outside of boxes.
        """
        coords = batch_dict["point_coords"]
        xyz = coords[:, 1:4]
        labels, boxes_of_points = self._match_points(coords, batch_dict["gt_boxes"])
        on_object = boxes_of_points.ne(0).any(dim=1) & (labels != IGNORED)
        positive = torch.nonzero(on_object)[:, 0]
        boxes = boxes_of_points[positive, :-1]
        classes = boxes_of_points[positive, -1].long()
        labels[positive] = torch.ones_like(classes) if self.num_class == 1 else classes
        targets = {"point_cls_labels": labels}
        if ret_box_labels:
            assert self.box_coder is not None
            codes = xyz.new_zeros(len(xyz), self.box_coder.code_size)
            codes[positive] = self.box_coder.encode_torch(boxes, xyz[positive], classes)
            targets["point_box_labels"] = codes
        if ret_part_labels:
            parts = xyz.new_zeros(len(xyz), 3)
            parts[positive] = places_in_boxes(xyz[positive], boxes)
            targets["point_part_labels"] = parts
        return targets

    def _match_points(self, coords: Tensor, gt_boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Which point lies in which box.

        Args:
            coords: (N, 4) frame, x, y, z.
            gt_boxes: (B, G, 7 + C + 1); rows of zeros are padding.

        Returns:
            labels (N,) int64: -1 for points just outside of a box, else 0; and the box (N,
            7 + C + 1) of each point, zeros where there is none.
        """
        extra_width = required(self.model_cfg["TARGET_CONFIG"], "GT_EXTRA_WIDTH", TARGETS)
        labels = torch.zeros(len(coords), dtype=torch.int64, device=coords.device)
        boxes_of_points = coords.new_zeros(len(coords), gt_boxes.shape[-1])
        if gt_boxes.shape[1] == 0:
            return labels, boxes_of_points
        for frame, rows in enumerate(split_by_frame(coords[:, 0], len(gt_boxes))):
            xyz = coords[rows, 1:4]
            boxes = _without_padding(gt_boxes[frame])
            box_index = points_in_boxes(xyz, boxes)
            is_inside = box_index >= 0
            is_inside_enlarged = points_in_boxes(xyz, enlarge_box3d(boxes, extra_width)) >= 0
            own_boxes = boxes[box_index.clamp_min(0).long()].to(boxes_of_points.dtype)
            boxes_of_points[rows] = own_boxes.masked_fill(~is_inside[:, None], 0)
            labels[rows] = torch.where(is_inside != is_inside_enlarged, IGNORED, 0)
        return labels, boxes_of_points

    def get_loss(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum of the weighted losses of the last forward, and each of them for the log."""
        losses = {"point_loss_cls": self.get_cls_layer_loss()}
        if "point_part_preds" in self.forward_ret_dict:
            losses["point_loss_part"] = self.get_part_layer_loss()
        if "point_box_preds" in self.forward_ret_dict:
            losses["point_loss_box"] = self.get_box_layer_loss()
        entries = {name: value.detach() for name, value in losses.items()}
        entries["point_pos_num"] = (self.forward_ret_dict["point_cls_labels"] > 0).sum()
        return torch.stack(list(losses.values())).sum(), entries

    def get_cls_layer_loss(self) -> Tensor:
        """Focal loss over all points that are not ignored, divided by the points on objects."""
        labels = self.forward_ret_dict["point_cls_labels"]
        logits = at_least_float32(self.forward_ret_dict["point_cls_preds"])
        logits = logits.view(-1, self.num_class)
        weights = (labels >= 0) / (labels > 0).sum().clamp_min(1)
        classes = torch.arange(1, self.num_class + 1, device=labels.device)
        target = one_hot_labels(labels, classes, logits.dtype)
        loss = self.cls_loss_func(logits, target, weights=weights).sum()
        return loss * self.loss_weights["point_cls_weight"]

    def get_box_layer_loss(self) -> Tensor:
        """Loss of the box codes of points on objects, divided by their number."""
        positive = torch.nonzero(self.forward_ret_dict["point_cls_labels"] > 0)[:, 0]
        codes = at_least_float32(self.forward_ret_dict["point_box_preds"])[positive]
        targets = self.forward_ret_dict["point_box_labels"][positive]
        loss = self.reg_loss_func(codes, targets).sum() / max(len(positive), 1)
        return loss * self.loss_weights["point_box_weight"]

    def get_part_layer_loss(self) -> Tensor:
        """Cross entropy of the places inside the box, a mean over points on objects and axes.

        The places are numbers from 0 to 1, not classes. Being bounded, they are predicted through a
        sigmoid, whose gradient cross entropy keeps from vanishing at both ends (Part-A2).
        """
        positive = torch.nonzero(self.forward_ret_dict["point_cls_labels"] > 0)[:, 0]
        logits = at_least_float32(self.forward_ret_dict["point_part_preds"])[positive]
        target = self.forward_ret_dict["point_part_labels"][positive]
        loss = F.binary_cross_entropy_with_logits(logits, target, reduction="sum")
        return loss / (3 * max(len(positive), 1)) * self.loss_weights["point_part_weight"]

    def generate_predicted_boxes(
        self, points: Tensor, cls_preds: Tensor, box_preds: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Logits (N, num_class) and boxes (N, 7 + C) that points (N, 3) propose.

        The sizes are relative to the mean size of the class with the highest logit.
        """
        assert self.box_coder is not None
        logits = at_least_float32(cls_preds)
        labels = logits.argmax(dim=-1) + 1
        boxes = self.box_coder.decode_torch(at_least_float32(box_preds), points, labels)
        return logits, boxes

    def publish_scores(self, batch_dict: BatchDict, cls_preds: Tensor) -> None:
        """Write ``point_cls_scores`` (N,), the highest class probability of each point."""
        batch_dict["point_cls_scores"] = cls_preds.max(dim=-1).values.sigmoid()

    def publish_boxes(self, batch_dict: BatchDict, cls_preds: Tensor, box_preds: Tensor) -> None:
        """In eval, or for a second stage, write the boxes that the points propose.

        These are ``batch_cls_preds`` (N, num_class) logits, ``batch_box_preds`` (N, 7 + C),
        ``batch_index`` (N,) and ``cls_preds_normalized`` False.
        """
        if self.training and not self.predict_boxes_when_training:
            return
        coords = batch_dict["point_coords"]
        logits, boxes = self.generate_predicted_boxes(coords[:, 1:4], cls_preds, box_preds)
        batch_dict["batch_cls_preds"] = logits
        batch_dict["batch_box_preds"] = boxes
        batch_dict["batch_index"] = coords[:, 0]
        batch_dict["cls_preds_normalized"] = False


def _without_padding(boxes: Tensor) -> Tensor:
    """Boxes (G, 7+) with the rows of zeros moved to where no point lies.

    To leave them out, the host would have to wait for the number of the others.
    """
    is_padding = boxes.eq(0).all(dim=1, keepdim=True)
    centres = boxes[:, :3].masked_fill(is_padding, FAR_M)
    return torch.cat([centres, boxes[:, 3:]], dim=1)


def places_in_boxes(points: Tensor, boxes: Tensor) -> Tensor:
    """Where points (N, 3) lie in their boxes (N, 7+), along the axes of the box: (N, 3), 0 to 1."""
    offset = (points - boxes[:, :3]).unsqueeze(1)
    local = rotate_points_along_z(offset, -boxes[:, 6]).squeeze(1)
    return (local / boxes[:, 3:6] + 0.5).clamp(0, 1)


class _PlainLoss(nn.Module):
    """A loss function of torch, without code weights."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """(K, codes) and (K, codes) to (K, codes)."""
        return self.function(prediction, target, reduction="none")


def _smooth_l1_loss(code_weights: Sequence[float] | None) -> nn.Module:
    return _PlainLoss(F.smooth_l1_loss)


def _l1_loss(code_weights: Sequence[float] | None) -> nn.Module:
    return _PlainLoss(F.l1_loss)


def _weighted_smooth_l1_loss(code_weights: Sequence[float] | None) -> nn.Module:
    return WeightedSmoothL1Loss(code_weights=code_weights)


BOX_LOSSES: dict[str, Callable[[Sequence[float] | None], nn.Module]] = {
    "smooth-l1": _smooth_l1_loss,
    "l1": _l1_loss,
    "WeightedSmoothL1Loss": _weighted_smooth_l1_loss,
}


def _box_loss(name: str | None, loss_weights: ConfigDict) -> nn.Module:
    """The loss of box codes that LOSS_REG names."""
    make_loss = lookup(BOX_LOSSES, name or "smooth-l1", f"{WHERE}.LOSS_CONFIG.LOSS_REG")
    return make_loss(loss_weights.get("code_weights"))


def _box_coder(target_cfg: ConfigDict) -> PointResidualCoder | None:
    """The BOX_CODER of TARGET_CONFIG; None for a head without boxes."""
    name = target_cfg.get("BOX_CODER")
    if name is None:
        return None
    coder_class = lookup(POINT_BOX_CODERS, name, f"{TARGETS}.BOX_CODER")
    return coder_class(**target_cfg.get("BOX_CODER_CONFIG", {}))
