"""Which proposals are sampled for a second stage, and boxes relative to RoIs."""

from __future__ import annotations

import math

import pytest
import torch

from pcdet_distill.errors import ConfigError
from pcdet_distill.models.roi_heads.roi_head_template import RoIHeadTemplate
from pcdet_distill.models.roi_heads.target_assigner.proposal_target_layer import ProposalTargetLayer

TARGETS = {
    "BOX_CODER": "ResidualCoder",
    "ROI_PER_IMAGE": 16,
    "FG_RATIO": 0.5,
    "SAMPLE_ROI_BY_EACH_CLASS": True,
    "CLS_SCORE_TYPE": "roi_iou",
    "CLS_FG_THRESH": 0.75,
    "CLS_BG_THRESH": 0.25,
    "CLS_BG_THRESH_LO": 0.1,
    "HARD_BG_RATIO": 0.8,
    "REG_FG_THRESH": 0.55,
}
GT = [10.0, 0, 0, 4, 2, 2, 0]


def make_layer(**changes) -> ProposalTargetLayer:
    return ProposalTargetLayer({**TARGETS, **changes}, torch.Generator().manual_seed(0))


def at_overlap(iou: float) -> list[float]:
    """GT moved along its length until the 3D IoU is ``iou``: (4 - d) / (4 + d)."""
    return [10 + 4 * (1 - iou) / (1 + iou), 0, 0, 4, 2, 2, 0]


def make_batch(
    rois: list[list[float]], labels: list[int] | None = None, gt: list[list[float]] | None = None
) -> dict:
    count = len(rois)
    gt = [[*GT, 1.0]] if gt is None else gt
    return {
        "rois": torch.tensor([rois]),
        "roi_scores": torch.arange(count).float()[None],
        "roi_labels": torch.tensor([labels or [1] * count]),
        "gt_boxes": torch.tensor([gt]),
        "batch_size": 1,
    }


def test_shares_of_foreground_hard_and_easy_background() -> None:
    overlaps = torch.tensor([0.9] * 10 + [0.3] * 20 + [0.05] * 20)
    rows = make_layer().subsample_rois(overlaps)
    assert len(rows) == 16
    assert (rows[:8] < 10).all()
    assert len(rows[:8].unique()) == 8
    assert int(((rows >= 10) & (rows < 30)).sum()) == 6
    assert int((rows >= 30).sum()) == 2


@pytest.mark.parametrize(
    ("overlaps", "expected"),
    [([0.9, 0.8], {0, 1}), ([0.3, 0.2], {0, 1}), ([0.0, 0.05, 0.09], {0, 1, 2}), ([0.6], {0})],
)
def test_one_kind_fills_all_places(overlaps: list[float], expected: set[int]) -> None:
    rows = make_layer().subsample_rois(torch.tensor(overlaps))
    assert len(rows) == 16
    assert set(rows.tolist()) == expected


def test_few_hard_proposals_are_not_repeated() -> None:
    rows = make_layer().subsample_rois(torch.tensor([0.3] * 2 + [0.0] * 30))
    assert int((rows < 2).sum()) == 2


def test_draws_repeat_with_the_seed_and_follow_torch_without_a_generator() -> None:
    overlaps = torch.linspace(0, 1, 200)
    assert torch.equal(make_layer().subsample_rois(overlaps), make_layer().subsample_rois(overlaps))
    layer = ProposalTargetLayer(TARGETS)
    torch.manual_seed(5)
    first = layer.subsample_rois(overlaps)
    second = layer.subsample_rois(overlaps)
    torch.manual_seed(5)
    assert torch.equal(layer.subsample_rois(overlaps), first)
    assert not torch.equal(first, second)


def test_each_class_is_matched_with_its_own_boxes() -> None:
    rois = torch.tensor([GT, GT])
    labels = torch.tensor([1, 2])
    gt = torch.tensor([[*GT, 1.0], [*at_overlap(0.5), 2.0], [0.0] * 8])
    overlap, assigned = make_layer().match(rois, labels, gt)
    assert overlap.tolist() == pytest.approx([1.0, 0.5], abs=1e-5)
    assert assigned[:, -1].tolist() == [1, 2]
    overlap, assigned = make_layer(SAMPLE_ROI_BY_EACH_CLASS=False).match(rois, labels, gt)
    assert overlap.tolist() == pytest.approx([1.0, 1.0], abs=1e-5)
    assert assigned[:, -1].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("cls", [1, -1, -1, 0, 0]),
        ("roi_iou", [1, 0.7, 0.1, 0, 0]),
        ("raw_roi_iou", [0.8, 0.6, 0.3, 0.2, 0]),
    ],
)
def test_labels_of_overlaps(kind: str, expected: list[float]) -> None:
    layer = make_layer(CLS_SCORE_TYPE=kind)
    overlap = torch.tensor([0.8, 0.6, 0.3, 0.2, 0.0])
    assert layer.label_of_overlap(overlap, layer.roi_sampler_cfg).tolist() == pytest.approx(
        expected, abs=1e-6
    )


