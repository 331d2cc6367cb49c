"""The table of suffixes, and packages that are not installed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from cloud_writers import scan

from pcdet_distill.datasets.readers import CLOUD_SUFFIXES, is_bag, read_cloud_file
from pcdet_distill.errors import DataError


def test_the_formats() -> None:
    assert set(CLOUD_SUFFIXES) == {
        *(".bin", ".npy", ".npz", ".pcd", ".ply", ".las", ".laz", ".feather")
    }


def test_a_folder_or_a_recording_is_no_file_of_one_cloud(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a folder; expected a file of one cloud"):
        read_cloud_file(tmp_path)
    (tmp_path / "metadata.yaml").write_bytes(b"x")
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
