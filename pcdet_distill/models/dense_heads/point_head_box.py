"""PointHeadBox: every point tells its class and proposes a box (PointRCNN, CVPR 2019, its first stage)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...config import required
from ..taps import TapInfo
from .point_head_template import WHERE, PointHeadTemplate
from .prediction_layout import PointLayout


class PointHeadBox(PointHeadTemplate):
    """Two stacks of linear layers: classes and box codes."""

    def __init__(
        self,
        model_cfg: Mapping[str, Any],
        num_class: int,
        input_channels: int,
        predict_boxes_when_training: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(model_cfg, num_class, predict_boxes_when_training)
        required(required(model_cfg, "TARGET_CONFIG", WHERE), "BOX_CODER", f"{WHERE}.TARGET_CONFIG")
        self.cls_layers = self.make_fc_layers(
            required(model_cfg, "CLS_FC", WHERE), input_channels, num_class
        )
        self.box_layers = self.make_fc_layers(
            required(model_cfg, "REG_FC", WHERE), input_channels, self.box_coder.code_size
        )

    def taps(self) -> list[TapInfo]:
        """What can be captured, relative to this slot: the raw predictions of every point."""
        return [
            TapInfo("cls_layers", self.num_class, None, "point"),
            TapInfo("box_layers", self.box_coder.code_size, None, "point"),
        ]

    def prediction_layout(self) -> PointLayout:
        """The outputs of both stacks, by point."""
        return PointLayout(
            modules=("cls_layers", "box_layers"),
            num_class=self.num_class,
            box_coder=self.box_coder,
        )

    def forward(self, batch_dict: dict[str, Any]) -> dict[str, Any]:
        """Reads ``point_features`` (N, C), ``point_coords`` (N, 4) and in training ``gt_boxes``.

        Writes ``point_cls_scores`` (N,); in eval, or for a second stage, ``batch_cls_preds`` (N, num_class) logits,
        ``batch_box_preds`` (N, 7), ``batch_index`` (N,), ``cls_preds_normalized`` False.
        """
        features = self.features_of(batch_dict)
        cls_preds, box_preds = self.cls_layers(features), self.box_layers(features)
        batch_dict["point_cls_scores"] = cls_preds.max(dim=-1).values.sigmoid()
        self.forward_ret_dict = {"point_cls_preds": cls_preds, "point_box_preds": box_preds}
        if self.training:
            self.forward_ret_dict.update(self.assign_targets(batch_dict, ret_box_labels=True))
        self.publish_boxes(batch_dict, cls_preds, box_preds)
        return batch_dict
