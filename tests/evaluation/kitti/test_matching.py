"""Which objects and detections count, which are ignored, and which are taken for each other."""

from __future__ import annotations

import math

import pytest
from kitti_frames import CAR, DIFFICULTIES, car, dontcare, evaluate_one, precision_at_0, shifted


@pytest.mark.parametrize(
    ("changes", "counted"),
    [
        ({}, (True, True, True)),
        ({"occluded": 1}, (False, True, True)),
        ({"occluded": 2}, (False, False, True)),
        ({"occluded": 3}, (False, False, False)),
        ({"truncated": 0.2}, (False, True, True)),
        ({"truncated": 0.4}, (False, False, True)),
        ({"truncated": 0.6}, (False, False, False)),
        ({"bbox": (100, 100, 200, 140)}, (False, True, True)),  # height 40: must be more
        ({"bbox": (100, 100, 200, 125)}, (False, False, False)),  # height 25: must be more
    ],
)
def test_difficulties(changes: dict, counted: tuple[bool, bool, bool]) -> None:
    """Finding an object that does not count at a difficulty changes nothing."""
    thing = car(**changes)
    result = evaluate_one([thing], [thing])
    for level, counts in zip(DIFFICULTIES, counted):
        assert precision_at_0(result, "3d", level) == counts


def test_a_detection_of_just_the_height_counts() -> None:
    tall = car(bbox=(100, 100, 200, 141))
    just_40_high = car(bbox=(100, 101, 200, 141))
    assert precision_at_0(evaluate_one([tall], [just_40_high]), "bbox", "easy") == 1


@pytest.mark.parametrize(
    ("other_class", "expected"),
    [
        ("Van", 1.0),  # near enough to a car: no mistake
        ("Truck", 0.5),
    ],
)
def test_a_van_taken_for_a_car_is_no_mistake_but_a_truck_is(
    other_class: str, expected: float
) -> None:
    other = {**shifted(CAR, 10), "name": other_class}
    taken_for_a_car = {**other, "name": "Car", "score": 0.95}
    result = evaluate_one([CAR, other], [CAR, taken_for_a_car])
    assert precision_at_0(result) == expected


def test_a_sitting_person_taken_for_a_pedestrian_is_no_mistake() -> None:
    person = car(name="Pedestrian")
    sitting = {**shifted(CAR, 10), "name": "Person_sitting"}
    taken_for_a_pedestrian = {**sitting, "name": "Pedestrian", "score": 0.95}
    result = evaluate_one([person, sitting], [person, taken_for_a_pedestrian], "Pedestrian")
    assert precision_at_0(result) == 1


FALSE_POSITIVE = {**shifted(CAR, 10), "score": 0.95}


def test_dontcare_regions_excuse_false_positives_in_the_image_only() -> None:
    left, top, right, bottom = FALSE_POSITIVE["bbox"]
    # It covers the false positive but for 10 of its 100 columns.
    region = dontcare((left - 500, top - 20, right - 10, bottom + 20))
    result = evaluate_one([CAR, region], [CAR, FALSE_POSITIVE])
    assert precision_at_0(result, "bbox") == 1
    assert precision_at_0(result, "3d") == 0.5


def test_a_dontcare_region_over_60_percent_is_too_small() -> None:
    """More than 70 % are needed."""
    left, top, _, bottom = FALSE_POSITIVE["bbox"]
    region = dontcare((left, top, left + 60, bottom))
    result = evaluate_one([CAR, region], [CAR, FALSE_POSITIVE])
    assert precision_at_0(result) == 0.5


# Its height of 20 pixels is too low at every difficulty.
LOW_CAR = car(bbox=(100, 100, 200, 120), score=0.95)


def precision_with(other: dict) -> float:
    """The precision in 3D of a car, its detection, and another detection."""
    return precision_at_0(evaluate_one([CAR], [CAR, other]), "3d")


def test_a_low_detection_is_never_false() -> None:
    elsewhere = {**shifted(LOW_CAR, 10), "score": 0.95}
    assert precision_with(elsewhere) == 1


def test_an_object_may_take_a_low_detection_of_any_class_and_is_no_hit_then() -> None:
    low_pedestrian = {**LOW_CAR, "name": "Pedestrian"}
    assert precision_with(low_pedestrian) == 0


def test_at_equal_scores_a_detection_that_counts_is_taken_before_an_ignored_one() -> None:
    low_pedestrian = {**LOW_CAR, "name": "Pedestrian", "score": CAR["score"]}
    assert precision_with(low_pedestrian) == 1


def test_a_high_detection_of_another_class_changes_nothing() -> None:
    assert precision_with(car(name="Pedestrian", score=0.95)) == 1


def test_of_equally_good_detections_the_first_is_taken() -> None:
    """The second one is false then, so a similarity of 1 becomes one half."""
    backwards = car(alpha=CAR["alpha"] + math.pi)
    right_one_first = evaluate_one([CAR], [CAR, backwards])
    wrong_one_first = evaluate_one([CAR], [backwards, CAR])
    assert precision_at_0(right_one_first, "aos") == pytest.approx(0.5, abs=1e-6)
    assert precision_at_0(wrong_one_first, "aos") == pytest.approx(0, abs=1e-6)
