"""Coders, losses, heatmaps and final boxes with velocities against OpenPCDet's nuScenes numbers."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from nuscenes_recording import Recording
from torch import Tensor

from pcdet_distill.config import load_config
from pcdet_distill.datasets.spec import DataSpec
from pcdet_distill.models.dense_heads.center_head import CenterHead
from pcdet_distill.models.detectors.post_processing import post_process
from pcdet_distill.models.model_utils.box_coders import ResidualCoder
from pcdet_distill.models.model_utils.center_losses import center_focal_loss, center_regression_loss
from pcdet_distill.models.model_utils.centernet_utils import (
    draw_peaks,
    gather_cells,
    gaussian_radius,
)
from pcdet_distill.models.model_utils.losses import WeightedL1Loss
from pcdet_distill.types import MutableConfig

TOLERANCE = 1e-5
CODE_WEIGHTS = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.2, 0.2]
HEADS = range(6)
# Of the small map that the centre head was recorded on, 32 x 40 cells.
RANGE = [-16, -12.8, -5, 16, 12.8, 3]
RECORDED_ROWS = 20  # of NUM_MAX_OBJS
# The exponents of the ten classes that the recording was made with.
RECTIFIER = [0.5, 0.6, 0.4, 0.5, 0.7, 0.2, 0.3, 0.5, 0.6, 0.4]
CENTER = "nuscenes_models/cbgs_voxel01_res3d_centerpoint.yaml"
ANCHORS = "nuscenes_models/cbgs_pp_multihead.yaml"


def check(value: Tensor, expected: Tensor, atol: float = TOLERANCE) -> None:
    torch.testing.assert_close(value, expected, rtol=TOLERANCE, atol=atol, equal_nan=True)


# ---- Codes and losses ----


@pytest.mark.recorded("coder_*")
def test_residual_coder_with_velocities(recorded: Recording) -> None:
    coder = ResidualCoder(code_size=9, encode_angle_by_sincos=True)
    assert coder.code_size == recorded.number("coder_code_size")
    anchors = recorded.tensor("coder_anchors")
    encoded = coder.encode_torch(recorded.tensor("coder_boxes"), anchors)
    check(encoded, recorded.tensor("coder_encoded"))
    check(coder.decode_torch(encoded, anchors), recorded.tensor("coder_decoded"))
    codes = recorded.tensor("coder_random_codes")
    check(coder.decode_torch(codes, anchors), recorded.tensor("coder_random_decoded"))


@pytest.mark.recorded("l1_*")
def test_l1_loss_leaves_out_unknown_velocities(recorded: Recording) -> None:
    target = recorded.tensor("l1_target")
    assert target.isnan().any()
    loss = WeightedL1Loss(CODE_WEIGHTS)(
        recorded.tensor("l1_pred"), target, recorded.tensor("l1_weights")
    )
    check(loss, recorded.tensor("l1_loss"))


@pytest.mark.recorded("radius_*")
def test_radii_of_peaks(recorded: Recording) -> None:
    length, width = recorded.tensor("radius_in").unbind(dim=1)
    check(gaussian_radius(length, width, 0.1), recorded.tensor("radius_out_0.1"))


@pytest.mark.recorded("gauss_*")
def test_peaks_of_a_heatmap(recorded: Recording) -> None:
    """The higher one counts where two overlap; one is cut off at the edge of the map."""
    expected = recorded.tensor("gauss_heatmap")
    peaks = torch.tensor(recorded.number("gauss_centres_xyr")).long()
    blank = torch.zeros(1, *expected.shape)
    drawn = draw_peaks(blank, torch.zeros(len(peaks)).long(), peaks[:, :2], peaks[:, 2])
    check(drawn[0], expected)


@pytest.mark.recorded("focal_*")
def test_focal_loss(recorded: Recording) -> None:
    logits = torch.logit(recorded.tensor("focal_pred"))
    target = recorded.tensor("focal_target")
    loss = center_focal_loss(logits, target)
    assert loss.item() == pytest.approx(recorded.number("focal_loss"), rel=TOLERANCE)
    without = center_focal_loss(logits, torch.zeros_like(target))
    assert without.item() == pytest.approx(recorded.number("focal_loss_no_object"), rel=TOLERANCE)


@pytest.mark.recorded("reg_*")
def test_regression_loss(recorded: Recording) -> None:
    """One unknown velocity makes OpenPCDet's loss of vx and vy NaN; ours leaves that box out."""
    codes = gather_cells(recorded.tensor("reg_map"), recorded.tensor("reg_ind"))
    target = recorded.tensor("reg_target")
    mask = recorded.tensor("reg_mask").bool()
    loss = center_regression_loss(codes, target, mask)
    expected = recorded.tensor("reg_loss")
    known = ~expected.isnan()
    assert known.tolist() == 8 * [True] + 2 * [False]
    check(loss[known], expected[known])
    differences = np.abs((codes - target).numpy())[mask.numpy()]
    by_hand = np.nansum(differences, axis=0) / mask.sum().item()
    np.testing.assert_allclose(loss[~known], by_hand[~known.numpy()], rtol=TOLERANCE)


