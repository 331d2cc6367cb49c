"""The anchor head: decoding, directions, losses."""

from __future__ import annotations

import copy
from math import log, pi, sin

import pytest
import torch
from easydict import EasyDict
from small_model import CLASS_NAMES, RANGE, head_config, random_scene

from pcdet_distill.errors import ConfigError
from pcdet_distill.models.dense_heads import AnchorHeadSingle
from pcdet_distill.types import BatchDict

NUM_CELLS = 16 * 16
# Three classes, two rotations each.
ANCHORS_PER_CELL = 6
NUM_ANCHORS = NUM_CELLS * ANCHORS_PER_CELL
HEADING = 6


def make_head(
    config: EasyDict | None = None,
    num_class: int = 3,
    predict_boxes_when_training: bool = False,
) -> AnchorHeadSingle:
    """A head on 16 x 16 cells."""
    torch.manual_seed(0)
    return AnchorHeadSingle(
        model_cfg=config or head_config(),
        input_channels=4,
        num_class=num_class,
        class_names=CLASS_NAMES,
        grid_size=[32, 32, 1],
        point_cloud_range=RANGE,
        predict_boxes_when_training=predict_boxes_when_training,
        voxel_size=[0.5, 0.5, 4],
    )


def make_batch(frames: int = 1) -> BatchDict:
    """Random features, and the boxes of a random scene for each frame."""
    boxes = []
    for seed in range(frames):
        _, boxes_of_scene = random_scene(seed)
        boxes.append(torch.from_numpy(boxes_of_scene))
    return {
        "spatial_features_2d": torch.randn(frames, 4, 16, 16),
        "batch_size": frames,
        "gt_boxes": torch.stack(boxes),
    }


# --- Weights and predictions


def test_initial_weights() -> None:
    head = make_head()
    assert torch.allclose(head.conv_cls.bias, torch.tensor(-log(0.99 / 0.01)))
    assert 0.0005 < head.conv_box.weight.std() < 0.002


def test_eval_writes_what_the_contract_says() -> None:
    head = make_head().eval()
    batch = make_batch(2)
    found = head(batch)
    assert found["batch_cls_preds"].shape == (2, NUM_ANCHORS, 3)
    assert found["batch_box_preds"].shape == (2, NUM_ANCHORS, 7)
    assert found["cls_preds_normalized"] is False
    # Only training computes targets.
    assert "box_cls_labels" not in head.forward_ret_dict


@pytest.mark.parametrize("second_stage", [False, True])
def test_training_predicts_boxes_only_for_a_second_stage(second_stage: bool) -> None:
    head = make_head(predict_boxes_when_training=second_stage).train()
    found = head(make_batch())
    assert ("batch_box_preds" in found) == second_stage


def test_predictions_belong_to_their_anchors() -> None:
    """Raising the logit of one class for one anchor of a cell changes that row of each cell."""
    head = make_head().eval()
    batch = make_batch()
    before = head(dict(batch))["batch_cls_preds"]
    # The pedestrians' anchor with the second rotation.
    anchor_of_cell = 3
    pedestrian = 1
    channel = anchor_of_cell * 3 + pedestrian
    head.conv_cls.bias.data[channel] += 1
    after = head(dict(batch))["batch_cls_preds"]

    _, changed_rows, changed_classes = torch.nonzero(after != before, as_tuple=True)
    assert set((changed_rows % ANCHORS_PER_CELL).tolist()) == {anchor_of_cell}
    assert set(changed_classes.tolist()) == {pedestrian}
    assert len(changed_rows) == NUM_CELLS
    assert head.flat_anchors[anchor_of_cell, 3:7].tolist() == pytest.approx([0.8, 0.6, 1.73, 1.57])


def test_zero_codes_decode_to_the_anchors() -> None:
    config = head_config()
    config.USE_DIRECTION_CLASSIFIER = False
    head = make_head(config).eval()
    assert head.conv_dir_cls is None
    for parameter in head.conv_box.parameters():
        parameter.data.zero_()
    found = head(make_batch())["batch_box_preds"][0]
    torch.testing.assert_close(found, head.flat_anchors)


# --- Headings: a code up to half a turn, and a bin that says which half


