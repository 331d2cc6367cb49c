"""A KITTI folder without a camera: DATA_CONFIG.EVALUATION scores it in LiDAR coordinates."""

from __future__ import annotations

import logging
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_kitti import TinyKitti

from pcdet_distill.datasets import build_dataset
from pcdet_distill.datasets.kitti.kitti_infos import create_kitti_infos
from pcdet_distill.datasets.safe_pickle import load_plain_pickle
from pcdet_distill.errors import ConfigError
from pcdet_distill.evaluation.lidar import LidarResult

CLASSES = ["Car", "Pedestrian", "Cyclist"]


def make(config, root: Path, **evaluation: object):
    """The frames of the training split, to be evaluated in LiDAR coordinates."""
    config.DATA_PATH = str(root)
    config.INFO_PATH.test = ["kitti_infos_train.pkl"]
    config.EVALUATION = evaluation
    return build_dataset(config, CLASSES, training=False)


def detections(dataset) -> list[dict]:
    """All labelled boxes of the classes, a little moved."""
    annos = []
    for index in range(len(dataset)):
        item = dataset[index]
        boxes = item["gt_boxes"][:, :7] + np.float32(0.01)
        annos.append(
            {
                "frame_id": item["frame_id"],
                "name": np.array(CLASSES)[item["gt_boxes"][:, 7].astype(int) - 1],
                "score": np.linspace(0.9, 0.5, len(boxes)),
                "boxes_lidar": boxes,
            }
        )
    return annos


def without_image_boxes(kitti: TinyKitti) -> Path:
    """The folder as a user without a camera writes it: every image box is 0 0 0 0."""
    path = kitti.root / "kitti_infos_train.pkl"
    infos = load_plain_pickle(path, "")
    for info in infos:
        info["annos"]["bbox"] = np.zeros_like(info["annos"]["bbox"])
    path.write_bytes(pickle.dumps(infos))
    return kitti.root


def test_labels_without_image_boxes_are_evaluated(filled, data_config) -> None:
    dataset = make(data_config, without_image_boxes(filled))
    result = dataset.evaluate(detections(dataset))
    assert isinstance(result, LidarResult)
    assert result.map("3d", "area") == pytest.approx(100)
    assert "6 objects" in result.text
    text, numbers = dataset.evaluation(detections(dataset), CLASSES)
    assert text == result.text
    assert numbers["Car_3d/iou0.7_area"] == pytest.approx(100)


def test_without_the_block_kittis_evaluation_gives_0_and_says_why(filled, data_config) -> None:
    dataset = make(data_config, without_image_boxes(filled))
    dataset.lidar_evaluation = None
    found = detections(dataset)
    batches = [dataset.collate_batch([dataset[index]]) for index in range(len(dataset))]
    annos = []
    for batch, anno in zip(batches, found):
        prediction = {
            "pred_boxes": torch.as_tensor(anno["boxes_lidar"]),
            "pred_scores": torch.as_tensor(anno["score"]),
            "pred_labels": torch.as_tensor([CLASSES.index(name) + 1 for name in anno["name"]]),
        }
        annos += dataset.generate_prediction_dicts(batch, [prediction], CLASSES)
    result = dataset.evaluate(annos)
    assert result.map() == 0
    assert "image box without height" in result.remarks[0]


def test_options_of_the_block_are_used(kitti_root: Path, data_config) -> None:
    dataset = make(data_config, kitti_root, IOU={"Car": [0.6]}, MAX_DISTANCE_M=1.0)
    entry = dataset.evaluate(detections(dataset)).of_class("Car")
    assert [criterion.key for criterion in entry.criteria("3d")] == ["iou0.6"]
    assert entry.num_objects == 0
    assert entry.num_left_out == 6


def test_an_unknown_key_is_named(kitti_root: Path, data_config) -> None:
    with pytest.raises(ConfigError, match=r"DATA_CONFIG\.EVALUATION: unknown key 'IUO'"):
        make(data_config, kitti_root, IUO={"Car": [0.6]})


def test_classes_that_kitti_does_not_have_are_evaluated_in_lidar_coordinates(
    kitti_root: Path, data_config, caplog: pytest.LogCaptureFixture
) -> None:
    data_config.DATA_PATH = str(kitti_root)
    data_config.INFO_PATH.test = ["kitti_infos_train.pkl"]
    dataset = build_dataset(data_config, ["Car", "Forklift"], training=False)
    with caplog.at_level(logging.INFO):
        result = dataset.evaluate(detections(dataset))
    assert isinstance(result, LidarResult)
    assert result.of_class("Car").num_objects == 6
    assert "Forklift: no class of KITTI's benchmark" in caplog.text


# ---- A folder without images ----


@pytest.fixture
def without_images(filled) -> Path:
    shutil.rmtree(filled.root / "training" / "image_2")
    create_kitti_infos(filled.root, show_progress=False)
    return filled.root


def test_a_folder_without_images_is_read_all_around(without_images: Path, data_config) -> None:
    data_config.FOV_POINTS_ONLY = False
    dataset = make(data_config, without_images)
    infos = dataset.kitti_infos
    assert not any(info["image"]["image_shape"].any() for info in infos)
    assert all((info["annos"]["num_points_in_gt"] >= 0).any() for info in infos)
    result = dataset.evaluate(detections(dataset))
    assert result.of_class("Car").by_points  # all points were counted, so they can divide
    batch = dataset.collate_batch([dataset[0]])
    prediction = {
        "pred_boxes": torch.as_tensor([[20.0, 0, -1, 4, 2, 1.5, 0]]),
        "pred_scores": torch.ones(1),
        "pred_labels": torch.ones(1).long(),
    }
    (anno,) = dataset.generate_prediction_dicts(batch, [prediction], CLASSES)
    left, top, right, bottom = anno["bbox"][0]
    assert left < right  # projected, and not cut off by an image of no size
    assert top < bottom


def test_what_the_camera_sees_needs_a_camera(without_images: Path, data_config) -> None:
    data_config.FOV_POINTS_ONLY = True
    with pytest.raises(ConfigError, match="FOV_POINTS_ONLY.* has no images; expected False"):
        make(data_config, without_images)
