"""Target assignment against cases worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pcdet_distill.errors import ConfigError
from pcdet_distill.models.dense_heads.target_assigner import AxisAlignedTargetAssigner
from pcdet_distill.models.model_utils.box_coders import ResidualCoder


def make_assigner(
    matched: float = 0.6,
    unmatched: float = 0.45,
    classes: tuple[str, ...] = ("Car",),
    match_height: bool = False,
    **settings,
) -> AxisAlignedTargetAssigner:
    entries = [
        {"class_name": name, "matched_threshold": matched, "unmatched_threshold": unmatched}
        for name in classes
    ]
    config = {"TARGET_ASSIGNER_CONFIG": settings, "ANCHOR_GENERATOR_CONFIG": entries}
    return AxisAlignedTargetAssigner(config, ["Car", "Pedestrian"], ResidualCoder(), match_height)


def anchors_at(*x: float, z: float = 0.0) -> Tensor:
    """Anchors of 4 x 2 x 1 m in a row: (1, 1, nx, 1, 1, 7)."""
    return torch.tensor([[position, 0, z, 4, 2, 1, 0] for position in x]).view(
        1, 1, len(x), 1, 1, 7
    )


def box_at(
    x: float, label: int = 1, y: float = 0.0, z: float = 0.0, heading: float = 0.0
) -> list[float]:
    return [x, y, z, 4, 2, 1, heading, label]


def assign(
    assigner: AxisAlignedTargetAssigner, anchors: Tensor | list[Tensor], *frames: list
) -> dict[str, Tensor]:
    rows = max(len(frame) for frame in frames)
    gt_boxes = torch.zeros(len(frames), rows, 8)
    for number, frame in enumerate(frames):
        if frame:
            gt_boxes[number, : len(frame)] = torch.tensor(frame)
    return assigner.assign_targets(anchors if isinstance(anchors, list) else [anchors], gt_boxes)


def test_positive_ignored_and_background() -> None:
    # Two 4 m boxes shifted by d overlap with IoU (4 - d) / (4 + d): 0.6 at 1 m, 0.45 at 1.517 m.
    found = assign(make_assigner(), anchors_at(0, 0.9, 1.3, 1.6, 9), [box_at(0)])
    assert found["box_cls_labels"].tolist() == [[1, 1, -1, 0, 0]]
    assert found["box_cls_labels"].dtype == torch.int32
    assert found["reg_weights"].tolist() == [[1, 1, 0, 0, 0]]
    assert (found["box_reg_targets"][0, 2:] == 0).all()
    # The first target: dx = -0.9 m over the diagonal of the anchor.
    expected = [-0.9 / 20**0.5, 0, 0, 0, 0, 0, 0]
    torch.testing.assert_close(found["box_reg_targets"][0, 1], torch.tensor(expected))


def test_best_anchors_are_positive_even_below_the_threshold_ties_included() -> None:
    found = assign(make_assigner(), anchors_at(-2, 2, 6), [box_at(0)])
    assert found["box_cls_labels"].tolist() == [[1, 1, 0]]  # both have IoU 1/3


def test_a_claimed_anchor_takes_the_box_it_overlaps_most_itself() -> None:
    # The second box's best anchor is 0 as well, but anchor 0 overlaps the first box more.
    found = assign(make_assigner(), anchors_at(0, 20), [box_at(0.5), box_at(-3)])
    assert found["box_cls_labels"].tolist() == [[1, 0]]
    assert found["box_reg_targets"][0, 0, 0].item() == pytest.approx(0.5 / 20**0.5)


def test_a_box_that_overlaps_nothing_claims_nothing() -> None:
    found = assign(make_assigner(), anchors_at(0, 5), [box_at(50)])
    assert found["box_cls_labels"].tolist() == [[0, 0]]


def test_heading_is_turned_to_the_nearest_axis() -> None:
    # 80 degrees: length along y. Overlap 2 x 2 of 8 + 8 - 4, so the IoU is 1/3. This is below
    # both thresholds, but no anchor overlaps the box more.
    found = assign(make_assigner(), anchors_at(0, 3.5), [box_at(0, heading=1.4)])
    assert found["box_cls_labels"].tolist() == [[1, 0]]
    turned = assign(
        make_assigner(matched=0.3, unmatched=0.3), anchors_at(0, 0.5), [box_at(0, heading=1.4)]
    )
    straight = assign(
        make_assigner(matched=0.3, unmatched=0.3), anchors_at(0, 2.1), [box_at(0, heading=0.1)]
    )
    # 2 m wide around x = 0: fully inside both anchors.
    assert turned["box_cls_labels"].tolist() == [[1, 1]]
    assert straight["box_cls_labels"].tolist() == [[1, 1]]


def test_no_boxes_at_all() -> None:
    for frame in ([], [[0.0] * 8]):
        found = assign(make_assigner(), anchors_at(0, 1), frame)
        assert found["box_cls_labels"].tolist() == [[0, 0]]
        assert (found["box_reg_targets"] == 0).all()


def test_padding_is_rows_of_zeros_not_rows_that_sum_to_zero() -> None:
    cancelling = [-8.0, 0, 0, 4, 2, 1, 0, 1]  # sums to zero, and is the last row
    found = assign(make_assigner(), anchors_at(-8, 8), [cancelling])
    assert found["box_cls_labels"].tolist() == [[1, 0]]


def test_classes_are_matched_with_their_own_anchors_and_interleaved() -> None:
    anchors = [anchors_at(0, 8), anchors_at(0, 8)]
    found = assign(
        make_assigner(classes=("Car", "Pedestrian")),
        anchors,
        [box_at(0, label=2), box_at(8, label=1)],
    )
    # cell 0: Car, Pedestrian; cell 1: Car, Pedestrian
    assert found["box_cls_labels"].tolist() == [[0, 2, 1, 0]]


def test_frames_do_not_mix() -> None:
    found = assign(make_assigner(), anchors_at(0, 8), [box_at(0)], [box_at(8), box_at(0.1)], [])
    assert found["box_cls_labels"].tolist() == [[1, 0], [1, 1], [0, 0]]


def test_inputs_are_not_changed() -> None:
    anchors = anchors_at(0, 8)
    gt_boxes = torch.tensor([[box_at(0), [1, 0, 0, 0, 0, 0, 0, 1]]])
    before = anchors.clone(), gt_boxes.clone()
    make_assigner().assign_targets([anchors], gt_boxes)
    assert torch.equal(anchors, before[0])
    assert torch.equal(gt_boxes, before[1])


def test_match_height() -> None:
    anchors = [anchors_at(0, z=0.0)]
    flat = assign(make_assigner(), anchors, [box_at(0, z=5)])
    high = assign(make_assigner(match_height=True), anchors, [box_at(0, z=5)])
    assert flat["box_cls_labels"].tolist() == [[1]]
    assert high["box_cls_labels"].tolist() == [[0]]


def test_sampling_by_pos_fraction() -> None:
    torch.manual_seed(0)
    anchors = anchors_at(
        *[0.01 * step for step in range(20)], *[100.0 + step for step in range(80)]
    )
    found = assign(make_assigner(POS_FRACTION=0.5, SAMPLE_SIZE=16), anchors, [box_at(0)])[
        "box_cls_labels"
    ]
    assert (int((found > 0).sum()), int((found == 0).sum())) == (8, 8)
    found = assign(make_assigner(POS_FRACTION=-1.0, SAMPLE_SIZE=16), anchors, [box_at(0)])[
        "box_cls_labels"
    ]
    assert (int((found > 0).sum()), int((found == 0).sum())) == (20, 80)


def test_norm_by_num_examples() -> None:
    found = assign(
        make_assigner(NORM_BY_NUM_EXAMPLES=True), anchors_at(0, 0.9, 1.3, 1.6, 9), [box_at(0)]
    )
    assert found["reg_weights"].tolist() == [[0.25, 0.25, 0, 0, 0]]  # four are not ignored


def test_an_unknown_class_is_named() -> None:
    with pytest.raises(ConfigError, match="class_name 'Pedestrain'.*did you mean 'Pedestrian'"):
        make_assigner(classes=("Pedestrain",))
