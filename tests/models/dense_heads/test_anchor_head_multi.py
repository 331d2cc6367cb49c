"""Several anchor heads: order of predictions, losses by class, final boxes, config."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from easydict import EasyDict
from short_training import losses_of_a_few_steps
from small_model import CLASS_NAMES, RANGE, head_config, make_batch, random_scene, small_model
from small_multi_head import multi_config, multi_model_config
from torch import Tensor, nn

from pcdet_distill.errors import ConfigError
from pcdet_distill.models.dense_heads.anchor_head_multi import AnchorHeadMulti
from pcdet_distill.models.dense_heads.anchor_head_single import AnchorHeadSingle
from pcdet_distill.models.detectors.post_processing import post_process
from pcdet_distill.types import BatchDict

CELLS = 256
PER_CELL = 6
EACH_CLASS_ALONE = [["Car"], ["Pedestrian"], ["Cyclist"]]
CARS_AND_OTHERS = [["Car"], ["Pedestrian", "Cyclist"]]


def arguments(config: EasyDict) -> dict:
    """Arguments of a head on 16 x 16 cells."""
    return {
        "model_cfg": config,
        "input_channels": 4,
        "num_class": 3,
        "class_names": CLASS_NAMES,
        "grid_size": [32, 32, 1],
        "point_cloud_range": RANGE,
        "voxel_size": [0.5, 0.5, 4],
        "predict_boxes_when_training": True,
    }


def make_head(config: EasyDict) -> AnchorHeadMulti:
    """Several heads with this DENSE_HEAD."""
    torch.manual_seed(0)
    return AnchorHeadMulti(**arguments(config))


def make_input() -> BatchDict:
    """Random features, the same in every call, for two frames of four boxes each."""
    torch.manual_seed(1)
    _, boxes_of_first = random_scene(0, 4)
    _, boxes_of_second = random_scene(1, 4)
    return {
        "spatial_features_2d": torch.randn(2, 4, 16, 16),
        "gt_boxes": torch.from_numpy(np.stack([boxes_of_first, boxes_of_second])),
        "batch_size": 2,
    }


# --- Several heads against one head


def copy_rows(source: nn.Conv2d, target: nn.Conv2d, first: int, end: int) -> None:
    """Give ``target`` the output channels ``first`` to ``end`` of ``source``."""
    target.weight.data.copy_(source.weight.data[first:end])
    target.bias.data.copy_(source.bias.data[first:end])


def twins(groups: list[list[str]]) -> tuple[AnchorHeadSingle, AnchorHeadMulti]:
    """One head for all classes, and several with the same weights that predict all classes too."""
    torch.manual_seed(0)
    single = AnchorHeadSingle(**arguments(head_config()))
    torch.nn.init.normal_(single.conv_box.weight, std=0.1)
    multi = make_head(multi_config(groups, SEPARATE_MULTIHEAD=False))
    first = 0
    for head, group in zip(multi.rpn_heads, groups):
        # Two anchors a class: its two rotations.
        end = first + 2 * len(group)
        copy_rows(single.conv_cls, head.conv_cls, 3 * first, 3 * end)
        copy_rows(single.conv_box, head.conv_box, 7 * first, 7 * end)
        copy_rows(single.conv_dir_cls, head.conv_dir_cls, 2 * first, 2 * end)
        first = end
    return single, multi


def reorder(value: Tensor) -> Tensor:
    """From cell by cell to anchor by anchor: (B, cells * anchors, ...)."""
    by_cell = value.unflatten(1, (CELLS, PER_CELL))
    by_anchor = by_cell.transpose(1, 2)
    return by_anchor.flatten(1, 2)


@pytest.mark.parametrize("groups", [EACH_CLASS_ALONE, [["Car", "Pedestrian"], ["Cyclist"]]])
def test_several_heads_are_one_head_in_another_order(groups: list[list[str]]) -> None:
    single, multi = twins(groups)
    one = make_input()
    several = make_input()
    single.train()(one)
    multi.train()(several)
    for key in ("batch_cls_preds", "batch_box_preds"):
        torch.testing.assert_close(several[key], reorder(one[key]), rtol=1e-4, atol=1e-5)
    for key in ("box_cls_labels", "box_reg_targets", "reg_weights"):
        expected_targets = reorder(single.forward_ret_dict[key])
        assert torch.equal(multi.forward_ret_dict[key], expected_targets), key
    assert (multi.forward_ret_dict["box_cls_labels"] > 0).any()
    _, expected = single.get_loss()
    _, found = multi.get_loss()
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value.item(), rel=1e-4), name


def test_anchors_are_ordered_by_class_and_then_by_place() -> None:
    head = make_head(multi_config())
    cars, pedestrians, cyclists = head.flat_anchors.view(3, 2, 16, 16, 7)
    straight, turned = cars
    assert pedestrians[..., 3].unique().tolist() == pytest.approx([0.8])
    assert straight[..., 6].unique().tolist() == [0]
    assert turned[..., 6].unique().tolist() == pytest.approx([1.57])

    turned_cyclists = cyclists[1]
    x_along_a_row = turned_cyclists[3, :, 0]
    y_along_a_column = turned_cyclists[:, 3, 1]
    assert (x_along_a_row.diff() > 0).all()
    assert (y_along_a_column.diff() > 0).all()


# --- Losses


def focal_loss_of_a_class(logits: Tensor, labels: Tensor, label: int) -> float:
    """The sum over anchors that are not ignored, with alpha 0.25 and gamma 2."""
    score = torch.sigmoid(logits)
    of_positives = -0.25 * (1 - score) ** 2 * score.log()
    of_negatives = -0.75 * score**2 * (1 - score).log()
    focal = torch.where(labels == label, of_positives, of_negatives)
    return focal[labels >= 0].sum().item()


def test_the_loss_of_a_head_has_its_own_classes_only() -> None:
    head = make_head(multi_config(CARS_AND_OTHERS)).train()
    head(make_input())
    cars, others = head.forward_ret_dict["cls_preds"]
    assert cars.shape == (2, 2 * CELLS, 1)
    assert others.shape == (2, 4 * CELLS, 2)

    expected = 0.0
    for frame in range(2):
        labels = head.forward_ret_dict["box_cls_labels"][frame]
        labels_of_cars, labels_of_others = labels.split([2 * CELLS, 4 * CELLS])
        loss_of_frame = (
            focal_loss_of_a_class(cars[frame, :, 0], labels_of_cars, 1)
            + focal_loss_of_a_class(others[frame, :, 0], labels_of_others, 2)
            + focal_loss_of_a_class(others[frame, :, 1], labels_of_others, 3)
        )
        # Over the positive anchors of all heads, and over both frames.
        num_positives = max(1, (labels > 0).sum().item())
        expected += loss_of_frame / num_positives / 2
    assert head.get_cls_layer_loss().item() == pytest.approx(expected, rel=1e-4)


def class_loss_with(**weights: float) -> float:
    """The class loss with some LOSS_WEIGHTS changed."""
    config = multi_config()
    config.LOSS_CONFIG.LOSS_WEIGHTS.update(weights)
    head = make_head(config).train()
    head(make_input())
    return head.get_cls_layer_loss().item()


def test_weights_of_positives_and_background() -> None:
    positive = class_loss_with(neg_cls_weight=0.0)
    background = class_loss_with(pos_cls_weight=0.0)
    assert positive > 0
    assert background > 0

    unweighted = class_loss_with()
    assert unweighted == pytest.approx(positive + background, rel=1e-5)
    weighted = class_loss_with(pos_cls_weight=2.0, neg_cls_weight=3.0)
    assert weighted == pytest.approx(2 * positive + 3 * background, rel=1e-5)


def test_with_a_direction_classifier_headings_are_compared_by_their_sine() -> None:
    codes = torch.randn(3, 7)
    targets = torch.randn(3, 7)
    head = make_head(multi_config())
    one, other = head.heading_terms(codes, targets)
    difference = (one - other)[:, 6]
    torch.testing.assert_close(difference, torch.sin(codes[:, 6] - targets[:, 6]))


def test_without_a_direction_classifier_headings_are_compared_as_they_are() -> None:
    codes = torch.randn(3, 7)
    targets = torch.randn(3, 7)
    head = make_head(multi_config(USE_DIRECTION_CLASSIFIER=False))
    assert head.heading_terms(codes, targets) == (codes, targets)
    head.train()(make_input())
    _, parts = head.get_loss()
    assert "rpn_loss_dir" not in parts


# --- Layers

# A convolution, then a branch for each part of a box.
SEPARATE_BRANCHES = {
    "NUM_MIDDLE_CONV": 1,
    "NUM_MIDDLE_FILTER": 5,
    "REG_LIST": ["reg:2", "height:1", "size:3", "angle:1"],
}


def test_branches_for_the_parts_of_a_box_have_their_widths() -> None:
    head = make_head(multi_config(SEPARATE_REG_CONFIG=SEPARATE_BRANCHES))
    state = head.rpn_heads[0].state_dict()
    kernels = {}
    for name, value in state.items():
        if name.endswith(".weight") and value.dim() == 4:
            kernels[name.removesuffix(".weight")] = tuple(value.shape)
    assert kernels == {
        "conv_cls.0": (5, 4, 3, 3),
        "conv_cls.3": (2, 5, 3, 3),
        "conv_box.conv_reg.0": (5, 4, 3, 3),
        "conv_box.conv_reg.3": (4, 5, 3, 3),
        "conv_box.conv_height.0": (5, 4, 3, 3),
        "conv_box.conv_height.3": (2, 5, 3, 3),
        "conv_box.conv_size.0": (5, 4, 3, 3),
        "conv_box.conv_size.3": (6, 5, 3, 3),
        "conv_box.conv_angle.0": (5, 4, 3, 3),
        "conv_box.conv_angle.3": (2, 5, 3, 3),
        "conv_dir_cls": (4, 4, 1, 1),
    }
    assert "conv_cls.0.bias" not in state
    assert "conv_box.conv_reg.3.bias" in state


def test_channels_of_branches_are_read_as_boxes_one_after_the_other() -> None:
    head = make_head(multi_config(SEPARATE_REG_CONFIG=SEPARATE_BRANCHES)).train()
    single = head.rpn_heads[0]
    features = torch.randn(1, 4, 16, 16)
    outputs = [branch(features) for branch in single.conv_box.values()]
    channels = torch.cat(outputs, dim=1)
    boxes = single(features)["box_preds"].view(1, 2, 16, 16, 7)
    # Two anchors: channels 0 to 6 are the first one's box, though 0 to 3 come from branch `reg`.
    torch.testing.assert_close(boxes[0, 1, 3, 5], channels[0, 7:14, 3, 5])


def test_a_head_with_branches_trains() -> None:
    head = make_head(multi_config(SEPARATE_REG_CONFIG=SEPARATE_BRANCHES)).train()
    head(make_input())
    loss, _ = head.get_loss()
    assert torch.isfinite(loss)


@pytest.mark.parametrize(
    ("branches", "message"),
    [
        (["reg:2", "height:1"], "has 3 channels, expected the 7"),
        (["reg"], "'reg' is not a name and a number"),
    ],
)
def test_branches_that_do_not_fit(branches: list[str], message: str) -> None:
    separate = {**SEPARATE_BRANCHES, "REG_LIST": branches}
    with pytest.raises(ConfigError, match=message):
        make_head(multi_config(SEPARATE_REG_CONFIG=separate))


def test_shared_convolution_by_config() -> None:
    head = make_head(multi_config(SHARED_CONV_NUM_FILTER=6))
    assert list(head.state_dict())[:3] == [
        "shared_conv.0.weight",
        "shared_conv.1.weight",
        "shared_conv.1.bias",
    ]
    assert head.rpn_heads[0].conv_cls.in_channels == 6
    assert head.shared_conv[1].eps == 1e-3
    paths = [tap.path for tap in head.taps()]
    assert "shared_conv" in paths


def test_without_a_setting_there_is_no_shared_convolution() -> None:
    assert make_head(multi_config()).shared_conv is None


# --- Final boxes


def make_predictions(normalized: bool = False, multi: bool = True) -> tuple[BatchDict, dict]:
    """A batch and POST_PROCESSING: all boxes overlap.

    The first head predicts cars (boxes 0 and 1), the second cyclists and pedestrians (2 and 3).
    """
    boxes = [[x, 0, 0, 4, 2, 1, 0] for x in (0.0, 0.5, 0.2, 0.4)]
    scores_of_cars = [[0.7], [0.8]]
    scores_of_cyclists_and_pedestrians = [[0.6, 0.2], [0.3, 0.9]]
    batch = {
        "batch_size": 1,
        "cls_preds_normalized": normalized,
        "batch_box_preds": torch.tensor([boxes]),
        "batch_cls_preds": [
            torch.tensor([scores_of_cars]),
            torch.tensor([scores_of_cyclists_and_pedestrians]),
        ],
        "multihead_label_mapping": [torch.tensor([1]), torch.tensor([3, 2])],
    }
    nms = {
        "MULTI_CLASSES_NMS": multi,
        "NMS_TYPE": "nms_gpu",
        "NMS_THRESH": 0.1,
        "NMS_PRE_MAXSIZE": 100,
        "NMS_POST_MAXSIZE": 10,
    }
    return batch, {"SCORE_THRESH": 0.25, "NMS_CONFIG": nms}


def test_final_boxes_class_by_class() -> None:
    batch, settings = make_predictions(normalized=True)
    (found,), _ = post_process(batch, settings, num_class=3)
    assert found["pred_labels"].tolist() == [1, 3, 2]
    assert found["pred_scores"].tolist() == pytest.approx([0.8, 0.6, 0.9])
    assert found["pred_boxes"][:, 0].tolist() == pytest.approx([0.5, 0.2, 0.4])


def test_final_boxes_of_all_heads_together() -> None:
    batch, settings = make_predictions(normalized=True, multi=False)
    (found,), _ = post_process(batch, settings, num_class=3)
    assert found["pred_labels"].tolist() == [2]
    assert found["pred_scores"].tolist() == pytest.approx([0.9])


@pytest.mark.parametrize("multi", [True, False])
def test_final_boxes_from_logits(multi: bool) -> None:
    batch, settings = make_predictions(multi=multi)
    (found,), _ = post_process(batch, settings, num_class=3)
    probability = 1 / (1 + math.exp(-0.9))
    assert found["pred_scores"].max().item() == pytest.approx(probability)


# --- Settings


@pytest.mark.parametrize(
    "groups, message",
    [
        (
            [["Car"], ["Pedestrian"]],
            r"names the classes \['Car', 'Pedestrian'\], ANCHOR_GENERATOR_CONFIG",
        ),
        ([["Car"], ["Cyclist"], ["Pedestrian"]], "expected the same in the same order"),
        (
            [["Car"], ["Pedestrian"], ["Cyclst"]],
            "'Cyclst' is not in CLASS_NAMES; did you mean 'Cyclist'",
        ),
    ],
)
def test_groups_that_do_not_fit(groups: list[list[str]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_head(multi_config(groups))


def test_several_heads_need_use_multihead() -> None:
    with pytest.raises(ConfigError, match="USE_MULTIHEAD is not true"):
        make_head(multi_config(USE_MULTIHEAD=False))


def test_an_unknown_setting_of_a_head_is_named() -> None:
    config = multi_config()
    config.RPN_HEAD_CFGS[0]["LAYER_NUMS"] = [1]
    with pytest.raises(ConfigError, match="LAYER_NUMS is not known here"):
        make_head(config)


# --- In a detector


def test_losses_in_the_log_of_a_detector() -> None:
    model = small_model(multi_model_config()).train()
    _, tb_dict, _ = model(make_batch([random_scene(0), random_scene(1)]))
    assert list(tb_dict) == ["loss_rpn", "rpn_loss_cls", "rpn_loss_loc", "rpn_loss_dir", "rpn_loss"]


def test_a_detector_finds_boxes_of_every_class() -> None:
    model = small_model(multi_model_config()).train()
    # One training step, so that batch norms know the data.
    model(make_batch([random_scene(0), random_scene(1)]))
    for head in model.dense_head.rpn_heads:
        head.conv_cls.bias.data.fill_(-1.0)
    (found,), _ = model.eval()(make_batch([random_scene(0)]))
    assert set(found["pred_labels"].tolist()) == {1, 2, 3}


def test_a_few_steps_decrease_the_loss() -> None:
    model = small_model(multi_model_config()).train()
    batch = make_batch([random_scene(0), random_scene(1)])
    losses = losses_of_a_few_steps(model, batch)
    assert losses[-1] < 0.8 * losses[0]


def test_background_loss_of_an_untrained_head_is_small() -> None:
    head = make_head(multi_config())
    scores = torch.sigmoid(head.rpn_heads[2].conv_cls.bias)
    assert scores.tolist() == pytest.approx([0.01] * 2)
