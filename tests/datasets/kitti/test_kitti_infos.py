"""Infos, ground-truth database, splits and road planes of a tiny KITTI folder."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from pcdet_distill.datasets.cloud_sizes import read_sizes
from pcdet_distill.datasets.kitti.calibration import Calibration
from pcdet_distill.datasets.kitti.folder import KittiFolder
from pcdet_distill.datasets.kitti.kitti_infos import create_kitti_infos
from pcdet_distill.datasets.kitti.road_planes import create_road_planes, estimate_road_plane
from pcdet_distill.datasets.kitti.splits import make_split
from pcdet_distill.datasets.safe_pickle import load_plain_pickle
from pcdet_distill.errors import ConfigError, DataError

ANNO_DTYPES = {
    "truncated": "float64",
    "occluded": "float64",
    "alpha": "float64",
    "bbox": "float32",
    "dimensions": "float64",
    "location": "float32",
    "rotation_y": "float64",
    "score": "float64",
    "difficulty": "int32",
    "index": "int32",
    "gt_boxes_lidar": "float64",
    "num_points_in_gt": "int32",
}


def load(root: Path, name: str):
    return load_plain_pickle(root / name, "")


def files_below(root: Path) -> dict[str, bytes]:
    """The content of every file by its path."""
    contents = {}
    for path in root.rglob("*"):
        if path.is_file():
            contents[path.relative_to(root).as_posix()] = path.read_bytes()
    return contents


def test_info_of_a_frame(kitti_root: Path) -> None:
    info = load(kitti_root, "kitti_infos_train.pkl")[1]
    assert info["point_cloud"] == {"num_features": 4, "lidar_idx": "000001"}
    sizes = read_sizes(kitti_root / "kitti_infos_train.pkl")
    file = "training/velodyne/000001.bin"
    assert sizes[file] == (kitti_root / file).stat().st_size
    assert info["image"]["image_idx"] == "000001"
    assert info["image"]["image_shape"].tolist() == [375, 1242]
    assert list(info["calib"]) == ["P2", "R0_rect", "Tr_velo_to_cam"]
    assert {matrix.shape for matrix in info["calib"].values()} == {(4, 4)}
    annos = info["annos"]
    assert annos["name"].tolist() == ["Car", "Pedestrian", "Van", "Cyclist", "DontCare"]
    # The car stands on the ground at z = -1.73 and is 1.5 m high.
    car_box = [13, 3, -1.73 + 0.75, 4, 1.6, 1.5, 0.3]
    np.testing.assert_allclose(annos["gt_boxes_lidar"][0], car_box, atol=1e-5)
    np.testing.assert_allclose(annos["location"][0], [-3, 1.65, 12.73], atol=1e-5)
    np.testing.assert_allclose(annos["dimensions"][0], [4, 1.5, 1.6])
    assert annos["index"].tolist() == [0, 1, 2, 3, -1]
    assert annos["num_points_in_gt"][4] == -1
    assert (annos["num_points_in_gt"][:4] >= 40).all()
    assert annos["gt_boxes_lidar"].shape == (4, 7)
    assert {name: annos[name].dtype.name for name in ANNO_DTYPES} == ANNO_DTYPES


def test_splits_and_frame_without_objects(kitti_root: Path) -> None:
    assert len(load(kitti_root, "kitti_infos_train.pkl")) == 6
    assert len(load(kitti_root, "kitti_infos_val.pkl")) == 3
    assert len(load(kitti_root, "kitti_infos_trainval.pkl")) == 9
    assert not (kitti_root / "kitti_infos_test.pkl").exists()
    only_dont_care = load(kitti_root, "kitti_infos_val.pkl")[2]["annos"]
    assert only_dont_care["gt_boxes_lidar"].shape == (0, 7)
    assert only_dont_care["name"].tolist() == ["DontCare"]


def test_a_holdout_split_has_labels_and_no_part_in_the_database(tiny) -> None:
    for frame_id in ("000000", "000001", "000002", "000003"):
        tiny.frame(frame_id, [("Car", 10.0, 2.0)])
    tiny.split(train=["000000"], val=["000001"], holdout=["000002"], unlabelled=["000003"])
    counts = create_kitti_infos(tiny.root, show_progress=False)
    assert counts == {
        "train": 1,
        "val": 1,
        "holdout": 1,
        "unlabelled": 1,
        "trainval": 2,
        "gt_database": 1,
    }
    assert load(tiny.root, "kitti_infos_holdout.pkl")[0]["annos"]["name"][0] == "Car"
    assert "annos" not in load(tiny.root, "kitti_infos_unlabelled.pkl")[0]


def test_a_holdout_split_shares_no_frame_with_training(tiny) -> None:
    for frame_id in ("000000", "000001", "000002"):
        tiny.frame(frame_id, [("Car", 10.0, 2.0)])
    tiny.split(train=["000000"], val=["000001"], holdout=["000002", "000000"])
    words = r"holdout.txt: 1 of its frames \(000000 is one\) are in train.txt too"
    with pytest.raises(DataError, match=words):
        create_kitti_infos(tiny.root, show_progress=False)


def test_database(kitti_root: Path) -> None:
    database = load(kitti_root, "kitti_dbinfos_train.pkl")
    assert set(database) == {"Car", "Pedestrian", "Van", "Cyclist"}
    assert all(len(entries) == 6 for entries in database.values())
    entry = database["Cyclist"][2]
    assert entry["path"] == "gt_database/000002_Cyclist_3.bin"
    assert entry["image_idx"] == "000002"
    assert entry["gt_idx"] == 3
    points = np.fromfile(kitti_root / entry["path"], dtype=np.float32).reshape(-1, 4)
    assert len(points) == entry["num_points_in_gt"] >= 40
    assert (np.abs(points[:, 2]) <= 1.75 / 2 + 1e-4).all()
    assert np.abs(points[:, :2]).max() < 1.0
    cyclist_box = [18, -1, -1.73 + 0.875, 1.8, 0.6, 1.75, 1.0]
    np.testing.assert_allclose(entry["box3d_lidar"], cyclist_box, atol=1e-5)
    assert list(entry) == [
        "name",
        "path",
        "image_idx",
        "gt_idx",
        "box3d_lidar",
        "num_points_in_gt",
        "difficulty",
        "bbox",
        "score",
    ]


def test_several_processes_write_the_same(kitti_root: Path, filled) -> None:
    create_kitti_infos(filled.root, workers=2, show_progress=False)
    from_two = files_below(filled.root)
    from_one = files_below(kitti_root)
    assert from_two.keys() == from_one.keys()
    for name in from_two:
        assert from_two[name] == from_one[name], name


def test_dont_care_between_objects_does_not_shift_the_database(tiny) -> None:
    dont_care = "DontCare -1 -1 -10 1 2 3 4 -1 -1 -1 -1000 -1000 -1000 -10"
    tiny.frame("000000", [], more_lines=(dont_care, tiny.label("Car", 10, 2)))
    tiny.points([("Car", 10, 2)], 0).tofile(tiny.path("velodyne", "000000"))
    tiny.split(train=["000000"], val=["000000"])
    create_kitti_infos(tiny.root, show_progress=False)
    (entry,) = load(tiny.root, "kitti_dbinfos_train.pkl")["Car"]
    assert entry["num_points_in_gt"] >= 40
    assert entry["gt_idx"] == 0


def test_empty_label_and_empty_point_files(tiny) -> None:
    tiny.frame("000000", [("Car", 10, 2)], more_lines=())
    tiny.path("velodyne", "000000").write_bytes(b"")
    tiny.frame("000001", [], more_lines=())
    tiny.split(train=["000000", "000001"], val=["000001"])
    create_kitti_infos(tiny.root, show_progress=False)
    without_points, without_labels = load(tiny.root, "kitti_infos_train.pkl")
    assert without_points["annos"]["num_points_in_gt"].tolist() == [0]
    assert len(without_labels["annos"]["name"]) == 0
    assert without_labels["annos"]["bbox"].shape == (0, 4)


def test_training_split_without_frames_is_refused(filled) -> None:
    before = files_below(filled.root)
    filled.split(train=[])
    with pytest.raises(DataError, match="train.txt: lists no frames"):
        create_kitti_infos(filled.root, show_progress=False)
    (filled.root / "ImageSets" / "train.txt").write_bytes(before["ImageSets/train.txt"])
    assert files_below(filled.root) == before


def test_test_split_has_no_labels(filled) -> None:
    os.rename(filled.root / "training" / "label_2", filled.root / "labels_away")
    os.symlink(filled.root / "training", filled.root / "testing")
    filled.split(test=["000003"])
    os.rename(filled.root / "labels_away", filled.root / "training" / "label_2")
    create_kitti_infos(filled.root, show_progress=False)
    (info,) = load(filled.root, "kitti_infos_test.pkl")
    assert "annos" not in info
    assert info["point_cloud"]["lidar_idx"] == "000003"


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("folder", ["velodyne", "calib", "label_2", "image_2"])
def test_bad_frame_is_named_and_the_folder_stays(filled, folder: str, workers: int) -> None:
    broken = filled.path(folder, "000004")
    broken.write_bytes(b"nonsense")
    before = files_below(filled.root)
    with pytest.raises(DataError, match="000004"):
        create_kitti_infos(filled.root, workers=workers, show_progress=False)
    assert files_below(filled.root) == before
    assert not list(filled.root.glob(".create_data*"))


def test_points_of_five_columns_are_refused(filled) -> None:
    random = np.random.default_rng(0)
    points = random.uniform([-50, -50, -2, 0], [50, 50, 1, 1], (960, 4))
    rings = np.arange(960) % 32
    path = filled.path("velodyne", "000000")
    np.column_stack([points, rings]).astype(np.float32).tofile(path)
    with pytest.raises(DataError, match="000000.bin: 4 columns are asked for, .* every 5 numbers"):
        create_kitti_infos(filled.root, show_progress=False)


def test_missing_folder_names_the_path_and_the_command(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere.*pcdet-distill data synthetic"):
        create_kitti_infos(tmp_path / "nowhere")


def test_folder_that_cannot_be_written(filled) -> None:
    (filled.root / ".create_data_unfinished").write_text("a file where a folder must be made")
    before = files_below(filled.root)
    with pytest.raises(DataError, match="kitti: cannot be written"):
        create_kitti_infos(filled.root, show_progress=False)
    assert files_below(filled.root) == before


def test_leftovers_of_a_killed_run_do_not_stay(filled) -> None:
    leftover = filled.root / ".create_data_unfinished" / "gt_database"
    leftover.mkdir(parents=True)
    (leftover / "000000_Car_0.bin").write_bytes(b"half")
    before = {name for name in files_below(filled.root) if "unfinished" not in name}
    create_kitti_infos(filled.root, show_progress=False)
    assert files_below(filled.root).keys() == before


def test_make_split_shares_the_frames(tiny) -> None:
    for number in range(10):
        tiny.frame(f"{number:06d}", [])
    assert make_split(tiny.root, 0.7) == {"train": 7, "val": 3, "trainval": 10, "test": 0}
    train = KittiFolder(tiny.root, "train").frame_ids()
    val = KittiFolder(tiny.root, "val").frame_ids()
    assert sorted(train + val) == [f"{number:06d}" for number in range(10)]
    assert KittiFolder(tiny.root, "trainval").frame_ids() == sorted(train + val)
    with pytest.raises(DataError, match="exists already"):
        make_split(tiny.root, 0.5)


def test_make_split_beside_a_file_of_that_name(tiny) -> None:
    for number in range(2):
        tiny.frame(f"{number:06d}", [])
    (tiny.root / "ImageSets").rmdir()
    (tiny.root / "ImageSets").write_text("000000")
    with pytest.raises(DataError, match="ImageSets: this folder cannot be made"):
        make_split(tiny.root, 0.5)


@pytest.mark.parametrize("fraction", [0.0, 1.0, 70])
def test_make_split_refuses_what_is_no_share(filled, fraction: float) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        make_split(filled.root, fraction)


def sloped_scene(calib_path: Path, slope: float) -> tuple[np.ndarray, Calibration]:
    """Ground that rises with x, a wall along the side, and cars' roofs."""
    random = np.random.RandomState(0)
    ground_xy = random.uniform([1, -14], [39, 14], (6000, 2))
    noise = random.normal(0, 0.02, 6000)
    ground_z = slope * ground_xy[:, 0] - 1.7 + noise
    ground = np.column_stack([ground_xy, ground_z])
    wall_x = random.uniform(1, 39, 3000)
    wall_y = random.normal(10, 0.1, 3000)
    wall_z = random.uniform(0, 3, 3000)
    wall = np.column_stack([wall_x, wall_y, wall_z])
    roof_xy = random.uniform([8, -5], [12, -3], (3000, 2))
    roof_z = random.uniform(-0.5, 0, 3000)
    roofs = np.column_stack([roof_xy, roof_z])
    points = np.concatenate([ground, wall, roofs]).astype(np.float32)
    return points, Calibration.from_file(calib_path)


