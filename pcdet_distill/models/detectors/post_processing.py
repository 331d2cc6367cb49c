"""From predictions to final boxes: scores, NMS, labels; and the recall of the ground truth.

Serves one-stage heads, dense (B, A, ...) or per point (N, ...) with ``batch_index``, and second stages, whose labels
come from ``roi_labels`` and whose padding, RoIs without a size, is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...config import required
from ...errors import ConfigError
from ...ops.boxes import boxes_iou3d
from ...ops.nms import class_agnostic_nms, multi_classes_nms
from ..roi_heads.target_assigner.proposal_target_layer import is_box

WHERE = "MODEL.POST_PROCESSING"


def post_process(
    batch_dict: Mapping[str, Any],
    settings: Mapping[str, Any],
    num_class: int,
    companions: Mapping[str, Tensor] | None = None,
) -> tuple[list[dict[str, Tensor]], dict[str, int]]:
    """Final boxes of a batch.

    Args:
        companions: (B, R) each, what else is to be told of every final box of a second stage.

    Returns:
        per frame ``pred_boxes`` (K, 7 + C), ``pred_scores`` (K,), ``pred_labels`` (K,) from 1, and the companions (K,);
        and ``{"gt": count, "roi_0.3": found, "rcnn_0.3": found, ...}`` for RECALL_THRESH_LIST, empty without
        ``gt_boxes``.
    """
    thresholds = settings.get("RECALL_THRESH_LIST") or []
    pred_dicts: list[dict[str, Tensor]] = []
    recall: dict[str, int] = {}
    for frame in range(int(batch_dict["batch_size"])):
        rows = _rows_of_frame(batch_dict, frame)
        prediction = _boxes_of_frame(batch_dict, frame, rows, settings, num_class, companions or {})
        pred_dicts.append(prediction)
        if "gt_boxes" in batch_dict:
            rois = batch_dict["rois"][rows] if "rois" in batch_dict else None
            candidates = (
                prediction["pred_boxes"] if rois is None else batch_dict["batch_box_preds"][rows]
            )
            counts = count_recalled(candidates, rois, batch_dict["gt_boxes"][frame], thresholds)
            recall = {name: recall.get(name, 0) + count for name, count in counts.items()}
    return pred_dicts, recall


def _boxes_of_frame(
    batch_dict: Mapping[str, Any],
    frame: int,
    rows: Any,
    settings: Mapping[str, Any],
    num_class: int,
    companions: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Final boxes of one frame: those the head has made itself, or else what is selected from its predictions."""
    if "final_box_dicts" in batch_dict:
        return batch_dict["final_box_dicts"][frame]
    boxes, normalized = batch_dict["batch_box_preds"][rows], batch_dict["cls_preds_normalized"]
    if "multihead_label_mapping" in batch_dict:
        predictions = [of_head[rows] for of_head in batch_dict["batch_cls_preds"]]
        return select_boxes_of_heads(
            boxes, predictions, batch_dict["multihead_label_mapping"], settings, normalized
        )
    predictions = batch_dict["batch_cls_preds"][rows]
    assert predictions.shape[1] in (1, num_class), (
        f"{predictions.shape[1]} class columns for {num_class} classes"
    )
    return select_boxes(
        boxes,
        predictions,
        settings,
        normalized=normalized,
        labels=_given_labels(batch_dict, rows),
        companions={name: values[rows] for name, values in companions.items()},
    )


def select_boxes_of_heads(
    boxes: Tensor,
    predictions: Sequence[Tensor],
    label_mapping: Sequence[Tensor],
    settings: Mapping[str, Any],
    normalized: bool,
) -> dict[str, Tensor]:
    """``select_boxes`` when several heads predict different classes, each for its own boxes.

    Args:
        boxes: (A, 7 + C), those of the heads one after the other.
        predictions: per head (A of the head, classes of the head) logits, or scores when ``normalized``.
        label_mapping: per head the labels (from 1) of its classes.
        settings: the POST_PROCESSING block. Without MULTI_CLASSES_NMS the boxes of all heads suppress each other.
    """
    if required(settings, "NMS_CONFIG", WHERE).get("MULTI_CLASSES_NMS"):
        parts = []
        for own_boxes, own, labels in zip(
            boxes.split([len(own) for own in predictions]), predictions, label_mapping
        ):
            part = select_boxes(own_boxes, own, settings, normalized, labels=None)
            parts.append({**part, "pred_labels": labels[part["pred_labels"] - 1]})
        return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    best = [own.max(dim=-1) for own in predictions]
    chosen = torch.cat([labels[found.indices] for labels, found in zip(label_mapping, best)])
    raw = torch.cat([found.values for found in best]).unsqueeze(1)
    return select_boxes(boxes, raw, settings, normalized, labels=chosen)


