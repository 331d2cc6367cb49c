"""Processing steps, point features and the data spec."""

from __future__ import annotations

import numpy as np
import pytest
from easydict import EasyDict

from pcdet_distill.datasets import DataSpec
from pcdet_distill.datasets.processor import DataProcessor, PointFeatureEncoder
from pcdet_distill.errors import ConfigError

RANGE = np.array([0, -10, -3, 40, 10, 1], dtype=np.float32)
MASK = {"NAME": "mask_points_and_boxes_outside_range", "REMOVE_OUTSIDE_BOXES": True}
SHUFFLE = {"NAME": "shuffle_points", "SHUFFLE_ENABLED": {"train": True, "test": False}}
SAMPLE = {"NAME": "sample_points", "NUM_POINTS": {"train": 100, "test": -1}}
VOXELS = {
    "NAME": "transform_points_to_voxels",
    "VOXEL_SIZE": [1.0, 1.0, 4.0],
    "MAX_POINTS_PER_VOXEL": 5,
    "MAX_NUMBER_OF_VOXELS": {"train": 20, "test": 30},
}


def process(configs: list[dict], item: dict, training: bool = True, seed: int = 0) -> dict:
    """The item after the given steps."""
    steps = [EasyDict(config) for config in configs]
    processor = DataProcessor(steps, RANGE, training, num_point_features=4)
    return processor.forward(item, np.random.RandomState(seed))


def cloud(count: int, low: float = 0.0, high: float = 40.0) -> np.ndarray:
    """Points on the x axis, with their own number as intensity."""
    x = np.random.RandomState(1).uniform(low, high, count)
    zeros = np.zeros(count)
    points = np.column_stack([x, zeros, zeros, np.arange(count)])
    return points.astype(np.float32)


def processed_points(
    config: dict, points: np.ndarray, training: bool = True, seed: int = 0
) -> np.ndarray:
    return process([config], {"points": points}, training, seed)["points"]


def chosen_numbers(config: dict, points: np.ndarray) -> list[int]:
    """The numbers of the points that a step keeps in training."""
    return processed_points(config, points)[:, 3].astype(int).tolist()


def test_range_mask_tests_x_and_y_only_and_includes_both_ends() -> None:
    points = [
        [0, -10, 9, 0],
        [40, 10, -9, 1],
        [40.01, 0, 0, 2],
        [5, 10.01, 0, 3],
        [np.nan, 0, 0, 4],
    ]
    assert chosen_numbers(MASK, np.array(points, np.float32)) == [0, 1]


def test_boxes_are_masked_by_their_centre_in_training_only() -> None:
    """The range ends at x = 40 and z = 1."""
    on_the_border = [40, 0, 0, 4, 2, 2, 0, 1]
    too_far = [40.1, 0, 0, 4, 2, 2, 0, 1]
    too_high = [5, 0, 1.1, 4, 2, 2, 0, 1]
    boxes = np.array([on_the_border, too_far, too_high], np.float32)

    def kept(config: dict, training: bool = True) -> int:
        item = process([config], {"points": cloud(3), "gt_boxes": boxes}, training)
        return len(item["gt_boxes"])

    assert kept(MASK) == 1
    assert kept(MASK, training=False) == 3
    by_corner = {**MASK, "USE_CENTER_TO_FILTER": False}
    assert kept(by_corner) == 3
    assert kept({**by_corner, "min_num_corners": 8}) == 1


def test_shuffle_follows_the_mode_and_the_seed() -> None:
    shuffled = processed_points(SHUFFLE, cloud(50))
    again = processed_points(SHUFFLE, cloud(50))
    other_seed = processed_points(SHUFFLE, cloud(50), seed=1)
    in_test = processed_points(SHUFFLE, cloud(50), training=False)
    assert not np.array_equal(shuffled, cloud(50))
    assert sorted(shuffled[:, 3]) == list(range(50))
    np.testing.assert_array_equal(again, shuffled)
    assert not np.array_equal(other_seed, shuffled)
    np.testing.assert_array_equal(in_test, cloud(50))


def test_sampling_keeps_all_far_points() -> None:
    """Far are the points beyond 40 metres, here the last 30."""
    points = np.concatenate([cloud(300, 0, 39), cloud(30, 41, 60)])
    points[:, 3] = np.arange(330)
    chosen = chosen_numbers(SAMPLE, points)
    assert len(chosen) == 100
    assert len(set(chosen)) == 100
    assert set(chosen) >= set(range(300, 330))


def test_sampling_draws_from_all_when_far_points_are_too_many() -> None:
    chosen = chosen_numbers(SAMPLE, cloud(200, 41, 60))
    assert len(chosen) == 100
    assert len(set(chosen)) == 100


@pytest.mark.parametrize("available", [1, 30, 70, 100])
def test_sampling_repeats_too_few_points(available: int) -> None:
    chosen = chosen_numbers(SAMPLE, cloud(available))
    counts = np.bincount(chosen)
    assert len(chosen) == 100
    assert len(counts) == available
    assert counts.max() - counts.min() <= 1


