"""Centre head: final boxes and losses by hand, layers, proposals, settings."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from center_cases import (
    CAR,
    PADDING,
    PEDESTRIAN,
    make_head,
    one_frame,
    perfect_predictions,
    targets_of,
)
from easydict import EasyDict
from small_center import center_head_config
from small_model import CLASS_NAMES

from pcdet_distill.errors import ConfigError
from pcdet_distill.models.dense_heads.center_head import boxes_as_rois
from pcdet_distill.types import BatchDict


def make_batch(boxes: torch.Tensor | None = None) -> BatchDict:
    """Random features (B, 4, 16, 16) for these boxes, or for one frame without boxes."""
    frames = 1 if boxes is None else len(boxes)
    batch = {"spatial_features_2d": torch.randn(frames, 4, 16, 16), "batch_size": frames}
    if boxes is not None:
        batch["gt_boxes"] = boxes
    return batch


def score_of(logit: float) -> float:
    """The probability of a logit."""
    return 1 / (1 + math.exp(-logit))


# --- Final boxes


def test_final_boxes_of_perfect_predictions_are_the_ground_truth() -> None:
    head = make_head()
    cyclist = [12, 6, -1, 1.76, 0.6, 1.73, 3.0, 3]
    boxes = torch.cat([one_frame(CAR, PEDESTRIAN), one_frame(cyclist, PADDING)])
    (targets,) = targets_of(head, boxes)
    predictions = perfect_predictions(targets)
    # Peaks have logit 5; pedestrians get 4.
    predictions["hm"][:, 1] -= 1
    first, second = head.generate_predicted_boxes([predictions])

    torch.testing.assert_close(first["pred_boxes"], boxes[0, :, :7], atol=1e-4, rtol=0)
    torch.testing.assert_close(second["pred_boxes"], boxes[1, :1, :7], atol=1e-4, rtol=0)
    assert first["pred_labels"].tolist() == [1, 2]
    assert second["pred_labels"].tolist() == [3]
    assert first["pred_scores"].tolist() == pytest.approx([score_of(5), score_of(4)])


CYCLIST_IN_THE_CAR = [4.9, 2.6, -0.9, 1.76, 0.6, 1.73, 0.4, 3]


def test_nms_within_a_head() -> None:
    head = make_head(center_head_config([CLASS_NAMES]))
    (targets,) = targets_of(head, one_frame(CAR, CYCLIST_IN_THE_CAR))
    predictions = perfect_predictions(targets)
    cyclists = predictions["hm"][:, 2]
    cyclists -= 1
    (found,) = head.generate_predicted_boxes([predictions])
    assert found["pred_labels"].tolist() == [1]


def test_boxes_of_different_heads_may_overlap() -> None:
    head = make_head(center_head_config([["Cyclist"], ["Pedestrian", "Car"]]))
    targets = targets_of(head, one_frame(CAR, CYCLIST_IN_THE_CAR))
    of_cyclists, of_others = (perfect_predictions(target) for target in targets)
    of_others["hm"] += 1
    (found,) = head.generate_predicted_boxes([of_cyclists, of_others])
    assert found["pred_labels"].tolist() == [3, 1]


def final_boxes_of_the_car(**post_processing: object) -> torch.Tensor:
    """Boxes of a perfect prediction, whose score is 0.99331, with changed POST_PROCESSING."""
    config = center_head_config()
    config.POST_PROCESSING.update(post_processing)
    head = make_head(config)
    (targets,) = targets_of(head, one_frame(CAR))
    (found,) = head.generate_predicted_boxes([perfect_predictions(targets)])
    return found["pred_boxes"]


def test_a_good_score_and_a_centre_in_range_are_kept() -> None:
    assert final_boxes_of_the_car().shape == (1, 7)


@pytest.mark.parametrize(
    "setting, value",
    [
        ("SCORE_THRESH", 0.9934),
        ("POST_CENTER_LIMIT_RANGE", [0, -8, -3, 4, 8, 1]),
        ("POST_CENTER_LIMIT_RANGE", [0, -8, -0.8, 16, 8, 1]),
    ],
)
def test_low_scores_and_centres_out_of_range_are_dropped(setting: str, value: object) -> None:
    assert final_boxes_of_the_car(**{setting: value}).shape == (0, 7)


def test_number_of_candidates_is_limited() -> None:
    config = center_head_config()
    config.POST_PROCESSING.MAX_OBJ_PER_SAMPLE = 1
    head = make_head(config)
    (targets,) = targets_of(head, one_frame(CAR, PEDESTRIAN))
    predictions = perfect_predictions(targets)
    pedestrians = predictions["hm"][:, 1]
    pedestrians += 1
    (found,) = head.generate_predicted_boxes([predictions])
    assert found["pred_labels"].tolist() == [2]


# --- Losses


def test_losses_by_hand() -> None:
    config = center_head_config([["Car"], ["Pedestrian", "Cyclist"]])
    config.LOSS_CONFIG.LOSS_WEIGHTS = {
        "cls_weight": 3.0,
        "loc_weight": 0.5,
        # x, y, z, length, width, height, cosine, sine.
        "code_weights": [1, 1, 2, 1, 1, 1, 0, 1],
    }
    head = make_head(config)
    targets = targets_of(head, one_frame(CAR))
    predictions = [perfect_predictions(target) for target in targets]
    of_cars = predictions[0]
    of_cars["center_z"] += 0.25  # counts twice
    of_cars["rot"][:, 0] += 7  # does not count
    of_cars["dim"][:, 1] -= 0.5
    for prediction in predictions:
        prediction["hm"] = torch.zeros_like(prediction["hm"])
    head.forward_ret_dict = {"pred_dicts": predictions, "target_dicts": targets}
    total, parts = head.get_loss()

    assert parts["loc_loss_head_0"].item() == pytest.approx(0.5 * (0.25 * 2 + 0.5), rel=1e-4)
    assert parts["loc_loss_head_1"] == 0

    # An empty cell scored 1/2 costs (1/2)^2 log 2. The second head has two maps of 256 cells.
    background = 0.25 * math.log(2)
    assert parts["hm_loss_head_1"].item() == pytest.approx(3 * 2 * 256 * background, rel=1e-5)
    # Around a peak an empty cell costs (1 - height)^4 of that: nothing at the peak itself, whose
    # own (1 - 1/2)^2 log 2 is the same number.
    empty_cells = (1 - targets[0].heatmap).pow(4).sum().item()
    expected = 3 * background * (empty_cells + 1)
    assert parts["hm_loss_head_0"].item() == pytest.approx(expected, rel=1e-5)

    assert parts.pop("rpn_loss") == total
    assert set(parts) == {
        "hm_loss_head_0",
        "loc_loss_head_0",
        "hm_loss_head_1",
        "loc_loss_head_1",
    }
    assert total.item() == pytest.approx(sum(part.item() for part in parts.values()))


# --- Layers


def names_of_block(name: str, bias: bool) -> list[str]:
    """State of a convolution and its batch norm."""
    names = [f"{name}.0.weight"]
    if bias:
        names.append(f"{name}.0.bias")
    for leaf in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        names.append(f"{name}.1.{leaf}")
    return names


@pytest.mark.parametrize("bias", [True, False])
def test_state_dict_names(bias: bool) -> None:
    config = center_head_config([["Car"], ["Pedestrian", "Cyclist"]])
    config.USE_BIAS_BEFORE_NORM = bias
    head = make_head(config)

    expected = names_of_block("shared_conv", bias)
    for group in ("heads_list.0", "heads_list.1"):
        for branch in ("center", "center_z", "dim", "rot", "hm"):
            expected += names_of_block(f"{group}.{branch}.0", bias)
            expected += [f"{group}.{branch}.1.weight", f"{group}.{branch}.1.bias"]
    assert list(head.state_dict()) == expected
    assert head.heads_list[1].hm[1].out_channels == 2
    assert head.heads_list[0].dim[1].out_channels == 3


def test_depth_of_branches_by_config() -> None:
    config = center_head_config()
    config.NUM_HM_CONV = 1
    config.SEPARATE_HEAD_CFG.HEAD_DICT.rot.num_conv = 3
    (branches,) = make_head(config).heads_list
    assert len(branches.hm) == 1
    assert len(branches.rot) == 3


def test_batch_norm_by_config() -> None:
    config = center_head_config()
    config.update(BN_EPS=1e-3, BN_MOM=0.01)
    norm = make_head(config).shared_conv[1]
    assert norm.eps == 1e-3
    assert norm.momentum == 0.01


def test_batch_norm_of_branches_has_the_defaults_of_torch() -> None:
    norm = make_head().heads_list[0].rot[0][1]
    assert norm.eps == 1e-5
    assert norm.momentum == 0.1


def test_an_untrained_heatmap_predicts_one_tenth() -> None:
    bias = make_head().heads_list[0].hm[-1].bias
    assert torch.sigmoid(bias).tolist() == pytest.approx([0.1] * 3, abs=2e-3)


def test_keys_of_final_boxes() -> None:
    batch = {"spatial_features_2d": torch.zeros(1, 4, 16, 16), "batch_size": 1}
    (found,) = make_head().eval()(batch)["final_box_dicts"]
    assert set(found) == {"pred_boxes", "pred_scores", "pred_labels"}


# --- Velocities


def velocity_config() -> EasyDict:
    """A head that also predicts velocities; its code_weights are still those of 8 codes."""
    config = center_head_config()
    config.SEPARATE_HEAD_CFG.HEAD_ORDER.append("vel")
    config.SEPARATE_HEAD_CFG.HEAD_DICT.vel = {"out_channels": 2, "num_conv": 2}
    return config


def test_velocities_need_two_more_code_weights() -> None:
    with pytest.raises(ConfigError, match="code_weights has 8 numbers, expected 10"):
        make_head(velocity_config())


def test_velocities_are_learnt_and_predicted() -> None:
    config = velocity_config()
    config.LOSS_CONFIG.LOSS_WEIGHTS.code_weights = [1.0] * 10
    head = make_head(config).train()
    # The speed along y is not measured.
    car = [*CAR[:7], 1.5, float("nan"), 1]
    head(make_batch(one_frame(car)))
    (targets,) = head.forward_ret_dict["target_dicts"]
    assert targets.boxes[0, 0, 8] == 1.5
    loss, _ = head.get_loss()
    assert torch.isfinite(loss)

    (found,) = head.eval()(make_batch())["final_box_dicts"]
    assert found["pred_boxes"].shape[1] == 9


# --- Proposals for a second stage


def test_proposals_for_a_second_stage() -> None:
    head = make_head(second_stage=True).train()
    batch = make_batch(one_frame(CAR).repeat(2, 1, 1))
    del batch["batch_size"]
    head(batch)
    assert "final_box_dicts" not in batch
    assert batch["has_class_labels"] is True
    count = batch["rois"].shape[1]
    assert batch["rois"].shape == (2, count, 7)
    assert batch["roi_scores"].shape == (2, count)
    assert batch["roi_labels"].shape == (2, count)
    assert not batch["rois"].requires_grad
    assert batch["roi_labels"].dtype == torch.long


def test_proposals_are_padded_with_zeros() -> None:
    two_boxes = {
        "pred_boxes": torch.ones(2, 7),
        "pred_scores": torch.ones(2),
        "pred_labels": torch.tensor([1, 3]),
    }
    nothing = {key: value[:0] for key, value in two_boxes.items()}
    found = boxes_as_rois([nothing, two_boxes])
    assert found["roi_labels"].tolist() == [[0, 0], [1, 3]]
    assert found["rois"][0].abs().sum() == 0
    assert boxes_as_rois([nothing])["rois"].shape == (1, 1, 7)


# --- Settings that do not fit


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"CLASS_NAMES_EACH_HEAD": [["Car", "Pedestrian"]]},
            "names 'Cyclist' 0 times, expected once",
        ),
        (
            {"CLASS_NAMES_EACH_HEAD": [["Car", "Pedestrian", "Cyclist"], ["Car"]]},
            "names 'Car' 2 times",
        ),
        ({"IOU_REG_LOSS": True}, "DENSE_HEAD.IOU_REG_LOSS is true, expected false"),
        (
            {"POST_PROCESSING": {"USE_IOU_TO_RECTIFY_SCORE": True}},
            "POST_PROCESSING.USE_IOU_TO_RECTIFY_SCORE is true, but this head predicts no overlaps",
        ),
    ],
)
def test_settings_that_do_not_fit(change: dict, message: str) -> None:
    config = center_head_config()
    config.update(change)
    with pytest.raises(ConfigError, match=message):
        make_head(config)


def test_a_missing_setting_is_named() -> None:
    config = center_head_config()
    del config["SHARED_CONV_CHANNEL"]
    with pytest.raises(ConfigError, match="SHARED_CONV_CHANNEL is missing"):
        make_head(config)


def test_branches_in_another_order_are_refused() -> None:
    config = center_head_config()
    config.SEPARATE_HEAD_CFG.HEAD_ORDER = ["center", "dim", "center_z", "rot"]
    message = r"HEAD_ORDER is .*expected \['center', 'center_z', 'dim', 'rot'\]"
    with pytest.raises(ConfigError, match=message):
        make_head(config)


def test_a_branch_of_the_wrong_width_is_refused() -> None:
    config = center_head_config()
    config.SEPARATE_HEAD_CFG.HEAD_DICT.dim.out_channels = 2
    with pytest.raises(ConfigError, match="dim.out_channels is 2, expected 3"):
        make_head(config)


def test_a_branch_that_is_not_in_the_order_is_refused() -> None:
    config = center_head_config()
    config.SEPARATE_HEAD_CFG.HEAD_DICT.vel = {"out_channels": 2, "num_conv": 2}
    with pytest.raises(ConfigError, match="HEAD_DICT.vel is not in HEAD_ORDER"):
        make_head(config)


def test_a_missing_branch_is_named() -> None:
    config = center_head_config()
    del config.SEPARATE_HEAD_CFG.HEAD_DICT["rot"]
    with pytest.raises(ConfigError, match="HEAD_DICT.rot is missing"):
        make_head(config)


def test_classes_that_a_training_leaves_out_leave_their_head() -> None:
    config = center_head_config([["Car", "Van"], ["Pedestrian", "Cyclist"], ["Truck"]])
    head = make_head(config)
    assert head.head_labels == [[1], [2, 3]]
    assert len(head.heads_list) == 2


def test_a_wrong_stride_is_explained() -> None:
    batch = {"spatial_features_2d": torch.randn(1, 4, 8, 8), "batch_size": 1}
    with pytest.raises(ConfigError, match="16 x 16 cells, but the feature map has 8 x 8"):
        make_head().eval()(batch)


# --- Precision and copies


def test_half_precision_features_give_float32_boxes_and_losses() -> None:
    head = make_head().train()
    batch = make_batch(one_frame(CAR))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        head(batch)
    (predictions,) = head.forward_ret_dict["pred_dicts"]
    loss, _ = head.get_loss()
    assert predictions["hm"].dtype == torch.bfloat16
    assert loss.dtype == torch.float32

    with torch.autocast("cpu", dtype=torch.bfloat16):
        (found,) = head.eval()(batch)["final_box_dicts"]
    assert found["pred_boxes"].dtype == torch.float32


def test_a_head_can_be_copied_after_a_training_step() -> None:
    head = make_head().train()
    head(make_batch(one_frame(CAR)))
    assert copy.deepcopy(head).forward_ret_dict == {}
    assert head.forward_ret_dict
