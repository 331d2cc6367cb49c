"""What second stages share: proposals, decoding, losses, places in RoIs."""

from __future__ import annotations

import math

import pytest
import torch
from small_two_stage import refinement

from pcdet_distill.errors import ConfigError
from pcdet_distill.models.detectors.post_processing import post_process
from pcdet_distill.models.model_utils.places import roi_grid_points, stack_frames, voxel_centres
from pcdet_distill.models.roi_heads.roi_head_template import RoIHeadTemplate

NMS = {
    "NMS_TYPE": "nms_gpu",
    "MULTI_CLASSES_NMS": False,
    "NMS_PRE_MAXSIZE": 100,
    "NMS_POST_MAXSIZE": 4,
    "NMS_THRESH": 0.5,
}


def make_head() -> RoIHeadTemplate:
    return RoIHeadTemplate(1, refinement("any"))


def box_at(x: float, heading: float = 0.0) -> list[float]:
    return [x, 0, 0, 4, 2, 2, heading]


def make_targets(labels: list[float], positive: list[int]) -> dict[str, torch.Tensor]:
    count = len(labels)
    rois = torch.tensor([[box_at(10.0 * number) for number in range(count)]])
    gt = torch.cat([rois, torch.ones(1, count, 1)], dim=2)
    relative = gt.clone()
    relative[..., :3] = 0
    return {
        "rois": rois,
        "gt_of_rois": relative,
        "gt_of_rois_src": gt,
        "rcnn_cls_labels": torch.tensor([labels]),
        "reg_valid_mask": torch.tensor([positive]),
        "rcnn_cls": torch.zeros(count, 1, requires_grad=True),
        "rcnn_reg": torch.zeros(count, 7, requires_grad=True),
    }


def test_proposals_by_score_with_padding() -> None:
    boxes = torch.tensor(
        [[box_at(0), box_at(0.5), box_at(20)], [box_at(0), box_at(0.1), box_at(0.2)]]
    )
    logits = torch.tensor([[[1.0, 0], [0, 3], [2, 0]], [[0.0, 1], [2, 0], [0, 0]]])
    batch = {"batch_size": 2, "batch_box_preds": boxes, "batch_cls_preds": logits}
    make_head().proposal_layer(batch, NMS)
    assert batch["rois"].shape == (2, 4, 7)
    assert batch["has_class_labels"]
    assert batch["rois"][..., 0].tolist() == [[0.5, 20, 0, 0], [pytest.approx(0.1), 0, 0, 0]]
    assert batch["roi_scores"].tolist() == [[3, 2, 0, 0], [2, 0, 0, 0]]
    assert batch["roi_labels"].tolist() == [[2, 1, 1, 1], [1, 1, 1, 1]]
    assert (batch["rois"][0, 2:] == 0).all()


def test_proposals_of_points_lose_their_index() -> None:
    batch = {
        "batch_size": 3,
        "batch_index": torch.tensor([0, 2, 2]),
        "batch_cls_preds": torch.tensor([[1.0], [2], [3]]),
        "batch_box_preds": torch.tensor([box_at(0), box_at(10), box_at(20)]),
    }
    make_head().proposal_layer(batch, NMS)
    assert "batch_index" not in batch
    assert not batch["has_class_labels"]
    assert batch["rois"][..., 0].tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [20, 10, 0, 0]]
    assert (batch["rois"][1] == 0).all()


def test_proposals_that_are_there_stay() -> None:
    rois = torch.tensor([[box_at(1)]])
    batch = {"batch_size": 1, "rois": rois}
    make_head().proposal_layer(batch, NMS)
    assert batch == {"batch_size": 1, "rois": rois}
    with pytest.raises(ConfigError, match="MULTI_CLASSES_NMS"):
        make_head().proposal_layer({"batch_size": 1}, {**NMS, "MULTI_CLASSES_NMS": True})


def test_padding_is_no_detection() -> None:
    settings = {
        "SCORE_THRESH": 0.0,
        "NMS_CONFIG": {**NMS, "NMS_POST_MAXSIZE": 10},
        "RECALL_THRESH_LIST": [0.5],
    }
    rois = torch.tensor([[box_at(5), [0.0] * 7], [[0.0] * 7, [0.0] * 7]])
    batch = {
        "batch_size": 2,
        "rois": rois,
        "roi_labels": torch.tensor([[3, 1], [1, 1]]),
        "has_class_labels": True,
        "batch_box_preds": rois + 1,
        "batch_cls_preds": torch.zeros(2, 2, 1),
        "cls_preds_normalized": False,
        "gt_boxes": torch.tensor([[[*box_at(5), 3]], [[*box_at(1), 1]]]),
    }
    companions = {"pred_iou_scores": torch.tensor([[0.25, 0.5], [0.75, 1.0]])}
    found, recall = post_process(batch, settings, 3, companions)
    assert found[0]["pred_labels"].tolist() == [3]
    assert found[0]["pred_iou_scores"].tolist() == [0.25]
    assert len(found[1]["pred_boxes"]) == len(found[1]["pred_iou_scores"]) == 0
    assert recall["gt"] == 2
    assert recall["roi_0.5"] == 1


def test_codes_of_zero_leave_the_proposals_and_others_follow_their_headings() -> None:
    head = make_head()
    rois = torch.tensor([[box_at(5, 0.3), box_at(9, math.pi / 2)]])
    _, boxes = head.generate_predicted_boxes(1, rois, torch.zeros(2, 1), torch.zeros(2, 7))
    assert torch.allclose(boxes, rois, atol=1e-6)
    codes = torch.zeros(2, 7)
    codes[1] = torch.tensor(
        [1 / math.sqrt(20), 0, 0.5, math.log(2), 0, 0, 0.1]
    )  # one metre ahead, one up
    _, boxes = head.generate_predicted_boxes(1, rois, torch.zeros(2, 1), codes)
    assert boxes[0, 1].tolist() == pytest.approx([9, 1, 1, 8, 2, 2, math.pi / 2 + 0.1], abs=1e-5)


