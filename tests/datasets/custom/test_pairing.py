"""Which files are labels, and which labels belong to which cloud."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pcdet_distill.datasets.custom.labels import FrameLabels, LabelRow
from pcdet_distill.datasets.custom.pairing import find_label_files, name_clouds, pair
from pcdet_distill.errors import DataError


def touch(root: Path, *names: str) -> list[Path]:
    paths = [root / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return paths


def labels_of(*names: str) -> dict[str, FrameLabels]:
    row = LabelRow("Car", [0, 0, 0, 1, 1, 1, 0], None, "labels.csv, line 2")
    return {name: FrameLabels.from_rows([row]) for name in names}


def found(root: Path, frames: list[str], labels: Path | None = None) -> list[str]:
    files = find_label_files(labels, root, frames)
    return [str(file.path.relative_to(root.parent)) for file in files]


def test_folders_that_tell_recordings_are_part_of_the_name(tmp_path: Path) -> None:
    clouds = touch(
        tmp_path,
        *("drive1/lidar/0001.pcd", "drive2/lidar/0001.pcd", "0002.bin", "a.pcd.bin"),
        *("gt_database/0001_Car_0.bin", "annotations.feather"),
    )
    named = name_clouds(clouds, tmp_path)
    assert list(named) == ["drive1/0001", "drive2/0001", "0002", "a"]


def test_converted_data_sets_below_the_clouds_are_left_out(tmp_path: Path) -> None:
    clouds = touch(tmp_path, "0001.bin", "out/points/0001.npy")
    touch(tmp_path, "out/custom_infos_train.pkl", "out/labels/0001.txt", "0001.json")
    assert list(name_clouds(clouds, tmp_path)) == ["0001"]
    assert found(tmp_path, ["0001"])[0].endswith("0001.json")


def test_label_files_are_told_by_the_names_of_clouds(tmp_path: Path) -> None:
    root = tmp_path / "own"
    touch(
        root,
        *("label/1.json", "label/2.json", "label/3.json"),  # of the third there is no cloud
        *("calib/1.json", "meta.json", "readme.txt", "camera/1.txt", "poses.csv"),
    )
    assert found(root, ["1", "2"]) == ["own/label/1.json", "own/label/2.json", "own/label/3.json"]


def test_labels_beside_the_folder_of_clouds(tmp_path: Path) -> None:
    root = tmp_path / "velodyne"
    root.mkdir()
    touch(tmp_path, "label_2/1.txt", "calib/1.txt")
    assert found(root, ["1"]) == ["label_2/1.txt"]


def test_other_prefixes_with_the_same_numbers(tmp_path: Path) -> None:
    root = tmp_path / "own"
    touch(root, "label_1.json", "label_02.json", "notes.json")
    assert found(root, ["cloud_0001", "cloud_0002"]) == ["own/label_02.json", "own/label_1.json"]


def test_a_table_of_all_frames(tmp_path: Path) -> None:
    root = tmp_path / "own"
    touch(root, "sensor.json", "all_boxes.csv")
    assert found(root, ["1", "2"]) == ["own/all_boxes.csv"]


def test_two_kinds_of_labels_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "1.json", "1.csv")
    with pytest.raises(DataError, match="holds labels as .* and as .*--labels"):
        find_label_files(None, tmp_path, ["1"])


@pytest.mark.parametrize(
    ("frames", "names"),
    [
        (["0001", "0002"], ["0001", "0002"]),
        (["0001", "0002"], ["1", "2"]),
        (["0001", "0002"], ["1.0", "2.0"]),
        (["drive/0001", "drive/0002"], ["0001", "0002"]),
        (["cloud_0001", "cloud_0002"], ["label_1", "label_2"]),
        (["a", "b"], ["0", "1"]),
        (["drive1/0001", "drive2/0001"], ["drive1/0001", "drive2/0001"]),
    ],
)
def test_names_that_mean_the_same(frames: list[str], names: list[str]) -> None:
    pairs = pair(frames, labels_of(*names))
    assert list(pairs.labels) == frames
    assert pairs.unlabelled == ()


def test_a_name_that_fits_two_clouds_fits_none() -> None:
    with pytest.raises(DataError, match="none of the 1 labelled frames has a cloud"):
        pair(["drive1/0001", "drive2/0001"], labels_of("0001"))


def test_clouds_without_labels() -> None:
    frames = ["0001", "0002", "0003"]
    pairs = pair(frames, labels_of("0002"))
    assert pairs.unlabelled == ("0001", "0003")
    empty = pair(frames, labels_of("0002"), unlabelled_is_empty=True)
    assert [len(entry) for entry in empty.labels.values()] == [0, 1, 0]
    np.testing.assert_array_equal(empty.labels["0001"].boxes.shape, (0, 7))


def test_labels_without_clouds() -> None:
    with pytest.raises(DataError, match="labels.csv, line 2: 1 labelled frames, '0009' first"):
        pair(["0001", "0002"], labels_of("0001", "0009"))
    pairs = pair(["0001", "0002"], labels_of("0001", "0009"), skip_missing=True)
    assert list(pairs.labels) == ["0001"]
    assert "1 labelled frames without cloud left out (0009 ...)" in pairs.notes


def test_two_names_of_one_frame_are_refused() -> None:
    with pytest.raises(DataError, match="frame '0001' has labels under two names, '1' and '0001'"):
        pair(["0001", "0002"], labels_of("1", "0001"))


def test_clouds_alone_are_for_the_demo(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"--labels names .* 'pcdet-distill demo .*{tmp_path}'"):
        find_label_files(None, tmp_path, ["a"])


def test_a_pickle_is_no_label_file(tmp_path: Path) -> None:
    file = tmp_path / "info.pkl"
    file.write_bytes(b"")
    with pytest.raises(DataError, match="info.pkl: is a pickle.* expected .json, .csv"):
        find_label_files(file, tmp_path, ["a"])
