"""Which proposals are sampled for a second stage, and boxes relative to RoIs."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pcdet_distill.errors import ConfigError
from pcdet_distill.models.roi_heads.roi_head_template import RoIHeadTemplate
from pcdet_distill.models.roi_heads.target_assigner.proposal_target_layer import ProposalTargetLayer
from pcdet_distill.types import BatchDict

NUM_SAMPLED = 16
# Half of the sample is foreground (IoU above 0.55); 80 % of the rest is hard background, whose
# IoU is above 0.1.
TARGETS = {
    "BOX_CODER": "ResidualCoder",
    "ROI_PER_IMAGE": NUM_SAMPLED,
    "FG_RATIO": 0.5,
    "SAMPLE_ROI_BY_EACH_CLASS": True,
    "CLS_SCORE_TYPE": "roi_iou",
    "CLS_FG_THRESH": 0.75,
    "CLS_BG_THRESH": 0.25,
    "CLS_BG_THRESH_LO": 0.1,
    "HARD_BG_RATIO": 0.8,
    "REG_FG_THRESH": 0.55,
}
BOX = [10.0, 0, 0, 4, 2, 2, 0]
GT = [*BOX, 1.0]
FAR_AWAY = [40.0, 0, 0, 4, 2, 2, 0]
PADDING = [0.0] * 7


def make_layer(**changes) -> ProposalTargetLayer:
    """A layer whose draws repeat."""
    return ProposalTargetLayer({**TARGETS, **changes}, torch.Generator().manual_seed(0))


def at_overlap(iou: float) -> list[float]:
    """BOX moved along its length until the 3D IoU, (4 - d) / (4 + d), is ``iou``."""
    distance = 4 * (1 - iou) / (1 + iou)
    return [10 + distance, 0, 0, 4, 2, 2, 0]


def make_batch(rois: list[list[float]], gt: list[float] = GT) -> BatchDict:
    """One frame with these proposals, scored 0, 1, 2 ..., and one box."""
    count = len(rois)
    return {
        "rois": torch.tensor([rois]),
        "roi_scores": torch.arange(count).float()[None],
        "roi_labels": torch.ones(1, count, dtype=torch.long),
        "gt_boxes": torch.tensor([[gt]]),
        "batch_size": 1,
    }


# --- Sampling


def test_shares_of_foreground_hard_and_easy_background() -> None:
    overlaps = torch.tensor([0.9] * 10 + [0.3] * 20 + [0.05] * 20)
    rows = make_layer().subsample_rois(overlaps)
    assert len(rows) == NUM_SAMPLED

    foreground = rows[:8]
    assert (foreground < 10).all()
    assert len(foreground.unique()) == 8
    hard = (rows >= 10) & (rows < 30)
    easy = rows >= 30
    # Six is 80 % of the other eight, rounded down.
    assert hard.sum() == 6
    assert easy.sum() == 2


@pytest.mark.parametrize(
    ("overlaps", "expected"),
    [([0.9, 0.8], {0, 1}), ([0.3, 0.2], {0, 1}), ([0.0, 0.05, 0.09], {0, 1, 2}), ([0.6], {0})],
)
def test_one_kind_fills_all_places(overlaps: list[float], expected: set[int]) -> None:
    rows = make_layer().subsample_rois(torch.tensor(overlaps))
    assert len(rows) == NUM_SAMPLED
    assert set(rows.tolist()) == expected


def test_few_hard_proposals_are_not_repeated() -> None:
    rows = make_layer().subsample_rois(torch.tensor([0.3] * 2 + [0.0] * 30))
    hard = rows < 2
    assert hard.sum() == 2


def test_draws_repeat_with_the_seed_of_the_generator() -> None:
    overlaps = torch.linspace(0, 1, 200)
    first = make_layer().subsample_rois(overlaps)
    second = make_layer().subsample_rois(overlaps)
    assert torch.equal(first, second)


def test_draws_without_a_generator_follow_the_seed_of_torch() -> None:
    overlaps = torch.linspace(0, 1, 200)
    layer = ProposalTargetLayer(TARGETS)
    torch.manual_seed(5)
    first = layer.subsample_rois(overlaps)
    second = layer.subsample_rois(overlaps)
    torch.manual_seed(5)
    first_again = layer.subsample_rois(overlaps)
    assert torch.equal(first_again, first)
    assert not torch.equal(first, second)


# --- Matching and labels


def match_two_classes(layer: ProposalTargetLayer) -> tuple[Tensor, Tensor]:
    """RoIs of classes 1 and 2 at one place; a box of class 1 there, one of class 2 beside it."""
    rois = torch.tensor([BOX, BOX])
    labels = torch.tensor([1, 2])
    gt = torch.tensor([[*BOX, 1.0], [*at_overlap(0.5), 2.0], [*PADDING, 0.0]])
    return layer.match(rois, labels, gt)


def test_each_class_is_matched_with_its_own_boxes() -> None:
    overlap, assigned = match_two_classes(make_layer())
    assert overlap.tolist() == pytest.approx([1.0, 0.5], abs=1e-5)
    assert assigned[:, -1].tolist() == [1, 2]


def test_without_sampling_by_class_the_best_box_of_any_class_is_taken() -> None:
    overlap, assigned = match_two_classes(make_layer(SAMPLE_ROI_BY_EACH_CLASS=False))
    assert overlap.tolist() == pytest.approx([1.0, 1.0], abs=1e-5)
    assert assigned[:, -1].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("cls", [1, -1, -1, 0, 0]),
        # (IoU - 0.25) / (0.75 - 0.25), within 0 and 1.
        ("roi_iou", [1, 0.7, 0.1, 0, 0]),
        ("raw_roi_iou", [0.8, 0.6, 0.3, 0.2, 0]),
    ],
)
def test_labels_of_overlaps(kind: str, expected: list[float]) -> None:
    layer = make_layer(CLS_SCORE_TYPE=kind)
    overlap = torch.tensor([0.8, 0.6, 0.3, 0.2, 0.0])
    labels = layer.label_of_overlap(overlap, layer.roi_sampler_cfg)
    assert labels.tolist() == pytest.approx(expected, abs=1e-6)


# --- The whole layer


def test_forward_gives_boxes_and_masks() -> None:
    rois = [at_overlap(0.9), at_overlap(0.6), at_overlap(0.2), FAR_AWAY]
    targets = make_layer()(make_batch(rois))
    assert targets["rois"].shape == (1, NUM_SAMPLED, 7)
    assert targets["gt_of_rois"].shape == (1, NUM_SAMPLED, 8)
    assert (targets["gt_of_rois"] == torch.tensor(GT)).all()

    overlap = targets["gt_iou_of_rois"]
    soft_label = ((overlap - 0.25) / 0.5).clamp(0, 1)
    assert torch.equal(targets["reg_valid_mask"], (overlap > 0.55).long())
    assert torch.allclose(targets["rcnn_cls_labels"], soft_label, atol=1e-6)


def test_padding_is_not_sampled() -> None:
    targets = make_layer()(make_batch([PADDING, at_overlap(0.9), PADDING]))
    # Scores number the rows: all samples are the second one.
    assert (targets["roi_scores"] == 1).all()


def test_padding_alone_costs_nothing() -> None:
    targets = make_layer()(make_batch([PADDING, PADDING]))
    assert (targets["rcnn_cls_labels"] == -1).all()
    assert (targets["reg_valid_mask"] == 0).all()


def test_a_frame_without_boxes_is_background() -> None:
    targets = make_layer()(make_batch([at_overlap(0.9)], gt=[*PADDING, 0.0]))
    assert (targets["rcnn_cls_labels"] == 0).all()
    assert (targets["gt_of_rois"] == 0).all()


def test_inputs_stay_as_they_are() -> None:
    batch = make_batch([at_overlap(0.9), at_overlap(0.1)])
    before = {key: value.clone() for key, value in batch.items() if key != "batch_size"}
    make_layer()(batch)
    for key, value in before.items():
        assert torch.equal(batch[key], value)


def test_a_missing_setting_is_named() -> None:
    settings = dict(TARGETS)
    del settings["FG_RATIO"]
    with pytest.raises(ConfigError, match="TARGET_CONFIG.FG_RATIO is missing"):
        ProposalTargetLayer(settings)


def test_an_unknown_score_type_is_named() -> None:
    message = "CLS_SCORE_TYPE: unknown name 'roi_ious'; did you mean 'roi_iou'"
    with pytest.raises(ConfigError, match=message):
        make_layer(CLS_SCORE_TYPE="roi_ious")


# --- Boxes relative to their RoI


@pytest.mark.parametrize(
    ("roi_heading", "gt_heading", "turn"),
    [
        (0.0, 0.3, 0.3),
        (math.pi / 2, math.pi / 2 + 0.3, 0.3),
        # A box that faces backwards is turned round first.
        (0.0, math.pi - 0.2, -0.2),
        (3.0, -3.0, 2 * math.pi - 6),
        (0.0, -math.pi + 0.1, 0.1),
        (7.0, 0.7, 0.7 - 7 + 2 * math.pi),
    ],
)
def test_boxes_are_relative_to_their_roi(
    roi_heading: float, gt_heading: float, turn: float
) -> None:
    # The box stands 0.5 m ahead of the RoI and 0.25 m above it.
    x = 10 + 0.5 * math.cos(roi_heading)
    y = 0.5 * math.sin(roi_heading)
    gt = [x, y, 0.25, 4.2, 2, 2, gt_heading, 1]
    roi = [10.0, 0, 0, 4, 2, 2, roi_heading]
    config = {
        "TARGET_CONFIG": {**TARGETS, "REG_FG_THRESH": 0.1, "ROI_PER_IMAGE": 1},
        "LOSS_CONFIG": {"LOSS_WEIGHTS": {"code_weights": [1.0] * 7}},
    }
    targets = RoIHeadTemplate(1, config).assign_targets(make_batch([roi], gt=gt))

    relative = targets["gt_of_rois"][0, 0]
    in_the_scene = targets["gt_of_rois_src"][0, 0]
    assert relative.tolist() == pytest.approx([0.5, 0, 0.25, 4.2, 2, 2, turn, 1], abs=1e-5)
    assert in_the_scene.tolist() == pytest.approx(gt)
