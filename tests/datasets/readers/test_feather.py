"""Feather files, as Argoverse 2 stores its sweeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cloud_writers import scan

from pcdet_distill.datasets.readers import read_cloud_file
from pcdet_distill.errors import DataError

pyarrow = pytest.importorskip("pyarrow")
feather = pytest.importorskip("pyarrow.feather")


def write(path: Path, columns: dict, **options) -> Path:
    feather.write_feather(pyarrow.table(columns), str(path), **options)
    return path


@pytest.mark.parametrize("compression", ["uncompressed", "lz4", "zstd"])
def test_a_sweep_of_argoverse_is_read(tmp_path: Path, compression: str) -> None:
    points = scan(64)
    place = points[:, :3].astype(np.float16)
    columns = dict(zip("xyz", np.ascontiguousarray(place.T)))
    columns["intensity"] = (points[:, 3] * 255).astype(np.uint8)
    columns["laser_number"] = points[:, 4].astype(np.uint8)
    columns["offset_ns"] = np.arange(64, dtype=np.int32) * 1_000_000
    cloud = read_cloud_file(write(tmp_path / "a.feather", columns, compression=compression))
    assert cloud.features == ("x", "y", "z", "intensity", "ring", "timestamp")
    np.testing.assert_array_equal(cloud.points[:, :3], place)
    np.testing.assert_array_equal(cloud.points[:, 4], points[:, 4])
    np.testing.assert_allclose(cloud.points[:, 5], 0.001 * np.arange(64), rtol=1e-6)
    assert "timestamp is converted from nanoseconds to seconds" in cloud.note
    assert "intensity looks like a scale of 0..255" in cloud.note


def test_words_are_left_out_and_missing_numbers_are_counted(tmp_path: Path) -> None:
    columns = {"x": [1.0, None], "y": [1.0, 2.0], "z": [1, 2], "name": ["a", "b"]}
    cloud = read_cloud_file(write(tmp_path / "a.feather", columns))
    assert cloud.features == ("x", "y", "z")
    assert cloud.num_bad == 1
    assert "no numbers are left out: name" in cloud.note


def test_a_table_of_boxes_is_no_cloud(tmp_path: Path) -> None:
    path = write(tmp_path / "annotations.feather", {"tx_m": [1.0], "category": ["BUS"]})
    with pytest.raises(DataError, match="annotations.feather: has no x, y, z; .* found tx_m"):
        read_cloud_file(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_feather_is_told(tmp_path: Path, share: float) -> None:
    path = write(tmp_path / "scan.feather", dict(zip("xyz", scan(2000)[:, :3].T.copy())))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match="scan.feather: truncated or damaged") as caught:
        read_cloud_file(path)
    assert "\n" not in str(caught.value)


def test_empty_tables_and_other_content_are_told(tmp_path: Path) -> None:
    columns = {name: np.zeros(0, np.float32) for name in "xyz"}
    with pytest.raises(DataError, match="none.feather: holds no points"):
        read_cloud_file(write(tmp_path / "none.feather", columns))
    scan(50)[:, :4].tofile(tmp_path / "a.feather")
    with pytest.raises(DataError, match="does not begin like a .feather file"):
        read_cloud_file(tmp_path / "a.feather")
