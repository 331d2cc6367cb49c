"""AnchorHeadMulti: a small anchor head for each group of classes behind a shared convolution (CBGS, Zhu et al., 2019).

Here anchors are ordered by head, class, size, rotation, y, x; in AnchorHeadSingle a cell's anchors follow each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log
from typing import Any

import torch
from torch import Tensor, nn

from ...config import nearest, required
from ...errors import ConfigError
from ..model_utils.channels_last_batch_norm import ChannelsLastBatchNorm2d
from ..model_utils.precision import at_least_float32
from ..taps import TapInfo
from .anchor_head_single import FIRST_FOREGROUND_PROBABILITY
from .anchor_head_template import WHERE, AnchorHeadTemplate
from .prediction_layout import MultiAnchorLayout

HEADS = f"{WHERE}.RPN_HEAD_CFGS"


class SingleHead(nn.Module):
    """Classes, boxes and directions for the anchors of one group of classes.

    Args:
        input_channels: of the shared features.
        labels: of its classes, from 1.
        num_class: class columns to predict.
        num_anchors: at one location.
        code_size: numbers that make a box.
        num_dir_bins: 0 for no direction classifier.
        separate: SEPARATE_REG_CONFIG, a branch for each part of the box; None for one 1x1 convolution.
    """

    def __init__(
        self,
        input_channels: int,
        labels: Sequence[int],
        num_class: int,
        num_anchors: int,
        code_size: int,
        num_dir_bins: int,
        separate: Mapping[str, Any] | None,
    ) -> None:
        super().__init__()
        self.num_class = num_class
        self.num_anchors = num_anchors
        self.code_size = code_size
        self.num_dir_bins = num_dir_bins
        self.head_label_indices: Tensor
        self.register_buffer("head_label_indices", torch.tensor(list(labels)))
        self.conv_cls: nn.Module
        self.conv_box: nn.Module
        if separate is None:
            self.conv_cls = nn.Conv2d(input_channels, num_anchors * num_class, 1)
            self.conv_box = nn.Conv2d(input_channels, num_anchors * code_size, 1)
        else:
            self.conv_cls = _branch(input_channels, num_anchors * num_class, separate)
            self.conv_box = nn.ModuleDict(
                {
                    f"conv_{name}": _branch(input_channels, num_anchors * channels, separate)
                    for name, channels in _parts_of_box(separate, code_size).items()
                }
            )
        self.conv_dir_cls = (
            nn.Conv2d(input_channels, num_anchors * num_dir_bins, 1) if num_dir_bins else None
        )
        self.init_weights()

    def init_weights(self) -> None:
        """Rare foreground at the start; small boxes too where one convolution makes them."""
        last = [module for module in self.conv_cls.modules() if isinstance(module, nn.Conv2d)][-1]
        assert last.bias is not None
        nn.init.constant_(
            last.bias, -log((1 - FIRST_FOREGROUND_PROBABILITY) / FIRST_FOREGROUND_PROBABILITY)
        )
        if isinstance(self.conv_box, nn.Conv2d):
            nn.init.normal_(self.conv_box.weight, mean=0, std=0.001)
            return
        for module in self.conv_box.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """(B, C, ny, nx) to ``cls_preds`` (B, A, num_class), ``box_preds`` (B, A, code_size), ``dir_cls_preds``."""
        if isinstance(self.conv_box, nn.ModuleDict):
            boxes = torch.cat([branch(features) for branch in self.conv_box.values()], dim=1)
        else:
            boxes = self.conv_box(features)
        predictions = {
            "cls_preds": self._by_anchor(self.conv_cls(features), self.num_class),
            "box_preds": self._by_anchor(boxes, self.code_size),
        }
        if self.conv_dir_cls is not None:
            predictions["dir_cls_preds"] = self._by_anchor(
                self.conv_dir_cls(features), self.num_dir_bins
            )
        return predictions

    def _by_anchor(self, prediction: Tensor, width: int) -> Tensor:
        """(B, anchors * width, ny, nx) to (B, anchors * ny * nx, width).

        Channels count as anchor by anchor also when branches wrote them part by part: checkpoints depend on it.
        """
        by_anchor = prediction.reshape(len(prediction), self.num_anchors, width, -1)
        return by_anchor.transpose(2, 3).reshape(len(prediction), -1, width)


class AnchorHeadMulti(AnchorHeadTemplate):
    """The heads of RPN_HEAD_CFGS, each with the anchors of its HEAD_CLS_NAME.

    With SEPARATE_MULTIHEAD a head predicts the classes of its own anchors only; else every head predicts all classes.
    """

    def __init__(
        self,
        model_cfg: Mapping[str, Any],
        input_channels: int,
        num_class: int,
        class_names: Sequence[str],
        grid_size: Sequence[int],
        point_cloud_range: Sequence[float],
        predict_boxes_when_training: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            model_cfg=model_cfg,
            num_class=num_class,
            class_names=class_names,
            grid_size=grid_size,
            point_cloud_range=point_cloud_range,
            predict_boxes_when_training=predict_boxes_when_training,
        )
        self.separate_multihead = bool(model_cfg.get("SEPARATE_MULTIHEAD", False))
        self.shared_width = width = model_cfg.get("SHARED_CONV_NUM_FILTER") or 0
        self.shared_conv = None
        if width:
            self.shared_conv = nn.Sequential(
                nn.Conv2d(input_channels, width, 3, padding=1, bias=False),
                ChannelsLastBatchNorm2d(width, eps=1e-3, momentum=0.01),
                nn.ReLU(),
            )
        self.rpn_heads = nn.ModuleList(
            self._make_head(width or input_channels, names) for names in self._class_groups()
        )

    def in_order_of_predictions(self, grids: Sequence[Tensor]) -> Tensor:
        """Rows (A, width) of per class (1, ny, nx, sizes, rotations, width): by class, size, rotation, then cell."""
        rows = []
        for grid in grids:
            width = grid.shape[-1]
            by_cell = grid.flatten(-3, -2).reshape(-1, grid.shape[-3] * grid.shape[-2], width)
            rows.append(by_cell.transpose(0, 1).reshape(-1, width))
        return torch.cat(rows)

    def _class_groups(self) -> list[list[str]]:
        """HEAD_CLS_NAME of every head, checked: together they are the classes of the anchors, in their order."""
        if not self.model_cfg.get("USE_MULTIHEAD"):
            raise ConfigError(
                f"{WHERE}.USE_MULTIHEAD is not true, as AnchorHeadMulti expects; AnchorHeadSingle is one "
                "head for all classes"
            )
        groups = []
        for entry in required(self.model_cfg, "RPN_HEAD_CFGS", WHERE):
            if "LAYER_NUMS" in entry:
                raise ConfigError(
                    f"{HEADS}: LAYER_NUMS is not known here; heads have no blocks of their own, "
                    "MODEL.BACKBONE_2D has them"
                )
            groups.append(list(required(entry, "HEAD_CLS_NAME", HEADS)))
        named = [name for group in groups for name in group]
        wrong = [name for name in named if name not in self.class_names]
        if wrong:
            raise ConfigError(
                f"{HEADS}: HEAD_CLS_NAME '{wrong[0]}' is not in CLASS_NAMES"
                f"{nearest(wrong[0], self.class_names)}"
            )
        generated = [entry["class_name"] for entry in self.model_cfg["ANCHOR_GENERATOR_CONFIG"]]
        if named != generated:
            raise ConfigError(
                f"{HEADS} names the classes {named}, ANCHOR_GENERATOR_CONFIG {generated}; expected the "
                "same in the same order"
            )
        return groups

    def _make_head(self, input_channels: int, names: Sequence[str]) -> SingleHead:
        labels = [self.class_names.index(name) + 1 for name in names]
        generated = [entry["class_name"] for entry in self.model_cfg["ANCHOR_GENERATOR_CONFIG"]]
        anchors = sum(self.num_anchors_per_location[generated.index(name)] for name in names)
        bins = 0 if self.directions is None else self.directions.count
        num_class = len(labels) if self.separate_multihead else self.num_class
        return SingleHead(
            input_channels,
            labels,
            num_class,
            anchors,
            self.box_coder.code_size,
            bins,
            self.model_cfg.get("SEPARATE_REG_CONFIG"),
        )

    def taps(self) -> list[TapInfo]:
        """What can be captured, relative to this slot: the shared features, and the raw predictions of plain heads."""
        shared = (
            []
            if self.shared_conv is None
            else [TapInfo("shared_conv", self.shared_width, 1, "bev")]
        )
        return shared + [
            TapInfo(f"rpn_heads.{number}.{name}", layer.out_channels, 1, "bev")
            for number, head in enumerate(self.rpn_heads)
            for name, layer in head.named_children()
            if name != "conv_dir_cls" and isinstance(layer, nn.Conv2d)
        ]

    def score_taps(self) -> list[str]:
        """The class convolution of every head, or the branch that ends in it."""
        return [f"rpn_heads.{number}.conv_cls" for number in range(len(self.rpn_heads))]

    def prediction_layout(self) -> MultiAnchorLayout:
        """The outputs of the heads, by anchor."""
        all_labels = tuple(range(1, self.num_class + 1))
        head_labels = []
        for head in self.rpn_heads:
            assert isinstance(head, SingleHead)
            own_labels = tuple(head.head_label_indices.tolist())
            head_labels.append(own_labels if self.separate_multihead else all_labels)
        return MultiAnchorLayout(
            modules=tuple(f"rpn_heads.{number}" for number in range(len(self.rpn_heads))),
            num_class=self.num_class,
            anchors=self.flat_anchors,
            anchor_classes=self.anchor_classes(),
            class_names=self.anchor_class_names,
            box_coder=self.box_coder,
            directions=self.directions,
            head_labels=tuple(head_labels),
        )

    def forward(self, batch_dict: dict[str, Any]) -> dict[str, Any]:
        """Reads ``spatial_features_2d`` (B, C, H, W), in training ``gt_boxes`` (B, G, 7 + C + 1), and ``batch_size``.

        In eval, or for a second stage, writes ``batch_box_preds`` (B, A, 7 + C), ``cls_preds_normalized`` False and
        ``batch_cls_preds``: (B, A, num_class) logits, or with SEPARATE_MULTIHEAD a list of (B, A of the head, classes
        of the head) with ``multihead_label_mapping``, the labels of each head's classes.
        """
        features = batch_dict["spatial_features_2d"]
        self.check_map_size(features.shape[-1], features.shape[-2])
        if self.shared_conv is not None:
            features = self.shared_conv(features)
        of_heads = [head(features) for head in self.rpn_heads]
        predictions = {
            key: torch.cat([of_head[key] for of_head in of_heads], dim=1)
            for key in of_heads[0]
            if key != "cls_preds"
        }
        logits = [of_head["cls_preds"] for of_head in of_heads]
        self.forward_ret_dict = {"cls_preds": logits, **predictions}
        if self.training:
            self.forward_ret_dict.update(self.assign_targets(batch_dict["gt_boxes"]))
        if not self.training or self.predict_boxes_when_training:
            boxes = self.decode_boxes(int(batch_dict["batch_size"]), **predictions)
            batch_dict.update(
                batch_box_preds=boxes, cls_preds_normalized=False, **self._published(logits)
            )
        return batch_dict

    def _published(self, logits: Sequence[Tensor]) -> dict[str, Any]:
        logits = [at_least_float32(of_head) for of_head in logits]
        if not self.separate_multihead:
            return {"batch_cls_preds": torch.cat(logits, dim=1)}
        return {
            "batch_cls_preds": logits,
            "multihead_label_mapping": [head.head_label_indices for head in self.rpn_heads],
        }

    def assign_targets(self, gt_boxes: Tensor) -> dict[str, Tensor]:
        """Targets for gt_boxes (B, G, 7 + C + 1), in the order of the anchors here."""
        per_cell = sum(self.num_anchors_per_location)
        targets = super().assign_targets(gt_boxes)
        return {
            key: value.unflatten(1, (-1, per_cell)).transpose(1, 2).flatten(1, 2)
            for key, value in targets.items()
        }

    def get_cls_layer_loss(self) -> Tensor:
        """Focal loss over all anchors that are not ignored, each against the classes of its head.

        LOSS_WEIGHTS may hold ``pos_cls_weight`` and ``neg_cls_weight``.
        """
        labels = self.forward_ret_dict["box_cls_labels"]
        positive = labels > 0
        weights = positive * float(self.loss_weights.get("pos_cls_weight", 1.0)) + (
            labels == 0
        ) * float(self.loss_weights.get("neg_cls_weight", 1.0))
        weights = weights / positive.sum(dim=1, keepdim=True).clamp_min(1)
        if self.num_class == 1:
            labels = torch.where(positive, 1, labels)
        losses = []
        counts = [of_head.shape[1] for of_head in self.forward_ret_dict["cls_preds"]]
        every_class = torch.arange(1, self.num_class + 1, device=labels.device)
        for logits, head, own_labels, own_weights in zip(
            self.forward_ret_dict["cls_preds"],
            self.rpn_heads,
            labels.split(counts, dim=1),
            weights.split(counts, dim=1),
        ):
            classes = head.head_label_indices if self.separate_multihead else every_class
            logits = at_least_float32(logits)
            target = (own_labels.unsqueeze(-1) == classes).to(logits.dtype)
            losses.append(
                self.cls_loss_func(logits, target, weights=own_weights.to(logits.dtype)).sum()
            )
        return torch.stack(losses).sum() / len(labels) * self.loss_weights["cls_weight"]

    def heading_terms(self, codes: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Headings are compared by the sine of their difference only where a direction is classified."""
        if self.directions is None:
            return codes, targets
        return self.add_sin_difference(codes, targets)


