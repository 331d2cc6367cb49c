"""Final boxes: scores, labels, NMS variants, stages, recall."""

from __future__ import annotations

import pytest
import torch

from pcdet_distill.errors import ConfigError
from pcdet_distill.models.detectors.post_processing import count_recalled, post_process
from pcdet_distill.types import BatchDict

THRESHOLDS = [0.3, 0.7]
PADDING = [0.0] * 8


def make_settings(multi: bool = False, **changes) -> dict:
    """POST_PROCESSING, with NMS class by class where ``multi`` is true."""
    nms = {
        "MULTI_CLASSES_NMS": multi,
        "NMS_TYPE": "nms_gpu",
        "NMS_THRESH": 0.1,
        "NMS_PRE_MAXSIZE": 100,
        "NMS_POST_MAXSIZE": 10,
    }
    return {
        "RECALL_THRESH_LIST": THRESHOLDS,
        "SCORE_THRESH": 0.1,
        "OUTPUT_RAW_SCORE": False,
        "NMS_CONFIG": nms,
        **changes,
    }


def box_at(x: float) -> list[float]:
    """A box of 4 m x 2 m x 1 m on the x axis."""
    return [x, 0, 0, 4, 2, 1, 0]


def gt_at(x: float) -> list[float]:
    """A ground truth box of the first class on the x axis."""
    return [*box_at(x), 1]


def make_batch(logits: list[list[float]], positions: list[float], **entries) -> BatchDict:
    """One frame with a predicted box at each position."""
    boxes = [box_at(x) for x in positions]
    return {
        "batch_size": 1,
        "batch_cls_preds": torch.tensor([logits]),
        "cls_preds_normalized": False,
        "batch_box_preds": torch.tensor([boxes]),
        **entries,
    }


def sigmoid(value: float) -> float:
    """The probability of a logit."""
    return torch.sigmoid(torch.tensor(value)).item()


# --- Scores, labels and NMS


def test_best_class_threshold_and_nms_across_classes() -> None:
    # The second box gives way to the first, though of another class. The last is too weak.
    logits = [[2.0, -5, -5], [-5, 1.0, -5], [-5, -5, 3.0], [-5, -5, -5]]
    batch = make_batch(logits, positions=[0, 0.5, 20, 40])
    (found,), recall = post_process(batch, make_settings(), num_class=3)
    assert found["pred_labels"].tolist() == [3, 1]
    assert found["pred_scores"].tolist() == pytest.approx([sigmoid(3.0), sigmoid(2.0)])
    assert found["pred_boxes"][:, 0].tolist() == [20, 0]
    assert recall == {}


def test_nms_class_by_class() -> None:
    # The last box gives way to the first of its class; the second, of another class, stays.
    logits = [[2.0, -5, -5], [-5, 1.0, -5], [1.5, -5, -5]]
    batch = make_batch(logits, positions=[0, 0.5, 0.2])
    (found,), _ = post_process(batch, make_settings(multi=True), num_class=3)
    assert found["pred_labels"].tolist() == [1, 2]
    assert found["pred_scores"].tolist() == pytest.approx([sigmoid(2.0), sigmoid(1.0)])
    assert found["pred_boxes"][:, 0].tolist() == pytest.approx([0, 0.5])


def test_raw_scores_are_logits() -> None:
    batch = make_batch([[2.0, -5, -5]], positions=[0])
    (found,), _ = post_process(batch, make_settings(OUTPUT_RAW_SCORE=True), num_class=3)
    assert found["pred_scores"].tolist() == [2.0]


def test_normalized_predictions_are_scores_already() -> None:
    batch = make_batch([[0.4, 0.2, 0.05]], positions=[0], cls_preds_normalized=True)
    (found,), _ = post_process(batch, make_settings(), num_class=3)
    assert found["pred_scores"].tolist() == pytest.approx([0.4])


def test_labels_of_the_first_stage_stay() -> None:
    batch = make_batch(
        [[2.0], [1.0]],
        positions=[0, 20],
        has_class_labels=True,
        roi_labels=torch.tensor([[3, 2]]),
    )
    (found,), _ = post_process(batch, make_settings(), num_class=3)
    assert found["pred_labels"].tolist() == [3, 2]


