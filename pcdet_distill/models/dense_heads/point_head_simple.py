"""PointHeadSimple: how likely a point lies on an object, to weigh keypoints with (PV-RCNN, CVPR 2020, section 3.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...config import required
from ..taps import TapInfo
from .point_head_template import WHERE, PointHeadTemplate


class PointHeadSimple(PointHeadTemplate):
    """One stack of linear layers for the classes."""

    def __init__(
        self, model_cfg: Mapping[str, Any], num_class: int, input_channels: int, **kwargs: Any
    ) -> None:
        super().__init__(model_cfg, num_class)
        self.cls_layers = self.make_fc_layers(
            required(model_cfg, "CLS_FC", WHERE), input_channels, num_class
        )

    def taps(self) -> list[TapInfo]:
        """What can be captured, relative to this slot."""
        return [TapInfo("cls_layers", self.num_class, None, "point")]

    def forward(self, batch_dict: dict[str, Any]) -> dict[str, Any]:
        """Reads ``point_features`` or ``point_features_before_fusion`` (N, C), ``point_coords`` (N, 4), in training
        ``gt_boxes``; writes ``point_cls_scores`` (N,).
        """
        cls_preds = self.cls_layers(self.features_of(batch_dict))
        batch_dict["point_cls_scores"] = cls_preds.max(dim=-1).values.sigmoid()
        self.forward_ret_dict = {"point_cls_preds": cls_preds}
        if self.training:
            self.forward_ret_dict.update(self.assign_targets(batch_dict))
        return batch_dict
