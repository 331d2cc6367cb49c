"""Target assignment against cases worked out by hand.

Anchors and boxes are 4 m x 2 m x 1 m. Two of them, shifted along x by d, have
IoU (4 - d) / (4 + d): 0.6 at 1 m, 0.45 at 1.517 m.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pcdet_distill.errors import ConfigError
from pcdet_distill.models.dense_heads.target_assigner import AxisAlignedTargetAssigner
from pcdet_distill.models.model_utils.box_coders import ResidualCoder

IGNORED = -1
# Centres of anchors around a box at 0: two above 0.6, one between, two below 0.45.
AROUND_A_BOX = (0, 0.9, 1.3, 1.6, 9)
ANCHOR_DIAGONAL_M = 20**0.5


def make_assigner(
    matched: float = 0.6,
    unmatched: float = 0.45,
    classes: tuple[str, ...] = ("Car",),
    match_height: bool = False,
    **settings,
) -> AxisAlignedTargetAssigner:
    """An assigner with the same thresholds for each class."""
    entries = [
        {"class_name": name, "matched_threshold": matched, "unmatched_threshold": unmatched}
        for name in classes
    ]
    config = {"TARGET_ASSIGNER_CONFIG": settings, "ANCHOR_GENERATOR_CONFIG": entries}
    return AxisAlignedTargetAssigner(config, ["Car", "Pedestrian"], ResidualCoder(), match_height)


def anchors_at(*x: float) -> Tensor:
    """Anchors in a row along x: (1, 1, nx, 1, 1, 7)."""
    rows = torch.tensor([[position, 0.0, 0, 4, 2, 1, 0] for position in x])
    return rows.view(1, 1, len(x), 1, 1, 7)


def box_at(x: float, label: int = 1, z: float = 0.0, heading: float = 0.0) -> list[float]:
    """A ground truth box on the x axis."""
    return [x, 0, z, 4, 2, 1, heading, label]


def assign(
    assigner: AxisAlignedTargetAssigner,
    anchors: Tensor | list[Tensor],
    *frames: list[list[float]],
) -> dict[str, Tensor]:
    """Targets of frames with these boxes; short frames are padded with zeros."""
    most_boxes = max(len(boxes) for boxes in frames)
    gt_boxes = torch.zeros(len(frames), most_boxes, 8)
    for number, boxes in enumerate(frames):
        if boxes:
            gt_boxes[number, : len(boxes)] = torch.tensor(boxes)
    anchors_by_class = anchors if isinstance(anchors, list) else [anchors]
    return assigner.assign_targets(anchors_by_class, gt_boxes)


def labels_of(
    assigner: AxisAlignedTargetAssigner,
    anchors: Tensor | list[Tensor],
    *frames: list[list[float]],
) -> list[list[int]]:
    """The class of each anchor by frame: 0 for background, IGNORED for neither."""
    return assign(assigner, anchors, *frames)["box_cls_labels"].tolist()


# --- Matching by IoU


def test_positive_ignored_and_background_anchors() -> None:
    found = assign(make_assigner(), anchors_at(*AROUND_A_BOX), [box_at(0)])
    assert found["box_cls_labels"].tolist() == [[1, 1, IGNORED, 0, 0]]
    assert found["box_cls_labels"].dtype == torch.int32
    assert found["reg_weights"].tolist() == [[1, 1, 0, 0, 0]]


def test_positive_anchors_have_residuals_and_others_zeros() -> None:
    found = assign(make_assigner(), anchors_at(*AROUND_A_BOX), [box_at(0)])
    targets = found["box_reg_targets"][0]
    # The second anchor stands 0.9 m beyond the box: dx = -0.9 m over the anchor's diagonal.
    expected = torch.tensor([-0.9 / ANCHOR_DIAGONAL_M, 0, 0, 0, 0, 0, 0])
    torch.testing.assert_close(targets[1], expected)
    assert (targets[2:] == 0).all()


def test_best_anchors_are_positive_even_below_the_threshold_ties_included() -> None:
    # The first two both have IoU 1/3.
    assert labels_of(make_assigner(), anchors_at(-2, 2, 6), [box_at(0)]) == [[1, 1, 0]]


def test_a_claimed_anchor_takes_the_box_it_overlaps_most_itself() -> None:
    # The second box's best anchor is 0 as well, but anchor 0 overlaps the first box more.
    found = assign(make_assigner(), anchors_at(0, 20), [box_at(0.5), box_at(-3)])
    assert found["box_cls_labels"].tolist() == [[1, 0]]
    dx = found["box_reg_targets"][0, 0, 0]
    assert dx.item() == pytest.approx(0.5 / ANCHOR_DIAGONAL_M)


def test_a_box_that_overlaps_nothing_claims_nothing() -> None:
    assert labels_of(make_assigner(), anchors_at(0, 5), [box_at(50)]) == [[0, 0]]


def test_heading_is_turned_to_the_nearest_axis() -> None:
    # 1.4 rad are 80 degrees, so the box counts as 4 m along y. It overlaps the anchor by 2 x 2
    # of 8 + 8 - 4 square metres: IoU 1/3. This is below both thresholds, but no anchor
    # overlaps the box more.
    across = box_at(0, heading=1.4)
    assert labels_of(make_assigner(), anchors_at(0, 3.5), [across]) == [[1, 0]]


def test_a_box_across_is_two_metres_wide() -> None:
    # From x = -1 to 1, it lies fully inside both anchors' lengths: IoU 1/3 with each.
    assigner = make_assigner(matched=0.3, unmatched=0.3)
    across = box_at(0, heading=1.4)
    assert labels_of(assigner, anchors_at(0, 0.5), [across]) == [[1, 1]]


def test_a_box_turned_a_little_is_four_metres_long() -> None:
    # At 2.1 m the IoU is 1.9 / 6.1 = 0.31.
    assigner = make_assigner(matched=0.3, unmatched=0.3)
    nearly_straight = box_at(0, heading=0.1)
    assert labels_of(assigner, anchors_at(0, 2.1), [nearly_straight]) == [[1, 1]]


def test_with_match_height_boxes_above_the_anchor_do_not_match() -> None:
    anchors = anchors_at(0)
    box_above = box_at(0, z=5)
    assert labels_of(make_assigner(), anchors, [box_above]) == [[1]]
    assert labels_of(make_assigner(match_height=True), anchors, [box_above]) == [[0]]


# --- Frames, padding, classes


@pytest.mark.parametrize("boxes", [[], [[0.0] * 8]])
def test_a_frame_without_boxes_has_background_alone(boxes: list[list[float]]) -> None:
    found = assign(make_assigner(), anchors_at(0, 1), boxes)
    assert found["box_cls_labels"].tolist() == [[0, 0]]
    assert (found["box_reg_targets"] == 0).all()


def test_padding_is_rows_of_zeros_not_rows_that_sum_to_zero() -> None:
    # The numbers of this box cancel, and it is the last row.
    cancelling = [-8.0, 0, 0, 4, 2, 1, 0, 1]
    assert labels_of(make_assigner(), anchors_at(-8, 8), [cancelling]) == [[1, 0]]


def test_classes_are_matched_with_their_own_anchors_and_interleaved() -> None:
    assigner = make_assigner(classes=("Car", "Pedestrian"))
    anchors = [anchors_at(0, 8), anchors_at(0, 8)]
    boxes = [box_at(0, label=2), box_at(8, label=1)]
    # Cell 0: Car, Pedestrian; cell 1: Car, Pedestrian.
    assert labels_of(assigner, anchors, boxes) == [[0, 2, 1, 0]]


def test_frames_do_not_mix() -> None:
    first = [box_at(0)]
    second = [box_at(8), box_at(0.1)]
    third: list[list[float]] = []
    found = labels_of(make_assigner(), anchors_at(0, 8), first, second, third)
    assert found == [[1, 0], [1, 1], [0, 0]]


def test_inputs_are_not_changed() -> None:
    anchors = anchors_at(0, 8)
    gt_boxes = torch.tensor([[box_at(0), [1, 0, 0, 0, 0, 0, 0, 1]]])
    anchors_before = anchors.clone()
    boxes_before = gt_boxes.clone()
    make_assigner().assign_targets([anchors], gt_boxes)
    assert torch.equal(anchors, anchors_before)
    assert torch.equal(gt_boxes, boxes_before)


# --- Options


@pytest.mark.parametrize(
    ("pos_fraction", "positives", "negatives"),
    [
        # Half of 16 sampled anchors.
        (0.5, 8, 8),
        # No sampling: all of them.
        (-1.0, 20, 80),
    ],
)
def test_pos_fraction_samples_anchors(pos_fraction: float, positives: int, negatives: int) -> None:
    torch.manual_seed(0)
    on_the_box = [0.01 * step for step in range(20)]
    far_away = [100.0 + step for step in range(80)]
    assigner = make_assigner(POS_FRACTION=pos_fraction, SAMPLE_SIZE=16)
    found = assign(assigner, anchors_at(*on_the_box, *far_away), [box_at(0)])
    labels = found["box_cls_labels"]
    assert (labels > 0).sum() == positives
    assert (labels == 0).sum() == negatives


def test_norm_by_num_examples_divides_by_the_anchors_that_are_not_ignored() -> None:
    assigner = make_assigner(NORM_BY_NUM_EXAMPLES=True)
    found = assign(assigner, anchors_at(*AROUND_A_BOX), [box_at(0)])
    # Four of the five anchors are positive or background.
    assert found["reg_weights"].tolist() == [[0.25, 0.25, 0, 0, 0]]


def test_an_unknown_class_is_named() -> None:
    with pytest.raises(ConfigError, match="class_name 'Pedestrain'.*did you mean 'Pedestrian'"):
        make_assigner(classes=("Pedestrain",))