@pytest.mark.parametrize("heading", [-3.0, -1.6, -0.7, 0.0, 0.8, 1.5, 2.4, 3.1])
def test_direction_target_and_decoding_agree(heading: float) -> None:
    """Encode a heading as code and bin; decoding gives back the heading up to full turns."""
    head = make_head().eval()
    anchors = head.flat_anchors
    gt = anchors.clone()
    gt[:, HEADING] = heading
    codes = head.box_coder.encode_torch(gt, anchors)
    bins = head.get_direction_target(anchors, codes)
    assert (bins.sum(dim=1) == 1).all()
    # The loss compares headings by their sine, so half a turn more must not matter.
    codes[:, HEADING] += pi
    scores = torch.zeros(1, len(anchors), 3)
    _, boxes = head.generate_predicted_boxes(1, scores, codes[None], bins[None])
    turns = (boxes[0, :, HEADING] - heading) / (2 * pi)
    torch.testing.assert_close(turns, turns.round(), atol=1e-4, rtol=0)


def test_direction_offset_moves_the_bins() -> None:
    head = make_head()
    anchors = torch.zeros(2, 7)
    codes = torch.zeros(2, 7)
    # Below and above DIR_OFFSET = 0.785.
    codes[:, HEADING] = torch.tensor([0.7, 0.9])
    bins = head.get_direction_target(anchors, codes)
    assert bins.argmax(dim=1).tolist() == [1, 0]


def test_headings_are_compared_by_the_sine_of_their_difference() -> None:
    codes = torch.zeros(1, 7)
    targets = torch.zeros(1, 7)
    codes[0, HEADING] = 0.9
    targets[0, HEADING] = 0.4
    first, second = AnchorHeadSingle.add_sin_difference(codes, targets)
    difference = first - second
    assert difference[0, HEADING].item() == pytest.approx(sin(0.9 - 0.4))
    # The inputs are kept.
    assert codes[0, HEADING] == 0.9
    assert targets[0, HEADING] == 0.4


# --- Losses


def test_losses_are_normalised_by_frame() -> None:
    """Two copies of one frame cost what one costs."""
    head = make_head().train()
    one = make_batch(1)
    two = {
        "spatial_features_2d": one["spatial_features_2d"].repeat(2, 1, 1, 1),
        "batch_size": 2,
        "gt_boxes": one["gt_boxes"].repeat(2, 1, 1),
    }
    head(one)
    loss_of_one, _ = head.get_loss()
    head(two)
    loss_of_two, _ = head.get_loss()
    assert loss_of_two.item() == pytest.approx(loss_of_one.item(), rel=1e-5)


