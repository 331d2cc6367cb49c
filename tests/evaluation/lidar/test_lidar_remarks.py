"""Warnings about few objects and names, and why boxes near the objects do not match them."""

from __future__ import annotations

import math

import pytest
from lidar_annos import CAR, detected, labels, moved

from pcdet_distill.evaluation.lidar import LidarEvalOptions, LidarResult, lidar_eval

PLACES = [moved(CAR, x=12 * number, turn=number) for number in range(5)]


def result_of(found: list[tuple], name: str = "Car", **options: object) -> LidarResult:
    """Five objects, one in each frame, and one detection for each."""
    truth = [labels(f"{n}", ("Car", box)) for n, box in enumerate(PLACES)]
    detections = [detected(f"{n}", (name, 0.9 - n / 10, box)) for n, box in enumerate(found)]
    return lidar_eval(truth, detections, ["Car"], LidarEvalOptions(**options))


def remarks_of(found: list[tuple]) -> str:
    return " | ".join(result_of(found, min_objects=0).of_class("Car").remarks)


def test_good_detections_of_enough_objects_have_no_warning() -> None:
    result = result_of(PLACES, min_objects=5)
    assert result.remarks == []
    assert result.of_class("Car").remarks == []
    assert "Warning" not in result.text


def test_few_objects_are_a_warning_beside_the_figures() -> None:
    result = result_of(PLACES, min_objects=6)
    (remark,) = result.of_class("Car").remarks
    assert "Car has 5 objects" in remark
    assert "AP R40 10.00" in remark
    assert f"Warning: {remark}" in result.text
    assert result.metrics()["Car"]["warnings"] == [remark]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"z": 0.8}, "they lie 0.80 m higher than the labels, whose z must be the centre"),
        ({"z": -1.0}, "they lie 1.00 m lower"),
        ({"turn": math.pi / 2}, "headings differ by 90 degrees"),
        ({"x": 1.5, "y": 2.0}, "their centres are 2.50 m apart on the ground"),
    ],
)
def test_a_wrong_place_or_heading_is_named(change: dict, words: str) -> None:
    remark = remarks_of([moved(box, **change) for box in PLACES])
    assert "5 detections of Car lie within 4 m of an object, but 0 overlap it by more" in remark
    assert words in remark
    assert remark.count(";") == 0  # the one cause, and no other


def test_exchanged_length_and_width_are_named() -> None:
    exchanged = [(*box[:3], box[4], box[3], *box[5:]) for box in PLACES]
    remark = remarks_of(exchanged)
    assert "length and width look exchanged" in remark
    assert "times those" not in remark


def test_other_sizes_are_named() -> None:
    small = [(*box[:3], 2.0, 0.9, 0.8, box[6]) for box in PLACES]
    assert "length, width and height are 0.50, 0.50, 0.50 times those" in remarks_of(small)


def test_detections_far_from_every_object_are_named() -> None:
    remark = remarks_of([moved(box, y=30) for box in PLACES])
    assert "no detection of Car lies within 4 m of an object" in remark


def test_a_model_that_finds_most_is_not_explained_away() -> None:
    found = [*PLACES[:4], moved(PLACES[4], z=1)]
    assert remarks_of(found) == ""


def test_no_detections() -> None:
    remark = " | ".join(result_of(PLACES, name="Van").of_class("Car").remarks)
    assert "no detection of Car in any frame, so its AP is 0" in remark


def test_a_class_without_objects_has_no_ap_and_does_not_change_the_mean() -> None:
    truth = [labels("a", ("Car", CAR))]
    found = [detected("a", ("Car", 0.9, CAR), ("Bus", 0.9, CAR))]
    result = lidar_eval(truth, found, ["Car", "Bus"])
    bus = result.of_class("Bus")
    assert bus.remarks == ["no object of Bus in the labels of these frames, so it has no AP"]
    assert bus.average_precision("3d", "area") is None
    assert result.map() == 100
    assert not any(key.startswith("Bus") for key in result.ap_dict)
    assert "mAP area of 1 class with objects" in result.text


def test_a_misspelt_class_is_named() -> None:
    truth = [labels("a", ("forklift", CAR), ("Person", moved(CAR, x=9)))]
    result = lidar_eval(truth, [detected("a")], ["Forklift", "Person"])
    assert result.remarks == [
        "the labels hold no Forklift, but 1 forklift, which is no evaluated class; did you mean "
        "'forklift'?"
    ]
    assert result.remarks[0] in result.text


def test_objects_that_all_lie_out_of_range_are_named() -> None:
    result = result_of(PLACES, max_distance_m=5.0)
    (remark,) = result.of_class("Car").remarks
    assert "all 5 objects of Car have too few points or lie out of the evaluated range" in remark


def test_headings_that_point_backwards_are_named() -> None:
    places = [moved(CAR, x=12 * number) for number in range(10)]
    truth = [labels(f"{n}", ("Car", box)) for n, box in enumerate(places)]
    for num_turned, expected in ((3, 0), (4, 1)):
        found = []
        for number, box in enumerate(places):
            turn = math.pi if number < num_turned else 0.0
            found.append(detected(f"{number}", ("Car", 0.9, moved(box, turn=turn))))
        options = LidarEvalOptions(min_objects=0)
        remarks = lidar_eval(truth, found, ["Car"], options).of_class("Car").remarks
        assert len(remarks) == expected
        if expected:
            assert "40 % of the matched Car point backwards" in remarks[0]
