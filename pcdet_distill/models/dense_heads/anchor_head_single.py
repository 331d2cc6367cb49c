"""AnchorHeadSingle: 1x1 convolutions predict all anchors of a cell (SECOND, PointPillars)."""

from __future__ import annotations

from torch import Tensor, nn

from ...types import BatchDict
from ..taps import TapInfo
from .anchor_head_template import AnchorHeadTemplate, init_class_bias
from .prediction_layout import AnchorLayout


class AnchorHeadSingle(AnchorHeadTemplate):
    """One head for the anchors of all classes on one feature map."""

    def build_layers(self, input_channels: int) -> None:
        """Make a convolution each for classes, box codes and, where classified, directions."""
        anchors = sum(self.num_anchors_per_location)
        self.conv_cls = nn.Conv2d(input_channels, anchors * self.num_class, 1)
        self.conv_box = nn.Conv2d(input_channels, anchors * self.box_coder.code_size, 1)
        self.conv_dir_cls = None
        if self.directions is not None:
            self.conv_dir_cls = nn.Conv2d(input_channels, anchors * self.directions.count, 1)
        self.init_weights()

    def init_weights(self) -> None:
        """Rare foreground, and boxes close to their anchors."""
        init_class_bias(self.conv_cls)
        nn.init.normal_(self.conv_box.weight, mean=0, std=0.001)

    def taps(self) -> list[TapInfo]:
        """What can be captured: the raw predictions for all anchors of a cell."""
        return [
            TapInfo("conv_cls", self.conv_cls.out_channels, 1, "bev"),
            TapInfo("conv_box", self.conv_box.out_channels, 1, "bev"),
        ]

    def score_taps(self) -> list[str]:
        """The convolution of the class logits of all anchors."""
        return ["conv_cls"]

    def prediction_layout(self) -> AnchorLayout:
        """The outputs of the two or three convolutions, by anchor."""
        modules = ["conv_cls", "conv_box"]
        if self.directions is not None:
            modules.append("conv_dir_cls")
        return AnchorLayout(
            modules=tuple(modules),
            num_class=self.num_class,
            anchors=self.flat_anchors,
            anchor_classes=self.anchor_classes(),
            class_names=self.anchor_class_names,
            box_coder=self.box_coder,
            directions=self.directions,
        )

    def dense_pass(
        self, features: Tensor, batch_size: int
    ) -> tuple[dict[str, Tensor], tuple[Tensor, Tensor] | None]:
        """The part of ``forward`` whose shapes and steps are those of every batch.

        Args:
            features: (B, C, ny, nx).
            batch_size: B.

        Returns:
            the raw predictions (B, ny, nx, channels) by name; and what ``generate_predicted_boxes``
            makes of them, where boxes are wanted.
        """
        # With features that are channels_last in memory the permuted predictions are contiguous,
        # and reshaping them to anchors copies nothing.
        predictions = {
            "cls_preds": self.conv_cls(features).permute(0, 2, 3, 1),
            "box_preds": self.conv_box(features).permute(0, 2, 3, 1),
        }
        if self.conv_dir_cls is not None:
            predictions["dir_cls_preds"] = self.conv_dir_cls(features).permute(0, 2, 3, 1)
        if self.training and not self.predict_boxes_when_training:
            return predictions, None
        return predictions, self.generate_predicted_boxes(batch_size, **predictions)

    def forward(self, batch_dict: BatchDict) -> BatchDict:
        """Predict all anchors, and in training assign their targets.

        Reads ``spatial_features_2d`` (B, C, ny, nx), ``batch_size`` and, in training, ``gt_boxes``
        (B, G, 7 + C + 1). In eval, or for a second stage, writes ``batch_cls_preds`` (B, A,
        num_class) logits, ``batch_box_preds`` (B, A, 7 + C) and ``cls_preds_normalized`` False.
        """
        features = batch_dict["spatial_features_2d"]
        self.check_map_size(features)
        predictions, decoded = self.dense_pass(features, int(batch_dict["batch_size"]))
        self.forward_ret_dict = dict(predictions)
        if self.training:
            self.forward_ret_dict.update(self.training_targets(batch_dict))
        if decoded is not None:
            logits, boxes = decoded
            batch_dict["batch_cls_preds"] = logits
            batch_dict["batch_box_preds"] = boxes
            batch_dict["cls_preds_normalized"] = False
        return batch_dict
