"""The common cloud: joined sensors and sweeps, its database, and the views that select from it."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
from easydict import EasyDict

from pcdet_distill.config import CloudOptions
from pcdet_distill.datasets import build_dataset
from pcdet_distill.datasets.common_cloud import read_cloud, without_common_cloud
from pcdet_distill.datasets.dataset import DatasetTemplate
from pcdet_distill.datasets.kitti.kitti_infos import create_kitti_infos
from pcdet_distill.datasets.synthetic import create_synthetic_kitti
from pcdet_distill.datasets.view import PointView, processing_of
from pcdet_distill.errors import ConfigError, DataError
from pcdet_distill.types import ConfigDict

CLASSES = ["Car", "Pedestrian", "Cyclist"]
CLOUD = {"NAME": "all", "FOLDERS": ["velodyne", "velodyne_vlp16"], "SWEEPS": 3}
ALL_FEATURES = ["x", "y", "z", "intensity", "sensor", "timestamp"]
TEACHER_STEPS = [{"NAME": "select_sensor", "SENSORS": ["velodyne"]}]
STUDENT_STEPS = [
    {"NAME": "select_sensor", "SENSORS": ["velodyne_vlp16"]},
    {"NAME": "select_sweeps", "MAX_AGE_S": 0.0},
]
STEPS = [
    {"NAME": "mask_points_and_boxes_outside_range", "REMOVE_OUTSIDE_BOXES": True},
    {"NAME": "shuffle_points", "SHUFFLE_ENABLED": {"train": True, "test": False}},
    {
        "NAME": "transform_points_to_voxels",
        "VOXEL_SIZE": [0.4, 0.4, 4],
        "MAX_POINTS_PER_VOXEL": 20,
        "MAX_NUMBER_OF_VOXELS": {"train": 8000, "test": 8000},
    },
]
SAMPLING = {
    "NAME": "gt_sampling",
    "DB_INFO_PATH": ["kitti_dbinfos_train_all.pkl"],
    "PREPARE": {"filter_by_min_points": ["Car:1", "Pedestrian:1", "Cyclist:1"]},
    "SAMPLE_GROUPS": ["Car:8", "Pedestrian:8", "Cyclist:8"],
    "NUM_POINT_FEATURES": 6,
    "REMOVE_EXTRA_WIDTH": [0.0, 0.0, 0.0],
}
WORLD = [
    {"NAME": "random_world_flip", "ALONG_AXIS_LIST": ["x"]},
    {"NAME": "random_world_rotation", "WORLD_ROT_ANGLE": [-0.4, 0.4]},
    {"NAME": "random_world_scaling", "WORLD_SCALE_RANGE": [0.95, 1.05]},
]


def data_config(
    selections: list[dict], augmentations: list[dict] = (), **changes: object
) -> ConfigDict:
    """A DATA_CONFIG of the common cloud."""
    config = {
        "DATASET": "KittiDataset",
        "DATA_PATH": "",
        "POINT_CLOUD_RANGE": [0, -25.6, -3, 51.2, 25.6, 1],
        "DATA_SPLIT": {"train": "train", "test": "val"},
        "INFO_PATH": {"train": ["kitti_infos_train.pkl"], "test": ["kitti_infos_val.pkl"]},
        "FOV_POINTS_ONLY": True,
        "COMMON_CLOUD": CLOUD,
        "DATA_AUGMENTOR": {"AUG_CONFIG_LIST": list(augmentations)},
        "POINT_FEATURE_ENCODING": {
            "encoding_type": "absolute_coordinates_encoding",
            "used_feature_list": ALL_FEATURES[:4],
            "src_feature_list": ALL_FEATURES,
        },
        "DATA_PROCESSOR": [*selections, *STEPS],
        **changes,
    }
    return EasyDict(copy.deepcopy(config))


def plain_config(augmentations: list[dict] = ()) -> ConfigDict:
    """A DATA_CONFIG of KITTI's points alone."""
    config = data_config([], augmentations)
    del config["COMMON_CLOUD"]
    config.POINT_FEATURE_ENCODING.src_feature_list = ALL_FEATURES[:4]
    return config


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four frames of two sensors in three sweeps, with infos and two databases."""
    folder = create_synthetic_kitti(
        tmp_path_factory.mktemp("cloud") / "sim",
        5,
        1,
        val_frames=1,
        sensors=["hdl64e", "vlp16"],
        sweeps=3,
        progress=False,
    )
    create_kitti_infos(folder, show_progress=False)
    cloud = CloudOptions.from_config({"COMMON_CLOUD": CLOUD})
    create_kitti_infos(folder, show_progress=False, cloud=cloud)
    return folder


def dataset_of(config: ConfigDict, root: Path, training: bool = True) -> DatasetTemplate:
    config.DATA_PATH = str(root)
    return build_dataset(config, CLASSES, training=training, seed=4)


def read(root: Path, folder: str, columns: int) -> np.ndarray:
    file = root / "training" / folder / "000001.bin"
    return np.fromfile(file, dtype=np.float32).reshape(-1, columns)


def rows(points: np.ndarray) -> set[tuple[float, ...]]:
    return {tuple(row) for row in points.tolist()}


# Reading


def test_sensors_and_sweeps_are_joined_with_their_columns(root: Path) -> None:
    options = CloudOptions.from_config({"COMMON_CLOUD": CLOUD})
    points = read_cloud(root / "training", "000001", options)
    assert points.dtype == np.float32
    assert options.features == tuple(ALL_FEATURES)
    for bit, folder in ((1, "velodyne"), (2, "velodyne_vlp16")):
        own = points[points[:, 4] == bit]
        last = own[own[:, 5] == 0]
        np.testing.assert_array_equal(last[:, :4], read(root, folder, 4))
        earlier = own[own[:, 5] > 0][:, [0, 1, 2, 3, 5]]
        np.testing.assert_array_equal(earlier, read(root, f"{folder}_sweeps", 5))
    two = CloudOptions.from_config({"COMMON_CLOUD": {"NAME": "two", "SWEEPS": 2}})
    ages = read_cloud(root / "training", "000001", two)[:, 4]
    np.testing.assert_allclose(np.unique(ages), [0.0, 0.1], atol=1e-6)


def test_the_default_cloud_is_kittis(root: Path) -> None:
    points = read_cloud(root / "training", "000001", CloudOptions())
    np.testing.assert_array_equal(points, read(root, "velodyne", 4))


def test_more_sweeps_than_there_are(root: Path) -> None:
    options = CloudOptions.from_config({"COMMON_CLOUD": {"NAME": "a", "SWEEPS": 5}})
    with pytest.raises(DataError, match="holds 2 earlier sweeps, .* asks for 4; make .*--sweeps 5"):
        read_cloud(root / "training", "000001", options)


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"FOLDERS": []}, "FOLDERS: expected different folders, found"),
        ({"FOLDERS": ["velodyne", "velodyne"]}, "FOLDERS: expected different folders"),
        ({"NAME": "a", "SWEEPS": 2, "BEAMS": "order"}, "BEAMS: beams cannot be found in earlier"),
        ({"SWEEPS": 2}, "COMMON_CLOUD.NAME is missing"),
        ({"FOLDERS": ["velodyne_vlp16"]}, "COMMON_CLOUD.NAME is missing"),
        ({"SWEEP": 2}, "unknown key 'SWEEP'"),
        ({"BEAMS": "odrer"}, "did you mean 'order'"),
    ],
)
def test_wrong_clouds_are_one_sentence(block: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        CloudOptions.from_config({"COMMON_CLOUD": block})


def test_the_feature_list_must_be_the_clouds(root: Path) -> None:
    config = data_config(STUDENT_STEPS)
    config.POINT_FEATURE_ENCODING.src_feature_list = ALL_FEATURES[:4]
    with pytest.raises(ConfigError, match=r"no column 'sensor'|src_feature_list: expected"):
        dataset_of(config, root)


# The database


def database(root: Path, suffix: str = "") -> list[dict]:
    objects = pickle.loads((root / f"kitti_dbinfos_train{suffix}.pkl").read_bytes())
    return [info for infos in objects.values() for info in infos]


def test_the_database_holds_the_common_cloud_of_each_object(root: Path) -> None:
    plain = database(root)
    common = database(root, "_all")
    assert len(plain) == len(common) > 5
    for small, large in zip(plain, common):
        assert small["path"].startswith("gt_database/")
        assert large["path"].startswith("gt_database_all/")
        few = np.fromfile(root / small["path"], dtype=np.float32).reshape(-1, 4)
        many = np.fromfile(root / large["path"], dtype=np.float32).reshape(-1, 6)
        of_last_sweep = many[(many[:, 4] == 1) & (many[:, 5] == 0)]
        np.testing.assert_array_equal(of_last_sweep[:, :4], few)
    assert sum(info["num_points_in_gt"] for info in common) > 1.5 * sum(
        info["num_points_in_gt"] for info in plain
    )


def test_both_databases_stay_and_the_infos_are_the_same(root: Path) -> None:
    before = (root / "kitti_infos_train.pkl").read_bytes()
    create_kitti_infos(root, show_progress=False)
    assert (root / "kitti_infos_train.pkl").read_bytes() == before
    assert (root / "kitti_dbinfos_train_all.pkl").is_file()
    assert (root / "gt_database_all").is_dir()


def test_min_points_count_what_the_model_sees(root: Path) -> None:
    few = dict(
        SAMPLING, PREPARE={"filter_by_min_points": ["Car:20", "Pedestrian:20", "Cyclist:20"]}
    )
    kept = {}
    for name, steps in (("teacher", TEACHER_STEPS), ("student", STUDENT_STEPS)):
        dataset = dataset_of(data_config(steps, [few]), root)
        sampler = dataset.data_augmentor.queue[0][1]
        kept[name] = [info for infos in sampler.db_infos.values() for info in infos]
        for info in kept[name]:
            points = np.fromfile(root / info["path"], dtype=np.float32).reshape(-1, 6)
            seen = dataset.data_processor.select(points)
            assert info["num_points_in_gt"] == len(seen) >= 20
    assert 0 < len(kept["student"]) < len(kept["teacher"])


def test_a_database_of_other_columns_is_refused(root: Path) -> None:
    wrong = dict(SAMPLING, NUM_POINT_FEATURES=4)
    with pytest.raises(
        ConfigError, match="NUM_POINT_FEATURES: 4, but the points of the scene have 6"
    ):
        dataset_of(data_config(STUDENT_STEPS, [wrong]), root)


def test_a_missing_database_says_how_it_is_made(root: Path) -> None:
    other = dict(SAMPLING, DB_INFO_PATH=["kitti_dbinfos_train_none.pkl"])
    with pytest.raises(
        DataError, match="pcdet-distill data kitti CFG', where CFG is the yaml file with"
    ):
        dataset_of(data_config(STUDENT_STEPS, [other]), root)


# Views


def with_teacher(student: ConfigDict, teacher: ConfigDict, root: Path) -> DatasetTemplate:
    """The student's dataset with the teacher's view."""
    dataset = dataset_of(student, root)
    stored = dataset.point_feature_encoder.src_feature_list
    cloud = CloudOptions.from_config(student)
    dataset.add_view("teacher", PointView(teacher, stored, True, cloud))
    return dataset


def test_teacher_and_student_see_their_own_points_of_one_augmented_item(root: Path) -> None:
    # Without a filter, as that counts what each model sees.
    sampling = {**SAMPLING, "PREPARE": {}}
    student = data_config(STUDENT_STEPS, [sampling, *WORLD])
    teacher = data_config(TEACHER_STEPS)
    both = data_config([], [sampling, *WORLD])
    item = with_teacher(student, teacher, root)[0]
    # The same item with all points and all columns, to see where each came from.
    both.POINT_FEATURE_ENCODING.used_feature_list = ALL_FEATURES
    common = dataset_of(both, root)[0]
    np.testing.assert_array_equal(common["gt_boxes"], item["gt_boxes"])
    points = common["points"]
    of_teacher = points[points[:, 4] == 1][:, :4]
    of_student = points[(points[:, 4] == 2) & (points[:, 5] == 0)][:, :4]
    assert rows(item["teacher"]["points"]) == rows(of_teacher)
    assert rows(item["points"]) == rows(of_student)
    assert len(of_student) * 5 < len(of_teacher)


def test_the_teachers_input_is_what_it_was_trained_on(root: Path) -> None:
    """A teacher of KITTI's points alone gets exactly these out of the common cloud."""
    trained_on = dataset_of(plain_config(WORLD), root)
    distilled = with_teacher(data_config(STUDENT_STEPS, WORLD), plain_config(), root)
    for index in range(4):
        expected = trained_on[index]
        found = distilled[index]
        np.testing.assert_array_equal(expected["gt_boxes"], found["gt_boxes"])
        for key in ("points", "voxels", "voxel_coords", "voxel_num_points"):
            np.testing.assert_array_equal(expected[key], found["teacher"][key], err_msg=key)


