"""Warnings of KITTI's evaluation go to the log; its text stays as it is."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from kitti_frames import CAR, car, detected, evaluate_one, frame

from pcdet_distill.evaluation.kitti import kitti_eval

WITHOUT_IMAGE = {"bbox": (0, 0, 0, 0)}


def warnings_of(truth: list[dict], found: list[dict]) -> list[str]:
    return evaluate_one(truth, found).remarks


def test_labels_without_image_boxes_are_named() -> None:
    (sentence,) = warnings_of([car(**WITHOUT_IMAGE), car(**WITHOUT_IMAGE)], [CAR])
    assert "all 2 labelled Car have an image box without height" in sentence
    assert "its AP is 0" in sentence
    assert "EVALUATION" in sentence


def test_some_labels_without_image_boxes_are_counted() -> None:
    (sentence,) = warnings_of([CAR, car(**WITHOUT_IMAGE)], [CAR])
    assert "1 of 2 labelled Car have" in sentence
    assert "these do not count" in sentence


def test_detections_without_image_boxes_are_named() -> None:
    (sentence,) = warnings_of([CAR], [car(**WITHOUT_IMAGE)])
    assert "all 1 detected Car have an image box without height" in sentence


def test_few_objects_and_the_highest_ap() -> None:
    (sentence,) = warnings_of([CAR] * 6, [CAR])
    assert "Car easy, moderate, hard has 6 objects" in sentence
    assert "AP R40 12.50" in sentence


def test_each_difficulty_with_its_own_number() -> None:
    sentences = warnings_of([CAR, car(occluded=1), car(occluded=1)], [CAR])
    assert [sentence.split(",")[0] for sentence in sentences] == [
        "Car easy has 1 object",
        "Car moderate",
    ]


def test_a_difficulty_without_objects() -> None:
    first, _ = warnings_of([car(occluded=2)], [CAR])
    assert first == "Car has no object of difficulty easy, moderate: its AP is 0"


def test_many_objects_need_no_warning() -> None:
    truth = [frame(CAR) for _ in range(41)]
    found = [detected(car(score=1 - number / 100)) for number in range(41)]
    result = kitti_eval(truth, found, ["Car"])
    assert result.remarks == []
    np.testing.assert_array_equal(result.num_objects, [[41, 41, 41]])
    assert result.metrics()["Car"]["objects"] == {"easy": 41, "moderate": 41, "hard": 41}


def test_warnings_are_logged_and_not_in_the_text(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        result = evaluate_one([car(**WITHOUT_IMAGE)], [CAR])
    assert "KITTI evaluation: all 1 labelled Car" in caplog.text
    assert "image box without" not in result.text + result.text_table()
