"""Argoverse 2 from its feather files: infos, sweeps, items, evaluation, and wrong folders."""

from __future__ import annotations

import copy
import math
import pickle
import shutil
from pathlib import Path

import numpy as np
import pyarrow.feather
import pytest
import torch
from easydict import EasyDict
from tiny_argoverse2 import (
    BUS_IN_CITY,
    BUS_SIZE,
    annotation_rows,
    in_vehicle,
    timestamp,
    write_annotations,
    write_folder,
    write_log,
    write_table,
)

from pcdet_distill.config import Argo2Options, load_config
from pcdet_distill.datasets import build_dataset
from pcdet_distill.datasets.argoverse2.infos import create_argoverse2_infos
from pcdet_distill.datasets.safe_pickle import load_plain_pickle
from pcdet_distill.errors import ConfigError, DataError
from pcdet_distill.evaluation.argoverse2 import Argoverse2Result
from pcdet_distill.evaluation.lidar import LidarResult
from pcdet_distill.ops.points import points_in_boxes_mask

CLASSES = ["Bus", "Pedestrian"]
FEATURES = ["x", "y", "z", "intensity"]
MAX_SWEEPS = 2


def make_infos(root: Path, max_sweeps: int = MAX_SWEEPS, **options):
    return create_argoverse2_infos(
        root, Argo2Options(max_sweeps=max_sweeps), FEATURES, show_progress=False, **options
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The official layout with its infos, shared: tests only read it."""
    root = write_folder(tmp_path_factory.mktemp("argo2"))
    make_infos(root)
    return root


@pytest.fixture
def data_config() -> EasyDict:
    config = copy.deepcopy(load_config("cfgs/dataset_configs/argoverse2_dataset.yaml"))
    config.POINT_CLOUD_RANGE = [-51.2, -51.2, -5, 51.2, 51.2, 5]
    config.DATA_PROCESSOR[2].VOXEL_SIZE = [0.8, 0.8, 10]
    return config


def make(config, root: Path, training: bool = False, classes=CLASSES):
    config.DATA_PATH = str(root)
    return build_dataset(config, classes, training=training)


def infos_of(root: Path, split: str) -> list:
    return load_plain_pickle(root / f"argo2_infos_{split}.pkl", "")


# ---- Infos ----


def test_splits_and_numbers_of_frames(folder: Path) -> None:
    names = {
        split: [info["uuid"] for info in infos_of(folder, split)] for split in ("train", "val")
    }
    assert names["train"] == [
        *(f"log-a/{timestamp(number)}" for number in range(3)),
        *(f"log-b/{timestamp(number)}" for number in range(2)),
    ]
    assert names["val"] == [f"log-c/{timestamp(number)}" for number in range(2)]
    numbers = [info["sample_idx"] for info in infos_of(folder, "train")]
    assert numbers == ["0000000", "0000001", "0000002", "0001000", "0001001"]
    assert "annos" not in infos_of(folder, "test")[0]


def test_counts_are_returned(tmp_path: Path) -> None:
    counts = make_infos(write_folder(tmp_path))
    assert counts == {
        "frames": {"train": 5, "val": 2, "test": 1},
        "objects": {"Bus": 5, "Pedestrian": 5},
    }


def test_several_processes_make_the_same_infos(folder: Path, tmp_path: Path) -> None:
    other = write_folder(tmp_path)
    make_infos(other, workers=2)
    for split in ("train", "val", "test"):
        assert repr(infos_of(other, split)) == repr(infos_of(folder, split))


def test_labels_are_boxes_in_the_vehicles_frame(folder: Path) -> None:
    annos = infos_of(folder, "train")[2]["annos"]
    assert annos["name"].tolist() == ["Bus", "Pedestrian"]  # the sign has no points
    assert annos["num_points_in_gt"].tolist() == [40, 12]
    np.testing.assert_allclose(annos["location"][0], in_vehicle(BUS_IN_CITY, 2))
    np.testing.assert_allclose(annos["dimensions"][0], BUS_SIZE)
    np.testing.assert_allclose(annos["rotation_y"][0], 1.2 - math.pi / 2)


def test_the_database_holds_the_points_of_all_sweeps(folder: Path) -> None:
    objects = load_plain_pickle(folder / "argo2_dbinfos_train.pkl", "")
    first, second = objects["Bus"][:2]
    assert first["num_points_in_gt"] == 40  # a log's first frame has no earlier sweep
    assert second["num_points_in_gt"] == 80  # the bus is parked: both sweeps hit the same place
    points = np.fromfile(folder / second["path"], dtype=np.float32).reshape(-1, 4)
    assert len(points) == 80
    assert np.abs(points[:, :3]).max() < max(BUS_SIZE) / 2


@pytest.mark.parametrize("flat", [False, True])
def test_a_single_log_is_divided_by_time(tmp_path: Path, flat: bool) -> None:
    write_log(tmp_path, 5, flat=flat)
    counts = make_infos(tmp_path, val_share=0.4)
    assert counts["frames"] == {"train": 3, "val": 2}
    first_of_val = infos_of(tmp_path, "val")[0]
    assert first_of_val["uuid"].endswith(str(timestamp(3)))
    assert len(first_of_val["sweeps"]) == 1  # the sweep before it, of the other split


def test_a_single_log_with_its_sweeps_in_a_folder_lidar(tmp_path: Path) -> None:
    write_log(tmp_path, 4)
    (tmp_path / "sensors" / "lidar").rename(tmp_path / "lidar")
    (tmp_path / "sensors").rmdir()
    assert make_infos(tmp_path, val_share=0.5)["frames"] == {"train": 2, "val": 2}


def test_labels_of_another_log_are_named(tmp_path: Path) -> None:
    write_log(tmp_path, 2)
    rows = [(row[0] + 10**12, *row[1:]) for row in annotation_rows(0)]
    write_annotations(tmp_path, rows)
    with pytest.raises(DataError, match="labels none of the 1 sweeps beside it"):
        make_infos(tmp_path)


def test_a_single_sweep_is_in_both_splits(tmp_path: Path) -> None:
    write_log(tmp_path, 1, flat=True)
    assert make_infos(tmp_path)["frames"] == {"train": 1, "val": 1}


def test_logs_without_split_folders_are_divided_by_log(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_log(tmp_path / name, 1)
    assert make_infos(tmp_path)["frames"] == {"train": 2, "val": 1}
    assert infos_of(tmp_path, "val")[0]["uuid"].startswith("c/")


# ---- Items ----


def test_a_frame_of_one_sweep(folder: Path, data_config) -> None:
    item = make(data_config, folder).load_frame(0)
    assert item["frame_id"] == "1000000"
    assert item["points"].shape == (352, 4)
    assert item["points"].dtype == np.float32
    inside = points_in_boxes_mask(item["points"], item["gt_boxes"]).sum(axis=1)
    assert inside.tolist() == [40, 12]
    assert item["gt_boxes"].dtype == np.float32


def test_earlier_sweeps_are_moved_to_the_newest_frame(folder: Path, data_config) -> None:
    data_config.MAX_SWEEPS = 2
    data_config.POINT_FEATURE_ENCODING.src_feature_list = ["x", "y", "z", "ring", "timestamp"]
    data_config.POINT_FEATURE_ENCODING.used_feature_list = ["x", "y", "z", "ring", "timestamp"]
    dataset = make(data_config, folder)
    assert len(dataset.load_frame(0)["points"]) == 352  # the first of its log
    item = dataset.load_frame(1)
    points = item["points"]
    assert points.shape == (704, 5)
    np.testing.assert_allclose(np.unique(points[:, 4]), [0, 0.1], atol=1e-6)
    bus, walker = points_in_boxes_mask(points, item["gt_boxes"])
    assert (bus[352:] > 0).sum() == 40  # parked: the older points fall into the same box
    # The walker moves 1 m against the vehicle, so its older points lie elsewhere.
    assert (walker[352:] > 0).sum() < 12


def test_training_items(folder: Path, data_config) -> None:
    data_config.DATA_AUGMENTOR.AUG_CONFIG_LIST = [
        EasyDict(
            NAME="gt_sampling",
            DB_INFO_PATH=["argo2_dbinfos_train.pkl"],
            PREPARE={"filter_by_min_points": ["Bus:5"]},
            SAMPLE_GROUPS=["Bus:3"],
            NUM_POINT_FEATURES=4,
            REMOVE_EXTRA_WIDTH=[0, 0, 0],
            LIMIT_WHOLE_SCENE=False,
        ),
        EasyDict(NAME="random_world_flip", ALONG_AXIS_LIST=["x"]),
    ]
    dataset = make(data_config, folder, training=True)
    batch = dataset.collate_batch([dataset[index] for index in range(len(dataset))])
    assert batch["gt_boxes"].shape[0] == 5
    assert batch["voxel_coords"].shape[1] == 4
    assert set(np.unique(batch["gt_boxes"][..., 7])) >= {1.0, 2.0}


def test_infos_of_openpcdet_with_points_in_bin_files(folder: Path, tmp_path, data_config) -> None:
    """OpenPCDet copies the points, and knows neither poses nor sweeps."""
    (info,) = infos_of(folder, "val")[:1]
    points = make(data_config, folder).load_frame(0)["points"]
    (tmp_path / "training" / "velodyne").mkdir(parents=True)
    points.tofile(tmp_path / "training" / "velodyne" / "1000000.bin")
    info["point_cloud"]["velodyne_path"] = "training/velodyne/1000000.bin"
    del info["max_sweeps"]
    info["sweeps"] = []
    (tmp_path / "argo2_infos_val.pkl").write_bytes(pickle.dumps([info]))
    item = make(data_config, tmp_path).load_frame(0)
    np.testing.assert_array_equal(item["points"], points)
    assert item["gt_names"].tolist() == ["Bus", "Pedestrian"]


def test_openpcdets_yaml_name_loads() -> None:
    assert load_config("cfgs/dataset_configs/argo2_dataset.yaml").DATASET == "Argo2Dataset"


# ---- Evaluation ----


def perfect(dataset) -> list[dict]:
    """Detections equal to the labels, through the dataset's own form."""
    annos = []
    for index in range(len(dataset)):
        item = dataset[index]
        prediction = {
            "pred_boxes": torch.as_tensor(item["gt_boxes"][:, :7]),
            "pred_scores": torch.linspace(0.9, 0.5, len(item["gt_boxes"])),
            "pred_labels": torch.as_tensor(item["gt_boxes"][:, 7]).long(),
        }
        batch = dataset.collate_batch([item])
        annos += dataset.generate_prediction_dicts(batch, [prediction], CLASSES)
    return annos


def test_perfect_detections_have_a_perfect_score(folder: Path, data_config) -> None:
    dataset = make(data_config, folder)
    result = dataset.evaluate(perfect(dataset))
    assert isinstance(result, Argoverse2Result)
    assert result.primary.value == pytest.approx(1, abs=1e-6)
    text, numbers = dataset.evaluation(perfect(dataset), CLASSES)
    assert text == result.text
    assert numbers["Bus/AP"] == pytest.approx(1)


def test_the_range_of_the_yaml_is_used(folder: Path, data_config) -> None:
    data_config.EVALUATE_RANGE = 10.0
    dataset = make(data_config, folder)
    result = dataset.evaluate(perfect(dataset))
    assert result.of_category("Bus").num_objects == 0
    assert result.of_category("Pedestrian").num_objects == 2


def test_the_block_evaluation_chooses_the_lidar_evaluation(folder: Path, data_config) -> None:
    data_config.EVALUATION = {"POINT_EDGES": [20]}
    dataset = make(data_config, folder)
    result = dataset.evaluate(perfect(dataset))
    assert isinstance(result, LidarResult)
    assert result.map() == pytest.approx(100)
    assert result.of_class("Bus").by_points[1].figures


def test_a_test_split_is_not_evaluated(folder: Path, data_config) -> None:
    data_config.INFO_PATH.test = ["argo2_infos_test.pkl"]
    dataset = make(data_config, folder)
    assert "gt_boxes" not in dataset[0]
    with pytest.raises(DataError, match="has no labels"):
        dataset.evaluate([])


def test_detections_are_written_as_av2_reads_them(folder: Path, tmp_path, data_config) -> None:
    dataset = make(data_config, folder)
    batch = dataset.collate_batch([dataset[0], dataset[1]])
    box = torch.tensor([[1.0, 2, 3, 4, 5, 6, 0.5]])
    some = {"pred_boxes": box, "pred_scores": torch.ones(1), "pred_labels": torch.ones(1).long()}
    none = {key: value[:0] for key, value in some.items()}
    dataset.generate_prediction_dicts(batch, [some, none], CLASSES, output_path=tmp_path)
    first, second = sorted(tmp_path.iterdir())
    assert first.name == f"log-c_{timestamp(0)}.feather"
    (row,) = pyarrow.feather.read_table(first).to_pylist()
    assert row["category"] == "BUS"
    assert row["timestamp_ns"] == timestamp(0)
    assert row["length_m"] == 4
    assert 2 * math.atan2(row["qz"], row["qw"]) == pytest.approx(0.5)
    assert pyarrow.feather.read_table(second).num_rows == 0


# ---- Wrong folders and files ----


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="this dataset folder does not exist"):
        make_infos(tmp_path / "nowhere")


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no sweeps found; expected Argoverse 2 as sensor/"):
        make_infos(tmp_path)


