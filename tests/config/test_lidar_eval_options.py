"""DATA_CONFIG.EVALUATION: defaults, thresholds of a class, and refused values."""

from __future__ import annotations

import pytest

from pcdet_distill.config import LidarEvalOptions
from pcdet_distill.errors import ConfigError


def options(**block: object) -> LidarEvalOptions:
    return LidarEvalOptions.from_config({"EVALUATION": block})


def test_a_config_without_the_block_has_the_defaults() -> None:
    assert LidarEvalOptions.from_config({}) == LidarEvalOptions()
    assert LidarEvalOptions.from_config({"EVALUATION": None}) == LidarEvalOptions()


def test_thresholds_of_a_class() -> None:
    """Its own before KITTI's, in any case of letters, before the default of all others."""
    own = options(IOU={"Forklift": 0.6, "Car": [0.5, 0.3]}, DEFAULT_IOU=[0.4])
    assert own.iou_thresholds("Forklift") == (0.6,)
    assert own.iou_thresholds("Car") == (0.5, 0.3)
    assert own.iou_thresholds("truck") == (0.7, 0.5)
    assert own.iou_thresholds("Pedestrian") == (0.5, 0.25)
    assert own.iou_thresholds("Person") == (0.4,)


def test_neutral_classes() -> None:
    own = options(NEUTRAL={"Car": ["Van", "Truck"], "Pedestrian": "Person_sitting"})
    assert own.neutral_to("Car") == ("Van", "Truck")
    assert own.neutral_to("Pedestrian") == ("Person_sitting",)
    assert own.neutral_to("Cyclist") == ()


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"IOU": {"Car": [0.7, 1.0]}}, r"IOU\.Car: expected a list of numbers above 0 and up to"),
        ({"IOU": {"Car": []}}, r"IOU\.Car: expected a list of numbers"),
        ({"IOU": {"Car": "0.7"}}, r"IOU\.Car: expected a list of numbers"),
        ({"IOU": [0.7]}, r"IOU: expected a block of keys, found \[0\.7\]"),
        ({"DEFAULT_IOU": [70]}, r"DEFAULT_IOU\[0\]: expected a number above 0 and up to 0\.99"),
        ({"DEFAULT_IOU": []}, "DEFAULT_IOU: expected at least one number"),
        ({"CENTER_DISTANCES_M": [-1]}, r"CENTER_DISTANCES_M\[0\]: expected a number above 0"),
        ({"DISTANCE_EDGES_M": [40, 20]}, r"DISTANCE_EDGES_M: expected rising numbers"),
        ({"POINT_EDGES": [5, 5]}, r"POINT_EDGES: expected rising numbers, found \[5, 5\]"),
        ({"RANGE": [0, 0, 0, 1, 1]}, "RANGE: .* is not x, y, z minimum, then maximum"),
        ({"RANGE": [0, 0, 0, 1, 1, -1]}, "RANGE: .* is not x, y, z minimum, then maximum"),
        ({"NEUTRAL": {"Car": 3}}, r"NEUTRAL\.Car: expected a list of classes, found 3"),
        ({"PRIMARY": "2d"}, r"PRIMARY: unknown value '2d'"),
        ({"MIN_POINTS": 1.5}, "MIN_POINTS: expected a whole number from 0 up, found 1.5"),
        ({"MIN_PIONTS": 1}, "unknown key 'MIN_PIONTS'; did you mean 'MIN_POINTS'"),
    ],
)
def test_refused_values(block: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=rf"DATA_CONFIG\.EVALUATION.*{words}"):
        options(**block)


def test_options_for_another_class_are_refused_before_the_training() -> None:
    config = {"EVALUATION": {"NEUTRAL": {"Cra": ["Van"]}}}
    with pytest.raises(ConfigError, match=r"NEUTRAL\.Cra.*did you mean 'Car'"):
        LidarEvalOptions.from_config(config, ["Car"])
