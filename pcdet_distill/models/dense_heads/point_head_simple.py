"""PointHeadSimple: how likely a point lies on an object (PV-RCNN, CVPR 2020, section 3.3).

The second stage weighs keypoints with these scores.
"""

from __future__ import annotations

from ...types import BatchDict
from ..taps import TapInfo
from .point_head_template import PointHeadTemplate


class PointHeadSimple(PointHeadTemplate):
    """One stack of fully connected layers for the classes."""

    def build_layers(self, input_channels: int) -> None:
        """Make ``cls_layers``."""
        self.cls_layers = self.make_fc_layers("CLS_FC", input_channels, self.num_class)

    def taps(self) -> list[TapInfo]:
        """What can be captured: the class logits of every point."""
        return [TapInfo("cls_layers", self.num_class, None, "point")]

    def forward(self, batch_dict: BatchDict) -> BatchDict:
        """Predict all points, and in training assign their targets.

        Reads ``point_features`` or ``point_features_before_fusion`` (N, C), ``point_coords`` (N, 4)
        and, in training, ``gt_boxes`` (B, G, 7 + C + 1). Writes ``point_cls_scores`` (N,).
        """
        cls_preds = self.cls_layers(self.features_of(batch_dict))
        self.forward_ret_dict = {"point_cls_preds": cls_preds}
        self.publish_scores(batch_dict, cls_preds)
        if self.training:
            self.forward_ret_dict.update(self.assign_targets(batch_dict))
        return batch_dict
