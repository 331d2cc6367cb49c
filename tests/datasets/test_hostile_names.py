"""Data sets whose ids and paths lead elsewhere: nothing outside of their folders is touched.

The check itself is tested in tests/config/test_inside.py; here, that every name goes through it.
"""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_custom import fill_custom

from pcdet_distill.datasets import build_dataset
from pcdet_distill.datasets.custom.folder import CustomFolder
from pcdet_distill.datasets.kitti.folder import KittiFolder
from pcdet_distill.datasets.nuscenes.sweeps import read_frame
from pcdet_distill.errors import DataError

CLASSES = ["Car", "Pedestrian", "Cyclist"]
REFUSED = "is not the name of a file inside"


@pytest.fixture
def root(kitti_root: Path, tmp_path: Path) -> Path:
    """A copy of the tiny KITTI folder that a test may spoil."""
    return Path(shutil.copytree(kitti_root, tmp_path / "kitti"))


def change_pickle(file: Path, change) -> None:
    content = pickle.loads(file.read_bytes())
    change(content)
    file.write_bytes(pickle.dumps(content))


def test_an_id_of_the_infos_writes_no_file_outside(root, data_config, tmp_path):
    def lead_out(infos):
        infos[0]["point_cloud"]["lidar_idx"] = str(tmp_path / "secret")

    change_pickle(root / "kitti_infos_val.pkl", lead_out)
    data_config.DATA_PATH = str(root)
    dataset = build_dataset(data_config, CLASSES, training=False)
    with pytest.raises(DataError, match=REFUSED):
        dataset[0]
    (tmp_path / "secret.txt").write_text("keep")
    good = dataset[1]
    batch = dataset.collate_batch([good])
    batch["frame_id"] = np.array([str(tmp_path / "secret")])
    nothing = {
        "pred_boxes": torch.zeros(0, 7),
        "pred_scores": torch.zeros(0),
        "pred_labels": torch.zeros(0, dtype=torch.int64),
    }
    (tmp_path / "results").mkdir()
    with pytest.raises(DataError, match=REFUSED):
        dataset.generate_prediction_dicts(batch, [nothing], CLASSES, tmp_path / "results")
    assert (tmp_path / "secret.txt").read_text() == "keep"


def test_a_path_of_the_database_reads_no_file_outside(root, data_config, tmp_path):
    np.zeros((20, 4), dtype=np.float32).tofile(tmp_path / "secret.bin")

    def lead_out(infos):
        for objects in infos.values():
            for each in objects:
                each["path"] = "../secret.bin"

    change_pickle(root / "kitti_dbinfos_train.pkl", lead_out)
    data_config.DATA_PATH = str(root)
    dataset = build_dataset(data_config, CLASSES, training=True)
    with pytest.raises(DataError, match=f"database of objects: '../secret.bin' {REFUSED}"):
        dataset[0]


@pytest.mark.parametrize("frame", ["../000000", "/etc/000000", "a\0b"])
@pytest.mark.parametrize("read", ["points", "check_columns", "calibration", "labels", "road_plane"])
def test_every_file_of_a_kitti_frame(root, frame, read):
    with pytest.raises(DataError, match=REFUSED):
        getattr(KittiFolder(root, "train"), read)(frame)


def test_a_point_file_that_is_a_link_to_elsewhere(root, tmp_path):
    secret = tmp_path / "secret.bin"
    np.zeros((20, 4), dtype=np.float32).tofile(secret)
    file = root / "training/velodyne/000000.bin"
    file.unlink()
    file.symlink_to(secret)
    with pytest.raises(DataError, match=REFUSED):
        KittiFolder(root, "train").points("000000")


def test_a_folder_of_points_on_another_disk(root, tmp_path):
    shutil.move(root / "training/velodyne", tmp_path / "disk")
    (root / "training/velodyne").symlink_to(tmp_path / "disk")
    assert len(KittiFolder(root, "train").points("000000"))


def test_frames_of_own_data(tmp_path):
    fill_custom(tmp_path / "own")
    folder = CustomFolder(tmp_path / "own")
    with pytest.raises(DataError, match=REFUSED):
        folder.points("../../secret")
    with pytest.raises(DataError, match=REFUSED):
        folder.labels_file("/etc/passwd")


def test_paths_of_nuscenes_infos(tmp_path):
    info = {"lidar_path": "../secret.bin", "sweeps": []}
    with pytest.raises(DataError, match=REFUSED):
        read_frame(tmp_path, info, max_sweeps=1)


@pytest.mark.parametrize(
    "name", ["velodyne/000000.bin", "label_2/000000.txt", "calib/000000.txt", "image_2/000000.png"]
)
def test_a_pipe_in_place_of_a_file_of_a_frame(root, name):
    (root / "training" / name).unlink()
    os.mkfifo(root / "training" / name)
    folder = KittiFolder(root, "train")
    read = {
        "velodyne": folder.points,
        "label_2": folder.labels,
        "calib": folder.calibration,
        "image_2": folder.image_shape,
    }
    with pytest.raises(DataError, match="no regular file"):
        read[name.split("/")[0]]("000000")


@pytest.mark.parametrize(
    "name", ["kitti_infos_val.pkl", "ImageSets/train.txt", "kitti_dbinfos_train.pkl"]
)
def test_a_pipe_in_place_of_a_list(root, data_config, name):
    (root / name).unlink()
    os.mkfifo(root / name)
    data_config.DATA_PATH = str(root)
    with pytest.raises(DataError, match="no regular file"):
        if name.endswith(".txt"):
            KittiFolder(root, "train").frame_ids()
        else:
            build_dataset(data_config, CLASSES, training="dbinfos" in name)


def test_infos_make_no_array_before_its_values(root, data_config):
    """An array of 3 GB in a file of 100 bytes."""

    class Huge:
        def __reduce__(self):
            return np.zeros(1).__reduce__()[0], (np.ndarray, (3 * 10**9,), b"b")

    (root / "kitti_infos_val.pkl").write_bytes(pickle.dumps([Huge()]))
    data_config.DATA_PATH = str(root)
    with pytest.raises(DataError, match="refused, or no info file"):
        build_dataset(data_config, CLASSES, training=False)
