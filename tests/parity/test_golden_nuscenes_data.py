"""Infos, merged sweeps, database, resampling and items of nuScenes against OpenPCDet's numbers.

The made-up data set beside the recording is copied first. OpenPCDet draws from numpy's global
generator; the recording says how it was seeded, and ours gets a generator of that seed.
"""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
import re
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nuscenes_recording import Recording

from pcdet_distill.config import load_config
from pcdet_distill.datasets import NuScenesDataset
from pcdet_distill.datasets.augmentor import DataBaseSampler, database_sampler
from pcdet_distill.datasets.item import Item
from pcdet_distill.datasets.nuscenes.create import create_nuscenes_infos, info_file
from pcdet_distill.datasets.nuscenes.database import database_file, database_name, write_objects
from pcdet_distill.datasets.nuscenes.folder import NuScenesFolder
from pcdet_distill.datasets.nuscenes.resampling import balanced_frames
from pcdet_distill.datasets.nuscenes.sweeps import read_frame
from pcdet_distill.types import MutableConfig

VERSION = "v1.0-mini"
MAX_SWEEPS = 10
CLASSES = [
    *("car", "truck", "construction_vehicle", "bus", "trailer"),
    *("barrier", "motorcycle", "bicycle", "pedestrian", "traffic_cone"),
]
INFO_TOLERANCE = 1e-9
# Rotations are in float32, for points up to 100 m away; velocities after them likewise.
ITEM_TOLERANCE = 2e-5
VAL_SEED = 200  # of item 0; the next one is one higher
TRAIN_SEED = 300
SAMPLING_SEED = 400  # once, before all items with gt_sampling
DRAWN = ("flip_x", "flip_y", "noise_rot", "noise_scale", "noise_translate")


