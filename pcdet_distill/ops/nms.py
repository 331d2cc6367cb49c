"""Non-maximum suppression by BEV IoU, rotated or axis-aligned, with OpenPCDet's rules.

Boxes are taken by falling score; of equal scores the earlier row comes first, so that the result
does not depend on the sorting algorithm. A box is dropped when its IoU with a kept one is *above*
the threshold. A score equal to ``score_thresh`` passes it. Inputs are not modified.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..config import lookup
from ..types import ConfigDict
from .accelerated import box_kernels
from .boxes import boxes_bev_aligned_iou, boxes_iou_bev
from .dispatch import Operator


def nms(
    boxes: Tensor,
    scores: Tensor,
    thresh: float,
    pre_maxsize: int | None = None,
    post_maxsize: int | None = None,
) -> Tensor:
    """Indices of the boxes that NMS by rotated BEV IoU keeps.

    Args:
        boxes: (N, 7).
        scores: (N,).
        thresh: the IoU above which a box is dropped.
        pre_maxsize: boxes of highest score that take part; None: all.
        post_maxsize: boxes kept at most; None: all.

    Returns:
        (K,) int64, by falling score.
    """
    order = _best_first(scores, pre_maxsize)
    return order[_greedy_nms(boxes[order], thresh, post_maxsize, rotated=True)]


def nms_normal(
    boxes: Tensor,
    scores: Tensor,
    thresh: float,
    pre_maxsize: int | None = None,
    post_maxsize: int | None = None,
) -> Tensor:
    """``nms`` with axis-aligned BEV IoU: headings are ignored."""
    order = _best_first(scores, pre_maxsize)
    return order[_greedy_nms(boxes[order], thresh, post_maxsize, rotated=False)]


def nms_circle(
    boxes: Tensor,
    scores: Tensor,
    thresh: float,
    pre_maxsize: int | None = None,
    post_maxsize: int | None = None,
) -> Tensor:
    """``nms`` by the distance of the centres from above (CenterPoint, CVPR 2021).

    A box is dropped when its centre lies ``thresh`` metres or less from that of a kept one.
    CenterPoint's own code compares the squared distance with its radii: its radius of 4 is
    2 metres here.
    """
    order = _best_first(scores, pre_maxsize)
    centres = boxes[order, :2].detach().double()
    distance = torch.cdist(centres, centres, compute_mode="donot_use_mm_for_euclid_dist")
    return order[_keep_greedily(distance <= thresh)[:post_maxsize]]


NMS_TYPES: dict[str, Callable[..., Tensor]] = {
    "nms_gpu": nms,
    "nms_normal_gpu": nms_normal,
    "circle_nms": nms_circle,
}


def class_agnostic_nms(
    box_scores: Tensor,
    box_preds: Tensor,
    nms_config: ConfigDict,
    score_thresh: float | None = None,
) -> tuple[Tensor, Tensor]:
    """One NMS over all boxes, whatever their class.

    Args:
        box_scores: (N,).
        box_preds: (N, 7).
        nms_config: OpenPCDet's NMS_CONFIG.
        score_thresh: boxes of lower scores do not take part.

    Returns:
        indices (K,) int64 by falling score, and their scores (K,).
    """
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
    nms_config: ConfigDict,
    score_thresh: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """One NMS per class; the results of the classes follow each other in class order.

    Args:
        cls_scores: (N, C).
        box_preds: (N, 7).
        nms_config: OpenPCDet's NMS_CONFIG.
        score_thresh: boxes of lower scores do not take part.

    Returns:
        scores (K,), labels (K,) from 0, boxes (K, 7).
    """
    indices = []
    scores = []
    labels = []
    for label, class_scores in enumerate(cls_scores.unbind(dim=1)):
        kept, kept_scores = class_agnostic_nms(class_scores, box_preds, nms_config, score_thresh)
        indices.append(kept)
        scores.append(kept_scores)
        labels.append(torch.full_like(kept, label))
    return torch.cat(scores), torch.cat(labels), box_preds[torch.cat(indices)]


def _best_first(scores: Tensor, count: int | None) -> Tensor:
    """Rows (K,) int64 of the ``count`` highest scores (N,), the highest first."""
    return scores.detach().argsort(descending=True, stable=True)[:count]


def _greedy_nms(boxes: Tensor, thresh: float, max_kept: int | None, *, rotated: bool) -> Tensor:
    """Indices (K,) int64 that NMS keeps of boxes (N, 7+) sorted by falling score."""
    boxes = boxes.detach()[:, :7].float().contiguous()
    suppress = GREEDY_NMS.on(boxes.device)
    return suppress(boxes, float(np.float32(thresh)), rotated, max_kept)


def _greedy_nms_numba(
    boxes: Tensor, thresh: float, rotated: bool, limit: int | None = None
) -> Tensor:
    """``greedy_nms_plain``, compiled for the CPU."""
    most = len(boxes) if limit is None else limit
    kept = box_kernels.greedy_nms(boxes.numpy(), np.float32(thresh), rotated, most)
    return torch.from_numpy(kept)


def greedy_nms_plain(
    boxes: Tensor, thresh: float, rotated: bool, limit: int | None = None
) -> Tensor:
    """Greedy NMS in plain torch without a loop over boxes.

    Args:
        boxes: (N, 7), sorted by falling score.
        thresh: the IoU above which a box is dropped.
        rotated: by rotated IoU, or else with the headings ignored.
        limit: boxes kept at most; None: all.

    Returns:
        indices (K,) int64.
    """
    iou = boxes_iou_bev(boxes, boxes) if rotated else boxes_bev_aligned_iou(boxes, boxes)
    return _keep_greedily(iou > float(np.float32(thresh)))[:limit]


GREEDY_NMS = Operator(
    "NMS", plain=greedy_nms_plain, numba=_greedy_nms_numba, triton="rotated_iou:greedy_nms"
)


def _keep_greedily(is_near: Tensor) -> Tensor:
    """Indices (K,) int64 of the rows that stay; a row stays when no kept row before it is near.

    All rows start as kept, and the rule is applied to all of them at once until it changes nothing.
    After step n the first n rows are final; in practice a few steps suffice.

    Args:
        is_near: (N, N) bool.
    """
    # Entry (i, j): the earlier row i would suppress the later row j.
    suppresses = is_near.triu(diagonal=1)
    kept = torch.ones(len(is_near), dtype=torch.bool, device=is_near.device)
    while True:
        suppressed = (suppresses & kept[:, None]).any(dim=0)
        if torch.equal(~suppressed, kept):
            return kept.nonzero()[:, 0]
        kept = ~suppressed