def test_forward_gives_boxes_and_masks() -> None:
    targets = make_layer()(
        make_batch([at_overlap(0.9), at_overlap(0.6), at_overlap(0.2), [40.0, 0, 0, 4, 2, 2, 0]])
    )
    assert targets["rois"].shape == (1, 16, 7)
    assert targets["gt_of_rois"].shape == (1, 16, 8)
    overlap = targets["gt_iou_of_rois"]
    assert torch.equal(targets["reg_valid_mask"], (overlap > 0.55).long())
    assert torch.allclose(
        targets["rcnn_cls_labels"], ((overlap - 0.25) / 0.5).clamp(0, 1), atol=1e-6
    )
    assert (targets["gt_of_rois"] == torch.tensor([*GT, 1.0])).all()


def test_padding_is_not_sampled_and_alone_it_costs_nothing() -> None:
    padding = [0.0] * 7
    targets = make_layer()(make_batch([padding, at_overlap(0.9), padding]))
    assert (targets["roi_scores"] == 1).all()
    targets = make_layer()(make_batch([padding, padding]))
    assert (targets["rcnn_cls_labels"] == -1).all()
    assert (targets["reg_valid_mask"] == 0).all()


def test_frame_without_boxes_is_background() -> None:
    targets = make_layer()(make_batch([at_overlap(0.9)], gt=[[0.0] * 8]))
    assert (targets["rcnn_cls_labels"] == 0).all()
    assert (targets["gt_of_rois"] == 0).all()


def test_inputs_stay_as_they_are() -> None:
    batch = make_batch([at_overlap(0.9), at_overlap(0.1)])
    before = {key: value.clone() for key, value in batch.items() if key != "batch_size"}
    make_layer()(batch)
    assert all(torch.equal(batch[key], value) for key, value in before.items())


def test_missing_settings_are_named() -> None:
    with pytest.raises(ConfigError, match="TARGET_CONFIG.FG_RATIO is missing"):
        ProposalTargetLayer({key: value for key, value in TARGETS.items() if key != "FG_RATIO"})
    with pytest.raises(
        ConfigError, match="CLS_SCORE_TYPE: unknown name 'roi_ious'; did you mean 'roi_iou'"
    ):
        make_layer(CLS_SCORE_TYPE="roi_ious")


@pytest.mark.parametrize(
    ("roi_heading", "gt_heading", "turn"),
    [
        (0.0, 0.3, 0.3),
        (math.pi / 2, math.pi / 2 + 0.3, 0.3),
        (0.0, math.pi - 0.2, -0.2),
        (3.0, -3.0, 2 * math.pi - 6),
        (0.0, -math.pi + 0.1, 0.1),
        (7.0, 0.7, 0.7 - 7 + 2 * math.pi),
    ],
)
def test_boxes_are_relative_to_their_roi(
    roi_heading: float, gt_heading: float, turn: float
) -> None:
    ahead = [
        10 + 0.5 * math.cos(roi_heading),
        0.5 * math.sin(roi_heading),
        0.25,
        4.2,
        2,
        2,
        gt_heading,
        1,
    ]
    head = RoIHeadTemplate(
        1,
        {
            "TARGET_CONFIG": {**TARGETS, "REG_FG_THRESH": 0.1, "ROI_PER_IMAGE": 1},
            "LOSS_CONFIG": {"LOSS_WEIGHTS": {"code_weights": [1.0] * 7}},
        },
    )
    targets = head.assign_targets(make_batch([[10.0, 0, 0, 4, 2, 2, roi_heading]], gt=[ahead]))
    assert targets["gt_of_rois"][0, 0].tolist() == pytest.approx(
        [0.5, 0, 0.25, 4.2, 2, 2, turn, 1], abs=1e-5
    )
    assert targets["gt_of_rois_src"][0, 0].tolist() == pytest.approx(ahead)
