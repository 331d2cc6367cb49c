"""Augmentations: their effect on points, boxes and lidar_aug_matrix; what gt_sampling may add."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from augmentor_scenes import scene
from easydict import EasyDict
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdet_distill.datasets.augmentor import DataAugmentor
from pcdet_distill.errors import ConfigError
from pcdet_distill.ops.points import points_in_boxes_mask

FLIP = {"NAME": "random_world_flip", "ALONG_AXIS_LIST": ["x", "y"]}
ROTATION = {"NAME": "random_world_rotation", "WORLD_ROT_ANGLE": 0.7}
SCALING = {"NAME": "random_world_scaling", "WORLD_SCALE_RANGE": [0.8, 1.2]}
TRANSLATION = {"NAME": "random_world_translation", "NOISE_TRANSLATE_STD": [0.5, 0.5, 0.2]}


def augment(configs: list[dict], item: dict, seed: int, **block) -> dict:
    """The item after augmentations; ``block`` has further keys of DATA_AUGMENTOR."""
    config = EasyDict(AUG_CONFIG_LIST=configs, **block)
    augmentor = DataAugmentor(Path("."), config, ["Car"])
    return augmentor.forward(item, np.random.RandomState(seed))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), order=st.permutations([FLIP, ROTATION, SCALING, TRANSLATION]))
def test_lidar_aug_matrix_moves_the_recorded_points(seed: int, order: list[dict]) -> None:
    before = scene()["points"]
    item = augment(order, scene(), seed)
    homogeneous = np.column_stack([before[:, :3], np.ones(200)])
    moved = homogeneous @ item["lidar_aug_matrix"].T
    np.testing.assert_allclose(moved[:, :3], item["points"][:, :3], atol=2e-5)
    np.testing.assert_array_equal(item["points"][:, 3], before[:, 3])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_points_stay_in_their_boxes(seed: int) -> None:
    """Two points in the car, none in the pedestrian."""
    item = scene()
    centre_of_car = item["gt_boxes"][0, :3]
    offsets = np.array([[1.0, 0.3, 0.5], [-1.2, -0.2, -0.4]])
    no_intensity = np.zeros((2, 1))
    item["points"] = np.hstack([centre_of_car + offsets, no_intensity]).astype(np.float32)
    in_boxes = [[1, 1], [0, 0]]
    assert points_in_boxes_mask(item["points"], item["gt_boxes"]).tolist() == in_boxes
    item = augment([FLIP, ROTATION, SCALING, TRANSLATION], item, seed)
    assert points_in_boxes_mask(item["points"], item["gt_boxes"]).tolist() == in_boxes
    headings = item["gt_boxes"][:, 6]
    assert np.abs(headings).max() <= np.pi + 1e-6


def test_flip_by_hand() -> None:
    # The first number of seed 0 is over one half, so the scene is flipped.
    item = augment([{**FLIP, "ALONG_AXIS_LIST": ["x"]}], scene(), seed=0)
    assert item["flip_x"] is True
    assert "flip_y" not in item
    np.testing.assert_allclose(item["gt_boxes"][0], [10, -2, -1, 4, 1.6, 1.5, -0.4], rtol=1e-6)
    np.testing.assert_array_equal(item["lidar_aug_matrix"], np.diag([1, -1, 1, 1]))


def test_same_seed_same_item_other_seed_another() -> None:
    chain = [FLIP, ROTATION, SCALING]
    first = augment(chain, scene(), seed=5)
    again = augment(chain, scene(), seed=5)
    other = augment(chain, scene(), seed=6)
    np.testing.assert_array_equal(first["points"], again["points"])
    assert not np.allclose(first["points"], other["points"])


def test_disabled_augmentations_do_nothing() -> None:
    disabled = ["placeholder", "random_world_rotation"]
    item = augment([FLIP, ROTATION], scene(), 0, DISABLE_AUG_LIST=disabled)
    assert "noise_rot" not in item
    assert "flip_x" in item


def test_skipped_augmentations_do_nothing() -> None:
    augmentor = DataAugmentor(Path("."), [EasyDict(FLIP), EasyDict(ROTATION)], ["Car"])
    item = augmentor.forward(scene(), np.random.RandomState(0), skip={"random_world_flip"})
    assert "noise_rot" in item
    assert "flip_x" not in item


def test_narrow_scale_range_scales_nothing() -> None:
    item = augment([{**SCALING, "WORLD_SCALE_RANGE": [1.0, 1.0]}], scene(), 0)
    assert item["noise_scale"] == 1.0
    np.testing.assert_array_equal(item["points"], scene()["points"])


def test_scene_without_objects() -> None:
    item = {
        "points": scene()["points"],
        "gt_boxes": np.zeros((0, 7), np.float32),
        "gt_names": np.array([], dtype=str),
        "gt_boxes_mask": np.zeros(0, bool),
    }
    item = augment([FLIP, ROTATION, SCALING], item, 3)
    assert item["gt_boxes"].shape == (0, 7)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"NAME": "random_world_flipp"}, "did you mean 'random_world_flip'"),
        ({"NAME": "random_world_flip"}, "ALONG_AXIS"),
        ({**FLIP, "ALONG_AXIS_LIST": ["z"]}, "unknown axis 'z'"),
        ({**TRANSLATION, "NOISE_TRANSLATE_STD": [1]}, "three"),
        ({**ROTATION, "WORLD_ROT_ANGLE": ["a", "b"]}, "WORLD_ROT_ANGLE: expected two numbers"),
        ({**ROTATION, "WORLD_ROT_ANGLE": [1, 2, 3]}, "WORLD_ROT_ANGLE: expected two numbers"),
        ({**SCALING, "WORLD_SCALE_RANGE": [1, float("nan")]}, "expected two numbers"),
    ],
)
def test_bad_config_is_named(config: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        augment([config], scene(), 0)
