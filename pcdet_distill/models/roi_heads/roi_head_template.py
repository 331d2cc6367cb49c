"""RoIHeadTemplate: what second stages share (PointRCNN, CVPR 2019).

A RoI (region of interest) is a proposal of the first stage. The second stage runs in these steps:

1. ``proposal_layer`` selects proposals by NMS.
2. In training, ``assign_targets`` samples some of them, and gives each the box it overlaps most.
3. ``refine``, which a subclass defines, predicts a class and a box code for each proposal.
4. In training, ``get_loss`` compares them with the targets. In eval, ``decode_boxes`` turns the
   codes into boxes.

Codes are relative to the proposal: its centre is the origin, and its heading the x axis.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from math import pi

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...config import lookup, required
from ...errors import ConfigError
from ...ops.boxes import limit_period, rotate_points_along_z
from ...ops.frames import split_by_frame
from ...ops.nms import class_agnostic_nms
from ...ops.precision import at_least_float32
from ...types import BatchDict, ConfigDict
from ..dense_heads.detection_head import DetectionHead, sum_losses
from ..model_utils.box_coders import ANCHOR_BOX_CODERS
from ..model_utils.losses import WeightedSmoothL1Loss, corner_loss_lidar
from ..taps import TapInfo
from .fc_layers import fc_layer, init_fc
from .target_assigner.proposal_target_layer import ProposalTargetLayer

WHERE = "MODEL.ROI_HEAD"


@dataclasses.dataclass(frozen=True)
class FirstStage:
    """What a second stage builds its layers for.

    Attributes:
        input_channels: channels of ``point_features``; 0 without points.
        backbone_channels: channels of each level of the 3D backbone; empty without one.
        point_cloud_range: metres; x, y, z minimum, then maximum.
        voxel_size: metres, of the finest level; empty without voxels.
    """

    input_channels: int
    backbone_channels: Mapping[str, int]
    point_cloud_range: Sequence[float]
    voxel_size: Sequence[float]


class RoIHeadTemplate(DetectionHead):
    """Base of the second stages.

    A subclass makes its layers in ``build_layers``, and predicts in ``refine``.

    Attributes:
        pooled_channels: channels of ``roi_point_features``; 0 for a head that writes none.

    Args:
        num_class: number of class columns; 1 for a head with CLASS_AGNOSTIC.
        model_cfg: the ROI_HEAD block.
        input_channels, backbone_channels, point_cloud_range, voxel_size: as in ``FirstStage``, or
            None.
        others: what OpenPCDet passes to every second stage, not needed here.
    """

    pooled_channels: int = 0

    def __init__(
        self,
        num_class: int,
        model_cfg: ConfigDict,
        *,
        input_channels: int | None = None,
        backbone_channels: Mapping[str, int] | None = None,
        point_cloud_range: Sequence[float] | None = None,
        voxel_size: Sequence[float] | None = None,
        **others: object,
    ) -> None:
        super().__init__(model_cfg, num_class)
        targets = required(model_cfg, "TARGET_CONFIG", WHERE)
        where = f"{WHERE}.TARGET_CONFIG"
        coder_name = required(targets, "BOX_CODER", where)
        coder_class = lookup(ANCHOR_BOX_CODERS, coder_name, f"{where}.BOX_CODER")
        self.box_coder = coder_class(**targets.get("BOX_CODER_CONFIG", {}))
        self.proposal_target_layer = ProposalTargetLayer(targets)
        losses_cfg = required(model_cfg, "LOSS_CONFIG", WHERE)
        self.loss_weights = required(losses_cfg, "LOSS_WEIGHTS", f"{WHERE}.LOSS_CONFIG")
        self.reg_loss_func = WeightedSmoothL1Loss(code_weights=self.loss_weights["code_weights"])
        first_stage = FirstStage(
            input_channels=input_channels or 0,
            backbone_channels=backbone_channels or {},
            point_cloud_range=() if point_cloud_range is None else point_cloud_range,
            voxel_size=() if voxel_size is None else voxel_size,
        )
        self.build_layers(first_stage)

    def build_layers(self, first_stage: FirstStage) -> None:
        """Make the layers of the head; the template has none."""

    def taps(self) -> list[TapInfo]:
        """What can be captured: the features that the head has pooled in all RoIs."""
        if self.pooled_channels == 0:
            return []
        return [TapInfo("@roi_point_features", self.pooled_channels, None, "roi")]

    def score_taps(self) -> list[str]:
        """The layers of the classes."""
        return ["cls_layers"]

    def prediction_layout(self) -> None:
        """None: two detectors refine different proposals, so their predictions do not match."""
        return

    def refine(self, batch_dict: BatchDict) -> tuple[Tensor, Tensor]:
        """Class logits (B * R, num_class) and box codes (B * R, code_size) of ``rois``."""
        raise NotImplementedError(f"{type(self).__name__} does not define refine")

    def forward(self, batch_dict: BatchDict) -> BatchDict:
        """Refine the proposals.

        Reads what ``proposal_layer`` and ``refine`` read. Writes ``rois``, ``roi_scores`` and
        ``roi_labels``; in eval also ``batch_cls_preds`` (B, R, num_class) logits,
        ``batch_box_preds`` (B, R, 7 + C) and ``cls_preds_normalized`` False.
        """
        targets = self.prepare_rois(batch_dict)
        logits, codes = self.refine(batch_dict)
        if self.training:
            self.forward_ret_dict = {**targets, "rcnn_cls": logits, "rcnn_reg": codes}
            return batch_dict
        batch_size = int(batch_dict["batch_size"])
        logits, boxes = self.generate_predicted_boxes(batch_size, batch_dict["rois"], logits, codes)
        batch_dict["batch_cls_preds"] = logits
        batch_dict["batch_box_preds"] = boxes
        batch_dict["cls_preds_normalized"] = False
        return batch_dict

    def prepare_rois(self, batch_dict: BatchDict) -> dict[str, Tensor]:
        """Write the proposals; in training only sampled ones, whose targets are returned.

        PV-RCNN++ needs the proposals before this head runs. It calls this method itself, and keeps
        the targets in ``roi_targets_dict`` until then.
        """
        targets = batch_dict.pop("roi_targets_dict", None)
        if targets is not None:
            return targets
        settings = required(self.model_cfg, "NMS_CONFIG", WHERE)
        mode = "TRAIN" if self.training else "TEST"
        self.proposal_layer(batch_dict, required(settings, mode, f"{WHERE}.NMS_CONFIG"))
        if not self.training:
            return {}
        targets = self.assign_targets(batch_dict)
        batch_dict["rois"] = targets["rois"]
        batch_dict["roi_labels"] = targets["roi_labels"]
        return targets

    @torch.no_grad()
    def proposal_layer(self, batch_dict: BatchDict, nms_config: ConfigDict) -> None:
        """Select proposals from the predictions of the first stage, by NMS over all its classes.

        Reads ``batch_cls_preds`` (B, A, classes) and ``batch_box_preds`` (B, A, 7 + C), or rows
        (N, ...) with ``batch_index`` (N,), which is removed. Writes ``rois`` (B, R, 7 + C), padded
        with zeros; ``roi_scores`` (B, R) logits; ``roi_labels`` (B, R) from 1;
        ``has_class_labels``. Leaves proposals alone that are already there.
        """
        if batch_dict.get("rois") is not None:
            return
        if nms_config.get("MULTI_CLASSES_NMS"):
            raise ConfigError(
                f"{WHERE}.NMS_CONFIG: MULTI_CLASSES_NMS is true, expected false: one NMS for "
                "the proposals of all classes"
            )
        boxes = batch_dict["batch_box_preds"]
        logits = batch_dict["batch_cls_preds"]
        batch_index = batch_dict.pop("batch_index", None)
        num_frames = int(batch_dict["batch_size"])
        shape = (num_frames, nms_config["NMS_POST_MAXSIZE"])
        rois = boxes.new_zeros(*shape, boxes.shape[-1])
        roi_scores = logits.new_zeros(shape)
        roi_labels = torch.ones(shape, dtype=torch.long, device=boxes.device)
        rows_of_frames: Sequence[int | Tensor] = range(num_frames)
        if batch_index is not None:
            rows_of_frames = split_by_frame(batch_index, num_frames)
        for frame, rows in enumerate(rows_of_frames):
            frame_boxes = boxes[rows]
            scores, classes = logits[rows].max(dim=1)
            kept, kept_scores = class_agnostic_nms(scores, frame_boxes, nms_config)
            count = len(kept)
            rois[frame, :count] = frame_boxes[kept]
            roi_scores[frame, :count] = kept_scores
            roi_labels[frame, :count] = classes[kept] + 1
        batch_dict["rois"] = rois
        batch_dict["roi_scores"] = roi_scores
        batch_dict["roi_labels"] = roi_labels
        batch_dict["has_class_labels"] = logits.shape[-1] > 1

    @torch.no_grad()
    def assign_targets(self, batch_dict: BatchDict) -> dict[str, Tensor]:
        """Sampled proposals and their boxes, relative to each proposal.

        The centre of a box is given in the axes of its RoI, the heading relative to the RoI's. A
        box that faces away is turned by half a circle, to within a quarter circle of the RoI: the
        second stage cannot turn a box around, so it is not punished for that.

        Returns:
            what ``ProposalTargetLayer`` returns, but with ``gt_of_rois`` relative to the RoIs and
            ``gt_of_rois_src`` the boxes in the scene.
        """
        targets = self.proposal_target_layer(batch_dict)
        rois = targets["rois"]
        boxes = targets["gt_of_rois"]
        roi_heading = rois[..., 6]
        offset = boxes[..., :3] - rois[..., :3]
        centre = rotate_points_along_z(offset.reshape(-1, 1, 3), -roi_heading.reshape(-1))
        centre = centre.reshape(offset.shape)
        heading = limit_period(boxes[..., 6:7] - rois[..., 6:7], 0.5, pi)
        parts = [centre, boxes[..., 3:6], heading, boxes[..., 7:]]
        targets["gt_of_rois"] = torch.cat(parts, dim=-1)
        targets["gt_of_rois_src"] = boxes
        return targets

    def get_loss(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum of the weighted losses of the last forward, and each of them for the log."""
        losses = {"rcnn_loss_cls": self.get_box_cls_layer_loss()}
        losses.update(self.get_box_reg_layer_loss())
        return sum_losses(losses, total="rcnn_loss")

    def get_box_cls_layer_loss(self) -> Tensor:
        """Mean class loss over the sampled RoIs that are not ignored."""
        settings = self.model_cfg["LOSS_CONFIG"]
        name = required(settings, "CLS_LOSS", f"{WHERE}.LOSS_CONFIG")
        loss_function = lookup(CLS_LOSSES, name, f"{WHERE}.LOSS_CONFIG.CLS_LOSS")
        labels = self.forward_ret_dict["rcnn_cls_labels"].reshape(-1)
        counted = torch.nonzero(labels >= 0)[:, 0]
        logits = at_least_float32(self.forward_ret_dict["rcnn_cls"])[counted]
        loss = loss_function(logits, labels[counted])
        return loss / max(len(counted), 1) * self.loss_weights["rcnn_cls_weight"]

    def get_box_reg_layer_loss(self) -> dict[str, Tensor]:
        """Smooth L1 loss of the box codes, and optionally of the corners, of positive RoIs.

        Both are means over the positive RoIs.
        """
        settings = self.model_cfg["LOSS_CONFIG"]
        if settings.get("REG_LOSS", "smooth-l1") != "smooth-l1":
            raise ConfigError(
                f"{WHERE}.LOSS_CONFIG.REG_LOSS is {settings['REG_LOSS']!r}, expected 'smooth-l1'"
            )
        kept = self.forward_ret_dict
        positive = torch.nonzero(kept["reg_valid_mask"].reshape(-1) > 0)[:, 0]
        count = max(len(positive), 1)
        codes = at_least_float32(kept["rcnn_reg"])[positive]
        rois = kept["rois"].flatten(0, 1)[positive]
        relative_boxes = kept["gt_of_rois"].flatten(0, 1)[positive]
        boxes = kept["gt_of_rois_src"].flatten(0, 1)[positive]
        # The boxes are relative to the RoIs, which therefore act as anchors without a heading.
        anchors = _at_origin(rois, turned=False)
        targets = self.box_coder.encode_torch(relative_boxes[:, :-1], anchors)
        loss = self.reg_loss_func(codes, targets).sum() / count
        losses = {"rcnn_loss_reg": loss * self.loss_weights["rcnn_reg_weight"]}
        if settings.get("CORNER_LOSS_REGULARIZATION"):
            # Codes are learnt one by one; corners join centre, size and heading (F-PointNet, 2018).
            loss = corner_loss_lidar(self.decode_boxes(codes, rois), boxes).sum() / count
            losses["rcnn_loss_corner"] = loss * self.loss_weights["rcnn_corner_weight"]
        return losses

    def generate_predicted_boxes(
        self, batch_size: int, rois: Tensor, cls_preds: Tensor, box_preds: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Logits (B, R, num_class) and boxes (B, R, 7 + C) in the scene.

        Args:
            batch_size: B.
            rois: (B, R, 7 + C).
            cls_preds: (B * R, num_class) logits.
            box_preds: (B * R, code_size) codes relative to the rois.
        """
        logits = at_least_float32(cls_preds)
        logits = logits.reshape(batch_size, -1, logits.shape[-1])
        codes = at_least_float32(box_preds)
        boxes = self.decode_boxes(codes, rois.detach().flatten(0, 1))
        return logits, boxes.reshape(batch_size, -1, boxes.shape[-1])

    def decode_boxes(self, codes: Tensor, rois: Tensor) -> Tensor:
        """Boxes (N, 7 + C) in the scene of codes (N, code_size) relative to rois (N, 7 + C)."""
        boxes = self.box_coder.decode_torch(codes, _at_origin(rois, turned=True))
        offset = rotate_points_along_z(boxes[:, None, :3], rois[:, 6])[:, 0]
        return torch.cat([offset + rois[:, :3], boxes[:, 3:]], dim=1)

    def make_predictors(self, pooled_width: int) -> None:
        """Make ``shared_fc_layer``, ``cls_layers`` and ``reg_layers``.

        They stand behind ``pooled_width`` features of a RoI and have the widths SHARED_FC, CLS_FC
        and REG_FC. Every layer of the head, those of the subclass included, gets fresh weights.
        """
        widths = list(required(self.model_cfg, "SHARED_FC", WHERE))
        cls_widths = required(self.model_cfg, "CLS_FC", WHERE)
        reg_widths = required(self.model_cfg, "REG_FC", WHERE)
        code_channels = self.box_coder.code_size * self.num_class
        self.shared_fc_layer = self.make_shared_fc(pooled_width, widths)
        self.cls_layers = self.make_fc_layers(widths[-1], self.num_class, cls_widths)
        self.reg_layers = self.make_fc_layers(widths[-1], code_channels, reg_widths)
        init_fc(self)
        init_fc(self.reg_layers, output_std=0.001)

    def predict(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """What ``refine`` returns, of features (B * R, ...) through the layers above."""
        shared = self.shared_fc_layer(pooled.flatten(1).unsqueeze(-1))
        return self.cls_layers(shared).squeeze(-1), self.reg_layers(shared).squeeze(-1)

    def make_shared_fc(
        self, input_channels: int, widths: Sequence[int], on_rows: bool = False
    ) -> nn.Sequential:
        """Layers on (B * R, C, 1), or (B * R, C) when ``on_rows``, with dropout between them."""
        ratio = self.model_cfg.get("DP_RATIO", 0)
        layers: list[nn.Module] = []
        for number, width in enumerate(widths, start=1):
            layers += fc_layer(input_channels, width, on_rows)
            if ratio > 0 and number < len(widths):
                layers.append(nn.Dropout(ratio))
            input_channels = width
        return nn.Sequential(*layers)

    def make_fc_layers(
        self, input_channels: int, output_channels: int, fc_list: Sequence[int]
    ) -> nn.Sequential:
        """Layers on (B * R, C, 1) that end in a prediction, with dropout after the first.

        The dropout is there even with a ratio of 0: the layers behind it are numbered after it in
        checkpoints.
        """
        ratio = self.model_cfg.get("DP_RATIO", 0)
        layers: list[nn.Module] = []
        for number, width in enumerate(fc_list):
            layers += fc_layer(input_channels, width)
            if ratio >= 0 and number == 0:
                layers.append(nn.Dropout(ratio))
            input_channels = width
        layers.append(nn.Conv1d(input_channels, output_channels, 1))
        return nn.Sequential(*layers)


def _at_origin(rois: Tensor, turned: bool) -> Tensor:
    """RoIs (N, 7 + C) moved to the origin; with their headings if ``turned``, else along x."""
    origin = torch.zeros_like(rois[:, :3])
    heading = rois[:, 6:7]
    if not turned:
        heading = torch.zeros_like(heading)
    return torch.cat([origin, rois[:, 3:6], heading, rois[:, 7:]], dim=1)


def _binary_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    target = labels.to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits.reshape(-1), target, reduction="sum")


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels.long(), reduction="sum")


CLS_LOSSES = {"BinaryCrossEntropy": _binary_cross_entropy, "CrossEntropy": _cross_entropy}
