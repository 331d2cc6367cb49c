"""CustomDataset: own data becomes items, OpenPCDet's infos are read, detections are scored."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from easydict import EasyDict
from tiny_custom import CLASSES, TinyCustom, box_of, cloud_of, fill_custom, objects_of

from pcdet_distill.config import load_config
from pcdet_distill.datasets import CustomDataset, build_dataset
from pcdet_distill.datasets.custom.custom_infos import create_custom_infos
from pcdet_distill.errors import ConfigError, DataError

DATA_CONFIG = {
    "DATASET": "CustomDataset",
    "DATA_PATH": "",
    "POINT_CLOUD_RANGE": [-12.8, -12.8, -3, 12.8, 12.8, 1],
    "MAP_CLASS_TO_KITTI": {"Forklift": "Car", "Person": "Pedestrian"},
    "DATA_SPLIT": {"train": "train", "test": "val"},
    "INFO_PATH": {"train": ["custom_infos_train.pkl"], "test": ["custom_infos_val.pkl"]},
    "DATA_AUGMENTOR": {
        "AUG_CONFIG_LIST": [
            {
                "NAME": "gt_sampling",
                "USE_ROAD_PLANE": False,
                "DB_INFO_PATH": ["custom_dbinfos_train.pkl"],
                "PREPARE": {"filter_by_min_points": ["Forklift:5", "Person:5"]},
                "SAMPLE_GROUPS": ["Forklift:2", "Person:2"],
                "NUM_POINT_FEATURES": 4,
                "REMOVE_EXTRA_WIDTH": [0, 0, 0],
                "LIMIT_WHOLE_SCENE": False,
            }
        ]
    },
    "POINT_FEATURE_ENCODING": {
        "encoding_type": "absolute_coordinates_encoding",
        "used_feature_list": ["x", "y", "z", "intensity"],
        "src_feature_list": ["x", "y", "z", "intensity"],
    },
    "DATA_PROCESSOR": [
        {"NAME": "mask_points_and_boxes_outside_range", "REMOVE_OUTSIDE_BOXES": True},
        {
            "NAME": "transform_points_to_voxels",
            "VOXEL_SIZE": [0.4, 0.4, 4],
            "MAX_POINTS_PER_VOXEL": 16,
            "MAX_NUMBER_OF_VOXELS": {"train": 4096, "test": 4096},
        },
    ],
}


@pytest.fixture(scope="module")
def shared_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A filled folder with infos, which tests only read."""
    custom = fill_custom(tmp_path_factory.mktemp("custom") / "own")
    create_custom_infos(custom.root, show_progress=False)
    return custom.root


@pytest.fixture
def config(shared_root: Path) -> EasyDict:
    config = EasyDict(copy.deepcopy(DATA_CONFIG))
    config.DATA_PATH = str(shared_root)
    return config


def make(config: EasyDict, training: bool = False, classes: list[str] = CLASSES) -> CustomDataset:
    dataset = build_dataset(config, classes, training=training)
    assert isinstance(dataset, CustomDataset)
    return dataset


def detections_of(dataset: CustomDataset, boxes: list[np.ndarray]) -> list[dict]:
    """What a detector that finds these boxes (M, 7), with right classes, is scored by."""
    annos = []
    for index, found in enumerate(boxes):
        prediction = {
            "pred_boxes": torch.tensor(found, dtype=torch.float32),
            "pred_scores": torch.linspace(0.9, 0.8, len(found)),
            "pred_labels": torch.tensor([1, 2]),
        }
        batch = {"frame_id": [dataset.frame_name(index)]}
        annos += dataset.generate_prediction_dicts(batch, [prediction], dataset.class_names)
    return annos


def test_a_frame_is_its_points_and_boxes(config: EasyDict) -> None:
    dataset = make(config)
    assert len(dataset) == 2
    item = dataset.load_frame(0)
    assert item["frame_id"] == "0004"
    np.testing.assert_array_equal(item["points"], cloud_of(objects_of(4), seed=4))
    assert item["gt_names"].tolist() == CLASSES
    np.testing.assert_allclose(item["gt_boxes"], [box_of(o) for o in objects_of(4)], atol=1e-5)


def test_training_items_gain_objects_of_other_frames(config: EasyDict) -> None:
    item = make(config, training=True)[0]
    assert len(item["gt_boxes"]) > 2
    assert set(item["gt_boxes"][:, 7].tolist()) == {1.0, 2.0}
    assert item["voxels"].shape[1:] == (16, 4)


def test_perfect_detections_have_the_highest_ap(config: EasyDict) -> None:
    dataset = make(config)
    truth = [dataset.load_frame(index)["gt_boxes"] for index in range(2)]
    found = dataset.evaluate(detections_of(dataset, truth))
    moved = [boxes + np.array([30, 0, 0, 0, 0, 0, 0]) for boxes in truth]
    missed = dataset.evaluate(detections_of(dataset, moved))
    assert found.primary is not None
    assert missed.primary is not None
    assert found.primary.value > 40
    assert missed.primary.value == 0
    assert all(name in found.text for name in CLASSES)


