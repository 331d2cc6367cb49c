"""Whatever happens to a file, its reader returns a cloud or tells in one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cloud_writers import scan
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_pcd import FIELDS, data_of, pcd_header
from test_ply import FACES, KINDS, faces, header, rows_of, vertices

from pcdet_distill.datasets.readers import read_cloud_file
from pcdet_distill.errors import DataError


def undamaged() -> dict[str, bytes]:
    """A file of each format that has its own reader here."""
    points = scan(60)
    files = {"plain.bin": points.tobytes()}
    for kind in ("ascii", "binary", "binary_compressed"):
        files[f"{kind}.pcd"] = pcd_header(FIELDS, 60, kind) + data_of(points, kind)
    for kind in KINDS:
        content = header(kind, FACES + vertices(60)) + faces(kind)
        files[f"{kind}.ply"] = content + rows_of(points[:, :4], kind, "ffff")
    return files


FILES = undamaged()
SETTINGS = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def read_or_tell(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        cloud = read_cloud_file(path)
    except DataError as error:
        assert str(path) in str(error)
        assert "\n" not in str(error)
    else:
        assert cloud.points.dtype == np.float32
        assert cloud.points.shape[1] == len(cloud.features)
        assert cloud.features[:3] == ("x", "y", "z")


@pytest.mark.parametrize("name", FILES)
@SETTINGS
@given(data=st.data())
def test_a_truncated_file(tmp_path: Path, name: str, data: st.DataObject) -> None:
    end = data.draw(st.integers(0, len(FILES[name])))
    read_or_tell(tmp_path / name, FILES[name][:end])


@pytest.mark.parametrize("name", FILES)
@SETTINGS
@given(data=st.data())
def test_a_file_with_changed_bytes(tmp_path: Path, name: str, data: st.DataObject) -> None:
    content = bytearray(FILES[name])
    places = st.integers(0, min(len(content), 400) - 1)  # most of them in the header
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(places)] = data.draw(st.integers(0, 255))
    read_or_tell(tmp_path / name, bytes(content))


@pytest.mark.parametrize("name", FILES)
@SETTINGS
@given(data=st.data())
def test_a_file_with_a_piece_left_out(tmp_path: Path, name: str, data: st.DataObject) -> None:
    content = FILES[name]
    start = data.draw(st.integers(0, len(content) - 1))
    end = data.draw(st.integers(start, min(len(content), start + 60)))
    read_or_tell(tmp_path / name, content[:start] + content[end:])
