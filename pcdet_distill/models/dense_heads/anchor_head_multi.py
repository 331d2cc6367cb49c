"""AnchorHeadMulti: a small anchor head for each group of classes (CBGS, Zhu et al., 2019).

The heads stand behind one shared convolution. Predictions are ordered by head, class, size,
rotation, y, x. In AnchorHeadSingle they go cell by cell instead.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...config import nearest, required
from ...errors import ConfigError
from ...ops.precision import at_least_float32
from ...types import BatchDict, ConfigDict
from ..model_utils.channels_last_batch_norm import ChannelsLastBatchNorm2d
from ..taps import TapInfo
from .anchor_head_template import WHERE, AnchorHeadTemplate, init_class_bias
from .detection_head import convolutions_of, one_hot_labels
from .prediction_layout import MultiAnchorLayout

HEADS = f"{WHERE}.RPN_HEAD_CFGS"
SEPARATE = f"{WHERE}.SEPARATE_REG_CONFIG"


class SingleHead(nn.Module):
    """Classes, boxes and directions for the anchors of one group of classes.

    Args:
        input_channels: channels of the shared features.
        labels: labels (from 1) of the classes of this group.
        num_class: number of class columns to predict.
        num_anchors: number of anchors of a cell.
        code_size: number of values in a box code.
        num_dir_bins: 0 for no direction classifier.
        separate: SEPARATE_REG_CONFIG, a branch for each part of the box code; None for one 1x1
            convolution.
    """

    def __init__(
        self,
        *,
        input_channels: int,
        labels: Sequence[int],
        num_class: int,
        num_anchors: int,
        code_size: int,
        num_dir_bins: int,
        separate: ConfigDict | None,
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
            # The boxes come first, as in OpenPCDet: the order of parameters is that of optimizers.
            self.conv_box = nn.ModuleDict()
            for name, channels in _parts_of_code(separate, code_size).items():
                self.conv_box[f"conv_{name}"] = _branch(
                    input_channels, num_anchors * channels, separate
                )
            self.conv_cls = _branch(input_channels, num_anchors * num_class, separate)
        self.conv_dir_cls = None
        if num_dir_bins:
            self.conv_dir_cls = nn.Conv2d(input_channels, num_anchors * num_dir_bins, 1)
        self.init_weights()

    def init_weights(self) -> None:
        """Rare foreground; boxes close to their anchors where one convolution predicts them."""
        init_class_bias(convolutions_of(self.conv_cls)[-1])
        if isinstance(self.conv_box, nn.Conv2d):
            nn.init.normal_(self.conv_box.weight, mean=0, std=0.001)
            return
        for convolution in convolutions_of(self.conv_box):
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
            if convolution.bias is not None:
                nn.init.zeros_(convolution.bias)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Predictions by anchor for features (B, C, ny, nx).

        Returns:
            ``cls_preds`` (B, A, num_class), ``box_preds`` (B, A, code_size) and, with a direction
            classifier, ``dir_cls_preds`` (B, A, num_dir_bins).
        """
        if isinstance(self.conv_box, nn.ModuleDict):
            boxes = torch.cat([branch(features) for branch in self.conv_box.values()], dim=1)
        else:
            boxes = self.conv_box(features)
        predictions = {
            "cls_preds": self._by_anchor(self.conv_cls(features), self.num_class),
            "box_preds": self._by_anchor(boxes, self.code_size),
        }
        if self.conv_dir_cls is not None:
            directions = self.conv_dir_cls(features)
            predictions["dir_cls_preds"] = self._by_anchor(directions, self.num_dir_bins)
        return predictions

    def _by_anchor(self, prediction: Tensor, width: int) -> Tensor:
        """(B, anchors * width, ny, nx) to (B, anchors * ny * nx, width).

        Channels count as anchor by anchor. With separate branches they are really part by part,
        but OpenPCDet reads them this way too, and its checkpoints were trained so.
        """
        by_anchor = prediction.reshape(len(prediction), self.num_anchors, width, -1)
        return by_anchor.transpose(2, 3).reshape(len(prediction), -1, width)


