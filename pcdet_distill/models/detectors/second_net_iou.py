"""SECONDNetIoU: SECOND whose second stage predicts the IoU of every proposal with its object."""

from __future__ import annotations

import torch
from torch import Tensor

from ...config import lookup, required
from ...errors import ConfigError
from ...types import BatchDict, ConfigDict
from . import post_processing
from .detector3d_template import Detector3DTemplate
from .post_processing import FinalBoxes, RecallCounts
from .second_net import SECONDNet

WHERE = "MODEL.POST_PROCESSING.NMS_CONFIG"


class SECONDNetIoU(Detector3DTemplate):
    """SECOND's slots and a ``roi_head``."""

    required_slots = (*SECONDNet.required_slots, "roi_head")

    @torch.no_grad()
    def post_processing(self, batch_dict: BatchDict) -> tuple[list[FinalBoxes], RecallCounts]:
        """Final boxes, with scores by SCORE_TYPE.

        A frame has ``pred_iou_scores`` and ``pred_cls_scores`` (K,) beside ``pred_scores``.
        """
        settings = required(self.model_cfg, "POST_PROCESSING", "MODEL")
        nms_config = required(settings, "NMS_CONFIG", "MODEL.POST_PROCESSING")
        iou = torch.sigmoid(batch_dict["batch_cls_preds"].amax(dim=-1))
        classes = torch.sigmoid(batch_dict["roi_scores"])
        scores = self.final_scores(iou, classes, batch_dict["roi_labels"], nms_config)
        scored_batch = dict(batch_dict)
        scored_batch["batch_cls_preds"] = scores.unsqueeze(-1)
        scored_batch["cls_preds_normalized"] = True
        companions = {"pred_cls_scores": classes, "pred_iou_scores": iou}
        return post_processing.post_process(scored_batch, settings, self.num_class, companions)

    def final_scores(
        self, iou: Tensor, classes: Tensor, labels: Tensor, nms_config: ConfigDict
    ) -> Tensor:
        """Scores (B, R) of predicted IoUs (B, R), class scores (B, R) and labels (B, R) from 1.

        SCORE_TYPE is one of

        * ``iou``, the default: the predicted IoU;
        * ``cls``: the class score of the first stage;
        * ``weighted_iou_cls``: their sum, weighted by SCORE_WEIGHTS;
        * ``score_by_class``: SCORE_BY_CLASS names ``iou`` or ``cls`` for every class.
        """
        score_type = nms_config.get("SCORE_TYPE") or "iou"
        if score_type == "weighted_iou_cls":
            weights = required(nms_config, "SCORE_WEIGHTS", WHERE)
            return weights["iou"] * iou + weights["cls"] * classes
        by_name = {"iou": iou, "cls": classes}
        if score_type == "score_by_class":
            return self._scores_by_class(by_name, labels, nms_config)
        # The other two names are here for the hint that a misspelt name gets.
        known = {**by_name, "weighted_iou_cls": iou, "score_by_class": iou}
        return lookup(known, score_type, f"{WHERE}.SCORE_TYPE")

    def _scores_by_class(
        self, by_name: dict[str, Tensor], labels: Tensor, nms_config: ConfigDict
    ) -> Tensor:
        """Scores (B, R) of the kind that SCORE_BY_CLASS names for the class of each RoI."""
        kind_of_class = required(nms_config, "SCORE_BY_CLASS", WHERE)
        scores = torch.zeros_like(by_name["iou"])
        for label, name in enumerate(self.class_names, start=1):
            if name not in kind_of_class:
                raise ConfigError(
                    f"{WHERE}.SCORE_BY_CLASS has no '{name}', expected one score name for every "
                    "class"
                )
            kind = kind_of_class[name]
            scores_of_kind = lookup(by_name, kind, f"{WHERE}.SCORE_BY_CLASS.{name}")
            scores = torch.where(labels == label, scores_of_kind, scores)
        return scores