def test_sampling_of_no_points_and_of_all_points() -> None:
    """NUM_POINTS is 100 in training and -1, which is all, in a test."""
    assert processed_points(SAMPLE, cloud(0)).shape == (100, 4)
    assert len(processed_points(SAMPLE, cloud(150), training=False)) == 150


def test_voxels_follow_the_mode() -> None:
    item = {"points": cloud(500), "use_lead_xyz": True}
    train = process([VOXELS], dict(item))
    test = process([VOXELS], dict(item), training=False)
    assert train["voxels"].shape == (20, 5, 4)
    assert test["voxels"].shape == (30, 5, 4)
    assert train["voxel_coords"].shape == (20, 3)
    assert train["voxel_num_points"].max() == 5


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"NAME": "shuffle_point"}, "did you mean 'shuffle_points'"),
        ({"NAME": "shuffle_points"}, "SHUFFLE_ENABLED"),
        ({"NAME": "sample_points", "NUM_POINTS": {"test": 5}}, "NUM_POINTS.*train"),
        ({}, "NAME"),
    ],
)
def test_bad_step_is_named(config: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        process([config], {})


def encoding(**changes) -> EasyDict:
    features = ["x", "y", "z", "intensity"]
    return EasyDict(
        {
            "encoding_type": "absolute_coordinates_encoding",
            "used_feature_list": features,
            "src_feature_list": features,
            **changes,
        }
    )


def test_features_are_chosen_by_name() -> None:
    encoder = PointFeatureEncoder(encoding(src_feature_list=["x", "y", "z", "time", "intensity"]))
    points = np.arange(10, dtype=np.float32).reshape(2, 5)
    item = encoder.forward({"points": points})
    assert item["points"].tolist() == [[0, 1, 2, 4], [5, 6, 7, 9]]
    assert item["use_lead_xyz"]
    assert encoder.num_point_features == 4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"used_feature_list": ["x", "y", "z", "intensty"]}, "did you mean 'intensity'"),
        ({"encoding_type": "other"}, "other"),
        ({"used_feature_list": ["y", "x", "z"]}, "begin with x, y, z"),
    ],
)
def test_bad_features_are_named(changes: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        PointFeatureEncoder(encoding(**changes))


def test_spec_needs_no_files() -> None:
    config = EasyDict(
        POINT_CLOUD_RANGE=[0, -40, -3, 70.4, 40, 1],
        POINT_FEATURE_ENCODING=encoding(),
        DATA_PROCESSOR=[MASK, {**VOXELS, "VOXEL_SIZE": [0.05, 0.05, 0.1]}],
    )
    spec = DataSpec.from_config(config, ["Car"])
    assert spec.grid_size.tolist() == [1408, 1600, 40]
    assert spec.voxel_size == [0.05, 0.05, 0.1]
    assert spec.point_cloud_range.dtype == np.float32
    assert spec.point_feature_encoder.num_point_features == 4


def test_spec_of_points_has_no_grid() -> None:
    config = EasyDict(
        POINT_CLOUD_RANGE=[0, -40, -3, 70.4, 40, 1],
        POINT_FEATURE_ENCODING=encoding(),
        DATA_PROCESSOR=[MASK, SAMPLE],
    )
    points_only = DataSpec.from_config(config, ["Car"])
    assert points_only.voxel_size is None
    assert points_only.grid_size is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("POINT_CLOUD_RANGE", [0, 0, 0, -1, 1, 1]),
        ("POINT_CLOUD_RANGE", [0, 1]),
        ("DATA_PROCESSOR", [{**VOXELS, "VOXEL_SIZE": [0.1, 0.1]}]),
        ("DATA_PROCESSOR", [{**VOXELS, "VOXEL_SIZE": [0, 1, 1]}]),
    ],
)
def test_bad_spec_is_named(key: str, value: list) -> None:
    config = EasyDict(
        POINT_CLOUD_RANGE=[0, -40, -3, 70.4, 40, 1],
        POINT_FEATURE_ENCODING=encoding(),
        DATA_PROCESSOR=[],
    )
    config[key] = value
    with pytest.raises(ConfigError, match=key):
        DataSpec.from_config(config, ["Car"])


def test_voxels_on_the_device_leave_the_points_to_it() -> None:
    points = cloud(200)
    item = process([{**VOXELS, "ON_DEVICE": True}], {"points": points, "use_lead_xyz": True})
    assert "voxels" not in item
    assert item["points"] is points
    rule = item["voxel_rule"]
    assert (rule.max_points, rule.max_voxels, list(rule.voxel_size)) == (5, 20, [1.0, 1.0, 4.0])


def test_voxels_on_the_device_need_points_that_start_with_xyz() -> None:
    with pytest.raises(ConfigError, match="ON_DEVICE: .*do not start with x, y, z"):
        process([{**VOXELS, "ON_DEVICE": True}], {"points": cloud(9), "use_lead_xyz": False})