def test_the_targets_of_a_roi_decode_to_its_box() -> None:
    head = make_head()
    head.proposal_target_layer.roi_sampler_cfg["REG_FG_THRESH"] = 0.1
    roi = [5, 1, 0, 4, 2, 2, 2.5]
    gt = [5.4, 0.8, 0.2, 3.8, 1.7, 1.6, 2.2, 1]
    batch = {
        "rois": torch.tensor([[roi]]),
        "roi_scores": torch.zeros(1, 1),
        "gt_boxes": torch.tensor([[gt]]),
        "roi_labels": torch.ones(1, 1, dtype=torch.long),
    }
    targets = head.assign_targets(batch)
    origin = torch.tensor([[0, 0, 0, 4, 2, 2, 0.0]])
    codes = head.box_coder.encode_torch(targets["gt_of_rois"][0, :1, :7], origin)
    assert head.decode_boxes(codes, torch.tensor([roi]))[0].tolist() == pytest.approx(
        gt[:7], abs=1e-5
    )
    head.forward_ret_dict = {**targets, "rcnn_reg": codes.repeat(8, 1)}
    losses = head.get_box_reg_layer_loss()
    assert float(losses["rcnn_loss_reg"]) < 1e-8
    assert float(losses["rcnn_loss_corner"]) < 1e-8


def test_class_loss_skips_ignored_rois_and_takes_soft_labels() -> None:
    head = make_head()
    head.forward_ret_dict = make_targets([1.0, 0.3, -1.0], [0, 0, 0])
    logits = torch.tensor([[2.0], [-1.0], [50.0]])
    head.forward_ret_dict["rcnn_cls"] = logits
    softplus = [math.log1p(math.exp(-2.0)), math.log1p(math.exp(-1.0)) + 0.3 * 1.0]
    assert float(head.get_box_cls_layer_loss()) == pytest.approx(sum(softplus) / 2, rel=1e-5)


def test_box_loss_is_the_mean_over_positive_rois() -> None:
    head = make_head()
    head.loss_weights = {**head.loss_weights, "rcnn_reg_weight": 3.0, "rcnn_corner_weight": 0.5}
    head.forward_ret_dict = make_targets([1.0, 1.0, 0.0], [1, 1, 0])
    codes = torch.zeros(3, 7)
    codes[0, 2] = 1.0  # two metres up: smooth L1 with beta 1/9 of 1, Huber of 2
    codes[2] = 7.0  # no positive
    head.forward_ret_dict["rcnn_reg"] = codes
    losses = head.get_box_reg_layer_loss()
    assert float(losses["rcnn_loss_reg"]) == pytest.approx(3 * (1 - 0.5 / 9) / 2, rel=1e-5)
    assert float(losses["rcnn_loss_corner"]) == pytest.approx(0.5 * 1.5 / 2, rel=1e-5)


def test_without_positives_the_losses_are_zero_and_have_a_gradient() -> None:
    head = make_head()
    head.forward_ret_dict = make_targets([-1.0, -1.0], [0, 0])
    total, logs = head.get_loss()
    total.backward()
    assert total.item() == 0
    assert set(logs) == {
        "rcnn_loss_cls",
        "rcnn_loss_reg",
        "rcnn_loss_corner",
        "rcnn_loss",
    }
    for key in ("rcnn_cls", "rcnn_reg"):
        assert (head.forward_ret_dict[key].grad == 0).all()


def test_unknown_losses_are_named() -> None:
    head = make_head()
    head.forward_ret_dict = make_targets([1.0], [1])
    head.model_cfg["LOSS_CONFIG"]["CLS_LOSS"] = "BinaryCrossEntropi"
    with pytest.raises(
        ConfigError, match="CLS_LOSS: unknown name .*did you mean 'BinaryCrossEntropy'"
    ):
        head.get_box_cls_layer_loss()
    head.model_cfg["LOSS_CONFIG"]["REG_LOSS"] = "l2"
    with pytest.raises(ConfigError, match="REG_LOSS is 'l2', expected 'smooth-l1'"):
        head.get_box_reg_layer_loss()


def test_grid_of_a_roi() -> None:
    points = roi_grid_points(
        torch.tensor([[10.0, 0, 1, 4, 2, 8, 0], [0, 0, 0, 4, 2, 8, math.pi / 2]]), 2
    )
    assert points.shape == (2, 8, 3)
    assert points[0, :3].tolist() == [[9, -0.5, -1], [9, -0.5, 3], [9, 0.5, -1]]
    assert points[0, 4].tolist() == [11, -0.5, -1]
    assert torch.allclose(points[1, 4], torch.tensor([0.5, 1, -2]), atol=1e-6)


def test_centres_of_voxels() -> None:
    centres = voxel_centres(torch.tensor([[0, 1, 2]]), 2, [0.5, 0.25, 1.0], [10.0, 0, -3, 0, 0, 0])
    assert centres.tolist() == [[12.5, 0.75, -2]]


def test_rows_of_mixed_frames_are_stacked_in_their_order() -> None:
    frame = torch.tensor([1, 0, 1, 0])
    values = torch.tensor([10, 20, 30, 40])
    counts, stacked = stack_frames(frame, 3, values)
    assert counts.tolist() == [2, 2, 0]
    assert stacked.tolist() == [20, 40, 10, 30]
    counts, stacked = stack_frames(torch.zeros(0), 2, values[:0])
    assert counts.tolist() == [0, 0]
    assert len(stacked) == 0