def test_kittis_metric_needs_no_camera(config: EasyDict) -> None:
    dataset = make(config)
    # KITTI's overlap is inexact for boxes that are the same to the last bit.
    truth = [dataset.load_frame(index)["gt_boxes"] + 0.01 for index in range(2)]
    perfect = detections_of(dataset, truth)
    text, numbers = dataset.evaluation(perfect, CLASSES, eval_metric="kitti")
    assert "Car" in text
    assert "Forklift" not in text
    assert numbers["Car_3d/easy_R40"] > 0
    turned = [boxes * np.array([1, 1, 1, 1, 1, 1, 0]) + [0, 0, 0, 0, 0, 0, 1.5] for boxes in truth]
    wrong = dataset.evaluation(detections_of(dataset, turned), CLASSES, eval_metric="kitti")[1]
    assert wrong["Car_3d/easy_R40"] < numbers["Car_3d/easy_R40"]
    config.MAP_CLASS_TO_KITTI = {"Forklift": "Car"}
    with pytest.raises(ConfigError, match="MAP_CLASS_TO_KITTI: unknown name 'Person'"):
        make(config).evaluation(perfect, CLASSES, eval_metric="kitti")


def test_infos_that_openpcdet_wrote_are_read(config: EasyDict, tmp_path: Path) -> None:
    """It writes name and gt_boxes_lidar alone, and an empty array for a frame without objects."""
    custom = fill_custom(tmp_path / "own")
    boxes = np.array([box_of(labelled) for labelled in objects_of(0)], dtype=np.float32)
    infos = [
        {
            "point_cloud": {"num_features": 4, "lidar_idx": "0000"},
            "annos": {"name": np.array(CLASSES), "gt_boxes_lidar": boxes},
        },
        {
            "point_cloud": {"num_features": 4, "lidar_idx": "0001"},
            "annos": {"name": np.array([]), "gt_boxes_lidar": np.array([], dtype=np.float32)},
        },
    ]
    (custom.root / "custom_infos_val.pkl").write_bytes(pickle.dumps(infos))
    config.DATA_PATH = str(custom.root)
    dataset = make(config)
    np.testing.assert_array_equal(dataset.load_frame(0)["gt_boxes"], boxes)
    empty = dataset.load_frame(1)
    assert empty["gt_boxes"].shape == (0, 7)
    assert dataset.collate_batch([dataset[0], dataset[1]])["gt_boxes"].shape == (2, 2, 8)


def test_further_columns_reach_the_voxels(config: EasyDict, tmp_path: Path) -> None:
    custom = TinyCustom(tmp_path / "own")
    custom.frame("a", objects_of(0), num_features=6)
    custom.split("train", ["a"])
    custom.split("val", ["a"])
    create_custom_infos(custom.root, show_progress=False)
    config.DATA_PATH = str(custom.root)
    encoding = config.POINT_FEATURE_ENCODING
    encoding.src_feature_list = ["x", "y", "z", "intensity", "ring", "elongation"]
    encoding.used_feature_list = ["x", "y", "z", "intensity", "elongation"]
    item = make(config)[0]
    assert item["points"].shape[1] == 5
    stored = np.load(custom.root / "points" / "a.npy")
    inside = np.abs(stored[:, :2]).max(axis=1) <= 12.8
    np.testing.assert_array_equal(item["points"], stored[inside][:, [0, 1, 2, 3, 5]])


def test_another_number_of_columns_is_refused(config: EasyDict) -> None:
    config.POINT_FEATURE_ENCODING.src_feature_list = ["x", "y", "z"]
    config.POINT_FEATURE_ENCODING.used_feature_list = ["x", "y", "z"]
    with pytest.raises(DataError, match="frame 0004: .*0004.npy: .* 4 columns, .* names 3"):
        make(config)[0]


def test_missing_infos_say_how_they_are_made(config: EasyDict) -> None:
    config.INFO_PATH.test = ["custom_infos_vall.pkl"]
    with pytest.raises(DataError, match="custom_infos_vall.pkl.*data custom_infos"):
        make(config)


def test_infos_of_another_dataset_are_refused(config: EasyDict, tmp_path: Path) -> None:
    custom = fill_custom(tmp_path / "own")
    annos = {"name": np.array(["Car"]), "location": np.zeros((1, 3))}
    info = {"point_cloud": {"lidar_idx": "0000"}, "annos": annos}
    (custom.root / "custom_infos_val.pkl").write_bytes(pickle.dumps([info]))
    config.DATA_PATH = str(custom.root)
    with pytest.raises(DataError, match="entry 0 .* lacks annos.gt_boxes_lidar"):
        make(config)


def test_classes_that_no_frame_holds_are_refused(config: EasyDict) -> None:
    config.DATA_AUGMENTOR = None
    with pytest.raises(DataError, match="holds a Car; they hold Forklift, Person"):
        make(config, training=True, classes=["Car"])


def test_a_class_that_no_frame_holds_is_named_with_the_nearest(config: EasyDict, caplog) -> None:
    config.DATA_AUGMENTOR = None
    make(config, training=True, classes=["Forklfit", "Person"])
    assert "holds a 'Forklfit'; did you mean 'Forklift'?" in caplog.text
    assert "'Person'" not in caplog.text


def test_the_base_yaml_has_openpcdets_keys(repo: Path) -> None:
    config = load_config(repo / "cfgs" / "dataset_configs" / "custom_dataset.yaml")
    assert set(config) - {"ROOT_DIR", "TAG", "EXP_GROUP_PATH", "CONFIG_FILE"} == {
        "DATASET",
        "DATA_PATH",
        "POINT_CLOUD_RANGE",
        "MAP_CLASS_TO_KITTI",
        "DATA_SPLIT",
        "INFO_PATH",
        "POINT_FEATURE_ENCODING",
        "DATA_AUGMENTOR",
        "DATA_PROCESSOR",
    }