@pytest.fixture(scope="module")
def folder(nuscenes_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> NuScenesFolder:
    """A copy of the made-up data set, with our infos."""
    copied = tmp_path_factory.mktemp("nuscenes") / "data"
    shutil.copytree(nuscenes_dir / "pipeline" / "fake_nuscenes", copied)
    made = NuScenesFolder(copied, VERSION)
    create_nuscenes_infos(made, MAX_SWEEPS, show_progress=False)
    return made


def infos_of(folder: NuScenesFolder, split: str) -> list[Item]:
    return pickle.loads((folder.root / info_file(MAX_SWEEPS, split)).read_bytes())


def seed_in(text: str) -> int:
    """11 of ``np.random.seed(11) before ...``."""
    found = re.search(r"seed\((\d+)\)", text)
    assert found
    return int(found.group(1))


# ---- Infos ----


def check_equal(found: Any, recorded: Any, where: str) -> None:
    """The same nested lists, dicts, texts and numbers; the text "nan" stands for NaN."""
    if isinstance(recorded, Mapping):
        assert set(found) == set(recorded), where
        for key, value in recorded.items():
            check_equal(found[key], value, f"{where}.{key}")
    elif isinstance(recorded, list):
        assert len(found) == len(recorded), where
        for number, value in enumerate(recorded):
            check_equal(found[number], value, f"{where}[{number}]")
    elif recorded is None or (isinstance(recorded, str) and recorded != "nan"):
        assert found == recorded, where
    else:
        expected = pytest.approx(float(recorded), rel=0, abs=INFO_TOLERANCE, nan_ok=True)
        assert float(found) == expected, where


@pytest.mark.parametrize("split", ["train", "val"])
def test_infos(nuscenes_dir: Path, folder: NuScenesFolder, split: str) -> None:
    file = nuscenes_dir / "pipeline" / f"fake_nuscenes_infos_{split}.json"
    check_equal(infos_of(folder, split), json.loads(file.read_text()), split)


# ---- Points ----


@pytest.mark.recorded("merge", "merge*_val_*")
def test_merged_sweeps_bit_for_bit(recorded: Recording, folder: NuScenesFolder) -> None:
    infos = infos_of(folder, "val")
    assert "seed(100+i)" in recorded.number("merge")
    assert "seed 7, index 1, 4 sweeps" in recorded.number("merge")
    for name in recorded.arrays("merge*_val_*"):
        sweeps, number = map(int, re.findall(r"\d+", name))
        random = np.random.RandomState(100 + number if sweeps == MAX_SWEEPS else 7)
        points = read_frame(folder.clouds, infos[number], sweeps, random)
        np.testing.assert_array_equal(points, recorded.array(name))
        assert points.dtype == np.float32


# ---- Database ----


def write_database(folder: NuScenesFolder, seed: int) -> dict[str, list[dict]]:
    """The database with the sweeps in the order of a global generator of this seed."""
    database = folder.root / database_name(MAX_SWEEPS)
    shutil.rmtree(database)
    database.mkdir()
    random = np.random.RandomState(seed)
    objects: dict[str, list[dict]] = {}
    for index, info in enumerate(infos_of(folder, "train")):
        points = read_frame(folder.clouds, info, MAX_SWEEPS, random)
        for entry in write_objects(database, index, points, info):
            objects.setdefault(entry["name"], []).append(entry)
    (folder.root / database_file(MAX_SWEEPS)).write_bytes(pickle.dumps(objects))
    return objects


@pytest.mark.recorded("gt_database")
def test_database(recorded: Recording, folder: NuScenesFolder) -> None:
    expected = recorded.number("gt_database")
    objects = write_database(folder, seed_in(expected["seed"]))
    check_equal(objects, expected["infos"], "objects")
    found = {}
    for path in (folder.root / database_name(MAX_SWEEPS)).iterdir():
        content = path.read_bytes()
        values = np.frombuffer(content, np.float32)
        digest = hashlib.sha256(content).hexdigest()
        found[path.name] = [len(values) // 5, values.sum(dtype=np.float64), digest]
    assert set(found) == set(expected["files"])
    for name, (count, total, digest) in expected["files"].items():
        assert found[name][0] == count, name
        assert found[name][1] == pytest.approx(total, rel=1e-9), name
        assert found[name][2] == digest, name


# ---- Resampling ----


@pytest.mark.recorded("cbgs_train")
def test_resampling_of_the_made_up_data_set(recorded: Recording, folder: NuScenesFolder) -> None:
    expected = recorded.number("cbgs_train")
    names = [set(info["gt_names"]) for info in infos_of(folder, "train")]
    counts = {name: sum(name in of_frame for of_frame in names) for name in CLASSES}
    assert counts == expected["class_counts"]
    random = np.random.RandomState(seed_in(expected["seed"]))
    assert balanced_frames(names, CLASSES, random).tolist() == expected["indices"]


@pytest.mark.recorded("cbgs_made_up")
def test_resampling_of_many_frames(recorded: Recording) -> None:
    expected = recorded.number("cbgs_made_up")
    random = np.random.RandomState(expected["seed"])
    drawn = balanced_frames(expected["gt_names"], CLASSES, random)
    assert drawn.tolist() == expected["indices"]


# ---- Items ----


def data_config(repo: Path, folder: NuScenesFolder, augmentations: Sequence[str]) -> MutableConfig:
    """The base yaml for the made-up data set, with some of its augmentations."""
    config = copy.deepcopy(load_config(repo / "cfgs/dataset_configs/nuscenes_dataset.yaml"))
    config.VERSION = VERSION
    config.BALANCED_RESAMPLING = False
    config.DATA_PATH = str(folder.data_path)
    every = [
        *config.DATA_AUGMENTOR.AUG_CONFIG_LIST,
        {"NAME": "random_world_translation", "NOISE_TRANSLATE_STD": [0.5, 0.5, 0.5]},
    ]
    chosen = [entry for entry in every if entry["NAME"] in augmentations]
    config.DATA_AUGMENTOR.AUG_CONFIG_LIST = chosen
    return config


def make_dataset(config: MutableConfig, *, training: bool) -> NuScenesDataset:
    return NuScenesDataset(config, CLASSES, training, Path(config.DATA_PATH))


def item_of(dataset: NuScenesDataset, index: int, random: np.random.RandomState) -> Item:
    item = dataset.prepare_data(dataset.draw_frame(index, random), random)
    assert item is not None
    return item


def check_item(item: Item, name: str, recorded: Recording, *, exact: bool) -> None:
    """Compare an item with the recorded one; bit for bit where nothing was rotated."""
    numbers = recorded.number(name)
    own_keys = {"metadata", "use_lead_xyz"}
    assert set(item) - own_keys == set(numbers)
    boxes = recorded.array(f"{name}_gt_boxes")
    difference = item["gt_boxes"] - boxes
    np.testing.assert_allclose(np.delete(difference, 6, axis=1), 0, atol=ITEM_TOLERANCE)
    np.testing.assert_allclose(np.sin(difference[:, 6] / 2), 0, atol=ITEM_TOLERANCE)
    matrix = recorded.array(f"{name}_lidar_aug_matrix")
    np.testing.assert_allclose(item["lidar_aug_matrix"], matrix, rtol=0, atol=1e-6)
    assert item["frame_id"] == numbers["frame_id"]
    for key in DRAWN:
        if key in numbers:
            # The shift is recorded in float32.
            expected = np.ravel(numbers[key])
            np.testing.assert_allclose(np.ravel(item[key]), expected, rtol=1e-6)
    for key in ("points", "voxels", "voxel_coords", "voxel_num_points"):
        check_array(item[key], numbers[key], exact=exact or key.startswith("voxel_"))


def check_array(array: np.ndarray, numbers: Mapping[str, Any], *, exact: bool) -> None:
    """Compare an array with the shape, sums and hash of the recorded one."""
    assert list(array.shape) == numbers["shape"]
    assert array.dtype.name == numbers["dtype"]
    if exact:
        content = np.ascontiguousarray(array).tobytes()
        assert hashlib.sha256(content).hexdigest() == numbers["sha256"]
    # The sums of thousands of places agree if the places do.
    scale = numbers["abssum"]
    values = array.astype(np.float64)
    assert np.abs(values).sum() == pytest.approx(scale, rel=1e-6)
    assert values.sum() == pytest.approx(numbers["sum"], abs=1e-6 * scale)
    if numbers["column_sums"] is not None:
        columns = values.reshape(-1, array.shape[-1]).sum(axis=0)
        np.testing.assert_allclose(columns, numbers["column_sums"], atol=1e-6 * scale)


@pytest.mark.recorded("item_val_*", "item")
def test_items_to_test_on(recorded: Recording, folder: NuScenesFolder, repo: Path) -> None:
    assert f"seed({VAL_SEED}+i) / ({TRAIN_SEED}+i)" in recorded.number("item")
    dataset = make_dataset(data_config(repo, folder, []), training=False)
    for name in recorded.arrays("item_val_*_gt_boxes"):
        name = name.removesuffix("_gt_boxes")
        number = int(name.rpartition("_")[2])
        item = item_of(dataset, number, np.random.RandomState(VAL_SEED + number))
        check_item(item, name, recorded, exact=True)


@pytest.mark.recorded("item_train_noSampling_*")
def test_training_items(recorded: Recording, folder: NuScenesFolder, repo: Path) -> None:
    augmentations = ["random_world_flip", "random_world_rotation", "random_world_scaling"]
    dataset = make_dataset(data_config(repo, folder, augmentations), training=True)
    for name in recorded.arrays("item_train_noSampling_*_gt_boxes"):
        name = name.removesuffix("_gt_boxes")
        number = int(name.rpartition("_")[2])
        item = item_of(dataset, number, np.random.RandomState(TRAIN_SEED + number))
        check_item(item, name, recorded, exact=False)


def no_point_inside(points: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    return np.zeros((len(boxes), len(points)), dtype=np.uint8)


@pytest.mark.recorded("item_train_sampling_*", "item", "gt_database")
def test_training_items_with_pasted_objects(
    recorded: Recording, folder: NuScenesFolder, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenPCDet goes on in its shuffled lists of objects from one item to the next.

    It removes the scene's points inside the pasted boxes, and so do we. But the compiled operator
    for that was a stand-in where these items were recorded: every point stayed. The recorded
    gt_sampling of KITTI covers the removal.
    """
    monkeypatch.setattr(database_sampler, "points_in_boxes_mask", no_point_inside)
    assert f"seed {SAMPLING_SEED} once, then items 0,1,2; groups all 3" in recorded.number("item")
    write_database(folder, seed_in(recorded.number("gt_database")["seed"]))
    augmentations = [
        *("gt_sampling", "random_world_flip", "random_world_rotation"),
        *("random_world_scaling", "random_world_translation"),
    ]
    config = data_config(repo, folder, augmentations)
    config.DATA_AUGMENTOR.AUG_CONFIG_LIST[0].SAMPLE_GROUPS = [f"{name}:3" for name in CLASSES]
    dataset = make_dataset(config, training=True)
    assert dataset.data_augmentor is not None
    (sampling, sampler), *others = dataset.data_augmentor.queue
    assert isinstance(sampler, DataBaseSampler)
    going_on = partial(sampler, cursors=sampler.new_cursors())
    dataset.data_augmentor.queue = [(sampling, going_on), *others]
    random = np.random.RandomState(SAMPLING_SEED)
    for number, name in enumerate(sorted(recorded.arrays("item_train_sampling_*_gt_boxes"))):
        item = item_of(dataset, number, random)
        check_item(item, name.removesuffix("_gt_boxes"), recorded, exact=False)


@pytest.mark.recorded("collate_keys")
def test_batch(recorded: Recording, folder: NuScenesFolder, repo: Path) -> None:
    dataset = make_dataset(data_config(repo, folder, []), training=False)
    items = [item_of(dataset, n, np.random.RandomState(VAL_SEED + n)) for n in range(2)]
    batch = dataset.collate_batch(items)
    expected = recorded.number("collate_keys")
    assert set(batch) == set(expected)
    tokens = [info["token"] for info in dataset.infos[:2]]
    assert [metadata["token"] for metadata in batch["metadata"]] == tokens
    for key, (shape, dtype) in expected.items():
        if key not in ("metadata", "batch_size"):
            assert list(batch[key].shape) == shape, key
            assert batch[key].dtype == np.dtype(dtype), key
    assert batch["batch_size"] == 2
