"""AnchorHeadSingle: three 1x1 convolutions for classes, boxes and directions of all anchors (SECOND, PointPillars)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log
from typing import Any

from torch import nn

from ..taps import TapInfo
from .anchor_head_template import AnchorHeadTemplate
from .prediction_layout import AnchorLayout

FIRST_FOREGROUND_PROBABILITY = (
    0.01  # what an untrained head predicts, so that background does not flood the loss
)


class AnchorHeadSingle(AnchorHeadTemplate):
    """One head for the anchors of all classes on one feature map."""

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
        anchors = sum(self.num_anchors_per_location)
        self.conv_cls = nn.Conv2d(input_channels, anchors * num_class, 1)
        self.conv_box = nn.Conv2d(input_channels, anchors * self.box_coder.code_size, 1)
        self.conv_dir_cls = None
        if self.directions is not None:
            self.conv_dir_cls = nn.Conv2d(input_channels, anchors * self.directions.count, 1)
        self.init_weights()

    def init_weights(self) -> None:
        """Rare foreground and small boxes at the start."""
        assert self.conv_cls.bias is not None
        nn.init.constant_(
            self.conv_cls.bias,
            -log((1 - FIRST_FOREGROUND_PROBABILITY) / FIRST_FOREGROUND_PROBABILITY),
        )
        nn.init.normal_(self.conv_box.weight, mean=0, std=0.001)

    def taps(self) -> list[TapInfo]:
        """What can be captured, relative to this slot: the raw predictions for all anchors of a cell."""
        return [
            TapInfo(name, getattr(self, name).out_channels, 1, "bev")
            for name in ("conv_cls", "conv_box")
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

    def forward(self, batch_dict: dict[str, Any]) -> dict[str, Any]:
        """Reads ``spatial_features_2d`` (B, C, H, W), in training ``gt_boxes`` (B, G, 7 + C + 1), and ``batch_size``.

        In eval, or for a second stage, writes ``batch_cls_preds`` (B, A, num_class) logits, ``batch_box_preds``
        (B, A, 7 + C), ``cls_preds_normalized`` False.
        """
        features = batch_dict["spatial_features_2d"]
        self.check_map_size(features.shape[-1], features.shape[-2])
        layers = {
            "cls_preds": self.conv_cls,
            "box_preds": self.conv_box,
            "dir_cls_preds": self.conv_dir_cls,
        }
        # With features that are channels_last in memory the permuted predictions are contiguous as they are.
        predictions = {
            key: layer(features).permute(0, 2, 3, 1)
            for key, layer in layers.items()
            if layer is not None
        }
        self.forward_ret_dict = dict(predictions)
        if self.training:
            self.forward_ret_dict.update(self.assign_targets(batch_dict["gt_boxes"]))
        if not self.training or self.predict_boxes_when_training:
            logits, boxes = self.generate_predicted_boxes(
                int(batch_dict["batch_size"]), **predictions
            )
            batch_dict.update(
                batch_cls_preds=logits, batch_box_preds=boxes, cls_preds_normalized=False
            )
        return batch_dict
