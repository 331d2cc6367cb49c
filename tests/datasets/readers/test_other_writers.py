"""Files of other people's packages, where they are installed: pypcd4 and plyfile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cloud_writers import scan

from pcdet_distill.datasets.readers import read_cloud_file

TYPES = ["f4", "f8", "u1", "u2", "u4", "i1", "i2", "i4"]


@pytest.mark.parametrize("encoding", ["ASCII", "BINARY", "BINARY_COMPRESSED"])
@pytest.mark.parametrize("kind", TYPES)
def test_pypcd4(tmp_path: Path, encoding: str, kind: str) -> None:
    pypcd4 = pytest.importorskip("pypcd4")
    points = scan(1000)
    columns = [*points[:, :3].T, (points[:, 4]).astype(kind)]
    types = (np.float32, np.float32, np.float32, np.dtype(kind).type)
    cloud = pypcd4.PointCloud.from_points(columns, ("x", "y", "z", "ring"), types)
    cloud.save(tmp_path / "a.pcd", encoding=pypcd4.Encoding[encoding])
    read = read_cloud_file(tmp_path / "a.pcd")
    assert read.features == ("x", "y", "z", "ring")
    digits = 1e-6 if encoding == "ASCII" else 0
    np.testing.assert_allclose(read.points, points[:, [0, 1, 2, 4]], rtol=digits, atol=digits)


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("kind", TYPES)
def test_plyfile(tmp_path: Path, text: bool, byte_order: str, kind: str) -> None:
    plyfile = pytest.importorskip("plyfile")
    points = scan(1000)
    vertex = np.zeros(1000, [("x", "f4"), ("y", "f4"), ("z", "f4"), ("ring", kind)])
    for column, name in ((0, "x"), (1, "y"), (2, "z"), (4, "ring")):
        vertex[name] = points[:, column]
    face = np.zeros(2, [("vertex_indices", "O"), ("red", "u1")])
    face["vertex_indices"] = [np.arange(3, dtype="i4"), np.arange(4, dtype="i4")] * 1
    elements = [plyfile.PlyElement.describe(face, "face")]
    elements.append(plyfile.PlyElement.describe(vertex, "vertex"))
    plyfile.PlyData(elements, text=text, byte_order=byte_order).write(str(tmp_path / "a.ply"))
    read = read_cloud_file(tmp_path / "a.ply")
    assert read.features == ("x", "y", "z", "ring")
    np.testing.assert_allclose(read.points, points[:, [0, 1, 2, 4]], rtol=1e-6 if text else 0)
