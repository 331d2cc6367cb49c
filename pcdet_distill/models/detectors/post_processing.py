"""From predictions to final boxes: scores, NMS, labels; and the recall of the ground truth.

This serves one-stage heads, dense (B, A, ...) or by point (N, ...) with ``batch_index``. It also
serves second stages: their labels come from ``roi_labels``, and their padding (RoIs without a size)
is left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from ...config import required
from ...errors import ConfigError
from ...ops.boxes import boxes_iou3d
from ...ops.frames import rows_of_masks, split_by_frame
from ...ops.nms import class_agnostic_nms, multi_classes_nms
from ...types import BatchDict, ConfigDict
from ..dense_heads.detection_head import concatenate_boxes
from ..roi_heads.target_assigner.proposal_target_layer import is_box

WHERE = "MODEL.POST_PROCESSING"

# ``pred_boxes`` (K, 7 + C), ``pred_scores`` (K,) and ``pred_labels`` (K,) from 1 of one frame.
FinalBoxes: TypeAlias = dict[str, Tensor]
# How often each kind of box was found, such as "rcnn_0.7", and "gt", the number of boxes to find.
# They stay on the device, so that nobody waits for them before all frames are evaluated.
RecallCounts: TypeAlias = dict[str, Tensor]
# Index of the predictions of one frame: a frame, rows, or both.
FrameIndex: TypeAlias = int | Tensor | tuple[int, Tensor]


@dataclasses.dataclass(frozen=True)
class FramePredictions:
    """The A predictions of one frame.

    Attributes:
        boxes: (A, 7 + C).
        predictions: (A, classes), or (A, 1) where ``labels`` are given; logits or scores.
        normalized: whether the predictions are scores already.
        labels: (A,) from 1 where an earlier stage has decided them, else None.
        companions: further values (A,) that are returned for the kept boxes.
    """

    boxes: Tensor
    predictions: Tensor
    normalized: bool
    labels: Tensor | None = None
    companions: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)


def post_process(
    batch_dict: BatchDict,
    settings: ConfigDict,
    num_class: int,
    companions: Mapping[str, Tensor] | None = None,
) -> tuple[list[FinalBoxes], RecallCounts]:
    """Final boxes of a batch.

    Args:
        batch_dict: after all slots have run.
        settings: the POST_PROCESSING block.
        num_class: number of classes.
        companions: further values (B, R) of the RoIs of a second stage, returned for its boxes.

    Returns:
        the final boxes of every frame, with the companions; and the recall counts for
        RECALL_THRESH_LIST, empty without ``gt_boxes``.
    """
    thresholds = settings.get("RECALL_THRESH_LIST") or []
    final_boxes: list[FinalBoxes] = []
    recall: RecallCounts = {}
    for frame, rows in enumerate(_rows_of_frames(batch_dict)):
        own_companions = {name: values[rows] for name, values in (companions or {}).items()}
        boxes_of_frame = _boxes_of_frame(
            batch_dict, frame, rows, settings, num_class=num_class, companions=own_companions
        )
        final_boxes.append(boxes_of_frame)
        if "gt_boxes" not in batch_dict:
            continue
        rois = None
        candidates = boxes_of_frame["pred_boxes"]
        if "rois" in batch_dict:
            # Recall of a second stage counts all its boxes, also those that NMS drops.
            rois = batch_dict["rois"][rows]
            candidates = batch_dict["batch_box_preds"][rows]
        counts = count_recalled(candidates, rois, batch_dict["gt_boxes"][frame], thresholds)
        for name, count in counts.items():
            recall[name] = recall[name] + count if name in recall else count
    return final_boxes, recall


def _boxes_of_frame(
    batch_dict: BatchDict,
    frame: int,
    rows: FrameIndex,
    settings: ConfigDict,
    *,
    num_class: int,
    companions: Mapping[str, Tensor],
) -> FinalBoxes:
    """Final boxes of one frame: those that the head made itself, or a selection of its boxes."""
    if "final_box_dicts" in batch_dict:
        return batch_dict["final_box_dicts"][frame]
    boxes = batch_dict["batch_box_preds"][rows]
    normalized = batch_dict["cls_preds_normalized"]
    if "multihead_label_mapping" in batch_dict:
        predictions_of_heads = [of_head[rows] for of_head in batch_dict["batch_cls_preds"]]
        return select_boxes_of_heads(
            boxes,
            predictions_of_heads,
            batch_dict["multihead_label_mapping"],
            settings,
            normalized=normalized,
        )
    predictions = batch_dict["batch_cls_preds"][rows]
    assert predictions.shape[1] in (1, num_class), (
        f"{predictions.shape[1]} class columns for {num_class} classes"
    )
    labels = _given_labels(batch_dict, rows)
    return select_boxes(
        FramePredictions(boxes, predictions, normalized, labels, companions), settings
    )


def select_boxes_of_heads(
    boxes: Tensor,
    predictions: Sequence[Tensor],
    label_mapping: Sequence[Tensor],
    settings: ConfigDict,
    *,
    normalized: bool,
) -> FinalBoxes:
    """``select_boxes`` when several heads predict different classes, each for its own boxes.

    With MULTI_CLASSES_NMS every class has an NMS of its own, head by head. Otherwise the boxes of
    all heads suppress each other.

    Args:
        boxes: (A, 7 + C), those of the heads one after the other.
        predictions: per head (A of the head, classes of the head), logits or scores.
        label_mapping: per head the labels (from 1) of its classes.
        settings: the POST_PROCESSING block.
        normalized: whether the predictions are scores already.
    """
    if not required(settings, "NMS_CONFIG", WHERE).get("MULTI_CLASSES_NMS"):
        best_values = []
        best_labels = []
        for of_head, labels in zip(predictions, label_mapping):
            best = of_head.max(dim=-1)
            best_values.append(best.values)
            best_labels.append(labels[best.indices])
        best_column = torch.cat(best_values).unsqueeze(1)
        frame = FramePredictions(boxes, best_column, normalized, torch.cat(best_labels))
        return select_boxes(frame, settings)
    parts = []
    counts = [len(of_head) for of_head in predictions]
    for own_boxes, of_head, labels in zip(boxes.split(counts), predictions, label_mapping):
        part = select_boxes(FramePredictions(own_boxes, of_head, normalized), settings)
        part["pred_labels"] = labels[part["pred_labels"] - 1]
        parts.append(part)
    return concatenate_boxes(parts)


def select_boxes(frame: FramePredictions, settings: ConfigDict) -> FinalBoxes:
    """Score threshold and NMS for one frame, by the POST_PROCESSING block ``settings``.

    OpenPCDet's KITTI configs run one NMS across all classes: a box of the highest class suppresses
    those of other classes that overlap it, since one object has one class. With MULTI_CLASSES_NMS
    every class has its own, and a box may be kept once for each class above the threshold.
    """
    nms_config = required(settings, "NMS_CONFIG", WHERE)
    score_thresh = required(settings, "SCORE_THRESH", WHERE)
    if nms_config.get("MULTI_CLASSES_NMS"):
        return _select_by_class(frame, nms_config, score_thresh)
    # The sigmoid keeps the order of the classes, so only the best one needs it.
    raw_scores, best = frame.predictions.max(dim=-1)
    scores = raw_scores if frame.normalized else torch.sigmoid(raw_scores)
    labels = best + 1 if frame.labels is None else frame.labels
    selected, scores = class_agnostic_nms(scores, frame.boxes, nms_config, score_thresh)
    if settings.get("OUTPUT_RAW_SCORE"):
        scores = raw_scores[selected]
    final_boxes = {
        "pred_boxes": frame.boxes[selected],
        "pred_scores": scores,
        "pred_labels": labels[selected],
    }
    for name, values in frame.companions.items():
        final_boxes[name] = values[selected]
    return final_boxes


def _select_by_class(
    frame: FramePredictions, nms_config: ConfigDict, score_thresh: float
) -> FinalBoxes:
    if frame.companions:
        raise ConfigError(
            f"{WHERE}.NMS_CONFIG.MULTI_CLASSES_NMS is true, expected false for this detector"
        )
    scores = frame.predictions
    if not frame.normalized:
        scores = torch.sigmoid(scores)
    scores, classes, boxes = multi_classes_nms(scores, frame.boxes, nms_config, score_thresh)
    return {"pred_boxes": boxes, "pred_scores": scores, "pred_labels": classes + 1}


def count_recalled(
    boxes: Tensor, rois: Tensor | None, gt_boxes: Tensor, thresholds: Sequence[float]
) -> RecallCounts:
    """How many ground truth boxes overlap a prediction by more than each threshold.

    Args:
        boxes: (K, 7 + C) predicted boxes, counted under ``rcnn_<threshold>``.
        rois: (R, 7 + C) proposals, counted under ``roi_<threshold>``; None counts as none found.
        gt_boxes: (G, 7 + C + 1); rows of zeros are padding.
        thresholds: of the 3D IoU.
    """
    is_object = gt_boxes.ne(0).any(dim=1)
    counts = {"gt": is_object.sum()}
    best_of_boxes = _best_overlap(boxes, gt_boxes).masked_fill(~is_object, 0)
    best_of_rois = best_of_boxes.new_zeros(0)
    if rois is not None:
        best_of_rois = _best_overlap(rois, gt_boxes).masked_fill(~is_object, 0)
    for threshold in thresholds:
        counts[f"roi_{threshold}"] = (best_of_rois > threshold).sum()
        counts[f"rcnn_{threshold}"] = (best_of_boxes > threshold).sum()
    return counts


def _best_overlap(boxes: Tensor, gt_boxes: Tensor) -> Tensor:
    """Highest 3D IoU (G,) of each ground truth box with any box."""
    if len(boxes) == 0 or len(gt_boxes) == 0:
        return gt_boxes.new_zeros(len(gt_boxes))
    return boxes_iou3d(boxes[:, :7], gt_boxes[:, :7].to(boxes.dtype)).amax(dim=0)


def _rows_of_frames(batch_dict: BatchDict) -> Sequence[FrameIndex]:
    """Index of the predictions of each frame, without padding; the host waits once at most."""
    num_frames = int(batch_dict["batch_size"])
    if "batch_index" in batch_dict:
        return split_by_frame(batch_dict["batch_index"], num_frames)
    if batch_dict.get("rois") is None:
        return range(num_frames)
    rows_of_boxes = rows_of_masks(is_box(batch_dict["rois"]).unbind(0))
    return list(enumerate(rows_of_boxes))


def _given_labels(batch_dict: BatchDict, rows: FrameIndex) -> Tensor | None:
    """Labels (R,) that an earlier stage has decided; None if the predictions decide them."""
    if not batch_dict.get("has_class_labels", False):
        return None
    key = "roi_labels" if "roi_labels" in batch_dict else "batch_pred_labels"
    return batch_dict[key][rows]
