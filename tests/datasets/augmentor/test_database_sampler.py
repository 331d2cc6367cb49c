"""gt_sampling: which objects of the database are added to a scene, and where they may stand."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from augmentor_scenes import scene
from easydict import EasyDict

from pcdet_distill.datasets.augmentor import DataBaseSampler
from pcdet_distill.datasets.augmentor.database_sampler import SampleCursor, heights_over_plane
from pcdet_distill.datasets.augmentor.object_database import ObjectPoints
from pcdet_distill.datasets.kitti.calibration import Calibration
from pcdet_distill.errors import ConfigError, DataError
from pcdet_distill.ops.boxes import boxes_overlap_bev

SAMPLING = {
    "NAME": "gt_sampling",
    "USE_ROAD_PLANE": False,
    "DB_INFO_PATH": ["kitti_dbinfos_train.pkl"],
    "SAMPLE_GROUPS": ["Car:6"],
    "NUM_POINT_FEATURES": 4,
    "REMOVE_EXTRA_WIDTH": [0.0, 0.0, 0.0],
}


def write_database(root: Path, boxes: list) -> None:
    """Objects of five points each, at their box centre, with their number as intensity."""
    (root / "gt_database").mkdir(exist_ok=True)
    cars = []
    for number, box in enumerate(boxes):
        path = f"gt_database/{number}.bin"
        points = np.full((5, 4), [0, 0, 0, number], dtype=np.float32)
        points.tofile(root / path)
        info = {
            "name": "Car",
            "path": path,
            "box3d_lidar": np.array(box, float),
            "num_points_in_gt": 5 + number,
            "difficulty": number - 1,
        }
        cars.append(info)
    (root / "kitti_dbinfos_train.pkl").write_bytes(pickle.dumps({"Car": cars}))


def car(x: float, y: float, heading: float = 0.0) -> list[float]:
    return [x, y, -1.0, 4.0, 1.6, 1.5, heading]


def sampler(root: Path, **changes) -> DataBaseSampler:
    return DataBaseSampler(root, EasyDict({**SAMPLING, **changes}), ["Car", "Pedestrian"])


def test_sampled_cars_touch_nothing(tmp_path: Path) -> None:
    """One touches the scene's car, two touch each other: all three are dropped."""
    touches_the_scene = [car(11, 2)]
    touch_each_other = [car(30, 10), car(31, 10.2)]
    stand_alone = [car(30, -10), car(15, 12)]
    write_database(tmp_path, touches_the_scene + touch_each_other + stand_alone)
    item = scene()
    sampler(tmp_path)(item, np.random.RandomState(0))
    added = sorted(item["gt_boxes"][2:, :2].tolist())
    assert added == [[15, 12], [30, -10]]
    assert item["gt_names"].tolist() == ["Car", "Pedestrian", "Car", "Car"]
    boxes = torch.from_numpy(item["gt_boxes"])
    overlap = boxes_overlap_bev(boxes, boxes).fill_diagonal_(0)
    assert (overlap == 0).all()


def test_object_points_stand_in_front_and_covered_points_are_gone(tmp_path: Path) -> None:
    write_database(tmp_path, [car(30, 10)])
    item = scene()
    covered = [30.5, 10.2, -1, 9]
    above_it = [30.5, 10.2, 2, 9]
    elsewhere = [5, 5, 0, 9]
    item["points"] = np.array([covered, above_it, elsewhere], dtype=np.float32)
    sampler(tmp_path)(item, np.random.RandomState(0))
    points = item["points"]
    of_the_object = [[30, 10, -1, 0]] * 5
    np.testing.assert_allclose(points, np.float32([*of_the_object, above_it, elsewhere]))
    assert points.dtype == np.float32


def test_unwanted_classes_block_places_but_are_dropped(tmp_path: Path) -> None:
    write_database(tmp_path, [car(20, -5), car(30, 10)])
    item = {**scene(), "gt_boxes_mask": np.array([True, False])}
    sampler(tmp_path)(item, np.random.RandomState(0))
    assert item["gt_names"].tolist() == ["Car", "Car"]
    added_x = item["gt_boxes"][1, 0]
    assert added_x == 30


