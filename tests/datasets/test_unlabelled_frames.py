"""Frames without labels in a training: refused, unless a distillation labels them."""

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


def test_refused(dataset):
    with pytest.raises(DataError, match="it has no labels.*labels the frames itself"):
        dataset[1]


def test_taken_as_they_are(dataset):
    """No object, and none pasted into the scene; its points are augmented as all are."""
    plain = len(dataset[0]["gt_boxes"])
    dataset.take_unlabelled()
    items = [dataset[0], dataset[1]]
    assert len(items[0]["gt_boxes"]) == plain > 1 and items[1]["gt_boxes"].shape == (0, 8)
    assert items[1]["gt_boxes"].dtype == np.float32 and not np.allclose(
        items[1]["lidar_aug_matrix"], np.eye(4)
    )
    batch = collate_items(items)
    assert batch["gt_boxes"].shape == (2, plain, 8) and not batch["gt_boxes"][1].any()