def test_a_log_in_train_and_in_val(tmp_path: Path) -> None:
    write_log(tmp_path / "train" / "a", 1)
    write_log(tmp_path / "val" / "a", 1)
    with pytest.raises(DataError, match="log a is in train and in val"):
        make_infos(tmp_path)


def test_no_validation_log(tmp_path: Path) -> None:
    write_log(tmp_path / "train" / "a", 1)
    with pytest.raises(DataError, match="no log for the split val"):
        make_infos(tmp_path)


@pytest.mark.parametrize("name", ["annotations.feather", "city_SE3_egovehicle.feather"])
def test_a_missing_table_is_named(tmp_path: Path, name: str) -> None:
    write_log(tmp_path, 2)
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match=f"{name}: this table of the log does not exist"):
        make_infos(tmp_path)


@pytest.mark.parametrize("name", ["annotations.feather", "city_SE3_egovehicle.feather"])
def test_a_truncated_table_is_named(tmp_path: Path, name: str) -> None:
    write_log(tmp_path, 2)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=f"{name}: truncated or damaged"):
        make_infos(tmp_path)


def test_a_truncated_sweep_is_named_and_old_files_stay(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(folder, root)
    before = (root / "argo2_infos_train.pkl").read_bytes()
    sweep = sorted((root / "sensor" / "train" / "log-a" / "sensors" / "lidar").iterdir())[1]
    sweep.write_bytes(sweep.read_bytes()[:200])
    with pytest.raises(DataError, match=rf"{sweep.name}: truncated or damaged"):
        make_infos(root)
    assert (root / "argo2_infos_train.pkl").read_bytes() == before


def test_a_table_of_something_else_is_named(tmp_path: Path) -> None:
    write_log(tmp_path, 2)
    write_table(tmp_path / "annotations.feather", {"timestamp": [1], "tx_m": [1.0]})
    with pytest.raises(DataError, match="no column 'ty_m'; did you mean 'tx_m'"):
        make_infos(tmp_path)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        (3, -4.0, "row 0 is no box"),
        (10, math.nan, "row 0 is no box"),
        (6, 0.0, "is no unit quaternion"),
    ],
)
def test_a_wrong_box_is_named(tmp_path: Path, column: int, value: float, words: str) -> None:
    write_log(tmp_path, 2)
    first, *others = annotation_rows(0)
    changed = list(first)
    changed[column] = value
    if words.endswith("quaternion"):
        changed[6:10] = [0.0, 0.0, 0.0, 0.0]
    write_annotations(tmp_path, [tuple(changed), *others])
    with pytest.raises(DataError, match=words):
        make_infos(tmp_path)