@pytest.mark.parametrize("limit, expected", [(False, 3), (True, 2)])
def test_limit_whole_scene_counts_what_is_there(tmp_path: Path, limit: bool, expected: int) -> None:
    """Three cars are asked for, and one is there already."""
    write_database(tmp_path, [car(30, 4 * number - 20) for number in range(10)])
    add_objects = sampler(tmp_path, SAMPLE_GROUPS=["Car:3"], LIMIT_WHOLE_SCENE=limit)
    item = scene()
    add_objects(item, np.random.RandomState(0))
    assert len(item["gt_boxes"]) == 2 + expected


def test_prepare_filters(tmp_path: Path) -> None:
    """Object n has 5 + n points and difficulty n - 1: 2 and 3 have 7 points, and 2 is of the 1."""
    write_database(tmp_path, [car(30, 4 * number) for number in range(4)])
    filters = {"filter_by_min_points": ["Car:7"], "filter_by_difficulty": [1]}
    prepared = sampler(tmp_path, PREPARE=filters)
    assert [info["path"] for info in prepared.db_infos["Car"]] == ["gt_database/3.bin"]


def test_an_unknown_filter_is_refused(tmp_path: Path) -> None:
    write_database(tmp_path, [car(30, 0)])
    with pytest.raises(ConfigError, match="filter_by_min_points"):
        sampler(tmp_path, PREPARE={"filter_by_min_point": ["Car:7"]})


def test_groups_of_untrained_classes_and_empty_databases(tmp_path: Path) -> None:
    write_database(tmp_path, [])
    item = scene()
    add_objects = sampler(tmp_path, SAMPLE_GROUPS=["Truck:4", "Car:4", "Pedestrian:3"])
    add_objects(item, np.random.RandomState(0))
    np.testing.assert_array_equal(item["points"], scene()["points"])


# The camera stands in the LiDAR: right is -y, down is -z, ahead is x.
TO_CAMERA = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0]])
CALIB = Calibration(np.eye(3, 4), np.eye(3), TO_CAMERA)
# Two metres below the camera: LiDAR z = -2.
ROAD_PLANE = np.array([0, -1, 0, 2.0])


def test_height_of_a_box_over_the_road_plane() -> None:
    """Its centre is at z = -1 and its height 1.5 m, so it stands 0.25 m over the road."""
    height_m = heights_over_plane(np.array([car(30, 10)]), ROAD_PLANE, CALIB)
    np.testing.assert_allclose(height_m, [-1 - 0.75 + 2], rtol=1e-6)


def test_road_plane_puts_objects_on_the_ground(tmp_path: Path) -> None:
    write_database(tmp_path, [car(30, 10)])
    item = {**scene(), "calib": CALIB, "road_plane": ROAD_PLANE}
    sampler(tmp_path, USE_ROAD_PLANE=True)(item, np.random.RandomState(0))
    centre_z = -2 + 0.75
    assert item["gt_boxes"][2, 2] == pytest.approx(centre_z)
    np.testing.assert_allclose(item["points"][:5, 2], centre_z, rtol=1e-6)


def test_a_frame_without_road_plane_is_named(tmp_path: Path) -> None:
    write_database(tmp_path, [car(30, 10)])
    item = {**scene(), "calib": CALIB}
    with pytest.raises(DataError, match="road plane"):
        sampler(tmp_path, USE_ROAD_PLANE=True)(item, np.random.RandomState(0))


def test_cursor_passes_every_object_before_any_twice() -> None:
    cursor = SampleCursor(7)
    random = np.random.RandomState(0)

    def walk() -> list[int]:
        """All draws until every object has passed once."""
        draws = [cursor.draw(3, random) for _ in range(3)]
        return np.concatenate(draws).tolist()

    first = walk()
    second = walk()
    assert sorted(first) == list(range(7))
    assert sorted(second) == list(range(7))
    assert first != second


