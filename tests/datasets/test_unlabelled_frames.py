"""Frames without labels in a training: refused, unless the training labels them itself."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from pcdet_distill.datasets import build_dataset
from pcdet_distill.datasets.collate import collate_items
from pcdet_distill.errors import DataError

CLASSES = ["Car", "Pedestrian", "Cyclist"]


@pytest.fixture
def dataset(kitti_root, data_config, tmp_path):
    """Two frames, the first of them labelled."""
    infos = pickle.loads((kitti_root / "kitti_infos_train.pkl").read_bytes())[:2]
    del infos[1]["annos"]
    file = kitti_root / "kitti_infos_half.pkl"
    file.write_bytes(pickle.dumps(infos))
    data_config.DATA_PATH = str(kitti_root)
    data_config.INFO_PATH.train = [file.name]
    yield build_dataset(data_config, CLASSES, training=True)
    file.unlink()


def test_they_are_refused(dataset):
    with pytest.raises(DataError, match="it has no labels.*labels the frames itself"):
        dataset[1]


def test_they_can_be_taken(dataset):
    """They have no objects, and no sampled ones either. Their points are augmented."""
    plain = len(dataset[0]["gt_boxes"])
    dataset.take_unlabelled()
    labelled = dataset[0]
    unlabelled = dataset[1]
    assert len(labelled["gt_boxes"]) == plain > 1
    assert unlabelled["gt_boxes"].shape == (0, 8)
    assert unlabelled["gt_boxes"].dtype == np.float32
    assert not np.allclose(unlabelled["lidar_aug_matrix"], np.eye(4))
    batch = collate_items([labelled, unlabelled])
    assert batch["is_labelled"].tolist() == [1, 0]
    assert batch["gt_boxes"].shape == (2, plain, 8)
    assert not batch["gt_boxes"][1].any()
