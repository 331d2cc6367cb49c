"""The overlap branch of a centre head: its target, its loss, and scores corrected by it."""

from __future__ import annotations

import pytest
import torch
from center_cases import make_head
from small_center import center_head_config

from pcdet_distill.errors import ConfigError
from pcdet_distill.models.dense_heads.center_overlaps import (
    corrected_scores,
    overlap_loss,
    read_exponents,
)

BOX = [10.0, 2.0, -1.0, 4.0, 2.0, 1.5, 0.0]
HALF = [12.0, 2.0, -1.0, 4.0, 2.0, 1.5, 0.0]  # moved by half its length: IoU 1 / 3
FAR = [20.0, 2.0, -1.0, 4.0, 2.0, 1.5, 0.0]
SETTINGS = {"USE_IOU_TO_RECTIFY_SCORE": True, "IOU_RECTIFIER": [0.5, 0.6, 0.7]}


def with_overlap_branch(**post_processing):
    config = center_head_config()
    config.SEPARATE_HEAD_CFG.HEAD_DICT.iou = {"out_channels": 1, "num_conv": 2}
    config.POST_PROCESSING.update(post_processing)
    return config


def test_the_target_is_twice_the_overlap_minus_one() -> None:
    boxes = torch.tensor([[BOX, HALF, FAR, BOX]])
    gt_boxes = torch.tensor([[BOX, BOX, BOX, FAR]])
    mask = torch.tensor([[True, True, True, False]])
    perfect = torch.tensor([[1.0, 2 / 3 - 1, -1.0, 9.0]])
    assert overlap_loss(perfect, boxes, gt_boxes, mask).item() == pytest.approx(0, abs=2e-3)
    zeros = torch.zeros(1, 4)
    expected = (1 + 1 / 3 + 1) / 3
    assert overlap_loss(zeros, boxes, gt_boxes, mask).item() == pytest.approx(expected, abs=2e-3)


def test_the_loss_trains_the_overlap_and_not_the_box() -> None:
    boxes = torch.tensor([[HALF]], requires_grad=True)
    predicted = torch.zeros(1, 1, requires_grad=True)
    overlap_loss(predicted, boxes, torch.tensor([[BOX]]), torch.ones(1, 1).bool()).backward()
    assert predicted.grad is not None
    assert predicted.grad.abs().sum() > 0
    assert boxes.grad is None


def test_no_object_is_no_loss() -> None:
    nothing = torch.zeros(1, 2).bool()
    loss = overlap_loss(torch.ones(1, 2), torch.ones(1, 2, 7), torch.ones(1, 2, 7), nothing)
    assert loss.item() == 0


def test_corrected_scores() -> None:
    scores = torch.tensor([[0.64, 0.64, 0.64, 0.64]])
    predicted = torch.tensor([[0.0, -2.0, 3.0, 0.0]])
    exponents = torch.tensor([[0.5, 0.5, 0.5, 0.0]])
    found = corrected_scores(scores, predicted, exponents)
    torch.testing.assert_close(found, torch.tensor([[0.32**0.5, 0.0, 0.8, 0.64]]))


def test_a_head_with_the_branch_learns_it() -> None:
    torch.manual_seed(0)
    head = make_head(with_overlap_branch()).train()
    nx, ny = head.feature_map_size
    features = torch.randn(2, 4, ny, nx)
    boxes = torch.tensor([[[*BOX, 1.0]], [[*BOX, 2.0]]])
    head({"spatial_features_2d": features, "gt_boxes": boxes})
    loss, parts = head.get_loss()
    assert float(parts["iou_loss_head_0"]) > 0
    loss.backward()
    gradient = head.heads_list[0].iou[-1].weight.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0


def test_scores_change_by_the_branch_alone() -> None:
    torch.manual_seed(0)
    plain = make_head(with_overlap_branch()).eval()
    corrected = make_head(with_overlap_branch(**SETTINGS)).eval()
    corrected.load_state_dict(plain.state_dict())
    nx, ny = plain.feature_map_size
    batch = {"spatial_features_2d": torch.randn(1, 4, ny, nx)}
    with torch.no_grad():
        before = plain(dict(batch))["final_box_dicts"][0]
        after = corrected(dict(batch))["final_box_dicts"][0]
    assert len(before["pred_scores"]) > 0
    assert not torch.equal(before["pred_scores"], after["pred_scores"])


@pytest.mark.parametrize("given", [0.5, [0.5], [0.5, 0.5, 0.5]])
def test_one_exponent_serves_all_classes(given) -> None:
    settings = {"USE_IOU_TO_RECTIFY_SCORE": True, "IOU_RECTIFIER": given}
    assert read_exponents(settings, 3, True, "X") == [0.5, 0.5, 0.5]
    assert read_exponents({"IOU_RECTIFIER": given}, 3, True, "X") is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([0.5, 0.5], "expected a number from 0 to 1 for each of the 3 classes"),
        ([0.5, 0.5, 1.5], r"IOU_RECTIFIER is \[0.5, 0.5, 1.5\], expected"),
        (None, "IOU_RECTIFIER is missing"),
    ],
)
def test_wrong_exponents_are_named(given, words: str) -> None:
    settings = {"USE_IOU_TO_RECTIFY_SCORE": True, "IOU_RECTIFIER": given}
    with pytest.raises(ConfigError, match=words):
        read_exponents(settings, 3, True, "X")


def test_a_branch_of_two_channels_is_refused() -> None:
    config = with_overlap_branch()
    config.SEPARATE_HEAD_CFG.HEAD_DICT.iou = {"out_channels": 2, "num_conv": 2}
    with pytest.raises(ConfigError, match="iou.out_channels is 2, expected 1"):
        make_head(config)