def _branch(wide_in: int, wide_out: int, separate: Mapping[str, Any]) -> nn.Sequential:
    """NUM_MIDDLE_CONV 3x3 convolutions of NUM_MIDDLE_FILTER channels, and the one that predicts."""
    where = f"{WHERE}.SEPARATE_REG_CONFIG"
    layers: list[nn.Module] = []
    for _ in range(required(separate, "NUM_MIDDLE_CONV", where)):
        width = required(separate, "NUM_MIDDLE_FILTER", where)
        layers += [
            nn.Conv2d(wide_in, width, 3, padding=1, bias=False),
            ChannelsLastBatchNorm2d(width),
            nn.ReLU(),
        ]
        wide_in = width
    return nn.Sequential(*layers, nn.Conv2d(wide_in, wide_out, 3, padding=1))


def _parts_of_box(separate: Mapping[str, Any], code_size: int) -> dict[str, int]:
    """REG_LIST, entries such as ``height:1``, as names and channels."""
    where = f"{WHERE}.SEPARATE_REG_CONFIG.REG_LIST"
    parts = {}
    for entry in required(separate, "REG_LIST", f"{WHERE}.SEPARATE_REG_CONFIG"):
        name, _, channels = str(entry).partition(":")
        if not channels.isdigit():
            raise ConfigError(
                f"{where}: '{entry}' is not a name and a number of channels such as 'height:1'"
            )
        parts[name] = int(channels)
    if sum(parts.values()) != code_size:
        raise ConfigError(
            f"{where} has {sum(parts.values())} channels, expected the {code_size} of the box coder"
        )
    return parts