def test_predictions_by_point_are_split_into_frames() -> None:
    boxes = [box_at(0), box_at(10), box_at(20)]
    batch = {
        "batch_size": 2,
        "batch_index": torch.tensor([0, 1, 1]),
        "cls_preds_normalized": False,
        "batch_cls_preds": torch.tensor([[2.0], [1.0], [3.0]]),
        "batch_box_preds": torch.tensor(boxes),
    }
    (first, second), _ = post_process(batch, make_settings(), num_class=1)
    assert first["pred_boxes"][:, 0].tolist() == [0]
    assert second["pred_boxes"][:, 0].tolist() == [20, 10]


def test_nothing_above_the_threshold() -> None:
    gt_boxes = torch.tensor([[gt_at(0)]])
    batch = make_batch([[-5.0, -5, -5]], positions=[0], gt_boxes=gt_boxes)
    (found,), recall = post_process(batch, make_settings(), num_class=3)
    assert found["pred_boxes"].shape == (0, 7)
    assert len(found["pred_scores"]) == 0
    assert len(found["pred_labels"]) == 0
    assert recall == {"gt": 1, "roi_0.3": 0, "rcnn_0.3": 0, "roi_0.7": 0, "rcnn_0.7": 0}


# --- Recall: "roi" counts boxes that the first stage found, "rcnn" those of the last.


def test_recall_is_summed_over_frames() -> None:
    # In both frames one box is found with a shift of 1 m: IoU 3 / 5 is above 0.3, not above 0.7.
    gt_boxes = [gt_at(0), gt_at(50), PADDING]
    batch = {
        "batch_size": 2,
        "batch_cls_preds": torch.tensor([[[3.0, -5, -5]]] * 2),
        "cls_preds_normalized": False,
        "batch_box_preds": torch.tensor([[box_at(1.0)]] * 2),
        "gt_boxes": torch.tensor([gt_boxes] * 2),
    }
    _, recall = post_process(batch, make_settings(), num_class=3)
    assert recall == {"gt": 4, "roi_0.3": 0, "rcnn_0.3": 2, "roi_0.7": 0, "rcnn_0.7": 0}


def test_recall_of_two_stages() -> None:
    # IoU 0.6 for the first stage, 3.9 / 4.1 for the second.
    rois = torch.tensor([box_at(1.0)])
    boxes = torch.tensor([box_at(0.1)])
    gt_boxes = torch.tensor([gt_at(0)])
    found = count_recalled(boxes, rois, gt_boxes, THRESHOLDS)
    assert found == {"gt": 1, "roi_0.3": 1, "rcnn_0.3": 1, "roi_0.7": 0, "rcnn_0.7": 1}


def test_recall_of_two_stages_looks_at_all_boxes_not_only_at_the_final_ones() -> None:
    batch = make_batch(
        [[-5.0]],
        positions=[0],
        has_class_labels=True,
        roi_labels=torch.tensor([[1]]),
        rois=torch.tensor([[box_at(30)]]),
        gt_boxes=torch.tensor([[gt_at(0)]]),
    )
    (found,), recall = post_process(batch, make_settings(), num_class=3)
    assert len(found["pred_boxes"]) == 0
    assert recall == {"gt": 1, "roi_0.3": 0, "rcnn_0.3": 1, "roi_0.7": 0, "rcnn_0.7": 1}


def test_recall_of_a_frame_without_ground_truth() -> None:
    boxes = torch.tensor([box_at(1.0)])
    padding_alone = torch.tensor([PADDING, PADDING])
    found = count_recalled(boxes, None, padding_alone, THRESHOLDS)
    assert found["gt"] == 0
    assert found["rcnn_0.3"] == 0


def test_missing_settings_are_named() -> None:
    settings = make_settings()
    del settings["SCORE_THRESH"]
    batch = make_batch([[1.0, 1, 1]], positions=[0])
    with pytest.raises(ConfigError, match="POST_PROCESSING.SCORE_THRESH is missing"):
        post_process(batch, settings, num_class=3)
