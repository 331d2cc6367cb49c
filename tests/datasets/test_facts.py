"""The sample of frames that is looked at before a training."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from easydict import EasyDict

from pcdet_distill.datasets import DatasetTemplate, build_dataset
from pcdet_distill.datasets.facts import frame_facts, gather_facts, spread
from pcdet_distill.datasets.item import Item
from pcdet_distill.datasets.kitti.kitti_dataset import KittiDataset

CLASSES = ["Car", "Pedestrian"]


@pytest.fixture
def dataset(kitti_root: Path, data_config: EasyDict) -> KittiDataset:
    data_config.DATA_PATH = str(kitti_root)
    dataset = build_dataset(data_config, CLASSES, training=True)
    assert isinstance(dataset, KittiDataset)
    return dataset


def test_numbers_are_spread_with_both_ends() -> None:
    assert spread(3, 10) == [0, 1, 2]
    assert spread(101, 5) == [0, 25, 50, 75, 100]


def test_facts_of_a_frame(dataset: KittiDataset) -> None:
    item = dataset.whole_frame(0)
    facts = frame_facts(dataset, "000000", item)
    assert facts.num_points == len(item["points"])
    low, high = facts.intensity or (0, 0)
    assert (low, high) == (item["points"][:, 3].min(), item["points"][:, 3].max())
    assert facts.image_shape is not None
    assert facts.image_shape.tolist() == [375, 1242]
    assert len(facts.objects) == 2  # of four, two are of trained classes
    assert all(one.held > 20 for one in facts.objects)
    inside = (item["points"][:, 0] < 40) & (np.abs(item["points"][:, 1]) < 20)
    assert facts.num_in_range == inside.sum()


def test_a_whole_frame_has_the_points_that_the_camera_does_not_see(dataset: KittiDataset) -> None:
    seen = dataset.load_frame(0)["points"]
    whole = dataset.whole_frame(0)["points"]
    assert len(seen) < len(whole)
    file = dataset.folder.file("velodyne", "000000", ".bin")
    assert dataset.recorded_size(0) == (file, 16 * len(whole))


def test_all_sizes_are_compared_and_some_frames_read(dataset: KittiDataset) -> None:
    facts = gather_facts(dataset, 3, limit_s=60)
    assert facts.num_sizes == facts.num_frames == 6
    assert len(facts.frames) == 3
    assert facts.other_sizes == facts.unreadable == {}


class SlowDataset(DatasetTemplate):
    """A data set whose frames take a tenth of a second each."""

    num_frames = 1000

    def load_frame(self, index: int) -> Item:
        time.sleep(0.1)
        return {"points": np.zeros((0, 4), dtype=np.float32), "frame_id": str(index)}


def test_a_slow_disk_makes_the_sample_smaller(data_config: EasyDict, tmp_path: Path) -> None:
    data_config.DATA_AUGMENTOR.AUG_CONFIG_LIST = []
    slow = SlowDataset(data_config, CLASSES, True, tmp_path)
    start = time.monotonic()
    facts = gather_facts(slow, 200, limit_s=0.35)
    assert time.monotonic() - start < 2
    names = [frame.name for frame in facts.frames]
    assert 1 <= len(names) < 10
    assert len({int(name) // 100 for name in names}) > 1 or len(names) == 1  # from all over it