def test_objects_are_pasted_for_both(root: Path) -> None:
    """An object of the database brings its points of both sensors."""
    dataset = with_teacher(data_config(STUDENT_STEPS, [SAMPLING]), data_config(TEACHER_STEPS), root)
    frame = dataset.load_frame(0)
    is_trained = np.isin(frame["gt_names"], CLASSES)
    item = dataset[0]
    pasted = item["gt_boxes"][is_trained.sum() :]
    assert len(pasted) > 3
    near_both = 0
    for box in pasted:
        counts = []
        for points in (item["points"], item["teacher"]["points"]):
            distance_m = np.hypot(points[:, 0] - box[0], points[:, 1] - box[1])
            counts.append(int((distance_m < box[3] / 2).sum()))
        near_both += counts[0] > 0 and counts[1] > counts[0]
    assert near_both >= 0.8 * len(pasted)


def test_different_clouds_and_selections_need_a_view() -> None:
    student = processing_of(data_config(STUDENT_STEPS), True)
    assert student == processing_of(data_config(STUDENT_STEPS), True)
    assert student != processing_of(data_config(TEACHER_STEPS), True)
    fewer = data_config(STUDENT_STEPS, COMMON_CLOUD={**CLOUD, "SWEEPS": 2})
    assert student != processing_of(fewer, True)


@pytest.mark.parametrize(
    ("cloud", "words"),
    [
        (
            {"NAME": "a", "FOLDERS": ["lidar32"]},
            "made for the points of lidar32, but the data hold",
        ),
        ({"NAME": "a", "SWEEPS": 2}, "made for 2 sweeps, the data hold 3; expected as many, or 1"),
        ({"NAME": "a", "BEAMS": "order"}, "numbers beams by order, the data by none"),
    ],
)
def test_a_teacher_of_other_points_is_refused(cloud: dict[str, object], words: str) -> None:
    teacher = data_config([], COMMON_CLOUD=cloud)
    stored = CloudOptions.from_config({"COMMON_CLOUD": CLOUD})
    with pytest.raises(ConfigError, match=words):
        PointView(teacher, ALL_FEATURES, True, stored)


def test_point_files_of_a_demo_hold_what_the_model_sees() -> None:
    config = without_common_cloud(data_config(STUDENT_STEPS))
    assert config["POINT_FEATURE_ENCODING"]["src_feature_list"] == ALL_FEATURES[:4]
    assert [step["NAME"] for step in config["DATA_PROCESSOR"]] == [step["NAME"] for step in STEPS]
    assert without_common_cloud(plain_config()) == plain_config()
