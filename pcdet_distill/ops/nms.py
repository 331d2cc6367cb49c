"""Non-maximum suppression by BEV IoU, rotated or axis-aligned, with OpenPCDet's rules.

Boxes are taken by falling score (equal scores: the earlier row first); a box goes when its IoU with a kept one is
*above* the threshold. Scores pass ``score_thresh`` when they are equal to it. Nothing is modified in place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..config import lookup
from .accelerated import box_kernels
from .boxes import boxes_bev_aligned_iou, boxes_iou_bev


def nms(
    boxes: Tensor,
    scores: Tensor,
    thresh: float,
    pre_maxsize: int | None = None,
    post_maxsize: int | None = None,
) -> Tensor:
    """Indices (K,) int64 into boxes (N, 7) kept by NMS with rotated BEV IoU, by falling score (N,)."""
    return _sorted_nms(boxes, scores, thresh, pre_maxsize, post_maxsize, rotated=True)


def nms_normal(
    boxes: Tensor,
    scores: Tensor,
    thresh: float,
    pre_maxsize: int | None = None,
    post_maxsize: int | None = None,
) -> Tensor:
    """``nms`` with axis-aligned BEV IoU: headings are ignored."""
    return _sorted_nms(boxes, scores, thresh, pre_maxsize, post_maxsize, rotated=False)


NMS_TYPES: dict[str, Callable[..., Tensor]] = {"nms_gpu": nms, "nms_normal_gpu": nms_normal}


def class_agnostic_nms(
    box_scores: Tensor,
    box_preds: Tensor,
    nms_config: Mapping[str, Any],
    score_thresh: float | None = None,
) -> tuple[Tensor, Tensor]:
    """One NMS over all boxes (N, 7) with scores (N,): (indices (K,) int64 by falling score, their scores (K,))."""
    suppress = lookup(NMS_TYPES, nms_config["NMS_TYPE"], "NMS_CONFIG.NMS_TYPE")
    if score_thresh is None:
        candidates = torch.arange(len(box_scores), device=box_scores.device)
    else:
        candidates = (box_scores >= score_thresh).nonzero()[:, 0]
    kept = suppress(
        box_preds[candidates],
        box_scores[candidates],
        nms_config["NMS_THRESH"],
        pre_maxsize=nms_config["NMS_PRE_MAXSIZE"],
        post_maxsize=nms_config["NMS_POST_MAXSIZE"],
    )
    selected = candidates[kept]
    return selected, box_scores[selected]


def multi_classes_nms(
    cls_scores: Tensor,
    box_preds: Tensor,
    nms_config: Mapping[str, Any],
    score_thresh: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """One NMS per class over cls_scores (N, C) and boxes (N, 7): scores (K,), labels (K,) from 0, boxes (K, 7).

    The results of the classes follow each other in class order.
    """
    selected = [
        class_agnostic_nms(cls_scores[:, k], box_preds, nms_config, score_thresh)
        for k in range(cls_scores.shape[1])
    ]
    labels = [torch.full_like(indices, k) for k, (indices, _) in enumerate(selected)]
    indices = torch.cat([indices for indices, _ in selected])
    return torch.cat([scores for _, scores in selected]), torch.cat(labels), box_preds[indices]


def _sorted_nms(
    boxes: Tensor,
    scores: Tensor,
    thresh: float,
    pre_maxsize: int | None,
    post_maxsize: int | None,
    *,
    rotated: bool,
) -> Tensor:
    order = scores.detach().argsort(descending=True, stable=True)[:pre_maxsize]
    sorted_boxes = boxes.detach()[order, :7].float().contiguous()
    limit = len(order) if post_maxsize is None else post_maxsize
    if boxes.device.type == "cpu":
        kept = torch.from_numpy(
            box_kernels.greedy_nms(sorted_boxes.numpy(), np.float32(thresh), rotated, limit)
        )
    else:
        kept = greedy_nms_plain(sorted_boxes, thresh, rotated)[:limit]
    return order[kept]


def greedy_nms_plain(boxes: Tensor, thresh: float, rotated: bool) -> Tensor:
    """Greedy NMS over boxes (N, 7) sorted by falling score, in plain torch without a loop over boxes: indices (K,).

    A box stays when no kept box before it suppresses it. Starting from "all stay", the rule is applied to all boxes at
    once until nothing changes; after step n the first n boxes are final, and in practice a few steps suffice.
    """
    iou = boxes_iou_bev(boxes, boxes) if rotated else boxes_bev_aligned_iou(boxes, boxes)
    suppresses = (iou > float(np.float32(thresh))).triu(diagonal=1)
    kept = torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
    while True:
        stays = ~(suppresses & kept[:, None]).any(dim=0)
        if torch.equal(stays, kept):
            return kept.nonzero()[:, 0]
        kept = stays
