"""Precision curves and average precision, for detections counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from kitti_frames import (
    CAR,
    average_precision,
    car,
    curve,
    detected,
    evaluate_one,
    frame,
    precision_at_0,
    shifted,
)

from pcdet_distill.evaluation.kitti import kitti_eval


@pytest.mark.parametrize(
    ("objects", "r11", "r40"),
    [
        (1, 100 / 11, 0.0),
        (2, 100 / 11, 2.5),
        (40, 1000 / 11, 97.5),
        (41, 100.0, 100.0),
        (500, 100.0, 100.0),
    ],
)
def test_perfect_detections(objects: int, r11: float, r40: float) -> None:
    """One recall point per true positive until there are 41: few objects cannot reach 100."""
    truth = [frame(CAR) for _ in range(objects)]
    scores = [1 - number / 1000 for number in range(objects)]
    detections = [detected(car(score=score)) for score in scores]
    result = kitti_eval(truth, detections, ["Car"])
    for metric in ("bbox", "bev", "3d", "aos"):
        assert average_precision(result, metric, "R11") == pytest.approx(r11)
        assert average_precision(result, metric, "R40") == pytest.approx(r40)


def test_toy_precision_curve() -> None:
    """Four objects, hits at .9 and .7, false positives at .8 and .6.

    Scores from .9 on: one hit, precision 1. Scores from .7 on: two hits and one mistake, 2/3.
    R11 averages 11 points, of which recall 0 alone has precision 1.
    R40 averages 40 points without recall 0, of which the first has 2/3.
    """
    things = [shifted(CAR, 0), shifted(CAR, 10), shifted(CAR, 20), shifted(CAR, 30)]
    found = [
        {**things[0], "score": 0.9},
        {**things[1], "score": 0.7},
        {**shifted(CAR, 55), "score": 0.8},
        {**shifted(CAR, 65), "score": 0.6},
    ]
    result = evaluate_one(things, found)
    for metric in ("bbox", "bev", "3d"):
        np.testing.assert_allclose(curve(result, metric), [1, 2 / 3] + [0] * 39)
        assert average_precision(result, metric, "R11") == pytest.approx(100 * 1 / 11)
        assert average_precision(result, metric, "R40") == pytest.approx(100 * 2 / 3 / 40)


def test_precision_is_the_best_from_each_recall_on() -> None:
    """A false positive with the best score: 1 of 2, 2 of 3, then 3 of 4 are hits."""
    things = [shifted(CAR, 0), shifted(CAR, 10), shifted(CAR, 20)]
    hits = [
        {**things[0], "score": 0.9},
        {**things[1], "score": 0.8},
        {**things[2], "score": 0.7},
    ]
    false_positive = {**shifted(CAR, 55), "score": 1.0}
    result = evaluate_one(things, [false_positive, *hits])
    np.testing.assert_allclose(curve(result, "3d")[:4], [3 / 4, 3 / 4, 3 / 4, 0])


def test_a_second_detection_of_the_same_object_is_false() -> None:
    again = car(score=0.95, location=(2.1, 1.7, 20))
    # The threshold is the score of the hit; only the detection with that score reaches it.
    assert precision_at_0(evaluate_one([CAR], [CAR, again]), "3d") == 1
    # A second frame with a hit at 0.5 gives a threshold that all three detections reach.
    truth = [frame(CAR), frame(CAR)]
    found = [detected(CAR, again), detected(car(score=0.5))]
    result = kitti_eval(truth, found, ["Car"])
    np.testing.assert_allclose(curve(result, "3d")[:3], [1, 2 / 3, 0])


@pytest.mark.parametrize(("turn_rad", "similarity"), [(0, 1), (math.pi / 2, 0.5), (math.pi, 0)])
def test_orientation_similarity(turn_rad: float, similarity: float) -> None:
    """(1 + cos of the difference) / 2."""
    result = evaluate_one([CAR], [car(alpha=CAR["alpha"] + turn_rad)])
    assert precision_at_0(result, "aos") == pytest.approx(similarity, abs=1e-6)
    assert precision_at_0(result, "bbox") == 1


def test_without_observation_angle_there_is_no_orientation() -> None:
    truth = [frame(CAR), frame(CAR)]
    found = [detected(), detected(car(alpha=-10))]
    result = kitti_eval(truth, found, ["Car"])
    assert "aos" not in result.precision
    assert "aos" not in str(result)
    assert "aos" not in result.metrics()["Car"]["strict"]
    assert not any("aos" in key for key in result.ap_dict)


def test_with_observation_angle_there_is_an_orientation() -> None:
    assert "aos" in str(evaluate_one([CAR], [CAR]))