class AnchorHeadMulti(AnchorHeadTemplate):
    """The heads of RPN_HEAD_CFGS, each with the anchors of its HEAD_CLS_NAME.

    With SEPARATE_MULTIHEAD a head predicts the classes of its own anchors only. Otherwise every
    head predicts all classes.
    """

    def build_layers(self, input_channels: int) -> None:
        """Make the shared convolution, of SHARED_CONV_NUM_FILTER channels, and the heads."""
        self.separate_multihead = bool(self.model_cfg.get("SEPARATE_MULTIHEAD", False))
        self.shared_width = self.model_cfg.get("SHARED_CONV_NUM_FILTER") or 0
        self.shared_conv = None
        if self.shared_width:
            self.shared_conv = nn.Sequential(
                nn.Conv2d(input_channels, self.shared_width, 3, padding=1, bias=False),
                ChannelsLastBatchNorm2d(self.shared_width, eps=1e-3, momentum=0.01),
                nn.ReLU(),
            )
        width = self.shared_width or input_channels
        self.rpn_heads = nn.ModuleList()
        for names in self._class_groups():
            self.rpn_heads.append(self._make_head(width, names))

    def _class_groups(self) -> list[list[str]]:
        """HEAD_CLS_NAME of every head.

        The classes of the heads together must be those of the anchors, in their order. Otherwise
        predictions and anchors would not belong together.
        """
        if not self.model_cfg.get("USE_MULTIHEAD"):
            raise ConfigError(
                f"{WHERE}.USE_MULTIHEAD is not true, as AnchorHeadMulti expects; AnchorHeadSingle "
                "is one head for all classes"
            )
        groups = []
        for entry in required(self.model_cfg, "RPN_HEAD_CFGS", WHERE):
            if "LAYER_NUMS" in entry:
                raise ConfigError(
                    f"{HEADS}: LAYER_NUMS is not known here; heads have no blocks of their own, "
                    "MODEL.BACKBONE_2D has them"
                )
            groups.append(list(required(entry, "HEAD_CLS_NAME", HEADS)))
        self._check_class_groups(groups)
        return groups

    def _check_class_groups(self, groups: Sequence[Sequence[str]]) -> None:
        names: list[str] = []
        for group in groups:
            names += group
        for name in names:
            if name not in self.class_names:
                raise ConfigError(
                    f"{HEADS}: HEAD_CLS_NAME '{name}' is not in CLASS_NAMES"
                    f"{nearest(name, self.class_names)}"
                )
        anchor_names = list(self.anchor_class_names)
        if names != anchor_names:
            raise ConfigError(
                f"{HEADS} names the classes {names}, ANCHOR_GENERATOR_CONFIG {anchor_names}; "
                "expected the same in the same order"
            )

    def _make_head(self, input_channels: int, names: Sequence[str]) -> SingleHead:
        num_anchors = 0
        for name in names:
            generator = self.anchor_class_names.index(name)
            num_anchors += self.num_anchors_per_location[generator]
        return SingleHead(
            input_channels=input_channels,
            labels=[self.class_names.index(name) + 1 for name in names],
            num_class=len(names) if self.separate_multihead else self.num_class,
            num_anchors=num_anchors,
            code_size=self.box_coder.code_size,
            num_dir_bins=0 if self.directions is None else self.directions.count,
            separate=self.model_cfg.get("SEPARATE_REG_CONFIG"),
        )

    def in_order_of_predictions(self, grids: Sequence[Tensor]) -> Tensor:
        """Rows (A, width) of values (1, ny, nx, sizes, rotations, width), given for each class.

        The rows go by class, size and rotation; then cell by cell (y, then x).
        """
        rows = []
        for grid in grids:
            sizes, rotations, width = grid.shape[-3:]
            by_cell = grid.reshape(-1, sizes * rotations, width)
            rows.append(by_cell.transpose(0, 1).reshape(-1, width))
        return torch.cat(rows)

    def taps(self) -> list[TapInfo]:
        """What can be captured: the shared features, and the raw predictions of every head.

        A head with separate branches has one for each part of the box code.
        """
        taps = []
        if self.shared_conv is not None:
            taps.append(TapInfo("shared_conv", self.shared_width, 1, "bev"))
        for number, head in enumerate(self.rpn_heads):
            assert isinstance(head, SingleHead)
            layers: dict[str, nn.Module] = {"conv_cls": head.conv_cls}
            if isinstance(head.conv_box, nn.ModuleDict):
                for name, branch in head.conv_box.items():
                    layers[f"conv_box.{name}"] = branch
            else:
                layers["conv_box"] = head.conv_box
            for name, layer in layers.items():
                channels = convolutions_of(layer)[-1].out_channels
                taps.append(TapInfo(f"rpn_heads.{number}.{name}", channels, 1, "bev"))
        return taps

    def score_taps(self) -> list[str]:
        """The class convolution of every head, or the branch that ends in it."""
        return [f"rpn_heads.{number}.conv_cls" for number in range(len(self.rpn_heads))]

    def prediction_layout(self) -> MultiAnchorLayout:
        """The outputs of the heads, by anchor."""
        head_labels = [tuple(columns.tolist()) for columns in self._labels_of_columns()]
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

    def _labels_of_columns(self) -> list[Tensor]:
        """For every head the labels, int64 (classes,), of its class columns."""
        labels = []
        for head in self.rpn_heads:
            assert isinstance(head, SingleHead)
            columns = head.head_label_indices
            if not self.separate_multihead:
                columns = torch.arange(1, self.num_class + 1, device=columns.device)
            labels.append(columns)
        return labels

    def dense_pass(
        self, features: Tensor, batch_size: int
    ) -> tuple[list[Tensor], dict[str, Tensor], Tensor | None]:
        """The part of ``forward`` whose shapes and steps are those of every batch.

        Args:
            features: (B, C, ny, nx).
            batch_size: B.

        Returns:
            the class logits (B, A of the head, classes) of each head; box codes and directions
            (B, A, width) of all heads by name; and the boxes (B, A, 7 + C), where they are wanted.
        """
        if self.shared_conv is not None:
            features = self.shared_conv(features)
        predictions_of_heads = [head(features) for head in self.rpn_heads]
        logits = [predictions.pop("cls_preds") for predictions in predictions_of_heads]
        predictions = {}
        for key in predictions_of_heads[0]:
            parts = [of_head[key] for of_head in predictions_of_heads]
            predictions[key] = torch.cat(parts, dim=1)
        if self.training and not self.predict_boxes_when_training:
            return logits, predictions, None
        return logits, predictions, self.decode_boxes(batch_size, **predictions)

    def forward(self, batch_dict: BatchDict) -> BatchDict:
        """Predict all anchors, and in training assign their targets.

        Reads ``spatial_features_2d`` (B, C, ny, nx), ``batch_size`` and, in training, ``gt_boxes``
        (B, G, 7 + C + 1). In eval, or for a second stage, writes ``batch_box_preds`` (B, A, 7 + C),
        ``cls_preds_normalized`` False and the class logits as ``batch_cls_preds``: (B, A,
        num_class), or with SEPARATE_MULTIHEAD a list of (B, A of the head, classes of the head)
        with ``multihead_label_mapping``, the labels of each head's columns.
        """
        features = batch_dict["spatial_features_2d"]
        self.check_map_size(features)
        logits, predictions, boxes = self.dense_pass(features, int(batch_dict["batch_size"]))
        self.forward_ret_dict = {"cls_preds": logits, **predictions}
        if self.training:
            self.forward_ret_dict.update(self.training_targets(batch_dict))
        if boxes is not None:
            batch_dict["batch_box_preds"] = boxes
            batch_dict["cls_preds_normalized"] = False
            self._publish_logits(batch_dict, logits)
        return batch_dict

    def _publish_logits(self, batch_dict: BatchDict, logits: Sequence[Tensor]) -> None:
        """Write the class logits of the heads, (B, A of the head, classes of the head) each."""
        logits = [at_least_float32(of_head) for of_head in logits]
        if self.separate_multihead:
            batch_dict["batch_cls_preds"] = logits
            batch_dict["multihead_label_mapping"] = self._labels_of_columns()
        else:
            batch_dict["batch_cls_preds"] = torch.cat(logits, dim=1)

    def assign_targets(self, gt_boxes: Tensor) -> dict[str, Tensor]:
        """Targets of the anchors for gt_boxes (B, G, 7 + C + 1), in the order of predictions."""
        anchors_per_cell = sum(self.num_anchors_per_location)
        targets = {}
        # The assigner gives them cell by cell.
        for key, value in super().assign_targets(gt_boxes).items():
            by_cell = value.unflatten(1, (-1, anchors_per_cell))
            targets[key] = by_cell.transpose(1, 2).flatten(1, 2)
        return targets

    def anchor_weights(self, labels: Tensor) -> Tensor:
        """Weights (B, A) in the class loss.

        LOSS_WEIGHTS may weigh positive anchors by ``pos_cls_weight`` and background by
        ``neg_cls_weight``, against the imbalance of rare classes (CBGS).
        """
        positive = labels > 0
        background = labels == 0
        positive_weight = float(self.loss_weights.get("pos_cls_weight", 1.0))
        background_weight = float(self.loss_weights.get("neg_cls_weight", 1.0))
        weights = positive * positive_weight + background * background_weight
        return weights / positive.sum(dim=1, keepdim=True).clamp_min(1)

    def get_cls_layer_loss(self) -> Tensor:
        """Focal loss over all anchors that are not ignored, against the classes of their head."""
        logits_of_heads = self.forward_ret_dict["cls_preds"]
        labels = self.forward_ret_dict["box_cls_labels"]
        counts = [logits.shape[1] for logits in logits_of_heads]
        weights_of_heads = self.anchor_weights(labels).split(counts, dim=1)
        labels_of_heads = self.predicted_labels(labels).split(counts, dim=1)
        losses = []
        for number, classes in enumerate(self._labels_of_columns()):
            logits = at_least_float32(logits_of_heads[number])
            target = one_hot_labels(labels_of_heads[number], classes, logits.dtype)
            weights = weights_of_heads[number].to(logits.dtype)
            losses.append(self.cls_loss_func(logits, target, weights=weights).sum())
        return torch.stack(losses).sum() / len(labels) * self.loss_weights["cls_weight"]

    def heading_terms(self, codes: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Codes and targets (K, code_size) in the form whose difference is the loss.

        Without direction bins the code must hold the full heading (as cosine and sine), and is
        compared as it is.
        """
        if self.directions is None:
            return codes, targets
        return self.add_sin_difference(codes, targets)


def _branch(input_channels: int, output_channels: int, separate: ConfigDict) -> nn.Sequential:
    """NUM_MIDDLE_CONV 3x3 convolutions of NUM_MIDDLE_FILTER channels, and one that predicts."""
    layers: list[nn.Module] = []
    for _ in range(required(separate, "NUM_MIDDLE_CONV", SEPARATE)):
        width = required(separate, "NUM_MIDDLE_FILTER", SEPARATE)
        layers.append(nn.Conv2d(input_channels, width, 3, padding=1, bias=False))
        layers.append(ChannelsLastBatchNorm2d(width))
        layers.append(nn.ReLU())
        input_channels = width
    layers.append(nn.Conv2d(input_channels, output_channels, 3, padding=1))
    return nn.Sequential(*layers)


def _parts_of_code(separate: ConfigDict, code_size: int) -> dict[str, int]:
    """Names and channels of REG_LIST, whose entries look like ``height:1``."""
    where = f"{SEPARATE}.REG_LIST"
    parts = {}
    for entry in required(separate, "REG_LIST", SEPARATE):
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
