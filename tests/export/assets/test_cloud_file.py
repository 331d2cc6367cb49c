"""cloud_file.py: the points of files, with numpy alone."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from runtime_folders import PCD_HEADER, load_program, random_points  # noqa: E402


@pytest.fixture(scope="module")
def cloud_file() -> ModuleType:
    """cloud_file.py as a module."""
    return load_program("cloud_file")


def test_readers(cloud_file: ModuleType, tmp_path: Path) -> None:
    points = random_points(50)
    points[:, 3] = np.arange(50)
    features = ["x", "y", "z", "intensity"]
    points.tofile(tmp_path / "a.bin")
    np.save(tmp_path / "a.npy", points.astype(np.float64))
    wide = np.concatenate([points, points[:, :1]], axis=1)
    wide.tofile(tmp_path / "wide.bin")
    fields = [("p", "<f4", 3), ("_", "u1", 4), ("i", "u1"), ("r", "<u2")]
    table = np.zeros(50, fields)
    table["p"] = points[:, :3]
    table["i"] = points[:, 3]
    header = PCD_HEADER.format(count=50, kind="binary")
    (tmp_path / "b.pcd").write_bytes(header.encode() + table.tobytes() + b"\0" * 100)
    rows = [f"{p[0]!s} {p[1]!s} {p[2]!s} 0 0 0 0 {p[3]!s} 7" for p in points]
    header = PCD_HEADER.format(count=50, kind="ascii")
    (tmp_path / "a.pcd").write_text(header + "\n".join(rows) + "\n")
    np.savez(tmp_path / "a.npz", points=points)
    for name in ("a.bin", "a.npy", "a.npz", "b.pcd", "a.pcd"):
        read = cloud_file.read_points(tmp_path / name, features)
        np.testing.assert_array_equal(read, points, err_msg=name)
    columns = ["x", "y", "z", "intensity", "ring"]
    read = cloud_file.read_points(tmp_path / "wide.bin", [*features, "timestamp"], columns)
    np.testing.assert_array_equal(read[:, :4], points)
    assert not read[:, 4].any()


def test_five_columns_that_are_read_as_four_are_doubted(
    cloud_file: ModuleType, tmp_path: Path, capsys
) -> None:
    points = random_points(400)
    points[:, 3] = np.abs(points[:, 3])
    wide = np.concatenate([points, np.full((400, 1), 7, np.float32)], axis=1)
    wide.tofile(tmp_path / "wide.bin")
    points.tofile(tmp_path / "good.bin")
    features = ["x", "y", "z", "intensity"]
    cloud_file.read_points(tmp_path / "good.bin", features)
    assert capsys.readouterr().out == ""
    cloud_file.read_points(tmp_path / "wide.bin", features)
    assert "negative intensities" in capsys.readouterr().out


def ply_header(kind: str, count: int) -> bytes:
    """Vertices with coordinates, an intensity and a column that no model reads, of other types."""
    lines = ["ply", f"format {kind} 1.0", "comment made by a test", f"element vertex {count}"]
    lines += ["property float x", "property float y", "property double z"]
    lines += ["property uchar ring", "property float32 Intensity"]
    lines += ["element face 0", "property list uchar int vertex_indices", "end_header"]
    return ("\n".join(lines) + "\n").encode()


@pytest.mark.parametrize(
    ("kind", "order"), [("ascii", ""), ("binary_little_endian", "<"), ("binary_big_endian", ">")]
)
def test_ply_files(cloud_file: ModuleType, tmp_path: Path, kind: str, order: str) -> None:
    points = random_points(50)
    points[:, 3] = np.arange(50)
    if order:
        fields = [("x", "f4"), ("y", "f4"), ("z", "f8"), ("ring", "u1"), ("intensity", "f4")]
        table = np.zeros(50, [(name, order + of) for name, of in fields])
        for number, name in enumerate(("x", "y", "z", "intensity")):
            table[name] = points[:, number]
        data = table.tobytes()
    else:
        rows = [f"{x!s} {y!s} {z!s} 3 {value!s}" for x, y, z, value in points]
        data = ("\n".join(rows) + "\n").encode()
    (tmp_path / "a.ply").write_bytes(ply_header(kind, 50) + data)
    read = cloud_file.read_points(tmp_path / "a.ply", ["x", "y", "z", "intensity"])
    np.testing.assert_array_equal(read, points)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"ply\nformat ascii 1.0\nelement face 3\nend_header\n",
        b"ply\nformat odd 1.0\nelement vertex 1\nproperty float x\nend_header\n1\n",
        b"ply\nelement vertex 1\nproperty float x\nend_header\n1\n",
        ply_header("binary_little_endian", 50) + b"short",
        ply_header("ascii", 5) + b"1 2 3 4 5\n",
        ply_header("ascii", 1) + b"1 2 three 4 5\n",
    ],
)
def test_damaged_ply_files_end_in_a_sentence(
    cloud_file: ModuleType, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "a.ply").write_bytes(content)
    with pytest.raises(cloud_file.CloudFileError, match="a.ply cannot be read: "):
        cloud_file.read_points(tmp_path / "a.ply", ["x", "y", "z", "intensity"])


def test_what_cannot_be_read_ends_in_a_sentence(cloud_file: ModuleType, tmp_path: Path) -> None:
    points = random_points(5)
    (tmp_path / "cut.bin").write_bytes(points.tobytes()[:-3])
    np.save(tmp_path / "words.npy", np.array([["a", "b", "c", "d"]]))
    (tmp_path / "text.pcd").write_text("hello")
    sentences = {
        "cut.bin": "its 77 bytes are no whole number of points of 4 float32 numbers",
        "words.npy": "it holds <U1, not numbers",
        "text.pcd": "its header lacks FIELDS, SIZE, TYPE or POINTS",
    }
    for name, sentence in sentences.items():
        with pytest.raises(cloud_file.CloudFileError, match=f"{name} cannot be read: {sentence}"):
            cloud_file.read_points(tmp_path / name, ["x", "y", "z", "intensity"])


def test_a_cloud_without_points_is_told(cloud_file: ModuleType, tmp_path: Path, capsys) -> None:
    features = ["x", "y", "z", "intensity"]
    np.save(tmp_path / "none.npy", np.full((3, 4), np.nan, np.float32))
    (tmp_path / "empty.BIN").write_bytes(b"")
    for name, count in (("none.npy", 3), ("empty.BIN", 0)):
        assert cloud_file.read_points(tmp_path / name, features).shape == (count, 4)
        told = f"warning: {tmp_path / name} holds no point whose numbers are all finite\n"
        assert capsys.readouterr().out == told
