"""Collation, the sampler, and batches that do not depend on the number of workers."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from pcdet_distill.datasets import build_dataloader, loader
from pcdet_distill.datasets.collate import collate_items
from pcdet_distill.datasets.loader import EpochSampler
from pcdet_distill.engine.batches import TrainingBatches
from pcdet_distill.errors import ConfigError, DataError

CLASSES = ["Car", "Pedestrian", "Cyclist"]


def loader_of(config, root: Path, workers: int, **options):
    """Dataset, batches of two frames, and sampler."""
    config.DATA_PATH = str(root)
    options = {"seed": 7, **options}
    return build_dataloader(config, CLASSES, 2, workers=workers, **options)


def epochs_of(config, root: Path, workers: int, epochs: int = 3) -> list[list[dict]]:
    """The batches of each epoch."""
    dataset, batches_of, sampler = loader_of(config, root, workers)
    batches = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        dataset.set_epoch(epoch)
        batches.append(list(batches_of))
    return batches


def rotations_of(epoch: list[dict]) -> dict[str, float]:
    """The rotation that was drawn for each frame, in the order of the epoch."""
    rotations = {}
    for batch in epoch:
        rotations.update(zip(batch["frame_id"].tolist(), batch["noise_rot"].tolist()))
    return rotations


def assert_equal_batches(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for key, value in one.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, other[key], err_msg=key)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_batches_do_not_depend_on_the_workers(kitti_root: Path, data_config, monkeypatch) -> None:
    monkeypatch.setattr(loader, "available_cores", lambda: 3)
    alone = epochs_of(data_config, kitti_root, workers=0)
    one = epochs_of(data_config, kitti_root, workers=1)
    three = epochs_of(data_config, kitti_root, workers=3)
    for epoch in range(3):
        assert len(alone[epoch]) == len(one[epoch]) == len(three[epoch]) == 3
        for expected, of_one, of_three in zip(alone[epoch], one[epoch], three[epoch]):
            assert_equal_batches(expected, of_one)
            assert_equal_batches(expected, of_three)


def test_epochs_differ_in_order_and_augmentation(kitti_root: Path, data_config) -> None:
    epochs = epochs_of(data_config, kitti_root, workers=1)
    rotations = [rotations_of(epoch) for epoch in epochs]
    orders = [tuple(by_frame) for by_frame in rotations]
    assert len(set(orders)) == 3
    first_rotations, second_rotations, _ = rotations
    for by_frame in rotations:
        assert by_frame.keys() == first_rotations.keys()
    for frame_id, rotation in first_rotations.items():
        assert second_rotations[frame_id] != rotation


def test_order_and_augmentation_can_be_repeated(kitti_root: Path, data_config) -> None:
    """For two epochs in a row, also from the middle of an epoch."""
    data_config.DATA_PATH = str(kitti_root)
    dataset, batches_of, sampler = build_dataloader(data_config, CLASSES, 2, workers=0, seed=7)
    dataset.repeat_draws(2)
    batches = TrainingBatches(batches_of, sampler)
    epochs = [list(batches.epoch(number)) for number in range(3)]
    rest = list(batches.epoch(1, first=1))
    for one, repeated in zip(epochs[0], epochs[1]):
        assert_equal_batches(one, repeated)
    for one, repeated in zip(epochs[0][1:], rest):
        assert_equal_batches(one, repeated)
    assert len(rest) == 2
    assert dataset.epoch == 1
    first, again, other = (rotations_of(epoch) for epoch in epochs)
    assert first == again
    for frame_id, rotation in again.items():
        assert other[frame_id] != rotation


def test_draws_of_merged_epochs_cannot_be_repeated(kitti_root: Path, data_config) -> None:
    dataset, _, _ = loader_of(
        data_config, kitti_root, 0, merge_all_iters_to_one_epoch=True, total_epochs=3
    )
    with pytest.raises(ConfigError, match="--merge_all_iters_to_one_epoch makes one epoch of all"):
        dataset.repeat_draws(2)


def test_global_random_state_is_neither_used_nor_moved(kitti_root: Path, data_config) -> None:
    np.random.seed(1)
    torch.manual_seed(1)
    numpy_state = np.random.get_state()[1].copy()
    torch_state = torch.get_rng_state()
    (first,) = epochs_of(data_config, kitti_root, workers=0, epochs=1)
    np.testing.assert_array_equal(numpy_state, np.random.get_state()[1])
    assert torch.equal(torch_state, torch.get_rng_state())
    np.random.seed(2)
    (second,) = epochs_of(data_config, kitti_root, workers=0, epochs=1)
    for one, other in zip(first, second):
        assert_equal_batches(one, other)


def test_test_batches_come_in_order(kitti_root: Path, data_config) -> None:
    _, batches, _ = loader_of(data_config, kitti_root, 0, training=False)
    frame_ids = [batch["frame_id"].tolist() for batch in batches]
    assert frame_ids == [["000006", "000007"], ["000008"]]


def test_seed_none_is_drawn_and_logged(kitti_root: Path, data_config, caplog) -> None:
    with caplog.at_level("INFO"):
        dataset, _, _ = loader_of(data_config, kitti_root, 0, seed=None)
    assert f"seed of the data: {dataset.seed}" in caplog.text


@pytest.mark.parametrize("workers", [0, 2])
def test_error_of_a_worker_is_one_sentence(filled, data_config, workers: int) -> None:
    for number in range(6):
        filled.path("velodyne", f"{number:06d}").write_bytes(b"x" * 18)
    _, batches, _ = loader_of(data_config, filled.root, workers)
    with pytest.raises(DataError) as caught:
        list(batches)
    assert str(caught.value).startswith("frame 00000")
    assert "\n" not in str(caught.value)


def test_workers_use_one_thread(kitti_root: Path, data_config) -> None:
    _, batches, _ = loader_of(data_config, kitti_root, 1)
    batches.collate_fn = lambda items: torch.get_num_threads()
    assert set(batches) == {1}


def test_no_more_workers_than_cores(kitti_root: Path, data_config, monkeypatch) -> None:
    monkeypatch.setattr(loader, "available_cores", lambda: 2)
    _, batches, _ = loader_of(data_config, kitti_root, 9)
    assert batches.num_workers == 2


def test_training_on_merged_epochs(kitti_root: Path, data_config) -> None:
    dataset, batches, _ = loader_of(
        data_config, kitti_root, 0, merge_all_iters_to_one_epoch=True, total_epochs=4
    )
    assert len(dataset) == 24
    assert len(batches) == 12


@pytest.mark.parametrize(("items", "world_size"), [(10, 3), (9, 3), (2, 4), (7, 1)])
@pytest.mark.parametrize("shuffle", [False, True])
def test_processes_share_an_epoch(items: int, world_size: int, shuffle: bool) -> None:
    """They take items in turn; all get equally many, so the last turn may repeat some."""
    share = math.ceil(items / world_size)
    parts = []
    for rank in range(world_size):
        sampler = EpochSampler(items, seed=5, shuffle=shuffle, rank=rank, world_size=world_size)
        sampler.set_epoch(2)
        part = list(sampler)
        assert len(part) == share
        assert len(sampler) == share
        parts.append(part)
    together = []
    for turn in range(share):
        together += [part[turn] for part in parts]
    without_repeats = together[:items]
    assert sorted(without_repeats) == list(range(items))
    if not shuffle:
        assert without_repeats == list(range(items))


def item_of_ones(points: int, boxes: int, voxels: int) -> dict:
    """An item with so many points, boxes and voxels."""
    return {
        "points": np.ones((points, 4), np.float32),
        "gt_boxes": np.ones((boxes, 8), np.float32),
        "voxels": np.ones((voxels, 5, 4), np.float32),
        "voxel_coords": np.ones((voxels, 3), np.int32),
        "voxel_num_points": np.ones(voxels, np.int32),
        "frame_id": "000001",
        "calib": object(),
        "image_shape": np.array([375, 1242], np.int32),
        "lidar_aug_matrix": np.eye(4),
        "use_lead_xyz": True,
        "flip_x": False,
        "noise_rot": 0.1,
    }


@pytest.fixture
def batch() -> dict:
    """Of three items; the second one is empty."""
    first = item_of_ones(points=3, boxes=2, voxels=4)
    empty = item_of_ones(points=0, boxes=0, voxels=0)
    last = item_of_ones(points=1, boxes=1, voxels=2)
    return collate_items([first, empty, last])


def test_points_and_voxels_are_stacked_with_their_frame_in_front(batch: dict) -> None:
    assert batch["points"].shape == (4, 5)
    assert batch["points"][:, 0].tolist() == [0, 0, 0, 2]
    assert batch["voxels"].shape == (6, 5, 4)
    assert batch["voxel_coords"][:, 0].tolist() == [0, 0, 0, 0, 2, 2]


def test_boxes_are_padded_with_zeros_to_the_most(batch: dict) -> None:
    """Two, no and one box of eight ones."""
    assert batch["gt_boxes"].shape == (3, 2, 8)
    assert batch["gt_boxes"].sum(axis=(1, 2)).tolist() == [16, 0, 8]


def test_a_batch_without_boxes_has_one_row_of_padding() -> None:
    batch = collate_items([item_of_ones(points=1, boxes=0, voxels=1)])
    assert batch["gt_boxes"].shape == (1, 1, 8)


def test_other_values_become_arrays_or_lists(batch: dict) -> None:
    assert batch["frame_id"].tolist() == ["000001", "000001", "000001"]
    assert isinstance(batch["calib"], list)
    assert batch["image_shape"].shape == (3, 2)
    assert batch["lidar_aug_matrix"].shape == (3, 4, 4)
    assert batch["flip_x"].dtype == bool
    assert batch["batch_size"] == 3


def test_collate_names_the_key_that_does_not_fit() -> None:
    with pytest.raises(ValueError, match="'image_shape'"):
        collate_items([{"image_shape": np.zeros(2)}, {"image_shape": np.zeros(3)}])
