"""Augmentations: their effect on points, boxes and lidar_aug_matrix; what gt_sampling may add."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from easydict import EasyDict
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdet_distill.datasets.augmentor import DataAugmentor, DataBaseSampler
from pcdet_distill.datasets.augmentor.database_sampler import (
    ObjectPoints,
    SampleCursor,
    heights_over_plane,
)
from pcdet_distill.datasets.kitti.calibration import Calibration
from pcdet_distill.errors import ConfigError, DataError
from pcdet_distill.ops.boxes import boxes_overlap_bev
from pcdet_distill.ops.points import points_in_boxes_mask

FLIP = {"NAME": "random_world_flip", "ALONG_AXIS_LIST": ["x", "y"]}
ROTATION = {"NAME": "random_world_rotation", "WORLD_ROT_ANGLE": 0.7}
SCALING = {"NAME": "random_world_scaling", "WORLD_SCALE_RANGE": [0.8, 1.2]}
TRANSLATION = {"NAME": "random_world_translation", "NOISE_TRANSLATE_STD": [0.5, 0.5, 0.2]}
SAMPLING = {
    "NAME": "gt_sampling",
    "USE_ROAD_PLANE": False,
    "DB_INFO_PATH": ["kitti_dbinfos_train.pkl"],
    "SAMPLE_GROUPS": ["Car:6"],
    "NUM_POINT_FEATURES": 4,
    "REMOVE_EXTRA_WIDTH": [0.0, 0.0, 0.0],
}


def scene(seed: int = 0) -> dict:
    random = np.random.RandomState(seed)
    boxes = np.array(
        [[10, 2, -1, 4, 1.6, 1.5, 0.4], [20, -5, -1, 0.8, 0.6, 1.7, -2.0]], dtype=np.float32
    )
    points = random.uniform([0, -20, -2, 0], [40, 20, 1, 1], (200, 4)).astype(np.float32)
    return {"points": points, "gt_boxes": boxes, "gt_names": np.array(["Car", "Pedestrian"])}


def augment(configs: list[dict], item: dict, seed: int, **block) -> dict:
    config = EasyDict(AUG_CONFIG_LIST=configs, **block)
    return DataAugmentor(Path("."), config, ["Car"]).forward(item, np.random.RandomState(seed))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), order=st.permutations([FLIP, ROTATION, SCALING, TRANSLATION]))
def test_lidar_aug_matrix_moves_the_recorded_points(seed: int, order: list[dict]) -> None:
    before = scene()
    item = augment(order, scene(), seed)
    homogeneous = np.column_stack([before["points"][:, :3], np.ones(200)])
    np.testing.assert_allclose(
        (homogeneous @ item["lidar_aug_matrix"].T)[:, :3], item["points"][:, :3], atol=2e-5
    )
    np.testing.assert_array_equal(item["points"][:, 3], before["points"][:, 3])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_points_stay_in_their_boxes(seed: int) -> None:
    item = scene()
    corners = item["gt_boxes"][0, :3] + np.array(
        [[1.0, 0.3, 0.5], [-1.2, -0.2, -0.4]], dtype=np.float32
    )
    item["points"] = np.column_stack([corners, [[0], [0]]]).astype(np.float32)
    assert points_in_boxes_mask(item["points"], item["gt_boxes"])[0].tolist() == [1, 1]
    item = augment([FLIP, ROTATION, SCALING, TRANSLATION], item, seed)
    assert points_in_boxes_mask(item["points"], item["gt_boxes"]).tolist() == [[1, 1], [0, 0]]
    assert (np.abs(item["gt_boxes"][:, 6]) <= np.pi + 1e-6).all()


def test_flip_by_hand() -> None:
    # The first number of seed 0 is over one half, so the scene is flipped.
    item = augment([{**FLIP, "ALONG_AXIS_LIST": ["x"]}], scene(), seed=0)
    assert item["flip_x"] is True
    assert "flip_y" not in item
    np.testing.assert_allclose(item["gt_boxes"][0], [10, -2, -1, 4, 1.6, 1.5, -0.4], rtol=1e-6)
    np.testing.assert_array_equal(item["lidar_aug_matrix"], np.diag([1, -1, 1, 1]))


def test_same_seed_same_item_other_seed_another() -> None:
    chain = [FLIP, ROTATION, SCALING]
    first, again, other = (augment(chain, scene(), seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first["points"], again["points"])
    assert not np.allclose(first["points"], other["points"])


def test_disabled_and_skipped_augmentations_do_nothing() -> None:
    item = augment(
        [FLIP, ROTATION], scene(), 0, DISABLE_AUG_LIST=["placeholder", "random_world_rotation"]
    )
    assert "noise_rot" not in item
    assert "flip_x" in item
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
    assert augment([FLIP, ROTATION, SCALING], item, 3)["gt_boxes"].shape == (0, 7)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"NAME": "random_world_flipp"}, "did you mean 'random_world_flip'"),
        ({"NAME": "random_world_flip"}, "ALONG_AXIS"),
        ({**FLIP, "ALONG_AXIS_LIST": ["z"]}, "unknown axis 'z'"),
        ({**TRANSLATION, "NOISE_TRANSLATE_STD": [1]}, "three"),
    ],
)
def test_bad_config_is_named(config: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        augment([config], scene(), 0)


def write_database(root: Path, boxes: list) -> None:
    """Objects of five points each, at their box centre, with their number as intensity."""
    (root / "gt_database").mkdir(exist_ok=True)
    infos: dict[str, list] = {"Car": []}
    for index, box in enumerate(boxes):
        np.full((5, 4), [0, 0, 0, index], dtype=np.float32).tofile(
            root / f"gt_database/{index}.bin"
        )
        infos["Car"].append(
            {
                "name": "Car",
                "path": f"gt_database/{index}.bin",
                "box3d_lidar": np.array(box, float),
                "num_points_in_gt": 5 + index,
                "difficulty": index - 1,
            }
        )
    (root / "kitti_dbinfos_train.pkl").write_bytes(pickle.dumps(infos))


def car(x: float, y: float, heading: float = 0.0) -> list[float]:
    return [x, y, -1.0, 4.0, 1.6, 1.5, heading]


def sampler(root: Path, **changes) -> DataBaseSampler:
    return DataBaseSampler(root, EasyDict({**SAMPLING, **changes}), ["Car", "Pedestrian"])


def test_sampled_cars_touch_nothing(tmp_path: Path) -> None:
    write_database(tmp_path, [car(11, 2), car(30, 10), car(31, 10.2), car(30, -10), car(15, 12)])
    item = scene()
    sampler(tmp_path)(item, np.random.RandomState(0))
    added = sorted(item["gt_boxes"][2:, :2].tolist())
    # One touches the scene's car, two touch each other: all three are dropped.
    assert added == [[15, 12], [30, -10]]
    boxes = item["gt_boxes"]
    overlap = boxes_overlap_bev(torch.from_numpy(boxes), torch.from_numpy(boxes)).numpy()
    assert (overlap[~np.eye(len(boxes), dtype=bool)] == 0).all()
    assert item["gt_names"].tolist() == ["Car", "Pedestrian", "Car", "Car"]


def test_object_points_stand_in_front_and_covered_points_are_gone(tmp_path: Path) -> None:
    write_database(tmp_path, [car(30, 10)])
    item = scene()
    item["points"] = np.array(
        [[30.5, 10.2, -1, 9], [30.5, 10.2, 2, 9], [5, 5, 0, 9]], dtype=np.float32
    )
    sampler(tmp_path)(item, np.random.RandomState(0))
    np.testing.assert_array_equal(item["points"][:, 3], [0] * 5 + [9, 9])
    np.testing.assert_allclose(item["points"][:5, :3], [[30, 10, -1]] * 5)
    assert item["points"][5:, 2].tolist() == [2, 0]
    assert item["points"].dtype == np.float32


def test_unwanted_classes_block_places_but_are_dropped(tmp_path: Path) -> None:
    write_database(tmp_path, [car(20, -5), car(30, 10)])
    item = {**scene(), "gt_boxes_mask": np.array([True, False])}
    sampler(tmp_path)(item, np.random.RandomState(0))
    assert item["gt_names"].tolist() == ["Car", "Car"]
    assert item["gt_boxes"][1, 0] == 30


def test_limit_whole_scene_counts_what_is_there(tmp_path: Path) -> None:
    write_database(tmp_path, [car(30, 4 * number - 20) for number in range(10)])
    for limit, expected in ((False, 3), (True, 2)):
        item = scene()
        sampler(tmp_path, SAMPLE_GROUPS=["Car:3"], LIMIT_WHOLE_SCENE=limit)(
            item, np.random.RandomState(0)
        )
        assert len(item["gt_boxes"]) == 2 + expected


def test_prepare_filters(tmp_path: Path) -> None:
    write_database(tmp_path, [car(30, 4 * number) for number in range(4)])
    prepared = sampler(
        tmp_path, PREPARE={"filter_by_min_points": ["Car:7"], "filter_by_difficulty": [1]}
    )
    assert [info["path"] for info in prepared.db_infos["Car"]] == ["gt_database/3.bin"]
    with pytest.raises(ConfigError, match="filter_by_min_points"):
        sampler(tmp_path, PREPARE={"filter_by_min_point": ["Car:7"]})


def test_groups_of_untrained_classes_and_empty_databases(tmp_path: Path) -> None:
    write_database(tmp_path, [])
    item = scene()
    sampler(tmp_path, SAMPLE_GROUPS=["Truck:4", "Car:4", "Pedestrian:3"])(
        item, np.random.RandomState(0)
    )
    np.testing.assert_array_equal(item["points"], scene()["points"])


def test_road_plane_puts_objects_on_the_ground(tmp_path: Path) -> None:
    calib = Calibration(
        np.eye(3, 4), np.eye(3), np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0]], dtype=float)
    )
    plane = np.array([0, -1, 0, 2.0])  # rect y = 2: LiDAR z = -2
    np.testing.assert_allclose(
        heights_over_plane(np.array([car(30, 10)]), plane, calib), [-1 - 0.75 + 2], rtol=1e-6
    )
    write_database(tmp_path, [car(30, 10)])
    item = {**scene(), "calib": calib, "road_plane": plane}
    sampler(tmp_path, USE_ROAD_PLANE=True)(item, np.random.RandomState(0))
    assert item["gt_boxes"][2, 2] == pytest.approx(-2 + 0.75)
    np.testing.assert_allclose(item["points"][:5, 2], -1.25, rtol=1e-6)
    with pytest.raises(DataError, match="road plane"):
        sampler(tmp_path, USE_ROAD_PLANE=True)(
            {**scene(), "calib": calib}, np.random.RandomState(0)
        )


def test_cursor_passes_every_object_before_any_twice() -> None:
    cursor = SampleCursor(7)
    random = np.random.RandomState(0)

    def walk() -> list[int]:
        return np.concatenate([cursor.draw(3, random) for _ in range(3)]).tolist()

    first = walk()
    second = walk()
    assert sorted(first) == sorted(second) == list(range(7))
    assert first != second


def test_items_do_not_depend_on_one_another(tmp_path: Path) -> None:
    write_database(tmp_path, [car(30, 4 * number - 20) for number in range(10)])
    one = sampler(tmp_path, SAMPLE_GROUPS=["Car:2"])
    results = []
    for seed in (1, 2, 1):
        item = scene()
        one(item, np.random.RandomState(seed))
        results.append(item["gt_boxes"].tolist())
    assert results[0] == results[2] != results[1]


def test_object_points_are_read_once_within_the_limit(tmp_path: Path) -> None:
    write_database(tmp_path, [car(30, 10), car(20, 10)])
    kept = ObjectPoints(tmp_path, 4, limit_bytes=80)  # room for one object of five points
    first = kept.read("gt_database/0.bin")
    assert kept.read("gt_database/0.bin") is first
    assert kept.read("gt_database/1.bin") is not kept.read("gt_database/1.bin")


def test_missing_object_file_is_named(tmp_path: Path) -> None:
    write_database(tmp_path, [car(30, 10)])
    (tmp_path / "gt_database/0.bin").unlink()
    with pytest.raises(DataError, match="0.bin.*does not exist"):
        sampler(tmp_path)(scene(), np.random.RandomState(0))


@pytest.mark.parametrize(
    ("cars", "words"),
    [
        (None, "dict with a list of objects per class"),
        ([{"name": "Car"}], "an object of class Car lacks one of box3d"),
        (
            [
                {
                    "name": "Car",
                    "path": "gone.bin",
                    "box3d_lidar": 0,
                    "num_points_in_gt": 9,
                    "difficulty": 0,
                }
            ],
            "gone.bin: this point file, which kitti_dbinfos_train.pkl lists, does not exist",
        ),
    ],
)
def test_incomplete_database_is_named(tmp_path: Path, cars, words: str) -> None:
    (tmp_path / "kitti_dbinfos_train.pkl").write_bytes(pickle.dumps({"Car": cars}))
    with pytest.raises(DataError, match=words):
        sampler(tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"SAMPLE_GROUPS": ["Car"]}, "'Car:15'"),
        ({"DATABASE_WITH_FAKELIDAR": True}, "DATABASE_WITH_FAKELIDAR"),
        ({"DB_INFO_PATH": ["other.pkl"]}, "other.pkl.*pcdet-distill data kitti"),
    ],
)
def test_bad_sampling_config(tmp_path: Path, changes: dict, words: str) -> None:
    write_database(tmp_path, [])
    with pytest.raises((ConfigError, DataError), match=words):
        sampler(tmp_path, **changes)
