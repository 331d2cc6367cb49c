"""A cloud in another frame, unit or range is named, and a right one is not."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from pcdet_distill.inference.checks import SceneChecks, expected_ground_m, ground_of

FRONT = np.array([0, -39.68, -3, 69.12, 39.68, 1], np.float32)  # as for KITTI
AROUND = np.array([-51.2, -51.2, -5, 51.2, 51.2, 3], np.float32)  # as for nuScenes
GROUND_M = -1.7


def street(front_only: bool = False) -> np.ndarray:
    """(N, 3) a flat street at -1.7 m, with walls and some cars."""
    random = np.random.RandomState(0)
    distance = random.uniform(2, 45, 6000)
    angle = random.uniform(-np.pi, np.pi, 6000)
    if front_only:
        angle /= 4
    ground = np.column_stack(
        [distance * np.cos(angle), distance * np.sin(angle), random.normal(GROUND_M, 0.03, 6000)]
    )
    walls = random.uniform([1, -14, -1.7], [45, -13, 4], (2000, 3))
    cars = random.uniform([8, 3, -1.7], [12, 5, -0.2], (500, 3))
    return np.concatenate([ground, walls, cars]).astype(np.float32)


@pytest.mark.parametrize("limits", [FRONT, AROUND])
@pytest.mark.parametrize("front_only", [False, True])
def test_a_right_cloud_raises_no_doubt(limits, front_only: bool) -> None:
    assert SceneChecks(limits, GROUND_M).doubts(street(front_only)) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: 1000 * p, "are they millimetres\\? Divide x, y, z by 1000"),
        (lambda p: 100 * p, "are they centimetres\\? Divide x, y, z by 100"),
        (lambda p: p / 40, "within [01].[0-9]* m of their middle; expected metres"),
        (lambda p: p[:, [1, 2, 0]] * [-1, -1, 1], "y seems to be the height.*camera's frame"),
        (lambda p: p[:, [2, 1, 0]], "x seems to be the height; expected x forward, y left, z up"),
        (lambda p: p + [500, 0, 0], "0% of its points are in the range of the detector, x 0 to"),
        (lambda p: p + [0, 0, 40], "0% .* range of heights, -3 to 1 m.*add -40.0 m to z"),
        (lambda p: p + [0, 0, 1.7], "ground seems to be at z 0.0 m.*at -1.7 m; add -1.7 m to z"),
        (lambda p: p * [1, -1, -1], "z seems to point down: use"),
        (lambda p: p[:, [1, 0, 2]] * [-1, 1, 1], r"y seems to point forward: use \(y, -x, z\)"),
        (lambda p: p * [-1, -1, 1], "-x seems to point forward"),
    ],
)
def test_a_wrong_cloud_is_named_once(change, words: str) -> None:
    wrong = np.asarray(change(street(front_only=True)), np.float32)
    doubts = SceneChecks(FRONT, GROUND_M).doubts(wrong)
    assert len(doubts) == 1
    assert re.search(words, doubts[0]), doubts[0]


def test_a_full_turn_says_nothing_of_the_front() -> None:
    turned = street()[:, [1, 0, 2]]
    assert SceneChecks(FRONT, GROUND_M).doubts(turned) == []


def test_few_points_and_an_unknown_ground_say_nothing() -> None:
    assert SceneChecks(FRONT, GROUND_M).doubts(street()[:100] * 1000) == []
    assert SceneChecks(AROUND, None).doubts(street() + np.float32([0, 0, 1.7])) == []
    assert ground_of(np.zeros((0, 3), np.float32)) is None


def test_the_ground_is_found_to_a_decimetre() -> None:
    assert ground_of(street()) == pytest.approx(GROUND_M, abs=0.1)


def test_the_ground_is_that_of_the_training_data_if_it_is_there(tmp_path: Path) -> None:
    names = ("x", "y", "z", "intensity")
    assert expected_ground_m("KittiDataset", tmp_path, names) == -1.73
    frames = tmp_path / "training" / "velodyne"
    frames.mkdir(parents=True)
    raised = street() + np.float32([0, 0, 1.0])
    np.column_stack([raised, np.zeros(len(raised))]).astype("<f4").tofile(frames / "000000.bin")
    assert expected_ground_m("KittiDataset", tmp_path, names) == pytest.approx(-0.7, abs=0.1)


def test_anchors_show_the_ground_of_other_data() -> None:
    anchors = [{"anchor_bottom_heights": [-1.0]}, {"anchor_bottom_heights": [-1.2, -0.6]}]
    model = {"DENSE_HEAD": {"ANCHOR_GENERATOR_CONFIG": anchors}}
    assert expected_ground_m("CustomDataset", None, (), model) == pytest.approx(-1.0)
    assert expected_ground_m("CustomDataset", None, (), {}) is None
