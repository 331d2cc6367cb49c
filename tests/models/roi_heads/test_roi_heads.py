"""What second stages share: proposals, decoding, losses, places in RoIs."""

from __future__ import annotations

import math

import pytest
import torch
from small_two_stage import refinement
from torch import Tensor

from pcdet_distill.errors import ConfigError
from pcdet_distill.models.detectors.post_processing import post_process
from pcdet_distill.models.model_utils.places import roi_grid_points, voxel_centres
from pcdet_distill.models.roi_heads.roi_head_template import RoIHeadTemplate
from pcdet_distill.ops.frames import stack_frames

# At most four proposals a frame.
NMS = {
    "NMS_TYPE": "nms_gpu",
    "MULTI_CLASSES_NMS": False,
    "NMS_PRE_MAXSIZE": 100,
    "NMS_POST_MAXSIZE": 4,
    "NMS_THRESH": 0.5,
}
PADDING = [0.0] * 7
FACING_LEFT = math.pi / 2


def make_head() -> RoIHeadTemplate:
    """A second stage for one class, without layers."""
    return RoIHeadTemplate(1, refinement("any"))


def box_at(x: float, heading: float = 0.0) -> list[float]:
    """A box of 4 m x 2 m x 2 m on the x axis."""
    return [x, 0, 0, 4, 2, 2, heading]


# --- Proposals


def test_proposals_are_sorted_by_score_and_padded() -> None:
    # In each frame NMS keeps the best of the boxes near 0.
    first = [box_at(0), box_at(0.5), box_at(20)]
    first_logits = [[1.0, 0], [0, 3], [2, 0]]
    second = [box_at(0), box_at(0.1), box_at(0.2)]
    second_logits = [[0.0, 1], [2, 0], [0, 0]]
    batch = {
        "batch_size": 2,
        "batch_box_preds": torch.tensor([first, second]),
        "batch_cls_preds": torch.tensor([first_logits, second_logits]),
    }
    make_head().proposal_layer(batch, NMS)

    rois = batch["rois"]
    assert rois.shape == (2, 4, 7)
    assert rois[0, :, 0].tolist() == [0.5, 20, 0, 0]
    assert rois[1, :, 0].tolist() == [pytest.approx(0.1), 0, 0, 0]
    assert (rois[0, 2:] == 0).all()
    assert batch["has_class_labels"]
    assert batch["roi_scores"].tolist() == [[3, 2, 0, 0], [2, 0, 0, 0]]
    assert batch["roi_labels"].tolist() == [[2, 1, 1, 1], [1, 1, 1, 1]]


def test_proposals_of_points_are_split_into_frames() -> None:
    boxes = [box_at(0), box_at(10), box_at(20)]
    batch = {
        "batch_size": 3,
        "batch_index": torch.tensor([0, 2, 2]),
        "batch_cls_preds": torch.tensor([[1.0], [2], [3]]),
        "batch_box_preds": torch.tensor(boxes),
    }
    make_head().proposal_layer(batch, NMS)
    # After it, a row of predictions is a RoI of its frame, so the index is gone.
    assert "batch_index" not in batch
    assert not batch["has_class_labels"]
    assert batch["rois"][..., 0].tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [20, 10, 0, 0]]
    assert (batch["rois"][1] == 0).all()


def test_proposals_that_are_there_stay() -> None:
    rois = torch.tensor([[box_at(1)]])
    batch = {"batch_size": 1, "rois": rois}
    make_head().proposal_layer(batch, NMS)
    assert batch == {"batch_size": 1, "rois": rois}


def test_proposals_class_by_class_are_refused() -> None:
    with pytest.raises(ConfigError, match="MULTI_CLASSES_NMS"):
        make_head().proposal_layer({"batch_size": 1}, {**NMS, "MULTI_CLASSES_NMS": True})


