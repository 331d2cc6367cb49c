"""Views: the same augmented points processed a second time, as a batch within the batch."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from pcdet_distill.datasets import build_dataloader, build_dataset, loader
from pcdet_distill.datasets.view import PointView, ViewItem, processing_of
from pcdet_distill.errors import ConfigError
from pcdet_distill.models import load_data_to_device

CLASSES = ["Car", "Pedestrian", "Cyclist"]
STORED = ["x", "y", "z", "intensity"]


def with_view(config, root, view_config, training=True, **options):
    """Dataset, loader and sampler with a view of ``view_config``."""
    config.DATA_PATH = str(root)
    parts = build_dataloader(config, CLASSES, 2, workers=0, seed=3, training=training, **options)
    parts[0].add_view("teacher", PointView(view_config, STORED, training))
    return parts


def changed(config, **steps):
    """``config`` with other voxels and range."""
    other = copy.deepcopy(config)
    other.POINT_CLOUD_RANGE = [0, -24, -3, 48, 24, 1]
    other.DATA_PROCESSOR[2].update(
        {"VOXEL_SIZE": [0.8, 0.8, 4], "MAX_POINTS_PER_VOXEL": 3, **steps}
    )
    return other


def test_equal_processing_gives_equal_arrays(kitti_root, data_config):
    """Shuffled the same way too: sharing the batch or not makes no difference."""
    _, batches, _ = with_view(data_config, kitti_root, copy.deepcopy(data_config))
    batch = next(iter(batches))
    for key in ("points", "voxels", "voxel_coords", "voxel_num_points"):
        np.testing.assert_array_equal(batch[key], batch["teacher"][key], err_msg=key)
    assert set(batch["teacher"]) == {
        "points",
        "voxels",
        "voxel_coords",
        "voxel_num_points",
        "use_lead_xyz",
        "batch_size",
    }


def test_the_item_is_the_same_with_and_without_a_view(kitti_root, data_config):
    config = copy.deepcopy(data_config)
    config.DATA_PATH = str(kitti_root)
    plain = build_dataset(config, CLASSES, training=True, seed=3)[1]
    item = with_view(data_config, kitti_root, changed(data_config))[0][1]
    assert item.keys() == {*plain, "teacher"}
    assert isinstance(item["teacher"], ViewItem)
    for key in ("points", "voxels", "gt_boxes", "noise_rot"):
        np.testing.assert_array_equal(plain[key], item[key])


def test_another_range_and_voxel_size_of_the_same_augmented_points(kitti_root, data_config):
    _, batches, _ = with_view(data_config, kitti_root, changed(data_config))
    batch = next(iter(batches))
    points = batch["points"]
    view = batch["teacher"]["points"]
    assert np.abs(points[:, 2]).max() <= 20 < np.abs(view[:, 2]).max()
    assert {tuple(row) for row in points.tolist()} <= {tuple(row) for row in view.tolist()}
    coords = batch["teacher"]["voxel_coords"]
    assert coords[:, 0].max() == 1
    assert coords[:, 2:].max() <= 59
    assert batch["teacher"]["voxels"].shape[1:] == (3, 4)
    cells = np.floor((view[:, 1:4] - [0, -24, -3]) / [0.8, 0.8, 4]).astype(int)
    occupied = set()
    for frame, (x, y, z) in zip(view[:, 0], cells.tolist()):
        if z == 0:
            occupied.add((int(frame), z, y, x))
    assert {tuple(map(int, row)) for row in coords} <= occupied


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_views_do_not_depend_on_the_workers(kitti_root, data_config, monkeypatch):
    monkeypatch.setattr(loader, "available_cores", lambda: 3)
    data_config.DATA_PATH = str(kitti_root)
    found = []
    for workers in (0, 2):
        dataset, batches, sampler = build_dataloader(
            data_config, CLASSES, 2, workers=workers, seed=3, training=True
        )
        dataset.add_view("teacher", PointView(changed(data_config), STORED, True))
        dataset.set_epoch(1)
        sampler.set_epoch(1)
        found.append([batch["teacher"]["voxels"] for batch in batches])
    assert all(np.array_equal(one, other) for one, other in zip(*found, strict=True))


def test_the_mode_is_the_datasets(kitti_root, data_config):
    """A teacher is in eval mode, but its voxels are limited as in training."""
    limited = changed(data_config, MAX_NUMBER_OF_VOXELS={"train": 20, "test": 40})
    for training, limit in ((True, 20), (False, 40)):
        item = with_view(data_config, kitti_root, limited, training)[0][0]
        assert len(item["teacher"]["voxels"]) == limit


def test_other_point_features(kitti_root, data_config):
    other = changed(data_config)
    other.POINT_FEATURE_ENCODING.used_feature_list = ["x", "y", "z"]
    item = with_view(data_config, kitti_root, other)[0][0]
    assert item["teacher"]["points"].shape[1] == 3
    assert item["points"].shape[1] == 4
    other.POINT_FEATURE_ENCODING.used_feature_list = ["x", "y", "z", "timestamp"]
    with pytest.raises(
        ConfigError, match="the points hold x, y, z, intensity, so there is no 'timestamp'"
    ):
        PointView(other, STORED, True)


def test_the_batch_within_the_batch_goes_to_the_device_too(kitti_root, data_config):
    _, batches, _ = with_view(data_config, kitti_root, changed(data_config))
    batch = next(iter(batches))
    load_data_to_device(batch, "cpu")
    assert batch["teacher"]["voxel_coords"].dtype == torch.float32
    assert batch["teacher"]["batch_size"] == 2


@pytest.mark.parametrize(
    "change, equal",
    [
        ({}, True),
        ({"DATA_PROCESSOR.0.REMOVE_OUTSIDE_BOXES": False}, True),
        ({"DATA_PROCESSOR.2.MAX_NUMBER_OF_VOXELS.test": 7}, True),
        ({"POINT_FEATURE_ENCODING.src_feature_list": ["x", "y", "z", "intensity", "time"]}, True),
        ({"DATA_PROCESSOR.2.VOXEL_SIZE": [0.5, 0.5, 4.0]}, True),
        ({"DATA_PROCESSOR.2.MAX_NUMBER_OF_VOXELS.train": 7}, False),
        ({"DATA_PROCESSOR.2.MAX_POINTS_PER_VOXEL": 7}, False),
        ({"DATA_PROCESSOR.2.VOXEL_SIZE": [0.5, 0.25, 4]}, False),
        ({"DATA_PROCESSOR.1.SHUFFLE_ENABLED.train": False}, False),
        ({"POINT_CLOUD_RANGE": [0, -20, -3, 40, 20, 1.5]}, False),
        ({"POINT_FEATURE_ENCODING.used_feature_list": ["x", "y", "z"]}, False),
    ],
)
def test_when_two_models_can_share_their_points(data_config, change, equal):
    other = copy.deepcopy(data_config)
    for path, value in change.items():
        *parents, last = path.split(".")
        place = other
        for name in parents:
            place = place[int(name)] if name.isdigit() else place[name]
        place[last] = value
    assert (processing_of(other, True) == processing_of(data_config, True)) is equal
