"""Clouds that were cut between two points, which no reader notices, are named before training."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import tiny_kitti
import tiny_nuscenes
from easydict import EasyDict
from tiny_custom import fill_custom
from tiny_nuscenes import TinyNuScenes

from pcdet_distill.datasets import DatasetTemplate, build_dataset
from pcdet_distill.datasets.cloud_sizes import (
    CHECKSUM,
    is_changed,
    read_sizes,
    sizes_file,
    write_sizes,
)
from pcdet_distill.datasets.custom.custom_infos import create_custom_infos
from pcdet_distill.datasets.doubts import find_doubts
from pcdet_distill.datasets.facts import DataFacts, gather_facts
from pcdet_distill.datasets.kitti.kitti_infos import create_kitti_infos
from pcdet_distill.errors import DataError

INFOS = "nuscenes_infos_4sweeps_train.pkl"


@pytest.fixture(scope="module")
def shared_nuscenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tiny = TinyNuScenes(tmp_path_factory.mktemp("sizes") / "nuscenes")
    tiny_nuscenes.fill(tiny)
    tiny_nuscenes.make_files(tiny)
    return tiny.data_path


@pytest.fixture
def nuscenes(shared_nuscenes: Path, tmp_path: Path) -> Path:
    """The folder that DATA_PATH names; it may be damaged."""
    return Path(shutil.copytree(shared_nuscenes, tmp_path / "nuscenes"))


def dataset_of(data_path: Path) -> DatasetTemplate:
    config = EasyDict({**tiny_nuscenes.DATA_CONFIG, "DATA_PATH": str(data_path)})
    return build_dataset(config, tiny_nuscenes.CLASSES, training=True)


def facts_of(data_path: Path) -> DataFacts:
    return gather_facts(dataset_of(data_path), 0, limit_s=60)


def cut(path: Path, num_points: int, point_bytes: int) -> None:
    os.truncate(path, path.stat().st_size - num_points * point_bytes)


def infos_of(data_path: Path) -> list[dict]:
    infos: list[dict] = pickle.loads((data_path / tiny_nuscenes.VERSION / INFOS).read_bytes())
    return infos


def test_a_key_frame_and_a_sweep_that_lack_points_are_named(nuscenes: Path) -> None:
    facts = facts_of(nuscenes)
    assert facts.num_sizes == facts.num_frames > 1
    assert facts.other_sizes == {}
    clouds = nuscenes / tiny_nuscenes.VERSION
    info = infos_of(nuscenes)[0]
    cut(clouds / info["lidar_path"], 7, 20)
    dataset = dataset_of(nuscenes)
    facts = gather_facts(dataset, 3, limit_s=60)
    assert facts.unreadable == {}  # that it was cut off does not show
    name = Path(info["lidar_path"]).name
    assert f"{name} has" in facts.other_sizes[dataset.frame_name(0)]
    doubts = {doubt.name: doubt for doubt in find_doubts(facts, dataset)}
    assert name in doubts["file size"].what
    assert "copy these files again" in doubts["file size"].remedy


def test_a_sweep_that_lacks_points_is_named(nuscenes: Path) -> None:
    sweeps = [sweep["lidar_path"] for sweep in infos_of(nuscenes)[0]["sweeps"]]
    path = next(path for path in sweeps if path.startswith("sweeps/"))
    cut(nuscenes / tiny_nuscenes.VERSION / path, 1, 20)
    problems = facts_of(nuscenes).other_sizes
    assert problems
    assert all(Path(path).name in problem for problem in problems.values())


def test_infos_have_openpcdets_keys_and_need_no_record(nuscenes: Path) -> None:
    keys = {"lidar_path", "cam_front_path", "cam_intrinsic", "token", "sweeps", "timestamp"}
    keys |= {"ref_from_car", "car_from_global", "gt_boxes", "gt_boxes_velocity", "gt_names"}
    keys |= {"gt_boxes_token", "num_lidar_pts", "num_radar_pts"}
    assert all(set(info) == keys for info in infos_of(nuscenes))
    sizes_file(nuscenes / tiny_nuscenes.VERSION / INFOS).unlink()
    assert facts_of(nuscenes).num_sizes == 0


def test_the_record_of_other_infos_does_not_count(nuscenes: Path) -> None:
    """As when OpenPCDet made the infos again from other clouds."""
    file = nuscenes / tiny_nuscenes.VERSION / INFOS
    infos = infos_of(nuscenes)
    cut(nuscenes / tiny_nuscenes.VERSION / infos[0]["lidar_path"], 7, 20)
    file.write_bytes(pickle.dumps(infos[:2]))
    facts = facts_of(nuscenes)
    assert (facts.num_sizes, facts.other_sizes) == (0, {})


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"bytes of the point files": {"a": "b"}}'])
def test_a_damaged_record_is_refused(tmp_path: Path, text: str) -> None:
    infos = tmp_path / "infos.pkl"
    infos.write_bytes(bytes(10))
    (tmp_path / "a.bin").write_bytes(bytes(32))
    write_sizes(infos, tmp_path, ["a.bin"])
    assert read_sizes(infos) == {"a.bin": 32}
    sizes_file(infos).write_text(text)
    with pytest.raises(DataError, match="infos.sizes.json: is no record of the sizes"):
        read_sizes(infos)


def test_own_data(tmp_path: Path) -> None:
    fill_custom(tmp_path / "own")
    create_custom_infos(tmp_path / "own", show_progress=False)
    config = EasyDict(
        DATASET="CustomDataset",
        DATA_PATH=str(tmp_path / "own"),
        POINT_CLOUD_RANGE=[-12.8, -12.8, -3, 12.8, 12.8, 1],
        MAP_CLASS_TO_KITTI={"Forklift": "Car", "Person": "Pedestrian"},
        DATA_SPLIT={"train": "train", "test": "val"},
        INFO_PATH={"train": ["custom_infos_train.pkl"], "test": ["custom_infos_val.pkl"]},
        POINT_FEATURE_ENCODING={
            "encoding_type": "absolute_coordinates_encoding",
            "used_feature_list": ["x", "y", "z", "intensity"],
            "src_feature_list": ["x", "y", "z", "intensity"],
        },
        DATA_PROCESSOR=[],
    )
    dataset = build_dataset(config, ["Forklift", "Person"], training=True)
    assert gather_facts(dataset, 0, limit_s=60).other_sizes == {}
    cut(tmp_path / "own" / "points" / "0002.npy", 3, 16)
    facts = gather_facts(dataset, 0, limit_s=60)
    assert list(facts.other_sizes) == ["0002"]
    assert facts.num_sizes == 4


def test_kitti(tmp_path: Path) -> None:
    kitti = tiny_kitti.TinyKitti(tmp_path / "kitti")
    tiny_kitti.fill(kitti)
    create_kitti_infos(kitti.root, show_progress=False)
    config = EasyDict({**tiny_kitti.DATA_CONFIG, "DATA_PATH": str(kitti.root)})
    dataset = build_dataset(config, ["Car", "Pedestrian"], training=True)
    assert gather_facts(dataset, 0, limit_s=60).other_sizes == {}
    name = dataset.frame_name(1)
    cut(kitti.path("velodyne", name), 2, 16)
    assert list(gather_facts(dataset, 0, limit_s=60).other_sizes) == [name]
    infos = pickle.loads((kitti.root / "kitti_infos_train.pkl").read_bytes())
    assert set(infos[0]["point_cloud"]) == {"num_features", "lidar_idx"}
    # OpenPCDet's infos know no sizes: the clouds may be cut, and nothing is claimed about them.
    sizes_file(kitti.root / "kitti_infos_train.pkl").unlink()
    facts = gather_facts(dataset, 3, limit_s=60)
    assert (facts.num_sizes, facts.other_sizes) == (0, {})
    assert "file size" not in [doubt.name for doubt in find_doubts(facts, dataset)]


def test_a_flipped_bit_in_infos_is_seen(tmp_path: Path) -> None:
    infos = tmp_path / "infos.pkl"
    infos.write_bytes(bytes(range(100)))
    assert not is_changed(infos)  # OpenPCDet's have no record
    write_sizes(infos, tmp_path, [])
    assert not is_changed(infos)
    damaged = bytearray(infos.read_bytes())
    damaged[50] ^= 4
    infos.write_bytes(bytes(damaged))
    assert is_changed(infos)
    infos.write_bytes(bytes(99))  # made again by another program
    assert not is_changed(infos)


def test_a_record_of_an_older_version_has_no_checksum(tmp_path: Path) -> None:
    infos = tmp_path / "infos.pkl"
    infos.write_bytes(bytes(10))
    (tmp_path / "a.bin").write_bytes(bytes(32))
    write_sizes(infos, tmp_path, ["a.bin"])
    content = json.loads(sizes_file(infos).read_text())
    del content[CHECKSUM]
    sizes_file(infos).write_text(json.dumps(content))
    infos.write_bytes(bytes(range(10)))
    assert not is_changed(infos)
    assert read_sizes(infos) == {"a.bin": 32}


def test_a_data_set_with_a_flipped_bit_is_named(
    nuscenes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = nuscenes / tiny_nuscenes.VERSION / INFOS
    content = file.read_bytes()
    box = infos_of(nuscenes)[0]["gt_boxes"].tobytes()
    place = content.index(box) + 20  # a bit of a coordinate
    file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    facts_of(nuscenes)
    assert f"{INFOS}: its content is not what was written" in caplog.text