# ---- Centre head ----


@pytest.fixture(scope="module")
def center_config() -> MutableConfig:
    config = load_config(CENTER)
    config.DATA_CONFIG.POINT_CLOUD_RANGE = RANGE
    return config


def center_head(config: MutableConfig) -> CenterHead:
    spec = DataSpec.from_config(config.DATA_CONFIG, config.CLASS_NAMES)
    return CenterHead(
        model_cfg=config.MODEL.DENSE_HEAD,
        input_channels=8,
        num_class=len(config.CLASS_NAMES),
        class_names=config.CLASS_NAMES,
        grid_size=spec.grid_size,
        voxel_size=spec.voxel_size,
        point_cloud_range=spec.point_cloud_range,
        predict_boxes_when_training=False,
    )


@pytest.mark.recorded(
    *("center", "center_gt", "center_gt_after", "center_heatmaps_*", "center_target_boxes_*"),
    *("center_inds_*", "center_masks_*"),
)
def test_targets_of_the_centre_head(recorded: Recording, center_config: MutableConfig) -> None:
    assert f"range {RANGE}".replace(" ", "") in recorded.number("center").replace(" ", "")
    assert f"first {RECORDED_ROWS} of 500" in recorded.number("center")
    head = center_head(center_config)
    boxes = recorded.tensor("center_gt")
    before = boxes.clone()
    targets = head.target_assigner.assign_targets(boxes, head.feature_map_size)
    for number, target in zip(HEADS, targets, strict=True):
        rows = slice(None), slice(RECORDED_ROWS)
        mask = recorded.tensor(f"center_masks_{number}").bool()
        assert torch.equal(target.mask[rows], mask)
        assert not target.mask[:, RECORDED_ROWS:].any()
        assert torch.equal(target.cells[rows], recorded.tensor(f"center_inds_{number}"))
        check(target.boxes[rows], recorded.tensor(f"center_target_boxes_{number}"))
        check(target.heatmap, recorded.tensor(f"center_heatmaps_{number}"))
    # OpenPCDet overwrites the labels by the numbers in their groups; ours stay as they are.
    torch.testing.assert_close(boxes, before, rtol=0, atol=0, equal_nan=True)
    in_group = {0: 0}  # 0 stands in rows of padding
    for labels in head.head_labels:
        in_group.update({label: place for place, label in enumerate(labels, start=1)})
    numbers = [in_group[int(label)] for label in boxes[..., 9].flatten()]
    after = recorded.tensor("center_gt_after")
    assert after[..., 9].flatten().tolist() == numbers
    torch.testing.assert_close(after[..., :9], boxes[..., :9], rtol=0, atol=0, equal_nan=True)


def predictions_of(recorded: Recording, names: list[str]) -> list[dict[str, Tensor]]:
    return [
        {name: recorded.tensor(f"center_pred_{head}_{name}") for name in names} for head in HEADS
    ]


