"""The table of suffixes, what a folder holds, and packages that are not installed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from cloud_writers import scan

from pcdet_distill.datasets.readers import CLOUD_SUFFIXES, find_clouds, is_bag, read_cloud_file
from pcdet_distill.errors import DataError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")


def test_the_formats() -> None:
    assert set(CLOUD_SUFFIXES) == {
        *(".bin", ".npy", ".npz", ".pcd", ".ply", ".las", ".laz", ".feather")
    }


def test_clouds_of_a_folder_come_in_order(tmp_path: Path) -> None:
    touch(tmp_path, "b.pcd", "a.PCD", "c.txt", ".d.pcd", "ä 1.bin", "below/e.pcd")
    assert [file.name for file in find_clouds(tmp_path)] == ["a.PCD", "b.pcd", "ä 1.bin"]


def test_clouds_of_subfolders_are_found(tmp_path: Path) -> None:
    touch(tmp_path, "x/2.ply", "x/1.ply", "a/3.ply", "notes.txt")
    found = [file.relative_to(tmp_path).as_posix() for file in find_clouds(tmp_path)]
    assert found == ["a/3.ply", "x/1.ply", "x/2.ply"]


def test_a_folder_without_clouds_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no point clouds; expected files .bin, .feather"):
        find_clouds(tmp_path)
    with pytest.raises(DataError, match="nowhere: no such folder"):
        find_clouds(tmp_path / "nowhere")


def test_a_folder_or_a_recording_is_no_file_of_one_cloud(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a folder; expected a file of one cloud"):
        read_cloud_file(tmp_path)
    touch(tmp_path, "metadata.yaml")
    assert is_bag(tmp_path)
    with pytest.raises(DataError, match="a recording of many clouds"):
        read_cloud_file(tmp_path)


def test_suffixes_may_be_in_capitals(tmp_path: Path) -> None:
    scan(400)[:, :4].tofile(tmp_path / "A.BIN")
    np.testing.assert_array_equal(read_cloud_file(tmp_path / "A.BIN").points, scan(400)[:, :4])


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("laspy", "a.las"),
        ("pyarrow.feather", "a.feather"),
        ("rosbags.rosbag1", "a.bag"),
        ("rosbags.typesys", "a.mcap"),
    ],
)
def test_a_missing_package_is_named(tmp_path: Path, monkeypatch, module: str, name: str) -> None:
    from pcdet_distill.datasets.readers import read_bag

    magic = {"a.las": b"LASF", "a.feather": b"ARROW1", "a.bag": b"#ROSBAG", "a.mcap": b"\x89MCAP0"}
    (tmp_path / name).write_bytes(magic[name])
    monkeypatch.setitem(sys.modules, module, None)
    read = read_bag if is_bag(tmp_path / name) else read_cloud_file
    words = rf'{name}: .* package {module.split(".")[0]} .*pip install "pcdet_distill\[readers\]"'
    with pytest.raises(DataError, match=words):
        read(tmp_path / name)
