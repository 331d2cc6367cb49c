"""SECONDNetIoU: SECOND whose final scores come from a second stage that predicts the IoU of every proposal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...config import lookup, required
from ...errors import ConfigError
from . import post_processing
from .detector3d_template import Detector3DTemplate

WHERE = "MODEL.POST_PROCESSING.NMS_CONFIG"


class SECONDNetIoU(Detector3DTemplate):
    """SECOND's slots and a ``roi_head``."""

    required_slots = (
        "vfe",
        "backbone_3d",
        "map_to_bev_module",
        "backbone_2d",
        "dense_head",
        "roi_head",
    )

    @torch.no_grad()
    def post_processing(
        self, batch_dict: dict[str, Any]
    ) -> tuple[list[dict[str, Tensor]], dict[str, int]]:
        """Final boxes by SCORE_TYPE, with ``pred_iou_scores`` and ``pred_cls_scores`` (K,) beside ``pred_scores``."""
        settings = required(self.model_cfg, "POST_PROCESSING", "MODEL")
        nms_config = required(settings, "NMS_CONFIG", "MODEL.POST_PROCESSING")
        iou = torch.sigmoid(batch_dict["batch_cls_preds"].amax(dim=-1))
        classes = torch.sigmoid(batch_dict["roi_scores"])
        scores = self.final_scores(iou, classes, batch_dict["roi_labels"], nms_config)
        scored = {
            **batch_dict,
            "batch_cls_preds": scores.unsqueeze(-1),
            "cls_preds_normalized": True,
        }
        return post_processing.post_process(
            scored, settings, self.num_class, {"pred_cls_scores": classes, "pred_iou_scores": iou}
        )

    def final_scores(
        self, iou: Tensor, classes: Tensor, labels: Tensor, nms_config: Mapping[str, Any]
    ) -> Tensor:
        """Scores (B, R) out of predicted IoUs (B, R) and class scores (B, R); ``labels`` (B, R) count from 1.

        SCORE_TYPE is ``iou`` (as long as nothing is said), ``cls``, ``weighted_iou_cls`` with SCORE_WEIGHTS, or
        ``score_by_class`` with SCORE_BY_CLASS, which names one of the first two for every class.
        """
        by_name = {"iou": iou, "cls": classes}
        score_type = nms_config.get("SCORE_TYPE") or "iou"
        if score_type == "weighted_iou_cls":
            weights = required(nms_config, "SCORE_WEIGHTS", WHERE)
            return weights["iou"] * iou + weights["cls"] * classes
        if score_type != "score_by_class":
            return lookup(
                {**by_name, "weighted_iou_cls": iou, "score_by_class": iou},
                score_type,
                f"{WHERE}.SCORE_TYPE",
            )
        chosen = required(nms_config, "SCORE_BY_CLASS", WHERE)
        scores = torch.zeros_like(iou)
        for label, name in enumerate(self.class_names, start=1):
            if name not in chosen:
                raise ConfigError(
                    f"{WHERE}.SCORE_BY_CLASS has no '{name}', expected one score name for every class"
                )
            wanted = lookup(by_name, chosen[name], f"{WHERE}.SCORE_BY_CLASS.{name}")
            scores = torch.where(labels == label, wanted, scores)
        return scores
