"""PointIntraPartOffsetHead: where in its object every point lies (Part-A2, TPAMI 2020)."""

from __future__ import annotations

from ...types import BatchDict
from ..taps import TapInfo
from .point_head_template import PointHeadTemplate


class PointIntraPartOffsetHead(PointHeadTemplate):
    """Classes and places inside the object.

    With a BOX_CODER, in the anchor-free variant, also box codes.
    """

    def build_layers(self, input_channels: int) -> None:
        """Make ``cls_layers``, ``part_reg_layers`` and, with a BOX_CODER, ``box_layers``."""
        self.cls_layers = self.make_fc_layers("CLS_FC", input_channels, self.num_class)
        self.part_reg_layers = self.make_fc_layers("PART_FC", input_channels, 3)
        if self.box_coder is not None:
            code_size = self.box_coder.code_size
            self.box_layers = self.make_fc_layers("REG_FC", input_channels, code_size)

    def taps(self) -> list[TapInfo]:
        """What can be captured: class logits and places of every point."""
        return [
            TapInfo("cls_layers", self.num_class, None, "point"),
            TapInfo("part_reg_layers", 3, None, "point"),
        ]

    def forward(self, batch_dict: BatchDict) -> BatchDict:
        """Predict all points, and in training assign their targets.

        Reads ``point_features`` (N, C), ``point_coords`` (N, 4) and, in training, ``gt_boxes``
        (B, G, 7 + C + 1). Writes ``point_cls_scores`` (N,), ``point_part_offset`` (N, 3) and, with
        a BOX_CODER, what ``publish_boxes`` writes.
        """
        features = self.features_of(batch_dict)
        cls_preds = self.cls_layers(features)
        part_preds = self.part_reg_layers(features)
        self.forward_ret_dict = {"point_cls_preds": cls_preds, "point_part_preds": part_preds}
        self.publish_scores(batch_dict, cls_preds)
        batch_dict["point_part_offset"] = part_preds.sigmoid()
        has_boxes = self.box_layers is not None
        if self.box_layers is not None:
            box_preds = self.box_layers(features)
            self.forward_ret_dict["point_box_preds"] = box_preds
            self.publish_boxes(batch_dict, cls_preds, box_preds)
        if self.training:
            targets = self.assign_targets(
                batch_dict, ret_box_labels=has_boxes, ret_part_labels=True
            )
            self.forward_ret_dict.update(targets)
        return batch_dict
