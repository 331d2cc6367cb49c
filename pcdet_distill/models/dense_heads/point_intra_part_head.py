"""PointIntraPartOffsetHead: every point tells where in its object it lies (Part-A2, TPAMI 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...config import required
from ..taps import TapInfo
from .point_head_template import WHERE, PointHeadTemplate


class PointIntraPartOffsetHead(PointHeadTemplate):
    """Classes and places in the object; with a BOX_CODER (the anchor-free variant) also box codes."""

    def __init__(
        self,
        model_cfg: Mapping[str, Any],
        num_class: int,
        input_channels: int,
        predict_boxes_when_training: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(model_cfg, num_class, predict_boxes_when_training)
        self.cls_layers = self.make_fc_layers(
            required(model_cfg, "CLS_FC", WHERE), input_channels, num_class
        )
        self.part_reg_layers = self.make_fc_layers(
            required(model_cfg, "PART_FC", WHERE), input_channels, 3
        )
        self.box_layers = None
        if self.box_coder is not None:
            self.box_layers = self.make_fc_layers(
                required(model_cfg, "REG_FC", WHERE), input_channels, self.box_coder.code_size
            )

    def taps(self) -> list[TapInfo]:
        """What can be captured, relative to this slot."""
        return [
            TapInfo("cls_layers", self.num_class, None, "point"),
            TapInfo("part_reg_layers", 3, None, "point"),
        ]

    def forward(self, batch_dict: dict[str, Any]) -> dict[str, Any]:
        """Reads ``point_features`` (N, C), ``point_coords`` (N, 4) and in training ``gt_boxes``.

        Writes ``point_cls_scores`` (N,) and ``point_part_offset`` (N, 3); with a BOX_CODER, in eval or for a second
        stage, also what PointHeadBox writes.
        """
        features = self.features_of(batch_dict)
        cls_preds, part_preds = self.cls_layers(features), self.part_reg_layers(features)
        self.forward_ret_dict = {"point_cls_preds": cls_preds, "point_part_preds": part_preds}
        batch_dict["point_cls_scores"] = cls_preds.max(dim=-1).values.sigmoid()
        batch_dict["point_part_offset"] = part_preds.sigmoid()
        if self.box_layers is not None:
            box_preds = self.box_layers(features)
            self.forward_ret_dict["point_box_preds"] = box_preds
            self.publish_boxes(batch_dict, cls_preds, box_preds)
        if self.training:
            self.forward_ret_dict.update(
                self.assign_targets(
                    batch_dict, ret_box_labels=self.box_layers is not None, ret_part_labels=True
                )
            )
        return batch_dict