def test_poses_of_another_time_are_named(tmp_path: Path) -> None:
    write_log(tmp_path, 2)
    poses = pyarrow.feather.read_table(tmp_path / "city_SE3_egovehicle.feather").to_pydict()
    poses["timestamp_ns"] = [time + 10**9 for time in poses["timestamp_ns"]]
    write_table(tmp_path / "city_SE3_egovehicle.feather", poses)
    with pytest.raises(DataError, match="no pose within 20 ms"):
        make_infos(tmp_path)


def test_more_sweeps_than_the_infos_list(folder: Path, data_config) -> None:
    data_config.MAX_SWEEPS = 5
    with pytest.raises(DataError, match=r"lists 2 sweeps a frame, but .*MAX_SWEEPS is 5"):
        make(data_config, folder)


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (["x", "y", "z", "elongation"], "a sweep of Argoverse 2 has no 'elongation'"),
        (["y", "x", "z"], "must begin with x, y, z"),
    ],
)
def test_unknown_features_are_named(folder: Path, data_config, features: list, words: str) -> None:
    data_config.POINT_FEATURE_ENCODING.src_feature_list = features
    data_config.POINT_FEATURE_ENCODING.used_feature_list = ["x", "y", "z"]
    with pytest.raises(ConfigError, match=words):
        make(data_config, folder)


def test_classes_in_capitals_get_a_hint(folder: Path, data_config) -> None:
    with pytest.raises(DataError, match="holds a PEDESTRIAN; they hold Bus, Pedestrian"):
        make(data_config, folder, training=True, classes=["PEDESTRIAN"])


def test_a_foreign_pickle_is_no_info_file(folder: Path, tmp_path: Path, data_config) -> None:
    (tmp_path / "argo2_infos_val.pkl").write_bytes(pickle.dumps([{"uuid": "a/1"}]))
    with pytest.raises(DataError, match=r"entry 0 is no Argoverse 2 info, it lacks sample_idx"):
        make(data_config, tmp_path)
    with pytest.raises(DataError, match="this info file does not exist; make it with"):
        make(data_config, tmp_path / "sensor")
