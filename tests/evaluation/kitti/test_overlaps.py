"""How much of two boxes must be shared, in the image, on the ground and in 3D."""

from __future__ import annotations

import math

import numpy as np
import pytest
from kitti_frames import CAR, car, curve, dontcare, evaluate_one, frame, precision_at_0, shifted

from pcdet_distill.evaluation.kitti import kitti_eval

# Length 6, height 2, width 2.
LONG_BOX = car(rotation_y=0.0, dimensions=(6, 2, 2), location=(0, 2, 20))


def test_a_box_moved_by_a_sixth_of_its_length_is_found() -> None:
    """It shares 5 of 7 metres: IoU 0.714, and 0.7 is needed."""
    near = {**LONG_BOX, "location": (1, 2, 20)}
    result = evaluate_one([LONG_BOX], [near])
    assert precision_at_0(result, "bev") == 1
    assert precision_at_0(result, "3d") == 1


def test_a_box_moved_a_little_further_is_found_by_the_loose_overlaps_only() -> None:
    """It shares 4.9 of 7.1 metres: IoU 0.690."""
    further = {**LONG_BOX, "location": (1.1, 2, 20)}
    result = evaluate_one([LONG_BOX], [further])
    assert curve(result, "bev", overlaps="strict")[0] == 0
    assert curve(result, "bev", overlaps="loose")[0] == 1


def test_height_counts_in_3d_only() -> None:
    """A box 0.4 m lower shares 1.6 of 2.4 metres of height, 0.667, and all of the ground."""
    sunk = {**LONG_BOX, "location": (0, 2.4, 20)}
    result = evaluate_one([LONG_BOX], [sunk])
    assert precision_at_0(result, "bev") == 1
    assert precision_at_0(result, "3d") == 0


@pytest.mark.parametrize("angle_rad", [math.pi / 4, math.pi / 2, -3 * math.pi / 4])
def test_a_square_turned_by_45_degrees_is_found(angle_rad: float) -> None:
    """It shares an octagon with itself: IoU 0.707, just above 0.7."""
    square = car(rotation_y=0.0, dimensions=(2, 2, 2))
    turned = {**square, "rotation_y": angle_rad}
    assert precision_at_0(evaluate_one([square], [turned]), "bev") == 1


def test_a_box_across_another_is_not_found() -> None:
    along = car(rotation_y=0.0, dimensions=(4, 2, 2))
    across = car(rotation_y=math.pi / 2, dimensions=(4, 2, 2))
    assert precision_at_0(evaluate_one([along], [across]), "bev") == 0


WALKER = car(name="Pedestrian", bbox=(100, 100, 150, 200))
OTHER_WALKER = shifted(WALKER, 10)
# The left half of the other walker.
OTHER_LEFT, OTHER_TOP, _, OTHER_BOTTOM = OTHER_WALKER["bbox"]
HALF_BOX = (OTHER_LEFT, OTHER_TOP, OTHER_LEFT + 25, OTHER_BOTTOM)


@pytest.mark.parametrize(
    ("score_of_hit", "score_of_half", "expected"),
    [
        (0.9, 0.5, [1, 0, 0]),  # at 0.9 the hit alone; the half is never a second hit
        (0.3, 0.9, [0.5, 0, 0]),  # at 0.3 the hit and the half, which is false
    ],
)
def test_an_overlap_of_exactly_the_threshold_is_too_small_for_a_hit(
    score_of_hit: float, score_of_half: float, expected: list[float]
) -> None:
    """Half of a pedestrian is found, and more than 0.5 is needed."""
    hit = {**WALKER, "score": score_of_hit}
    half = {**OTHER_WALKER, "bbox": HALF_BOX, "score": score_of_half}
    result = evaluate_one([WALKER, OTHER_WALKER], [hit, half], "Pedestrian")
    np.testing.assert_allclose(curve(result, "bbox")[:3], expected)


def test_a_region_over_exactly_half_of_a_false_positive_does_not_excuse_it() -> None:
    false_positive = {**OTHER_WALKER, "score": 0.95}
    result = evaluate_one([WALKER, dontcare(HALF_BOX)], [WALKER, false_positive], "Pedestrian")
    assert precision_at_0(result) == 0.5


def test_boxes_without_size_give_finite_precision() -> None:
    flat = car(dimensions=(0, 0, 0), bbox=(100, 100, 100, 100))
    result = evaluate_one([flat, CAR], [flat, CAR])
    assert np.isfinite(result.precision["3d"]).all()


def test_boxes_that_touch_do_not_overlap() -> None:
    cube = car(dimensions=(2, 2, 2), rotation_y=0.0, location=(0, 2, 10))
    touching = {**cube, "location": (2, 2, 10)}
    result = kitti_eval([frame(cube)], [frame(touching)], ["Car"])
    assert precision_at_0(result, "bev") == 0
