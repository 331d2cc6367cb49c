"""A KITTI folder without a camera: DATA_CONFIG.EVALUATION scores it in LiDAR coordinates."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_kitti import TinyKitti

from pcdet_distill.datasets import build_dataset
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