def select_boxes(
    boxes: Tensor,
    predictions: Tensor,
    settings: Mapping[str, Any],
    normalized: bool,
    labels: Tensor | None,
    companions: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Score threshold and NMS for one frame.

    Args:
        boxes: (A, 7 + C).
        predictions: (A, classes or 1) logits, or scores when ``normalized``.
        settings: the POST_PROCESSING block.
        labels: (A,) from 1 when an earlier stage has decided them, else None.
        companions: (A,) each, what else is to be told of the kept boxes; not with MULTI_CLASSES_NMS.
    """
    companions = companions or {}
    nms_config = required(settings, "NMS_CONFIG", WHERE)
    score_thresh = required(settings, "SCORE_THRESH", WHERE)
    if nms_config.get("MULTI_CLASSES_NMS"):
        scores = predictions if normalized else torch.sigmoid(predictions)
        if companions:
            raise ConfigError(
                f"{WHERE}.NMS_CONFIG.MULTI_CLASSES_NMS is true, expected false for this detector"
            )
        scores, classes, kept = multi_classes_nms(scores, boxes, nms_config, score_thresh)
        return {"pred_boxes": kept, "pred_scores": scores, "pred_labels": classes + 1}
    # The sigmoid keeps the order: it is taken of the best class only.
    raw, best = predictions.max(dim=-1)
    scores = raw if normalized else torch.sigmoid(raw)
    labels = best + 1 if labels is None else labels
    selected, scores = class_agnostic_nms(scores, boxes, nms_config, score_thresh)
    if settings.get("OUTPUT_RAW_SCORE"):
        scores = raw[selected]
    return {
        "pred_boxes": boxes[selected],
        "pred_scores": scores,
        "pred_labels": labels[selected],
        **{name: values[selected] for name, values in companions.items()},
    }


def count_recalled(
    boxes: Tensor, rois: Tensor | None, gt_boxes: Tensor, thresholds: Sequence[float]
) -> dict[str, int]:
    """How many ground truth boxes (G, 7 + C + 1; rows of zeros are padding) are overlapped above each threshold."""
    gt_boxes = gt_boxes[gt_boxes.ne(0).any(dim=1)]
    counts = {"gt": len(gt_boxes)}
    best = _best_overlap(boxes, gt_boxes)
    best_roi = None if rois is None else _best_overlap(rois, gt_boxes)
    for threshold in thresholds:
        counts[f"roi_{threshold}"] = 0 if best_roi is None else int((best_roi > threshold).sum())
        counts[f"rcnn_{threshold}"] = int((best > threshold).sum())
    return counts


def _best_overlap(boxes: Tensor, gt_boxes: Tensor) -> Tensor:
    """Highest 3D IoU of each ground truth box with any box: (G,)."""
    if len(boxes) == 0 or len(gt_boxes) == 0:
        return gt_boxes.new_zeros(len(gt_boxes))
    return boxes_iou3d(boxes[:, :7], gt_boxes[:, :7].to(boxes.dtype)).amax(dim=0)


def _rows_of_frame(batch_dict: Mapping[str, Any], frame: int) -> Any:
    """What selects the predictions of one frame, without padding."""
    if "batch_index" in batch_dict:
        return batch_dict["batch_index"] == frame
    if batch_dict.get("rois") is None:
        return frame
    return frame, is_box(batch_dict["rois"][frame])


def _given_labels(batch_dict: Mapping[str, Any], rows: Any) -> Tensor | None:
    """Labels (R,) that an earlier stage has decided."""
    if not batch_dict.get("has_class_labels", False):
        return None
    return batch_dict["roi_labels" if "roi_labels" in batch_dict else "batch_pred_labels"][rows]
