"""Centre head: targets, losses and final boxes by hand."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from easydict import EasyDict
from small_center import center_head_config
from small_model import CLASS_NAMES, RANGE

from pcdet_distill.errors import ConfigError
from pcdet_distill.models.dense_heads.center_head import CenterHead, boxes_as_rois
from pcdet_distill.models.dense_heads.center_targets import CenterTargets

CELL = 1.0  # metres: voxels of 0.5 m, stride 2
CAR = [4.3, 2.6, -0.9, 3.9, 1.6, 1.56, 0.4]
PEDESTRIAN = [10.5, -4.25, -0.7, 0.8, 0.6, 1.73, -2.9]


def make_head(config: EasyDict | None = None, second_stage: bool = False) -> CenterHead:
    torch.manual_seed(0)
    return CenterHead(
        model_cfg=config or center_head_config(),
        input_channels=4,
        num_class=3,
        class_names=CLASS_NAMES,
        grid_size=[32, 32, 1],
        point_cloud_range=RANGE,
        voxel_size=[0.5, 0.5, 4],
        predict_boxes_when_training=second_stage,
    )


def gt(*rows: list[float]) -> torch.Tensor:
    """(1, G, 8)"""
    return torch.tensor([rows], dtype=torch.float32)


def perfect_predictions(targets: CenterTargets) -> dict[str, torch.Tensor]:
    """Outputs of a head that predicts the targets exactly."""
    frames, classes, height, width = targets.heatmap.shape
    maps = torch.zeros(frames, targets.boxes.shape[2], height * width)
    for frame in range(frames):
        rows = targets.mask[frame]
        maps[frame][:, targets.cells[frame, rows]] = targets.boxes[frame, rows].T
    center, center_z, dim, rot = maps.view(frames, -1, height, width).split([2, 1, 3, 2], dim=1)
    hm = torch.where(targets.heatmap == 1, 5.0, -5.0)
    return {"center": center, "center_z": center_z, "dim": dim, "rot": rot, "hm": hm}


def test_targets_by_hand() -> None:
    head = make_head()
    (targets,) = head.target_assigner.assign_targets(
        gt([*CAR, 1], [*PEDESTRIAN, 2]), head.feature_map_size
    )
    assert targets.heatmap.shape == (1, 3, 16, 16)
    assert targets.boxes.shape == (1, 20, 8)
    # The car's centre: x 4.3 m is cell 4, 0.3 inside; y 2.6 + 8 = 10.6 is cell 10, 0.6 inside.
    assert targets.cells[0, :2].tolist() == [10 * 16 + 4, 3 * 16 + 10]
    assert targets.mask[0].tolist() == [True, True] + [False] * 18
    expected = [
        0.3,
        0.6,
        -0.9,
        math.log(3.9),
        math.log(1.6),
        math.log(1.56),
        math.cos(0.4),
        math.sin(0.4),
    ]
    assert targets.boxes[0, 0].tolist() == pytest.approx(expected, abs=1e-5)
    assert targets.boxes[0, 1, :2].tolist() == pytest.approx([0.5, 0.75], abs=1e-5)
    assert (targets.heatmap[0] == 1).nonzero().tolist() == [[0, 10, 4], [1, 3, 10]]
    assert targets.heatmap[0, 2].sum() == 0
    # Both radii are below MIN_RADIUS 2: peaks 5 cells wide.
    assert (targets.heatmap[0, 0] > 0).sum() == (targets.heatmap[0, 1] > 0).sum() == 25


def test_radius_follows_the_size() -> None:
    head = make_head()
    # 12 x 8 cells: the third case gives (-4 + sqrt(16 + 1.6 * 86.4)) / 2 = 4.2.
    big = [8, 0, 0, 12, 8, 2, 0]
    (targets,) = head.target_assigner.assign_targets(gt([*big, 1]), head.feature_map_size)
    assert (targets.heatmap[0, 0] > 0).sum() == 81


def test_overlap_and_smallest_radius_by_config() -> None:
    config = center_head_config()
    config.TARGET_ASSIGNER_CONFIG.update(MIN_RADIUS=1, GAUSSIAN_OVERLAP=0.9)
    head = make_head(config)
    (targets,) = head.target_assigner.assign_targets(gt([*CAR, 1]), head.feature_map_size)
    assert (targets.heatmap > 0).sum() == 9


def test_targets_by_head() -> None:
    head = make_head(center_head_config([["Cyclist", "Car"], ["Pedestrian"]]))
    boxes = gt([*PEDESTRIAN, 2], [*CAR, 1], [*CAR[:1], -5, *CAR[2:], 3])
    first, second = head.target_assigner.assign_targets(boxes, head.feature_map_size)
    assert first.heatmap.shape[1] == 2
    assert second.heatmap.shape[1] == 1
    # Cyclists are the first class of the first head.
    assert (first.heatmap == 1).nonzero().tolist() == [[0, 0, 3, 4], [0, 1, 10, 4]]
    assert first.cells[0, :2].tolist() == [10 * 16 + 4, 3 * 16 + 4]
    assert first.mask.sum() == 2
    assert second.mask.sum() == 1
    assert second.cells[0, 0] == 3 * 16 + 10


def test_boxes_beyond_the_map_padding_and_flat_boxes() -> None:
    head = make_head()
    outside = [17.5, -9, 0, 4, 2, 1, 0]
    flat = [5, 5, 0, 0, 2, 1, 0]
    boxes = gt([*outside, 1], [*flat, 1], [*CAR, 1], [0.0] * 8)
    (targets,) = head.target_assigner.assign_targets(boxes, head.feature_map_size)
    # The flat box takes a slot, but is not learnt.
    assert targets.mask[0, :4].tolist() == [True, False, True, False]
    assert targets.cells[0, 0] == 15  # moved to the nearest cell
    assert targets.boxes[0, 0, :2].tolist() == [0.5, 0.0]
    assert torch.isfinite(targets.boxes).all()


def test_number_of_boxes_is_limited() -> None:
    config = center_head_config()
    config.TARGET_ASSIGNER_CONFIG.NUM_MAX_OBJS = 2
    head = make_head(config)
    boxes = gt([*CAR, 1], [*PEDESTRIAN, 2], [8, 0, 0, 2, 2, 2, 0, 3])
    (targets,) = head.target_assigner.assign_targets(boxes, head.feature_map_size)
    assert targets.mask.tolist() == [[True, True]]
    assert targets.heatmap[0, 2].sum() == 0


def test_frames_do_not_mix() -> None:
    head = make_head()
    first = gt([*CAR, 1], [0.0] * 8)
    second = gt([*PEDESTRIAN, 2], [*CAR, 3])
    (both,) = head.target_assigner.assign_targets(torch.cat([first, second]), head.feature_map_size)
    for frame, alone in enumerate((first, second)):
        (targets,) = head.target_assigner.assign_targets(alone, head.feature_map_size)
        for one, other in zip(both, targets):
            assert torch.equal(one[frame], other[0])


def test_final_boxes_of_perfect_predictions_are_the_ground_truth() -> None:
    head = make_head()
    boxes = torch.cat(
        [gt([*CAR, 1], [*PEDESTRIAN, 2]), gt([12, 6, -1, 1.76, 0.6, 1.73, 3.0, 3], [0.0] * 8)]
    )
    targets = head.target_assigner.assign_targets(boxes, head.feature_map_size)
    predictions = perfect_predictions(targets[0])
    predictions["hm"][:, 1] -= 1
    first, second = head.generate_predicted_boxes([predictions])
    torch.testing.assert_close(first["pred_boxes"], boxes[0, :, :7], atol=1e-4, rtol=0)
    torch.testing.assert_close(second["pred_boxes"], boxes[1, :1, :7], atol=1e-4, rtol=0)
    assert first["pred_labels"].tolist() == [1, 2]
    assert second["pred_labels"].tolist() == [3]
    assert first["pred_scores"].tolist() == pytest.approx(
        [1 / (1 + math.exp(-5)), 1 / (1 + math.exp(-4))]
    )


def test_nms_within_a_head_and_labels_over_heads() -> None:
    pair = [[*CAR, 1], [4.9, 2.6, -0.9, 1.76, 0.6, 1.73, 0.4, 3]]  # a cyclist inside the car
    for groups, labels in (([CLASS_NAMES], [1]), ([["Cyclist"], ["Pedestrian", "Car"]], [3, 1])):
        head = make_head(center_head_config(groups))
        targets = head.target_assigner.assign_targets(gt(*pair), head.feature_map_size)
        predictions = [perfect_predictions(target) for target in targets]
        # The car, in one head or in two, gets the higher score.
        predictions[-1]["hm"] += 1
        if len(groups) == 1:
            predictions[0]["hm"][:, 2] -= 1
        (found,) = head.generate_predicted_boxes(predictions)
        assert found["pred_labels"].tolist() == labels


@pytest.mark.parametrize(
    "setting, value",
    [
        ("SCORE_THRESH", 0.9934),
        ("POST_CENTER_LIMIT_RANGE", [0, -8, -3, 4, 8, 1]),
        ("POST_CENTER_LIMIT_RANGE", [0, -8, -0.8, 16, 8, 1]),
    ],
)
def test_low_scores_and_centres_out_of_range_are_dropped(setting: str, value) -> None:
    for changed in (False, True):
        config = center_head_config()
        if changed:
            config.POST_PROCESSING[setting] = value
        head = make_head(config)
        (targets,) = head.target_assigner.assign_targets(gt([*CAR, 1]), head.feature_map_size)
        # The score of a perfect prediction is 0.99331.
        (found,) = head.generate_predicted_boxes([perfect_predictions(targets)])
        assert len(found["pred_boxes"]) == (0 if changed else 1)
        assert found["pred_boxes"].shape[1] == 7


def test_number_of_candidates_is_limited() -> None:
    config = center_head_config()
    config.POST_PROCESSING.MAX_OBJ_PER_SAMPLE = 1
    head = make_head(config)
    (targets,) = head.target_assigner.assign_targets(
        gt([*CAR, 1], [*PEDESTRIAN, 2]), head.feature_map_size
    )
    predictions = perfect_predictions(targets)
    predictions["hm"][:, 1] += 1
    (found,) = head.generate_predicted_boxes([predictions])
    assert found["pred_labels"].tolist() == [2]


def test_losses_by_hand() -> None:
    config = center_head_config([["Car"], ["Pedestrian", "Cyclist"]])
    config.LOSS_CONFIG.LOSS_WEIGHTS = {
        "cls_weight": 3.0,
        "loc_weight": 0.5,
        "code_weights": [1, 1, 2, 1, 1, 1, 0, 1],
    }
    head = make_head(config)
    targets = head.target_assigner.assign_targets(gt([*CAR, 1]), head.feature_map_size)
    predictions = [perfect_predictions(target) for target in targets]
    predictions[0]["center_z"] += 0.25  # counts twice
    predictions[0]["rot"][:, 0] += 7  # does not count
    predictions[0]["dim"][:, 1] -= 0.5
    for prediction in predictions:
        prediction["hm"] = torch.full_like(prediction["hm"], 0.0)
    head.forward_ret_dict = {"pred_dicts": predictions, "target_dicts": targets}
    total, parts = head.get_loss()
    assert set(parts) == {
        "hm_loss_head_0",
        "loc_loss_head_0",
        "hm_loss_head_1",
        "loc_loss_head_1",
        "rpn_loss",
    }
    assert parts["loc_loss_head_0"].item() == pytest.approx(0.5 * (0.25 * 2 + 0.5), rel=1e-4)
    assert parts["loc_loss_head_1"] == 0
    background = -math.log(0.5) * 0.25
    assert parts["hm_loss_head_1"].item() == pytest.approx(3 * 2 * 256 * background, rel=1e-5)
    # The peak itself adds nothing to the sum, but counts as a hit below.
    around = (1 - targets[0].heatmap).pow(4).sum().item()
    assert parts["hm_loss_head_0"].item() == pytest.approx(3 * background * (around + 1), rel=1e-5)
    assert total.item() == pytest.approx(
        sum(parts[name].item() for name in parts if name != "rpn_loss")
    )
    assert parts["rpn_loss"] == total


def test_state_dict_names() -> None:
    norm = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]

    def block(name: str, bias: bool) -> list[str]:
        return [
            f"{name}.0.weight",
            *([f"{name}.0.bias"] if bias else []),
            *(f"{name}.1.{leaf}" for leaf in norm),
        ]

    for bias in (True, False):
        config = center_head_config([["Car"], ["Pedestrian", "Cyclist"]])
        config.USE_BIAS_BEFORE_NORM = bias
        expected = block("shared_conv", bias)
        for head in ("heads_list.0", "heads_list.1"):
            for branch in ("center", "center_z", "dim", "rot", "hm"):
                expected += [
                    *block(f"{head}.{branch}.0", bias),
                    f"{head}.{branch}.1.weight",
                    f"{head}.{branch}.1.bias",
                ]
        head = make_head(config)
        assert list(head.state_dict()) == expected
        assert head.heads_list[1].hm[1].out_channels == 2
        assert head.heads_list[0].dim[1].out_channels == 3


def test_depth_of_branches_and_norm_by_config() -> None:
    config = center_head_config()
    config.NUM_HM_CONV = 1
    config.SEPARATE_HEAD_CFG.HEAD_DICT.rot.num_conv = 3
    config.update(BN_EPS=1e-3, BN_MOM=0.01)
    head = make_head(config)
    assert len(head.heads_list[0].hm) == 1
    assert len(head.heads_list[0].rot) == 3
    assert (head.shared_conv[1].eps, head.shared_conv[1].momentum) == (1e-3, 0.01)
    norm = make_head().heads_list[0].rot[0][1]
    assert (norm.eps, norm.momentum) == (1e-5, 0.1)


def test_an_untrained_heatmap_predicts_one_tenth() -> None:
    found = make_head().eval()({"spatial_features_2d": torch.zeros(1, 4, 16, 16), "batch_size": 1})
    assert torch.sigmoid(make_head().heads_list[0].hm[-1].bias).tolist() == pytest.approx(
        [0.1] * 3, abs=2e-3
    )
    assert set(found["final_box_dicts"][0]) == {"pred_boxes", "pred_scores", "pred_labels"}


def test_velocities() -> None:
    config = center_head_config()
    config.SEPARATE_HEAD_CFG.HEAD_ORDER.append("vel")
    config.SEPARATE_HEAD_CFG.HEAD_DICT.vel = {"out_channels": 2, "num_conv": 2}
    with pytest.raises(ConfigError, match="code_weights has 8 numbers, expected 10"):
        make_head(config)
    config.LOSS_CONFIG.LOSS_WEIGHTS.code_weights = [1.0] * 10
    head = make_head(config).train()
    boxes = gt([*CAR, 1.5, float("nan"), 1])
    head({"spatial_features_2d": torch.randn(1, 4, 16, 16), "gt_boxes": boxes, "batch_size": 1})
    assert head.forward_ret_dict["target_dicts"][0].boxes[0, 0, 8] == 1.5
    assert torch.isfinite(head.get_loss()[0])
    found = head.eval()({"spatial_features_2d": torch.randn(1, 4, 16, 16), "batch_size": 1})
    assert found["final_box_dicts"][0]["pred_boxes"].shape[1] == 9


def test_proposals_for_a_second_stage() -> None:
    head = make_head(second_stage=True).train()
    batch = {
        "spatial_features_2d": torch.randn(2, 4, 16, 16),
        "gt_boxes": gt([*CAR, 1]).repeat(2, 1, 1),
    }
    head(batch)
    assert "final_box_dicts" not in batch
    assert batch["has_class_labels"] is True
    count = batch["rois"].shape[1]
    assert batch["rois"].shape == (2, count, 7)
    assert batch["roi_scores"].shape == batch["roi_labels"].shape == (2, count)
    assert not batch["rois"].requires_grad
    assert batch["roi_labels"].dtype == torch.long


def test_proposals_are_padded_with_zeros() -> None:
    boxes = {
        "pred_boxes": torch.ones(2, 7),
        "pred_scores": torch.ones(2),
        "pred_labels": torch.tensor([1, 3]),
    }
    nothing = {key: value[:0] for key, value in boxes.items()}
    found = boxes_as_rois([nothing, boxes])
    assert found["roi_labels"].tolist() == [[0, 0], [1, 3]]
    assert found["rois"][0].abs().sum() == 0
    assert boxes_as_rois([nothing])["rois"].shape == (1, 1, 7)


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
            "POST_PROCESSING.USE_IOU_TO_RECTIFY_SCORE is true",
        ),
        ({"SHARED_CONV_CHANNEL": None}, "SHARED_CONV_CHANNEL is missing"),
    ],
)
def test_settings_that_do_not_fit(change: dict, message: str) -> None:
    config = center_head_config()
    config.update(change)
    for key, value in change.items():
        if value is None:
            del config[key]
    with pytest.raises(ConfigError, match=message):
        make_head(config)


def test_branches_that_do_not_fit() -> None:
    config = center_head_config()
    config.SEPARATE_HEAD_CFG.HEAD_ORDER = ["center", "dim", "center_z", "rot"]
    with pytest.raises(
        ConfigError, match=r"HEAD_ORDER is .*expected \['center', 'center_z', 'dim', 'rot'\]"
    ):
        make_head(config)
    config = center_head_config()
    config.SEPARATE_HEAD_CFG.HEAD_DICT.dim.out_channels = 2
    with pytest.raises(ConfigError, match="dim.out_channels is 2, expected 3"):
        make_head(config)
    config = center_head_config()
    config.SEPARATE_HEAD_CFG.HEAD_DICT.iou = {"out_channels": 1, "num_conv": 2}
    with pytest.raises(ConfigError, match="HEAD_DICT.iou is not in HEAD_ORDER"):
        make_head(config)
    config = center_head_config()
    del config.SEPARATE_HEAD_CFG.HEAD_DICT["rot"]
    with pytest.raises(ConfigError, match="HEAD_DICT.rot is missing"):
        make_head(config)


def test_classes_that_a_training_leaves_out_leave_their_head() -> None:
    config = center_head_config([["Car", "Van"], ["Pedestrian", "Cyclist"], ["Truck"]])
    head = make_head(config)
    assert head.head_labels == [[1], [2, 3]]
    assert len(head.heads_list) == 2


def test_wrong_stride_is_explained() -> None:
    with pytest.raises(ConfigError, match="16 x 16 cells, but the feature map has 8 x 8"):
        make_head().eval()({"spatial_features_2d": torch.randn(1, 4, 8, 8), "batch_size": 1})


def test_half_precision_features_give_float32_boxes_and_losses() -> None:
    head = make_head().train()
    batch = {
        "spatial_features_2d": torch.randn(1, 4, 16, 16),
        "gt_boxes": gt([*CAR, 1]),
        "batch_size": 1,
    }
    with torch.autocast("cpu", dtype=torch.bfloat16):
        head(batch)
    loss, _ = head.get_loss()
    assert head.forward_ret_dict["pred_dicts"][0]["hm"].dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert head.eval()(batch)["final_box_dicts"][0]["pred_boxes"].dtype == torch.float32


def test_a_head_can_be_copied_after_a_training_step() -> None:
    head = make_head().train()
    head(
        {
            "spatial_features_2d": torch.randn(1, 4, 16, 16),
            "gt_boxes": gt([*CAR, 1]),
            "batch_size": 1,
        }
    )
    assert copy.deepcopy(head).forward_ret_dict == {}
    assert head.forward_ret_dict
