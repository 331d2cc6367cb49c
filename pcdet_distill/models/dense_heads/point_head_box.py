"""PointHeadBox: every point has a class and proposes a box (PointRCNN, CVPR 2019, first stage)."""

from __future__ import annotations

from ...config import required
from ...types import BatchDict
from ..taps import TapInfo
from .point_head_template import TARGETS, WHERE, PointHeadTemplate


class PointHeadBox(PointHeadTemplate):
    """Two stacks of fully connected layers: classes and box codes."""

    def build_layers(self, input_channels: int) -> None:
        """Make ``cls_layers`` and ``box_layers``."""
        required(required(self.model_cfg, "TARGET_CONFIG", WHERE), "BOX_CODER", TARGETS)
        assert self.box_coder is not None
        code_size = self.box_coder.code_size
        self.cls_layers = self.make_fc_layers("CLS_FC", input_channels, self.num_class)
        self.box_layers = self.make_fc_layers("REG_FC", input_channels, code_size)

    def taps(self) -> list[TapInfo]:
        """What can be captured: the raw predictions of every point."""
        assert self.box_coder is not None
        return [
            TapInfo("cls_layers", self.num_class, None, "point"),
            TapInfo("box_layers", self.box_coder.code_size, None, "point"),
        ]

    def forward(self, batch_dict: BatchDict) -> BatchDict:
        """Predict all points, and in training assign their targets.

        Reads ``point_features`` (N, C), ``point_coords`` (N, 4) and, in training, ``gt_boxes``
        (B, G, 7 + C + 1). Writes what ``publish_scores`` and ``publish_boxes`` write.
        """
        assert self.box_layers is not None
        features = self.features_of(batch_dict)
        cls_preds = self.cls_layers(features)
        box_preds = self.box_layers(features)
        self.forward_ret_dict = {"point_cls_preds": cls_preds, "point_box_preds": box_preds}
        self.publish_scores(batch_dict, cls_preds)
        if self.training:
            targets = self.assign_targets(batch_dict, ret_box_labels=True)
            self.forward_ret_dict.update(targets)
        self.publish_boxes(batch_dict, cls_preds, box_preds)
        return batch_dict
