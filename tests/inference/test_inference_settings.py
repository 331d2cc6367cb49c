"""Thresholds, number and classes of the boxes, at loading and for one call."""

from __future__ import annotations

import numpy as np
import pytest
from small_detectors import CONFIG, random_cloud

from pcdet_distill.errors import ConfigError
from pcdet_distill.inference import BoxSettings, load_detector


def test_a_call_and_the_loading_change_the_same_settings(checkpoint, detector, device) -> None:
    settings = {
        "score_threshold": 0.52,
        "nms_threshold": 0.3,
        "max_boxes": 7,
        "classes": ["Car", "Cyclist"],
    }
    loaded = load_detector(CONFIG, checkpoint, device=device, **settings)
    points = random_cloud()
    left, right = loaded(points), detector(points, **settings)
    np.testing.assert_array_equal(left.boxes, right.boxes)
    assert 0 < len(left) <= 7
    assert set(left.names) <= {"Car", "Cyclist"}
    assert left.scores.min() >= 0.52


def test_a_lower_score_than_that_of_the_yaml_gives_more_boxes(detector) -> None:
    """The threshold takes part before NMS, so boxes under that of the yaml appear."""
    detector.model.model_cfg["POST_PROCESSING"]["SCORE_THRESH"] = 0.52
    points = random_cloud()
    usual = detector(points)
    more = detector(points, score_threshold=0.0)
    assert usual.scores.min() >= 0.52
    assert more.scores.min() < 0.52
    assert len(detector(points)) == len(usual)


def test_the_overlap_of_nms_changes_and_changes_back(detector) -> None:
    points = random_cloud()
    usual = len(detector(points))
    more = len(detector(points, nms_threshold=0.9))
    fewer = len(detector(points, nms_threshold=0.0))
    assert fewer < usual < more
    assert len(detector(points)) == usual


def test_classes_may_have_thresholds_of_their_own(detector) -> None:
    points = random_cloud()
    usual = detector(points)
    found = detector(points, score_threshold={"Car": 0.55})
    assert found.scores[found.names == "Car"].min(initial=1.0) >= 0.55
    others = usual[usual.names != "Car"]
    np.testing.assert_array_equal(found[found.names != "Car"].boxes, others.boxes)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"score_threshold": 1.5}, "score_threshold 1.5: expected a score of 0..1"),
        ({"score_threshold": {"Cra": 0.5}}, "score_threshold.*Cra.*did you mean 'Car'"),
        ({"score_threshold": "0.5"}, "score_threshold '0.5': expected a score of 0..1"),
        ({"nms_threshold": -1.0}, "nms_threshold -1.0"),
        ({"max_boxes": 0}, "max_boxes 0: expected a whole number, 1 or more"),
        ({"max_boxes": 2.5}, "max_boxes 2.5: expected a whole number"),
        ({"classes": "Car"}, "classes 'Car': expected a list of names"),
        ({"classes": ["Truck"]}, "classes.*Truck"),
        ({"treshold": 0.3}, "treshold.*did you mean"),
    ],
)
def test_what_cannot_be_meant_is_named(detector, settings, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        detector(random_cloud(), **settings)


def test_every_distance_of_a_centre_head_is_changed() -> None:
    own = {"SCORE_THRESH": 0.1, "NMS_CONFIG": {"NMS_TYPE": "circle_nms", "NMS_THRESH": [4, 1]}}
    block = BoxSettings(nms_threshold=2.0).block(own)
    assert block["NMS_CONFIG"]["NMS_THRESH"] == [2.0, 2.0]
    assert own["NMS_CONFIG"]["NMS_THRESH"] == [4, 1]
    with pytest.raises(ConfigError, match="this detector has no NMS"):
        BoxSettings(nms_threshold=2.0).block({"SCORE_THRESH": 0.1})
