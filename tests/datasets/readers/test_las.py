"""Files of the survey world, written by laspy, and a header written by hand."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from cloud_writers import scan

from pcdet_distill.datasets.readers import read_cloud_file
from pcdet_distill.errors import DataError

laspy = pytest.importorskip("laspy")


def write(path: Path, points: np.ndarray, point_format: int = 1, **columns: np.ndarray) -> Path:
    header = laspy.LasHeader(point_format=point_format, version="1.4")
    header.scales = [0.001] * 3
    header.offsets = np.floor(points[:, :3].min(axis=0))
    extra = [name for name in columns if name.startswith("extra")]
    for name in extra:
        header.add_extra_dim(laspy.ExtraBytesParams(name=name, type=columns[name].dtype))
    las = laspy.LasData(header)
    las.x, las.y, las.z = points[:, 0], points[:, 1], points[:, 2]
    for name, values in columns.items():
        las[name] = values
    las.write(path)
    return path


@pytest.mark.parametrize("suffix", [".las", ".laz", ".LAS"])
@pytest.mark.parametrize("point_format", [1, 6])
def test_points_intensity_and_time_are_read(tmp_path: Path, suffix: str, point_format: int) -> None:
    points = scan(300).astype(np.float64)
    intensity = np.arange(300, dtype=np.uint16) * 200
    path = write(
        tmp_path / f"a{suffix}",
        points,
        point_format,
        intensity=intensity,
        gps_time=3e5 + 0.001 * np.arange(300),
        extra_ring=points[:, 4].astype(np.uint8),
    )
    cloud = read_cloud_file(path)
    assert cloud.features[:4] == ("x", "y", "z", "intensity")
    assert {"timestamp", "return_number", "classification", "extra_ring"} <= set(cloud.features)
    np.testing.assert_allclose(cloud.points[:, :3], points[:, :3], atol=0.00051)
    np.testing.assert_array_equal(cloud.points[:, 3], intensity)
    times = cloud.points[:, cloud.features.index("timestamp")]
    np.testing.assert_allclose(times, 0.001 * np.arange(300), atol=1e-6)
    rings = cloud.points[:, cloud.features.index("extra_ring")]
    np.testing.assert_array_equal(rings, points[:, 4])
    assert "intensity looks like a scale of 0..65535 (highest 59800)" in cloud.note


def test_world_coordinates_keep_their_millimetres(tmp_path: Path) -> None:
    points = scan(300).astype(np.float64)
    points[:, :3] += [448_262.123, 5_411_932.678, 110.0]
    cloud = read_cloud_file(write(tmp_path / "a.las", points))
    assert cloud.offset == (448_000.0, 5_412_000.0, 0.0)
    back = cloud.points[:, :3].astype(np.float64) + cloud.offset
    np.testing.assert_allclose(back, points[:, :3], atol=0.001)
    assert "(448000, 5412000, 0) m is subtracted" in cloud.note


def test_a_header_written_by_hand_is_understood(tmp_path: Path) -> None:
    """LAS 1.2, format 0: x, y, z as scaled integers, then the intensity."""
    header = b"LASF" + struct.pack("<HHIHH8sBB", 0, 0, 0, 0, 0, b"\0" * 8, 1, 2)
    header += b"\0" * 64 + struct.pack("<HHHII", 1, 2026, 227, 227, 0)
    header += struct.pack("<BHI5I", 0, 20, 2, 2, 0, 0, 0, 0)
    header += struct.pack("<3d3d6d", 0.01, 0.01, 0.01, 10, 20, 30, 11, 10, 22, 20, 33, 30)
    rows = struct.pack("<iiiHBBbBH", 100, 200, 300, 7, 9, 2, -5, 0, 0)
    rows += struct.pack("<iiiHBBbBH", 50, 0, -50, 8, 9, 2, -5, 0, 0)
    path = tmp_path / "hand.las"
    path.write_bytes(header + rows)
    cloud = read_cloud_file(path)
    assert len(header) == 227
    np.testing.assert_allclose(cloud.points[:, :4], [[11, 22, 33, 7], [10.5, 20, 29.5, 8]])


@pytest.mark.parametrize("suffix", [".las", ".laz"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_survey_is_told(tmp_path: Path, suffix: str, share: float) -> None:
    path = write(tmp_path / f"scan{suffix}", scan(3000).astype(np.float64))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=f"scan{suffix}: truncated") as caught:
        read_cloud_file(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("position", [100, 243])
def test_a_damaged_number_of_records_is_told_at_once(tmp_path: Path, position: int) -> None:
    """Here of ordinary and of extended records; laspy would count to four billions."""
    path = write(tmp_path / "scan.las", scan(30).astype(np.float64))
    content = bytearray(path.read_bytes())
    content[position : position + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    with pytest.raises(DataError, match="scan.las: .* header tells of [0-9]{12} bytes"):
        read_cloud_file(path)


def test_a_damaged_number_of_chunks_is_told_at_once(tmp_path: Path) -> None:
    """lazrs would ask for the memory of four billions, and end the process if it gets none."""
    path = write(tmp_path / "scan.laz", scan(30).astype(np.float64))
    content = bytearray(path.read_bytes())
    (data_start,) = struct.unpack_from("<I", content, 96)
    (table,) = struct.unpack_from("<q", content, data_start)
    content[table + 4 : table + 8] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    with pytest.raises(DataError, match="scan.laz: .* header tells of"):
        read_cloud_file(path)


def test_a_survey_without_points_and_other_content_are_told(tmp_path: Path) -> None:
    laspy.LasData(laspy.LasHeader(point_format=1, version="1.2")).write(tmp_path / "none.las")
    with pytest.raises(DataError, match="none.las: holds no points"):
        read_cloud_file(tmp_path / "none.las")
    (tmp_path / "a.las").write_bytes(b"ply\nformat ascii 1.0\n")
    with pytest.raises(DataError, match="content of a .ply file, expected .las"):
        read_cloud_file(tmp_path / "a.las")