def test_padding_is_no_detection() -> None:
    settings = {
        "SCORE_THRESH": 0.0,
        "NMS_CONFIG": {**NMS, "NMS_POST_MAXSIZE": 10},
        "RECALL_THRESH_LIST": [0.5],
    }
    rois = torch.tensor([[box_at(5), PADDING], [PADDING, PADDING]])
    gt_of_first = [*box_at(5), 3]
    gt_of_second = [*box_at(1), 1]
    batch = {
        "batch_size": 2,
        "rois": rois,
        "roi_labels": torch.tensor([[3, 1], [1, 1]]),
        "has_class_labels": True,
        "batch_box_preds": rois + 1,
        "batch_cls_preds": torch.zeros(2, 2, 1),
        "cls_preds_normalized": False,
        "gt_boxes": torch.tensor([[gt_of_first], [gt_of_second]]),
    }
    companions = {"pred_iou_scores": torch.tensor([[0.25, 0.5], [0.75, 1.0]])}
    (first, second), recall = post_process(batch, settings, 3, companions)
    assert first["pred_labels"].tolist() == [3]
    assert first["pred_iou_scores"].tolist() == [0.25]
    assert len(second["pred_boxes"]) == 0
    assert len(second["pred_iou_scores"]) == 0
    assert recall["gt"] == 2
    assert recall["roi_0.5"] == 1


# --- Boxes from codes


def test_codes_of_zero_leave_the_proposals() -> None:
    rois = torch.tensor([[box_at(5, 0.3), box_at(9, FACING_LEFT)]])
    codes = torch.zeros(2, 7)
    _, boxes = make_head().generate_predicted_boxes(1, rois, torch.zeros(2, 1), codes)
    assert torch.allclose(boxes, rois, atol=1e-6)


def test_codes_follow_the_heading_of_their_roi() -> None:
    rois = torch.tensor([[box_at(9, FACING_LEFT)]])
    # One metre ahead over the diagonal, one up over the height, twice as long, turned by 0.1.
    diagonal = math.sqrt(4**2 + 2**2)
    codes = torch.tensor([[1 / diagonal, 0, 1 / 2, math.log(2), 0, 0, 0.1]])
    _, boxes = make_head().generate_predicted_boxes(1, rois, torch.zeros(1, 1), codes)
    expected = [9, 1, 1, 8, 2, 2, FACING_LEFT + 0.1]
    assert boxes[0, 0].tolist() == pytest.approx(expected, abs=1e-5)


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
    # Targets are relative to the RoI, which then stands at the origin.
    roi_at_origin = torch.tensor([[0, 0, 0, 4, 2, 2, 0.0]])
    gt_in_roi = targets["gt_of_rois"][0, :1, :7]
    codes = head.box_coder.encode_torch(gt_in_roi, roi_at_origin)
    (decoded,) = head.decode_boxes(codes, torch.tensor([roi]))
    assert decoded.tolist() == pytest.approx(gt[:7], abs=1e-5)

    # The one RoI fills all eight places.
    head.forward_ret_dict = {**targets, "rcnn_reg": codes.repeat(8, 1)}
    losses = head.get_box_reg_layer_loss()
    assert float(losses["rcnn_loss_reg"]) < 1e-8
    assert float(losses["rcnn_loss_corner"]) < 1e-8


# --- Losses


def make_targets(labels: list[float], positive: list[int]) -> dict[str, Tensor]:
    """RoIs that lie on their boxes, predictions of 0, and these labels.

    Args:
        labels: of the classification: 1, 0, between them, or -1 for a RoI that does not count.
        positive: 1 for RoIs whose boxes are learnt.
    """
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


def test_class_loss_skips_ignored_rois_and_takes_soft_labels() -> None:
    head = make_head()
    head.forward_ret_dict = make_targets([1.0, 0.3, -1.0], positive=[0, 0, 0])
    head.forward_ret_dict["rcnn_cls"] = torch.tensor([[2.0], [-1.0], [50.0]])
    # Binary cross entropy: label 1 costs log(1 + exp(-logit)); label y of logit -1 costs
    # log(1 + exp(-1)) + y.
    certain = math.log1p(math.exp(-2.0))
    soft = math.log1p(math.exp(-1.0)) + 0.3
    expected = (certain + soft) / 2
    assert float(head.get_box_cls_layer_loss()) == pytest.approx(expected, rel=1e-5)


