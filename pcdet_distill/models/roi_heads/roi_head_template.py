"""What second stages share: proposals, targets in the frame of each proposal, losses, decoding (PointRCNN, CVPR 2019).

A RoI (region of interest) is a proposal of the first stage. A subclass says how a RoI becomes features and predictions,
in ``refine``; everything before and after is here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import pi
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...config import lookup, required
from ...errors import ConfigError
from ...ops.boxes import limit_period, rotate_points_along_z
from ...ops.nms import class_agnostic_nms
from ...ops.precision import at_least_float32
from ..dense_heads.detection_head import DetectionHead
from ..model_utils.box_coders import ANCHOR_BOX_CODERS
from ..model_utils.losses import WeightedSmoothL1Loss, corner_loss_lidar
from .target_assigner.proposal_target_layer import ProposalTargetLayer

WHERE = "MODEL.ROI_HEAD"
FILLS: dict[str, Any] = {"xavier": nn.init.xavier_normal_, "kaiming": nn.init.kaiming_normal_}


class RoIHeadTemplate(DetectionHead):
    """Base of the second stages: a subclass writes ``refine``.

    Args:
        num_class: columns of the class prediction; 1 for a head with CLASS_AGNOSTIC.
        model_cfg: the ROI_HEAD block.
    """

    def __init__(self, num_class: int, model_cfg: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(model_cfg, num_class)
        targets = required(model_cfg, "TARGET_CONFIG", WHERE)
        name = required(targets, "BOX_CODER", f"{WHERE}.TARGET_CONFIG")
        coder = lookup(ANCHOR_BOX_CODERS, name, f"{WHERE}.TARGET_CONFIG.BOX_CODER")
        self.box_coder = coder(**targets.get("BOX_CODER_CONFIG", {}))
        self.proposal_target_layer = ProposalTargetLayer(targets)
        losses = required(model_cfg, "LOSS_CONFIG", WHERE)
        self.loss_weights = required(losses, "LOSS_WEIGHTS", f"{WHERE}.LOSS_CONFIG")
        self.reg_loss_func = WeightedSmoothL1Loss(code_weights=self.loss_weights["code_weights"])

    def score_taps(self) -> list[str]:
        """The layers of the classes."""
        return ["cls_layers"]

    def prediction_layout(self) -> None:
        """None: each detector refines proposals of its own, so two of them predict for different boxes."""
        return

    def refine(self, batch_dict: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Class logits (B * R, num_class) and box codes (B * R, code_size) of ``rois`` (B, R, 7 + C)."""
        raise AssertionError(f"{type(self).__name__} does not define refine")

    def forward(self, batch_dict: dict[str, Any]) -> dict[str, Any]:
        """Reads what ``proposal_layer`` and ``refine`` read; writes ``rois``, ``roi_scores``, ``roi_labels``.

        In eval also writes ``batch_cls_preds`` (B, R, num_class) logits, ``batch_box_preds`` (B, R, 7 + C),
        ``cls_preds_normalized`` False.
        """
        targets = self.prepare_rois(batch_dict)
        logits, codes = self.refine(batch_dict)
        if self.training:
            self.forward_ret_dict = {**targets, "rcnn_cls": logits, "rcnn_reg": codes}
            return batch_dict
        logits, boxes = self.generate_predicted_boxes(
            int(batch_dict["batch_size"]), batch_dict["rois"], logits, codes
        )
        batch_dict.update(batch_cls_preds=logits, batch_box_preds=boxes, cls_preds_normalized=False)
        return batch_dict

    def prepare_rois(self, batch_dict: dict[str, Any]) -> dict[str, Tensor]:
        """Proposals into ``batch_dict``; in training only the sampled ones, whose targets are returned.

        A detector that needs proposals before this head runs calls this itself, and leaves what it returned in
        ``roi_targets_dict``.
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
        batch_dict.update(rois=targets["rois"], roi_labels=targets["roi_labels"])
        return targets

    @torch.no_grad()
    def proposal_layer(self, batch_dict: dict[str, Any], nms_config: Mapping[str, Any]) -> None:
        """Proposals out of ``batch_cls_preds`` and ``batch_box_preds``, by NMS over all classes of a frame.

        The predictions are (B, A, classes) and (B, A, 7 + C), or rows (N, ...) with ``batch_index`` (N,), which is
        removed. Writes ``rois`` (B, R, 7 + C), padded with zeros; ``roi_scores`` (B, R), not normalised; ``roi_labels``
        (B, R) from 1; ``has_class_labels``. Proposals that are there already are left alone.
        """
        if batch_dict.get("rois") is not None:
            return
        if nms_config.get("MULTI_CLASSES_NMS"):
            raise ConfigError(
                f"{WHERE}.NMS_CONFIG: MULTI_CLASSES_NMS is true, expected false: one NMS for "
                "the proposals of all classes"
            )
        boxes, logits = batch_dict["batch_box_preds"], batch_dict["batch_cls_preds"]
        batch_index = batch_dict.pop("batch_index", None)
        shape = (int(batch_dict["batch_size"]), nms_config["NMS_POST_MAXSIZE"])
        rois, roi_scores = boxes.new_zeros(*shape, boxes.shape[-1]), logits.new_zeros(shape)
        roi_labels = torch.ones(shape, dtype=torch.long, device=boxes.device)
        for frame in range(shape[0]):
            rows = frame if batch_index is None else batch_index == frame
            scores, classes = logits[rows].max(dim=1)
            kept, kept_scores = class_agnostic_nms(scores, boxes[rows], nms_config)
            rois[frame, : len(kept)] = boxes[rows][kept]
            roi_scores[frame, : len(kept)] = kept_scores
            roi_labels[frame, : len(kept)] = classes[kept] + 1
        batch_dict.update(
            rois=rois,
            roi_scores=roi_scores,
            roi_labels=roi_labels,
            has_class_labels=logits.shape[-1] > 1,
        )

    @torch.no_grad()
    def assign_targets(self, batch_dict: Mapping[str, Any]) -> dict[str, Tensor]:
        """What ``ProposalTargetLayer`` returns, with ``gt_of_rois`` as the RoIs see it and ``gt_of_rois_src`` as it is.

        Seen from a RoI, a box is given relative to its centre and heading, and turned around when it looks backwards.
        """
        targets = self.proposal_target_layer(batch_dict)
        rois, boxes = targets["rois"], targets["gt_of_rois"]
        offset = (boxes[..., :3] - rois[..., :3]).reshape(-1, 1, 3)
        local = rotate_points_along_z(offset, -rois[..., 6].reshape(-1)).reshape(
            *boxes.shape[:2], 3
        )
        turn = limit_period(boxes[..., 6:7] - rois[..., 6:7], 0.5, pi)
        seen = torch.cat([local, boxes[..., 3:6], turn, boxes[..., 7:]], dim=-1)
        return {**targets, "gt_of_rois": seen, "gt_of_rois_src": boxes}

    def get_loss(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum of the weighted losses of the last forward, and each of them for the log, still on its device."""
        losses = {"rcnn_loss_cls": self.get_box_cls_layer_loss(), **self.get_box_reg_layer_loss()}
        return total_of(losses)

    def get_box_cls_layer_loss(self) -> Tensor:
        """Mean class loss over the sampled RoIs that are not ignored."""
        labels = self.forward_ret_dict["rcnn_cls_labels"].reshape(-1)
        counted = labels >= 0
        logits = at_least_float32(self.forward_ret_dict["rcnn_cls"])[counted]
        name = required(self.model_cfg["LOSS_CONFIG"], "CLS_LOSS", f"{WHERE}.LOSS_CONFIG")
        loss = lookup(CLS_LOSSES, name, f"{WHERE}.LOSS_CONFIG.CLS_LOSS")(logits, labels[counted])
        return loss / counted.sum().clamp_min(1) * self.loss_weights["rcnn_cls_weight"]

    def get_box_reg_layer_loss(self) -> dict[str, Tensor]:
        """Mean over the positive RoIs of the smooth L1 loss of their codes and, where asked for, of the corners."""
        settings = self.model_cfg["LOSS_CONFIG"]
        if settings.get("REG_LOSS", "smooth-l1") != "smooth-l1":
            raise ConfigError(
                f"{WHERE}.LOSS_CONFIG.REG_LOSS is {settings['REG_LOSS']!r}, expected 'smooth-l1'"
            )
        positive = self.forward_ret_dict["reg_valid_mask"].reshape(-1) > 0
        count = positive.sum().clamp_min(1)
        codes = at_least_float32(self.forward_ret_dict["rcnn_reg"])[positive]
        rois, seen, boxes = (
            self.forward_ret_dict[key].flatten(0, 1)[positive]
            for key in ("rois", "gt_of_rois", "gt_of_rois_src")
        )
        targets = self.box_coder.encode_torch(seen[:, :-1], _at_origin(rois, turned=False))
        loss = self.reg_loss_func(codes, targets)
        losses = {"rcnn_loss_reg": loss.sum() / count * self.loss_weights["rcnn_reg_weight"]}
        if settings.get("CORNER_LOSS_REGULARIZATION"):
            corners = corner_loss_lidar(self.decode_boxes(codes, rois), boxes)
            losses["rcnn_loss_corner"] = (
                corners.sum() / count * self.loss_weights["rcnn_corner_weight"]
            )
        return losses

    def generate_predicted_boxes(
        self, batch_size: int, rois: Tensor, cls_preds: Tensor, box_preds: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Logits (B, R, num_class) and boxes (B, R, 7 + C) of rois (B, R, 7 + C) and predictions (B * R, ...)."""
        logits = at_least_float32(cls_preds).reshape(batch_size, -1, cls_preds.shape[-1])
        boxes = self.decode_boxes(at_least_float32(box_preds), rois.detach().flatten(0, 1))
        return logits, boxes.reshape(batch_size, -1, boxes.shape[-1])

    def decode_boxes(self, codes: Tensor, rois: Tensor) -> Tensor:
        """Boxes (N, 7 + C) in the scene of codes (N, code_size) that are relative to rois (N, 7 + C)."""
        boxes = self.box_coder.decode_torch(codes, _at_origin(rois, turned=True))
        centre = rotate_points_along_z(boxes[:, None, :3], rois[:, 6])[:, 0] + rois[:, :3]
        return torch.cat([centre, boxes[:, 3:]], dim=1)

    def make_predictors(self, pooled_width: int) -> None:
        """``shared_fc_layer``, ``cls_layers`` and ``reg_layers`` behind ``pooled_width`` features of a RoI.

        Their widths are SHARED_FC, CLS_FC and REG_FC. Every layer of the head gets fresh weights.
        """
        shared = list(required(self.model_cfg, "SHARED_FC", WHERE))
        self.shared_fc_layer = self.make_shared_fc(pooled_width, shared)
        self.cls_layers = self.make_fc_layers(
            shared[-1], self.num_class, required(self.model_cfg, "CLS_FC", WHERE)
        )
        self.reg_layers = self.make_fc_layers(
            shared[-1],
            self.box_coder.code_size * self.num_class,
            required(self.model_cfg, "REG_FC", WHERE),
        )
        init_fc(self)
        init_fc(self.reg_layers, output_std=0.001)

    def predict(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """What ``refine`` returns, out of features (B * R, ...) through the layers of ``make_predictors``."""
        shared = self.shared_fc_layer(pooled.flatten(1).unsqueeze(-1))
        return self.cls_layers(shared).squeeze(-1), self.reg_layers(shared).squeeze(-1)

    def make_shared_fc(
        self, input_channels: int, widths: Sequence[int], on_rows: bool = False
    ) -> nn.Sequential:
        """Layers on (B * R, C, 1), or (B * R, C) when ``on_rows``, with dropout between them."""
        ratio = self.model_cfg.get("DP_RATIO", 0)
        last = len(widths) - 1
        layers = [
            layer
            for number, (wide_in, wide_out) in enumerate(
                zip([input_channels, *widths[:-1]], widths)
            )
            for layer in _fc(
                wide_in, wide_out, ratio if ratio > 0 and number < last else None, on_rows
            )
        ]
        return nn.Sequential(*layers)

    def make_fc_layers(
        self, input_channels: int, output_channels: int, fc_list: Sequence[int]
    ) -> nn.Sequential:
        """Layers on (B * R, C, 1) that end in a prediction, with dropout after the first."""
        ratio = self.model_cfg.get("DP_RATIO", 0)
        layers = [
            layer
            for number, (wide_in, wide_out) in enumerate(
                zip([input_channels, *fc_list[:-1]], fc_list)
            )
            for layer in _fc(wide_in, wide_out, ratio if ratio >= 0 and number == 0 else None)
        ]
        return nn.Sequential(
            *layers, nn.Conv1d(fc_list[-1] if fc_list else input_channels, output_channels, 1)
        )


def total_of(losses: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Sum of the losses, and all of them with ``rcnn_loss`` for the log."""
    total = torch.stack(list(losses.values())).sum()
    return total, {name: value.detach() for name, value in {**losses, "rcnn_loss": total}.items()}


def init_fc(
    layers: nn.Module, weight_init: str = "xavier", output_std: float | None = None
) -> None:
    """Fresh weights for fully connected layers, biases zero; ``output_std`` for the last one, a prediction.

    Args:
        weight_init: ``xavier`` or ``kaiming`` (normal both).
    """
    fill: Callable[[Tensor], Tensor] = FILLS[weight_init]
    fully_connected = [
        module
        for module in layers.modules()
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear))
    ]
    for module in fully_connected:
        fill(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    if output_std is not None:
        nn.init.normal_(fully_connected[-1].weight, mean=0.0, std=output_std)


def _fc(
    wide_in: int, wide_out: int, dropout: float | None, on_rows: bool = False
) -> list[nn.Module]:
    """One fully connected layer on (N, C, 1), or on (N, C)."""
    first = (
        nn.Linear(wide_in, wide_out, bias=False)
        if on_rows
        else nn.Conv1d(wide_in, wide_out, 1, bias=False)
    )
    layers = [first, nn.BatchNorm1d(wide_out), nn.ReLU()]
    return layers if dropout is None else [*layers, nn.Dropout(dropout)]


def _at_origin(rois: Tensor, turned: bool) -> Tensor:
    """RoIs (N, 7 + C) moved to the origin; with their headings, or looking along x."""
    heading = rois[:, 6:7] if turned else torch.zeros_like(rois[:, 6:7])
    return torch.cat([torch.zeros_like(rois[:, :3]), rois[:, 3:6], heading, rois[:, 7:]], dim=1)


def _binary_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(
        logits.reshape(-1), labels.to(logits.dtype), reduction="sum"
    )


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels.long(), reduction="sum")


CLS_LOSSES = {"BinaryCrossEntropy": _binary_cross_entropy, "CrossEntropy": _cross_entropy}