@pytest.mark.parametrize("slope", [0.0, 0.02, -0.03])
def test_road_plane_follows_the_ground(tiny, slope: float) -> None:
    tiny.frame("000000", [])
    points, calib = sloped_scene(tiny.path("calib", "000000"), slope)
    plane = estimate_road_plane(points, calib)
    assert plane[1] < 0
    assert np.linalg.norm(plane[:3]) == pytest.approx(1)
    near = [5, 0, 5 * slope - 1.7]
    far = [30, 5, 30 * slope - 1.7]
    on_ground = calib.lidar_to_rect(np.array([near, far], dtype=np.float32))
    np.testing.assert_allclose(on_ground @ plane[:3] + plane[3], 0, atol=0.05)


def test_planes_are_written_for_every_frame(filled) -> None:
    assert create_road_planes(filled.root, show_progress=False) == 9
    assert len(list((filled.root / "training" / "planes").glob("*.txt"))) == 9
    with pytest.raises(DataError, match="exists already"):
        create_road_planes(filled.root, show_progress=False)


def test_road_plane_ignores_a_building(tiny) -> None:
    """Where a building hides the ground, the lowest point of a square metre is on its wall."""
    tiny.frame("000000", [])
    random = np.random.RandomState(0)
    xy = random.uniform([1, -14], [39, 14], (6000, 2))
    is_free = (xy[:, 0] < 15) | (xy[:, 1] < 0)
    road = np.column_stack([xy[is_free], random.normal(-1.7, 0.02, is_free.sum())])
    wall = np.column_stack([xy[~is_free], random.uniform(0, 3, (~is_free).sum())])
    points = np.concatenate([road, wall]).astype(np.float32)
    calib = Calibration.from_file(tiny.path("calib", "000000"))
    plane = estimate_road_plane(points, calib)
    on_road = np.array([[5, -5, -1.7], [35, -10, -1.7], [35, 10, -1.7]], dtype=np.float32)
    np.testing.assert_allclose(calib.lidar_to_rect(on_road) @ plane[:3] + plane[3], 0, atol=0.05)
