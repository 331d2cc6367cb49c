"""Files of Stanford's format, written byte by byte: both byte orders, lists, other elements."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from cloud_writers import scan
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pcdet_distill.datasets.readers import read_cloud_file
from pcdet_distill.errors import DataError

ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">"}
KINDS = ["ascii", *ORDERS]
VERTEX = "property float x\nproperty float y\nproperty float z\nproperty float intensity\n"


def header(kind: str, elements: str, newline: str = "\n") -> bytes:
    text = f"ply\nformat {kind} 1.0\ncomment made by a test\nobj_info none\n{elements}end_header\n"
    return text.replace("\n", newline).encode()


def vertices(count: int, properties: str = VERTEX) -> str:
    return f"element vertex {count}\n{properties}"


def rows_of(table: np.ndarray, kind: str, code: str) -> bytes:
    """Each row of numbers with the types of ``code``, as ``struct`` writes them."""
    if kind == "ascii":
        return "".join(" ".join(repr(float(v)) for v in row) + "\n" for row in table).encode()
    pieces = []
    for row in table:
        numbers = [value if letter in "fd" else int(value) for value, letter in zip(row, code)]
        pieces.append(struct.pack(ORDERS[kind] + code, *numbers))
    return b"".join(pieces)


def faces(kind: str) -> bytes:
    """Two faces of three and four corners, each with a colour before the list."""
    if kind == "ascii":
        return b"9 3 0 1 2\n9 4 0 1 2 3\n"
    order = ORDERS[kind]
    return struct.pack(order + "BB3i", 9, 3, 0, 1, 2) + struct.pack(
        order + "BB4i", 9, 4, 0, 1, 2, 3
    )


FACES = "element face 2\nproperty uchar red\nproperty list uchar int vertex_indices\n"


@pytest.fixture
def write(tmp_path: Path):
    def write_file(content: bytes) -> Path:
        path = tmp_path / "scan.ply"
        path.write_bytes(content)
        return path

    return write_file


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_all_formats_hold_the_same_points(write, kind: str, newline: str) -> None:
    points = scan(50)[:, :4]
    cloud = read_cloud_file(
        write(header(kind, vertices(50), newline) + rows_of(points, kind, "ffff"))
    )
    assert cloud.features == ("x", "y", "z", "intensity")
    np.testing.assert_array_equal(cloud.points, points)
    assert cloud.note == ""


@pytest.mark.parametrize("kind", KINDS)
def test_other_elements_are_skipped_before_and_behind(write, kind: str) -> None:
    points = scan(8)[:, :4]
    camera = "element camera 2\nproperty double focal\nproperty short id\n"
    content = header(kind, FACES + camera + vertices(8) + FACES.replace("face", "edge"))
    content += faces(kind) + rows_of(np.ones((2, 2)), kind, "dh")
    content += rows_of(points, kind, "ffff") + faces(kind)
    np.testing.assert_array_equal(read_cloud_file(write(content)).points, points)


@pytest.mark.parametrize("kind", KINDS)
def test_lists_of_vertices_are_left_out(write, kind: str) -> None:
    points = scan(3)[:, :4]
    properties = VERTEX.replace(
        "property float z\n", "property list uchar short echoes\nproperty float z\n"
    )
    data = b""
    for number, (x, y, z, intensity) in enumerate(points.tolist()):
        if kind == "ascii":
            echoes = " ".join("7" * number)
            data += f"{x!r} {y!r} {number} {echoes} {z!r} {intensity!r}\n".encode()
        else:
            code = f"{ORDERS[kind]}ffB{number}hff"
            data += struct.pack(code, x, y, number, *[7] * number, z, intensity)
    cloud = read_cloud_file(write(header(kind, vertices(3, properties)) + data))
    assert cloud.features == ("x", "y", "z", "intensity")
    np.testing.assert_array_equal(cloud.points, points)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "letter"),
    [
        ("char", "b"),
        ("uchar", "B"),
        ("short", "h"),
        ("ushort", "H"),
        ("int", "i"),
        ("uint", "I"),
        ("float", "f"),
        ("double", "d"),
        ("int8", "b"),
        ("uint8", "B"),
        ("int16", "h"),
        ("uint16", "H"),
        ("int32", "i"),
        ("uint32", "I"),
        ("float32", "f"),
        ("float64", "d"),
    ],
)
def test_every_type_is_read(write, kind: str, name: str, letter: str) -> None:
    table = np.column_stack([scan(9)[:, :3].astype(np.float64), np.arange(9)])
    properties = VERTEX.replace("float intensity", f"{name} value")
    cloud = read_cloud_file(
        write(header(kind, vertices(9, properties)) + rows_of(table, kind, "fff" + letter))
    )
    assert cloud.features == ("x", "y", "z", "value")
    np.testing.assert_array_equal(cloud.points, table.astype(np.float32))


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    points=st.lists(
        st.tuples(*[st.floats(width=32, min_value=-8192, max_value=8192)] * 4), min_size=1
    ),
    kind=st.sampled_from(KINDS),
)
def test_any_vertices_come_back(tmp_path: Path, points, kind: str) -> None:
    table = np.array(points, dtype=np.float32)
    path = tmp_path / "any.ply"
    path.write_bytes(header(kind, vertices(len(table))) + rows_of(table, kind, "ffff"))
    np.testing.assert_array_equal(read_cloud_file(path).points, table)


BINARY = header("binary_little_endian", vertices(5))
POINTS = rows_of(scan(5)[:, :4], "binary_little_endian", "ffff")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (BINARY + POINTS[:-1], "truncated: 5 rows of vertex need 80 bytes, 79 are there"),
        (BINARY[:40], "no line end_header"),
        (BINARY.replace(b"little", b"litle"), "unknown format 'binary_litle_endian'; did you mean"),
        (BINARY.replace(b"float y", b"flot y"), "unknown type 'flot'; did you mean 'float'"),
        (BINARY.replace(b"property float y", b"propert float y"), "unknown line 'propert float y'"),
        (BINARY.replace(b"float y", b"float x"), "names the property x twice"),
        (BINARY.replace(b"float y", b"float q") + POINTS, "has no y; expected columns"),
        (BINARY.replace(b"element vertex", b"element face"), "no element vertex; .* are: face"),
        (header("ascii", vertices(0)), "holds no points"),
        (header("ascii", vertices(3)) + b"1 2 3 4\n1 2 3 4\n", "truncated: 2 of 3 points"),
        (header("ascii", vertices(2)) + b"1 2 3 4\n1 2 3\n", "point 2 of 2 has 3 values"),
        (header("ascii", vertices(1)) + b"1 2 b 4\n", "point 1 is '1 2 b 4'; expected 4 numbers"),
        (
            header("binary_big_endian", FACES + vertices(5)) + faces("binary_big_endian")[:-1],
            "truncated",
        ),
        (
            header("binary_big_endian", vertices(1, VERTEX + "property list uchar int echoes\n"))
            + struct.pack(">ffffB2i", 1, 2, 3, 4, 3, 7, 7),
            "truncated: 0 of 1 rows of vertex",
        ),
        (b"# .PCD v0.7\nVERSION 0.7\nFIELDS x y z\n", "the content of a .pcd file, expected .ply"),
        (b"", "is empty"),
    ],
)
def test_a_damaged_ply_is_told(write, content: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        read_cloud_file(write(content))
    assert "scan.ply: " in str(caught.value)
    assert "\n" not in str(caught.value)