def test_items_do_not_depend_on_one_another(tmp_path: Path) -> None:
    write_database(tmp_path, [car(30, 4 * number - 20) for number in range(10)])
    add_objects = sampler(tmp_path, SAMPLE_GROUPS=["Car:2"])

    def boxes_with(seed: int) -> list[list[float]]:
        item = scene()
        add_objects(item, np.random.RandomState(seed))
        return item["gt_boxes"].tolist()

    first = boxes_with(seed=1)
    other = boxes_with(seed=2)
    again = boxes_with(seed=1)
    assert again == first
    assert other != first


def test_object_points_are_read_once_within_the_limit(tmp_path: Path) -> None:
    write_database(tmp_path, [car(30, 10), car(20, 10)])
    kept = ObjectPoints(tmp_path, 4, limit_bytes=80)  # room for one object of five points
    first = kept.read("gt_database/0.bin")
    assert kept.read("gt_database/0.bin") is first
    assert kept.read("gt_database/1.bin") is not kept.read("gt_database/1.bin")


def test_files_of_float64_are_told_by_their_number_of_points(tmp_path: Path) -> None:
    write_database(tmp_path, [car(30, 10)])
    points = np.arange(20, dtype=np.float64).reshape(5, 4)
    (tmp_path / "gt_database/0.bin").write_bytes(points.tobytes())
    read = ObjectPoints(tmp_path, 4).read("gt_database/0.bin", 5)
    np.testing.assert_array_equal(read, points)
    assert read.dtype == np.float32
    item = scene()
    before = len(item["points"])
    sampler(tmp_path)(item, np.random.RandomState(0))
    assert len(item["points"]) == before + 5


def share_points(root: Path, name: str = "all.npy") -> dict:
    """Put the points of all objects into one file; returns the keys of gt_sampling that read it."""
    file = root / "kitti_dbinfos_train.pkl"
    objects = pickle.loads(file.read_bytes())
    parts = []
    first = 0
    for info in objects["Car"]:
        points = np.fromfile(root / info["path"], dtype=np.float32).reshape(-1, 4)
        info["global_data_offset"] = [first, first + len(points)]
        first += len(points)
        parts.append(points)
        (root / info["path"]).unlink()
    np.save(root / name, np.concatenate(parts))
    file.write_bytes(pickle.dumps(objects))
    return {"USE_SHARED_MEMORY": True, "DB_DATA_PATH": [name]}


def test_objects_of_one_shared_file_are_those_of_their_own_files(tmp_path: Path) -> None:
    write_database(tmp_path, [car(30, -10), car(15, 12), car(20, 20)])
    own = scene()
    sampler(tmp_path)(own, np.random.RandomState(0))
    shared = scene()
    from_one_file = sampler(tmp_path, **share_points(tmp_path))
    from_one_file(shared, np.random.RandomState(0))
    assert len(own["points"]) == len(scene()["points"]) + 15
    np.testing.assert_array_equal(shared["points"], own["points"])
    np.testing.assert_array_equal(shared["gt_boxes"], own["gt_boxes"])


def test_a_shared_file_is_not_sent_to_another_process(tmp_path: Path) -> None:
    write_database(tmp_path, [car(30, -10)])
    source = sampler(tmp_path, **share_points(tmp_path)).object_points
    info = {"global_data_offset": [0, 5]}
    points = source.of(info)
    sent = pickle.dumps(source)
    assert len(sent) < 1000
    np.testing.assert_array_equal(pickle.loads(sent).of(info), points)