def check_boxes(found: list[dict[str, Tensor]], recorded: Recording, prefix: str) -> None:
    """The same boxes in the same order."""
    for frame, boxes in enumerate(found):
        for name in ("pred_boxes", "pred_scores"):
            check(boxes[name], recorded.tensor(f"{prefix}_{name}_{frame}"), atol=1e-4)
        labels = recorded.tensor(f"{prefix}_pred_labels_{frame}")
        assert torch.equal(boxes["pred_labels"], labels)


CENTER_BRANCHES = ["center", "center_z", "dim", "rot", "vel", "hm"]


@pytest.mark.recorded(
    *("center_pred_*_center", "center_pred_*_center_z", "center_pred_*_dim", "center_pred_*_rot"),
    *("center_pred_*_vel", "center_pred_*_hm", "center_decode_pred_*"),
    "center_decode_smallest_iou_margin",
)
def test_boxes_of_the_centre_head(recorded: Recording, center_config: MutableConfig) -> None:
    """No overlap is so near to the threshold that rounding could decide."""
    assert recorded.number("center_decode_smallest_iou_margin") > TOLERANCE
    predictions = predictions_of(recorded, CENTER_BRANCHES)
    found = center_head(center_config).generate_predicted_boxes(predictions)
    check_boxes(found, recorded, "center_decode")


@pytest.mark.recorded(
    *("center_pred_*_center", "center_pred_*_center_z", "center_pred_*_dim", "center_pred_*_rot"),
    *("center_pred_*_vel", "center_pred_*_hm", "center_pred_*_iou"),
    *("center_decode_iou_rectified_pred_*", "center_decode_iou_rectified_smallest_iou_margin"),
)
def test_boxes_with_scores_corrected_by_overlaps(
    recorded: Recording, center_config: MutableConfig
) -> None:
    assert recorded.number("center_decode_iou_rectified_smallest_iou_margin") > TOLERANCE
    config = copy.deepcopy(center_config)
    head_config = config.MODEL.DENSE_HEAD
    head_config.SEPARATE_HEAD_CFG.HEAD_DICT.iou = {"out_channels": 1, "num_conv": 2}
    head_config.POST_PROCESSING.update(USE_IOU_TO_RECTIFY_SCORE=True, IOU_RECTIFIER=RECTIFIER)
    predictions = predictions_of(recorded, [*CENTER_BRANCHES, "iou"])
    found = center_head(config).generate_predicted_boxes(predictions)
    check_boxes(found, recorded, "center_decode_iou_rectified")


# ---- Boxes of several heads ----


@pytest.mark.recorded("multi_*")
def test_boxes_of_several_anchor_heads(recorded: Recording) -> None:
    """NMS of every class by itself, head by head."""
    assert recorded.number("multi_smallest_iou_margin") > TOLERANCE
    config = load_config(ANCHORS)
    names = list(config.CLASS_NAMES)
    groups = [entry.HEAD_CLS_NAME for entry in config.MODEL.DENSE_HEAD.RPN_HEAD_CFGS]
    batch = {
        "batch_size": 2,
        "batch_box_preds": recorded.tensor("multi_box_preds"),
        "batch_cls_preds": [recorded.tensor(f"multi_cls_preds_{head}") for head in HEADS],
        "cls_preds_normalized": False,
        "multihead_label_mapping": [
            torch.tensor([names.index(name) + 1 for name in group]) for group in groups
        ],
    }
    found, _ = post_process(batch, config.MODEL.POST_PROCESSING, len(names))
    check_boxes(found, recorded, "multi")


def test_the_recorded_settings_are_those_of_the_yaml_files(repo: Path) -> None:
    post_processing = load_config(repo / "cfgs" / ANCHORS).MODEL.POST_PROCESSING
    assert post_processing.SCORE_THRESH == 0.1
    assert post_processing.NMS_CONFIG.NMS_THRESH == 0.2
    weights = load_config(repo / "cfgs" / ANCHORS).MODEL.DENSE_HEAD.LOSS_CONFIG.LOSS_WEIGHTS
    assert list(weights.code_weights) == CODE_WEIGHTS
