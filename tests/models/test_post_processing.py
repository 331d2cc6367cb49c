"""Final boxes: scores, labels, NMS variants, stages, recall."""

from __future__ import annotations

import pytest
import torch

from pcdet_distill.errors import ConfigError
from pcdet_distill.models.detectors.post_processing import count_recalled, post_process

THRESHOLDS = [0.3, 0.7]


def make_settings(multi: bool = False, **changes) -> dict:
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
    return [x, 0, 0, 4, 2, 1, 0]


def make_batch(logits: list[list[float]], positions: list[float], **entries) -> dict:
    return {
        "batch_size": 1,
        "batch_cls_preds": torch.tensor([logits]),
        "cls_preds_normalized": False,
        "batch_box_preds": torch.tensor([[box_at(x) for x in positions]]),
        **entries,
    }


def sigmoid(value: float) -> float:
    return torch.sigmoid(torch.tensor(value)).item()


def test_best_class_threshold_and_nms_across_classes() -> None:
    logits = [[2.0, -5, -5], [-5, 1.0, -5], [-5, -5, 3.0], [-5, -5, -5]]
    (found,), recall = post_process(
        make_batch(logits, [0, 0.5, 20, 40]), make_settings(), num_class=3
    )
    assert found["pred_labels"].tolist() == [
        3,
        1,
    ]  # the second box gives way to the first, though of another class
    assert found["pred_scores"].tolist() == pytest.approx([sigmoid(3.0), sigmoid(2.0)])
    assert found["pred_boxes"][:, 0].tolist() == [20, 0]
    assert recall == {}


def test_nms_class_by_class() -> None:
    logits = [[2.0, -5, -5], [-5, 1.0, -5], [1.5, -5, -5]]
    (found,), _ = post_process(
        make_batch(logits, [0, 0.5, 0.2]), make_settings(multi=True), num_class=3
    )
    assert found["pred_labels"].tolist() == [1, 2]
    assert found["pred_scores"].tolist() == pytest.approx([sigmoid(2.0), sigmoid(1.0)])
    assert found["pred_boxes"][:, 0].tolist() == pytest.approx([0, 0.5])


def test_raw_scores() -> None:
    (found,), _ = post_process(
        make_batch([[2.0, -5, -5]], [0]), make_settings(OUTPUT_RAW_SCORE=True), num_class=3
    )
    assert found["pred_scores"].tolist() == [2.0]


def test_normalized_predictions_are_scores_already() -> None:
    batch = make_batch([[0.4, 0.2, 0.05]], [0], cls_preds_normalized=True)
    (found,), _ = post_process(batch, make_settings(), num_class=3)
    assert found["pred_scores"].tolist() == pytest.approx([0.4])


def test_labels_of_an_earlier_stage() -> None:
    batch = make_batch(
        [[2.0], [1.0]], [0, 20], has_class_labels=True, roi_labels=torch.tensor([[3, 2]])
    )
    (found,), _ = post_process(batch, make_settings(), num_class=3)
    assert found["pred_labels"].tolist() == [3, 2]


def test_predictions_by_point() -> None:
    batch = {
        "batch_size": 2,
        "batch_index": torch.tensor([0, 1, 1]),
        "cls_preds_normalized": False,
        "batch_cls_preds": torch.tensor([[2.0], [1.0], [3.0]]),
        "batch_box_preds": torch.tensor([box_at(x) for x in (0, 10, 20)]),
    }
    found, _ = post_process(batch, make_settings(), num_class=1)
    assert [frame["pred_boxes"][:, 0].tolist() for frame in found] == [[0], [20, 10]]


def test_nothing_above_the_threshold() -> None:
    batch = make_batch([[-5.0, -5, -5]], [0], gt_boxes=torch.tensor([[[*box_at(0), 1]]]))
    (found,), recall = post_process(batch, make_settings(), num_class=3)
    assert found["pred_boxes"].shape == (0, 7)
    assert len(found["pred_scores"]) == len(found["pred_labels"]) == 0
    assert recall == {"gt": 1, "roi_0.3": 0, "rcnn_0.3": 0, "roi_0.7": 0, "rcnn_0.7": 0}


def test_recall_counts_over_frames() -> None:
    # Shifted by 1 m, IoU 3 / 5: found at 0.3, not at 0.7. Padding is no box.
    frame = make_batch([[3.0, -5, -5]], [1.0])
    gt_boxes = torch.tensor([[[*box_at(0), 1], [*box_at(50), 1], [0.0] * 8]])
    batch = {
        key: torch.cat([value, value]) if isinstance(value, torch.Tensor) else value
        for key, value in {**frame, "gt_boxes": gt_boxes}.items()
    } | {"batch_size": 2}
    _, recall = post_process(batch, make_settings(), num_class=3)
    assert recall == {"gt": 4, "roi_0.3": 0, "rcnn_0.3": 2, "roi_0.7": 0, "rcnn_0.7": 0}


def test_recall_of_two_stages() -> None:
    rois = torch.tensor([box_at(1.0)])
    boxes = torch.tensor([box_at(0.1)])
    found = count_recalled(boxes, rois, torch.tensor([[*box_at(0), 1]]), THRESHOLDS)
    assert found == {"gt": 1, "roi_0.3": 1, "rcnn_0.3": 1, "roi_0.7": 0, "rcnn_0.7": 1}


def test_recall_of_two_stages_looks_at_all_boxes_not_only_at_the_final_ones() -> None:
    batch = make_batch(
        [[-5.0]],
        [0],
        has_class_labels=True,
        roi_labels=torch.tensor([[1]]),
        rois=torch.tensor([[box_at(30)]]),
        gt_boxes=torch.tensor([[[*box_at(0), 1]]]),
    )
    (found,), recall = post_process(batch, make_settings(), num_class=3)
    assert len(found["pred_boxes"]) == 0
    assert recall == {"gt": 1, "roi_0.3": 0, "rcnn_0.3": 1, "roi_0.7": 0, "rcnn_0.7": 1}


def test_frame_without_ground_truth() -> None:
    found = count_recalled(torch.tensor([box_at(1.0)]), None, torch.zeros(2, 8), THRESHOLDS)
    assert found["gt"] == 0
    assert found["rcnn_0.3"] == 0


def test_missing_settings_are_named() -> None:
    settings = make_settings()
    del settings["SCORE_THRESH"]
    with pytest.raises(ConfigError, match="POST_PROCESSING.SCORE_THRESH is missing"):
        post_process(make_batch([[1.0, 1, 1]], [0]), settings, num_class=3)