def test_without_shared_memory_the_shared_file_is_not_read(tmp_path: Path) -> None:
    """VoxelNeXt's yaml names a DB_DATA_PATH that it does not use."""
    write_database(tmp_path, [car(30, -10)])
    item = scene()
    changes = {"USE_SHARED_MEMORY": False, "DB_DATA_PATH": ["gone.npy"]}
    sampler(tmp_path, **changes)(item, np.random.RandomState(0))
    assert len(item["gt_boxes"]) == 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"DB_DATA_PATH": ["gone.npy"]}, "gone.npy: cannot be read as numbers of numpy"),
        ({"DB_DATA_PATH": ["all.npy", "b.npy"]}, "DB_DATA_PATH: expected one file"),
        ({"NUM_POINT_FEATURES": 5}, r"all.npy: has the shape \(5, 4\), expected 5 columns"),
    ],
)
def test_a_shared_file_that_does_not_fit(tmp_path: Path, changes: dict, words: str) -> None:
    write_database(tmp_path, [car(30, 10)])
    with pytest.raises((ConfigError, DataError), match=words):
        sampler(tmp_path, **{**share_points(tmp_path), **changes})


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (None, "class Car lacks the entry 'global_data_offset'"),
        ([3, 9], "holds 5 points, but an object of class Car has the rows 3 to 9"),
    ],
)
def test_objects_without_a_place_in_the_shared_file(tmp_path: Path, place, words: str) -> None:
    write_database(tmp_path, [car(30, 10)])
    keys = share_points(tmp_path)
    file = tmp_path / "kitti_dbinfos_train.pkl"
    objects = pickle.loads(file.read_bytes())
    objects["Car"][0]["global_data_offset"] = place
    file.write_bytes(pickle.dumps(objects))
    with pytest.raises(DataError, match=words):
        sampler(tmp_path, **keys)


def test_points_of_some_sweeps(tmp_path: Path) -> None:
    """FILTER_OBJ_POINTS_BY_TIMESTAMP: ages inside TIME_RANGE, both ends included."""
    write_database(tmp_path, [car(30, 10)])
    points = np.zeros((5, 4), dtype=np.float32)
    points[:, 3] = [0.0, 0.05, 0.1, 0.15, 0.2]
    points.tofile(tmp_path / "gt_database/0.bin")
    filtering = {"FILTER_OBJ_POINTS_BY_TIMESTAMP": True, "TIME_RANGE": [0.1, 0.0]}
    item = scene()
    before = len(item["points"])
    sampler(tmp_path, **filtering)(item, np.random.RandomState(0))
    assert len(item["points"]) == before + 3
    np.testing.assert_allclose(item["points"][:3, 3], [0.0, 0.05, 0.1], atol=1e-6)


@pytest.mark.parametrize("limits", [None, 0.2, [0.1], [0.0, 0.1, 0.2]])
def test_a_wrong_range_of_ages_is_named(tmp_path: Path, limits) -> None:
    write_database(tmp_path, [car(30, 10)])
    with pytest.raises(ConfigError, match="gt_sampling.TIME_RANGE"):
        sampler(tmp_path, FILTER_OBJ_POINTS_BY_TIMESTAMP=True, TIME_RANGE=limits)


def test_missing_object_file_is_named(tmp_path: Path) -> None:
    write_database(tmp_path, [car(30, 10)])
    (tmp_path / "gt_database/0.bin").unlink()
    with pytest.raises(DataError, match="0.bin.*does not exist"):
        sampler(tmp_path)(scene(), np.random.RandomState(0))


@pytest.mark.parametrize(
    ("cars", "words"),
    [
        (None, "dict with a list of objects per class"),
        ([{"name": "Car"}], "object 0 of class Car cannot be used, it lacks path"),
        (
            [
                {
                    "name": "Car",
                    "path": "gone.bin",
                    "box3d_lidar": np.zeros(7),
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
        ({"AUG_WITH_IMAGE": True}, "AUG_WITH_IMAGE: True .* set it to False"),
        ({"BACKUP_DB_INFO": {"DB_INFO_PATH": "b.pkl"}}, "BACKUP_DB_INFO is not read"),
        ({"DB_INFO_PATH": ["other.pkl"]}, "other.pkl.*pcdet-distill data kitti"),
    ],
)
def test_bad_sampling_config(tmp_path: Path, changes: dict, words: str) -> None:
    write_database(tmp_path, [])
    with pytest.raises((ConfigError, DataError), match=words):
        sampler(tmp_path, **changes)