def test_box_loss_is_the_mean_over_positive_rois() -> None:
    head = make_head()
    head.loss_weights = {**head.loss_weights, "rcnn_reg_weight": 3.0, "rcnn_corner_weight": 0.5}
    head.forward_ret_dict = make_targets([1.0, 1.0, 0.0], positive=[1, 1, 0])
    codes = torch.zeros(3, 7)
    codes[0, 2] = 1.0  # one height, so two metres up
    codes[2] = 7.0  # not positive, does not count
    head.forward_ret_dict["rcnn_reg"] = codes
    losses = head.get_box_reg_layer_loss()
    # Smooth L1 of 1 with beta 1/9, Huber loss of 2 m at the corners; two positives.
    smooth_l1 = 1 - 0.5 / 9
    corners = 2 - 0.5
    assert float(losses["rcnn_loss_reg"]) == pytest.approx(3 * smooth_l1 / 2, rel=1e-5)
    assert float(losses["rcnn_loss_corner"]) == pytest.approx(0.5 * corners / 2, rel=1e-5)


def test_without_positives_the_losses_are_zero_and_have_a_gradient() -> None:
    head = make_head()
    head.forward_ret_dict = make_targets([-1.0, -1.0], positive=[0, 0])
    total, logs = head.get_loss()
    total.backward()
    assert total.item() == 0
    assert set(logs) == {"rcnn_loss_cls", "rcnn_loss_reg", "rcnn_loss_corner", "rcnn_loss"}
    for key in ("rcnn_cls", "rcnn_reg"):
        assert (head.forward_ret_dict[key].grad == 0).all()


def test_an_unknown_class_loss_is_named() -> None:
    head = make_head()
    head.forward_ret_dict = make_targets([1.0], positive=[1])
    head.model_cfg["LOSS_CONFIG"]["CLS_LOSS"] = "BinaryCrossEntropi"
    message = "CLS_LOSS: unknown name .*did you mean 'BinaryCrossEntropy'"
    with pytest.raises(ConfigError, match=message):
        head.get_box_cls_layer_loss()


def test_an_unknown_box_loss_is_named() -> None:
    head = make_head()
    head.forward_ret_dict = make_targets([1.0], positive=[1])
    head.model_cfg["LOSS_CONFIG"]["REG_LOSS"] = "l2"
    with pytest.raises(ConfigError, match="REG_LOSS is 'l2', expected 'smooth-l1'"):
        head.get_box_reg_layer_loss()


# --- Places


def test_grid_of_a_roi_is_centred_in_its_cells() -> None:
    straight = [10.0, 0, 1, 4, 2, 8, 0]
    to_the_left = [0, 0, 0, 4, 2, 8, FACING_LEFT]
    points = roi_grid_points(torch.tensor([straight, to_the_left]), 2)
    assert points.shape == (2, 8, 3)
    # Cells are 2 m x 1 m x 4 m; z runs fastest, x slowest.
    assert points[0, 0].tolist() == [9, -0.5, -1]
    assert points[0, 1].tolist() == [9, -0.5, 3]
    assert points[0, 2].tolist() == [9, 0.5, -1]
    assert points[0, 4].tolist() == [11, -0.5, -1]
    # The cell 1 m ahead and 0.5 m to the right.
    assert torch.allclose(points[1, 4], torch.tensor([0.5, 1, -2]), atol=1e-6)


def test_centres_of_voxels_of_a_coarse_level() -> None:
    indices_zyx = torch.tensor([[0, 1, 2]])
    voxel_size = [0.5, 0.25, 1.0]
    point_cloud_range = [10.0, 0, -3, 0, 0, 0]
    centres = voxel_centres(indices_zyx, 2, voxel_size, point_cloud_range)
    # Voxels of 1 m x 0.5 m x 2 m: x 10 + 2.5 * 1, y 1.5 * 0.5, z -3 + 0.5 * 2.
    assert centres.tolist() == [[12.5, 0.75, -2]]


def test_rows_of_mixed_frames_are_stacked_in_their_order() -> None:
    frame = torch.tensor([1, 0, 1, 0])
    values = torch.tensor([10, 20, 30, 40])
    counts, (stacked,) = stack_frames(frame, 3, values)
    assert counts == [2, 2, 0]
    assert stacked.tolist() == [20, 40, 10, 30]


def test_no_rows_are_stacked_to_empty_frames() -> None:
    no_frames = torch.zeros(0)
    no_values = torch.zeros(0, dtype=torch.long)
    counts, (stacked,) = stack_frames(no_frames, 2, no_values)
    assert counts == [0, 0]
    assert len(stacked) == 0