def test_the_loss_is_the_sum_of_its_parts() -> None:
    head = make_head().train()
    head(make_batch())
    _, parts = head.get_loss()
    assert set(parts) == {"rpn_loss_cls", "rpn_loss_loc", "rpn_loss_dir", "rpn_loss"}
    expected = parts["rpn_loss_cls"] + parts["rpn_loss_loc"] + parts["rpn_loss_dir"]
    assert parts["rpn_loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def loss_parts_with(weight: str, factor: float) -> dict[str, float]:
    """Parts of the loss with one of LOSS_WEIGHTS multiplied by ``factor``."""
    config = head_config()
    config.LOSS_CONFIG.LOSS_WEIGHTS[weight] *= factor
    head = make_head(config).train()
    torch.manual_seed(1)
    head(make_batch())
    _, parts = head.get_loss()
    del parts["rpn_loss"]
    return {name: value.item() for name, value in parts.items()}


@pytest.mark.parametrize(
    ("weight", "part"),
    [
        ("cls_weight", "rpn_loss_cls"),
        ("loc_weight", "rpn_loss_loc"),
        ("dir_weight", "rpn_loss_dir"),
    ],
)
def test_loss_weights_scale_their_part(weight: str, part: str) -> None:
    expected = loss_parts_with(weight, factor=1)
    expected[part] *= 3
    assert loss_parts_with(weight, factor=3) == pytest.approx(expected, rel=1e-5)


def test_ignored_anchors_cost_nothing() -> None:
    head = make_head().train()
    head(make_batch())
    (labels,) = head.forward_ret_dict["box_cls_labels"]
    first_ignored = torch.nonzero(labels == -1)[0].item()
    before = head.get_cls_layer_loss().item()
    logits = head.forward_ret_dict["cls_preds"].detach().clone().reshape(1, -1, 3)
    logits[0, first_ignored] = 50
    head.forward_ret_dict["cls_preds"] = logits
    assert head.get_cls_layer_loss().item() == pytest.approx(before, rel=1e-6)


def test_class_agnostic_head() -> None:
    config = head_config()
    config.CLASS_AGNOSTIC = True
    head = make_head(config, num_class=1).train()
    head(make_batch())
    loss, _ = head.get_loss()
    assert torch.isfinite(loss)
    # Every object is class 1: certain and right predictions cost nothing.
    is_object = head.forward_ret_dict["box_cls_labels"] > 0
    logits = torch.where(is_object, 30.0, -30.0)
    head.forward_ret_dict["cls_preds"] = logits.reshape(1, 16, 16, ANCHORS_PER_CELL)
    assert head.get_cls_layer_loss().item() == pytest.approx(0, abs=1e-6)


# --- Settings


def test_regression_loss_by_its_name() -> None:
    config = head_config()
    config.LOSS_CONFIG.REG_LOSS_TYPE = "WeightedL1Loss"
    assert type(make_head(config).reg_loss_func).__name__ == "WeightedL1Loss"


def test_an_unknown_regression_loss_is_named() -> None:
    config = head_config()
    config.LOSS_CONFIG.REG_LOSS_TYPE = "WeightedL1los"
    with pytest.raises(ConfigError, match="REG_LOSS_TYPE.*did you mean 'WeightedL1Loss'"):
        make_head(config)


def test_sincos_coder_by_config() -> None:
    config = head_config()
    config.TARGET_ASSIGNER_CONFIG.BOX_CODER_CONFIG = {"encode_angle_by_sincos": True}
    config.LOSS_CONFIG.LOSS_WEIGHTS.code_weights = [1.0] * 8
    config.USE_DIRECTION_CLASSIFIER = False
    head = make_head(config)
    assert head.conv_box.out_channels == ANCHORS_PER_CELL * 8
    found = head.eval()(make_batch())
    assert found["batch_box_preds"].shape == (1, NUM_ANCHORS, 7)


def test_a_wrong_stride_is_explained() -> None:
    batch = {"spatial_features_2d": torch.randn(1, 4, 8, 8), "batch_size": 1}
    with pytest.raises(ConfigError, match="16 x 16 cells, but the feature map has 8 x 8"):
        make_head().eval()(batch)


# --- Precision and copies


def test_half_precision_features_give_float32_boxes_and_losses() -> None:
    head = make_head().train()
    batch = make_batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        head(batch)
    loss, _ = head.get_loss()
    assert head.forward_ret_dict["cls_preds"].dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = head.eval()(batch)
    assert found["batch_box_preds"].dtype == torch.float32


def test_a_head_can_be_copied_after_a_training_step() -> None:
    head = make_head().train()
    head(make_batch())
    twin = copy.deepcopy(head)
    assert twin.forward_ret_dict == {}
    assert "cls_preds" in head.forward_ret_dict
    assert torch.equal(twin.conv_cls.weight, head.conv_cls.weight)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({"loc_weight": None}, "LOSS_WEIGHTS.loc_weight"),
        ({"cls_weight": "x"}, "cls_weight: expected a number, found 'x'"),
        ({"code_weights": [1.0] * 6}, "code_weights: has 6 numbers, expected 7"),
    ],
)
def test_impossible_loss_weights_are_named_before_the_first_loss(weights, words):
    config = head_config()
    config.LOSS_CONFIG.LOSS_WEIGHTS.update(weights)
    with pytest.raises(ConfigError, match=words):
        make_head(config)


def test_a_class_without_anchors_is_named():
    config = head_config()
    config.ANCHOR_GENERATOR_CONFIG[1]["anchor_rotations"] = []
    with pytest.raises(ConfigError, match="class Pedestrian has no anchor"):
        make_head(config)
