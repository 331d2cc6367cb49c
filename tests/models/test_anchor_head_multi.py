"""Several anchor heads: order of predictions, losses by class, final boxes, config."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from easydict import EasyDict
from short_training import losses_of_a_few_steps
from small_model import CLASS_NAMES, RANGE, head_config, make_batch, random_scene, small_model
from small_multi_head import multi_config, multi_model_config

from pcdet_distill.errors import ConfigError
from pcdet_distill.models.dense_heads.anchor_head_multi import AnchorHeadMulti
from pcdet_distill.models.dense_heads.anchor_head_single import AnchorHeadSingle
from pcdet_distill.models.detectors.post_processing import post_process

CELLS = 256
PER_CELL = 6


def arguments(config: EasyDict) -> dict:
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
    torch.manual_seed(0)
    return AnchorHeadMulti(**arguments(config))


def make_input(frames: int = 2) -> dict:
    torch.manual_seed(1)
    boxes = torch.from_numpy(np.stack([random_scene(seed, 4)[1] for seed in range(frames)]))
    return {
        "spatial_features_2d": torch.randn(frames, 4, 16, 16),
        "gt_boxes": boxes,
        "batch_size": frames,
    }


def twins(groups: list[list[str]]) -> tuple[AnchorHeadSingle, AnchorHeadMulti]:
    """One head for all classes, and several with the same weights that predict all classes too."""
    torch.manual_seed(0)
    single = AnchorHeadSingle(**arguments(head_config()))
    torch.nn.init.normal_(single.conv_box.weight, std=0.1)
    multi = make_head(multi_config(groups, SEPARATE_MULTIHEAD=False))
    first = 0
    for head, group in zip(multi.rpn_heads, groups):
        count = 2 * len(group)
        for name, width in (("conv_cls", 3), ("conv_box", 7), ("conv_dir_cls", 2)):
            source = getattr(single, name)
            target = getattr(head, name)
            for leaf in ("weight", "bias"):
                rows = getattr(source, leaf).data[first * width : (first + count) * width]
                getattr(target, leaf).data.copy_(rows)
        first += count
    return single, multi


def reorder(value: torch.Tensor) -> torch.Tensor:
    """From cell by cell to anchor by anchor: (B, cells * anchors, ...)."""
    return value.unflatten(1, (CELLS, PER_CELL)).transpose(1, 2).flatten(1, 2)


@pytest.mark.parametrize(
    "groups", [[["Car"], ["Pedestrian"], ["Cyclist"]], [["Car", "Pedestrian"], ["Cyclist"]]]
)
def test_several_heads_are_one_head_in_another_order(groups: list[list[str]]) -> None:
    single, multi = twins(groups)
    one = make_input()
    several = make_input()
    single.train()(one)
    multi.train()(several)
    for key in ("batch_cls_preds", "batch_box_preds"):
        torch.testing.assert_close(several[key], reorder(one[key]), rtol=1e-4, atol=1e-5)
    for key in ("box_cls_labels", "box_reg_targets", "reg_weights"):
        assert torch.equal(multi.forward_ret_dict[key], reorder(single.forward_ret_dict[key])), key
    assert (multi.forward_ret_dict["box_cls_labels"] > 0).any()
    _, expected = single.get_loss()
    _, found = multi.get_loss()
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value.item(), rel=1e-4), name


def test_anchors_are_ordered_by_class_and_then_by_place() -> None:
    head = make_head(multi_config())
    anchors = head.flat_anchors.view(3, 2, 16, 16, 7)
    assert anchors[1, ..., 3].unique().tolist() == pytest.approx([0.8])  # pedestrians second
    assert anchors[0, 0, ..., 6].unique().tolist() == [0]
    assert anchors[0, 1, ..., 6].unique().tolist() == pytest.approx([1.57])
    assert (anchors[2, 1, 3, :, 0].diff() > 0).all()
    assert (anchors[2, 1, :, 3, 1].diff() > 0).all()


def test_the_loss_of_a_head_has_its_own_classes_only() -> None:
    head = make_head(multi_config([["Car"], ["Pedestrian", "Cyclist"]])).train()
    head(make_input())
    labels = head.forward_ret_dict["box_cls_labels"]
    first, second = head.forward_ret_dict["cls_preds"]
    assert first.shape == (2, 2 * CELLS, 1)
    assert second.shape == (2, 4 * CELLS, 2)
    expected = 0.0
    for logits, own, classes in ((first, labels[:, :512], [1]), (second, labels[:, 512:], [2, 3])):
        for column, label in enumerate(classes):
            for frame in range(2):
                score = torch.sigmoid(logits[frame, :, column])
                hit = own[frame] == label
                focal = torch.where(
                    hit,
                    -0.25 * (1 - score) ** 2 * score.log(),
                    -0.75 * score**2 * (1 - score).log(),
                )
                expected += (
                    (focal * (own[frame] >= 0)).sum().item()
                    / max(1, (labels[frame] > 0).sum().item())
                    / 2
                )
    assert head.get_cls_layer_loss().item() == pytest.approx(expected, rel=1e-4)


def test_weights_of_positives_and_background() -> None:
    def loss(**weights: float) -> float:
        config = multi_config()
        config.LOSS_CONFIG.LOSS_WEIGHTS.update(weights)
        head = make_head(config).train()
        head(make_input())
        return head.get_cls_layer_loss().item()

    positive = loss(neg_cls_weight=0.0)
    background = loss(pos_cls_weight=0.0)
    assert positive > 0
    assert background > 0
    assert loss() == pytest.approx(positive + background, rel=1e-5)
    assert loss(pos_cls_weight=2.0, neg_cls_weight=3.0) == pytest.approx(
        2 * positive + 3 * background, rel=1e-5
    )


def test_headings_without_a_direction_classifier_are_compared_as_they_are() -> None:
    codes = torch.randn(3, 7)
    targets = torch.randn(3, 7)
    with_bins = make_head(multi_config())
    without = make_head(multi_config(USE_DIRECTION_CLASSIFIER=False))
    assert without.heading_terms(codes, targets) == (codes, targets)
    one, other = with_bins.heading_terms(codes, targets)
    torch.testing.assert_close((one - other)[:, 6], torch.sin(codes[:, 6] - targets[:, 6]))
    without.train()(make_input())
    assert "rpn_loss_dir" not in without.get_loss()[1]


def test_branches_for_the_parts_of_a_box() -> None:
    separate = {
        "NUM_MIDDLE_CONV": 1,
        "NUM_MIDDLE_FILTER": 5,
        "REG_LIST": ["reg:2", "height:1", "size:3", "angle:1"],
    }
    head = make_head(multi_config(SEPARATE_REG_CONFIG=separate)).train()
    single = head.rpn_heads[0]
    names = {
        name.removesuffix(".weight"): tuple(value.shape)
        for name, value in single.state_dict().items()
        if name.endswith(".weight") and value.dim() == 4
    }
    assert names == {
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
    assert "conv_cls.0.bias" not in single.state_dict()
    assert "conv_box.conv_reg.3.bias" in single.state_dict()
    # Two anchors: channels 0 to 6 are the first one's box, though 0 to 3 come from branch `reg`.
    features = torch.randn(1, 4, 16, 16)
    raw = torch.cat([branch(features) for branch in single.conv_box.values()], dim=1)
    boxes = single(features)["box_preds"].view(1, 2, 16, 16, 7)
    torch.testing.assert_close(boxes[0, 1, 3, 5], raw[0, 7:14, 3, 5])
    head(make_input())
    assert torch.isfinite(head.get_loss()[0])
    separate["REG_LIST"] = ["reg:2", "height:1"]
    with pytest.raises(ConfigError, match="has 3 channels, expected the 7"):
        make_head(multi_config(SEPARATE_REG_CONFIG=separate))
    separate["REG_LIST"] = ["reg"]
    with pytest.raises(ConfigError, match="'reg' is not a name and a number"):
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
    assert "shared_conv" in {tap.path for tap in head.taps()}
    assert make_head(multi_config()).shared_conv is None


def make_predictions(normalized: bool = False, multi: bool = True) -> tuple[dict, dict]:
    """Two heads: cars; cyclists and pedestrians. The second box of each overlaps the first."""
    rows = [
        [0.0, 0, 0, 4, 2, 1, 0],
        [0.5, 0, 0, 4, 2, 1, 0],
        [0.2, 0, 0, 4, 2, 1, 0],
        [0.4, 0, 0, 4, 2, 1, 0],
    ]
    batch = {
        "batch_size": 1,
        "cls_preds_normalized": normalized,
        "batch_box_preds": torch.tensor([rows]),
        "batch_cls_preds": [
            torch.tensor([[[0.7], [0.8]]]),
            torch.tensor([[[0.6, 0.2], [0.3, 0.9]]]),
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


def test_final_boxes_from_logits() -> None:
    for multi in (True, False):
        batch, settings = make_predictions(multi=multi)
        (found,), _ = post_process(batch, settings, num_class=3)
        assert found["pred_scores"].max().item() == pytest.approx(1 / (1 + math.exp(-0.9)))


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


def test_settings_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match="USE_MULTIHEAD is not true"):
        make_head(multi_config(USE_MULTIHEAD=False))
    config = multi_config()
    config.RPN_HEAD_CFGS[0]["LAYER_NUMS"] = [1]
    with pytest.raises(ConfigError, match="LAYER_NUMS is not known here"):
        make_head(config)


def test_in_a_detector() -> None:
    """Losses in the log; final boxes of every class."""
    model = small_model(multi_model_config()).train()
    ret, tb_dict, _ = model(make_batch([random_scene(0), random_scene(1)]))
    assert list(tb_dict) == ["loss_rpn", "rpn_loss_cls", "rpn_loss_loc", "rpn_loss_dir", "rpn_loss"]
    for head in model.dense_head.rpn_heads:
        head.conv_cls.bias.data.fill_(-1.0)
    predictions, _ = model.eval()(make_batch([random_scene(0)]))
    assert set(predictions[0]["pred_labels"].tolist()) == {1, 2, 3}


def test_a_few_steps_decrease_the_loss() -> None:
    model = small_model(multi_model_config()).train()
    batch = make_batch([random_scene(0), random_scene(1)])
    losses = losses_of_a_few_steps(model, batch)
    assert losses[-1] < 0.8 * losses[0]


def test_background_loss_of_an_untrained_head_is_small() -> None:
    head = make_head(multi_config())
    assert F.sigmoid(head.rpn_heads[2].conv_cls.bias).tolist() == pytest.approx([0.01] * 2)
