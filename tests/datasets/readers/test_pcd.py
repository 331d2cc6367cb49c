"""Files of PCL, written byte by byte: every kind of data, type and padding, and every damage."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from cloud_writers import lzf_compress, packed, pcd_header, scan
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pcdet_distill.datasets.readers import read_cloud_file
from pcdet_distill.errors import DataError

FIELDS = [("x", "f4", 1), ("y", "f4", 1), ("z", "f4", 1), ("intensity", "f4", 1), ("ring", "u2", 1)]
SAME_TMP = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def point_rows(points: np.ndarray, fields) -> bytes:
    """Each point in turn; padding is filled with bytes that are no numbers."""
    rows = b""
    for point in points:
        column = 0
        for name, kind, count in fields:
            if name == "_":
                rows += b"\xff" * (int(kind[1]) * count)
                continue
            rows += packed(point[column : column + count], kind)
            column += count
    return rows


def ascii_rows(points: np.ndarray, newline: str = "\n") -> bytes:
    lines = [" ".join(repr(float(value)) for value in point) for point in points]
    return "".join(line + newline for line in lines).encode()


def compressed(columns: bytes, stream: bytes | None = None) -> bytes:
    stream = lzf_compress(columns) if stream is None else stream
    return struct.pack("<II", len(stream), len(columns)) + stream


def columns_in_turn(points: np.ndarray, fields) -> bytes:
    """The values of all points, field after field."""
    blocks = [packed(points[:, number], kind) for number, (_, kind, _) in enumerate(fields)]
    return b"".join(blocks)


def data_of(points: np.ndarray, kind: str) -> bytes:
    if kind == "ascii":
        return ascii_rows(points)
    if kind == "binary":
        return point_rows(points, FIELDS)
    return compressed(columns_in_turn(points, FIELDS))


@pytest.fixture
def write(tmp_path: Path):
    def write_file(content: bytes, name: str = "scan.pcd") -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write_file


@pytest.mark.parametrize("kind", ["ascii", "binary", "binary_compressed"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_all_kinds_of_data_hold_the_same_points(write, kind: str, newline: str) -> None:
    points = scan(200)
    cloud = read_cloud_file(write(pcd_header(FIELDS, 200, kind, newline) + data_of(points, kind)))
    assert cloud.features == ("x", "y", "z", "intensity", "ring")
    assert cloud.points.dtype == np.float32
    np.testing.assert_array_equal(cloud.points, points)
    assert cloud.note == ""


def test_padding_is_left_out(write) -> None:
    points = scan(50)[:, [0, 1, 2, 3]]
    fields = [*FIELDS[:3], ("_", "u1", 4), FIELDS[3], ("_", "u1", 12)]
    content = pcd_header(fields, 50, "binary") + point_rows(points, fields)
    cloud = read_cloud_file(write(content))
    assert cloud.features == ("x", "y", "z", "intensity")
    np.testing.assert_array_equal(cloud.points, points)


def test_padding_that_a_writer_counted_wrongly_is_repaired(write) -> None:
    """As in SUSTechPOINTS' files: x y z, 4 bytes, intensity, 4 bytes, time of 8, ring, 14 bytes."""
    points = scan(20)
    times_s = 1820.3 + np.linspace(0, 0.1, 20)
    rows = b""
    for point, time_s in zip(points, times_s):
        rows += struct.pack("<3f4xf4xdH14x", *point[:4], time_s, int(point[4]))
    fields = [
        *FIELDS[:3],
        ("_", "u1", 4),
        FIELDS[3],
        ("_", "u1", 0),
        ("timestamp", "f8", 1),
        ("_", "u1", 6),
        FIELDS[4],
        ("_", "u1", 12),
    ]
    cloud = read_cloud_file(write(pcd_header(fields, 20, "binary") + rows))
    assert cloud.features == ("x", "y", "z", "intensity", "timestamp", "ring")
    np.testing.assert_array_equal(cloud.points[:, [0, 1, 2, 3, 5]], points)
    np.testing.assert_allclose(cloud.points[:, 4], times_s - times_s[0], atol=1e-7)
    assert "counts padding wrongly" in cloud.note


@pytest.mark.parametrize("kind", ["binary", "binary_compressed", "ascii"])
def test_a_field_of_several_numbers_becomes_several_columns(write, kind: str) -> None:
    points = scan(30)
    fields = [*FIELDS[:3], ("normal", "f4", 2)]
    data = {
        "ascii": ascii_rows(points),
        "binary": point_rows(points, fields),
        "binary_compressed": compressed(
            columns_in_turn(points[:, :3], FIELDS[:3]) + packed(points[:, 3:].ravel(), "f4")
        ),
    }[kind]
    cloud = read_cloud_file(write(pcd_header(fields, 30, kind) + data))
    assert cloud.features == ("x", "y", "z", "normal_0", "normal_1")
    np.testing.assert_array_equal(cloud.points, points)


@pytest.mark.parametrize("kind", ["f4", "f8", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8"])
@pytest.mark.parametrize("data", ["binary", "binary_compressed", "ascii"])
def test_every_type_of_number_is_read(write, kind: str, data: str) -> None:
    points = scan(40)
    values = np.arange(40) - (20 if kind[0] != "u" else 0)
    table = np.column_stack([points[:, :3].astype(np.float64), values])
    fields = [*FIELDS[:3], ("value", kind, 1)]
    content = {
        "ascii": ascii_rows(table),
        "binary": point_rows(table, fields),
        "binary_compressed": compressed(columns_in_turn(table, fields)),
    }[data]
    cloud = read_cloud_file(write(pcd_header(fields, 40, data) + content))
    assert cloud.features == ("x", "y", "z", "value")
    np.testing.assert_array_equal(cloud.points[:, 3], values)
    np.testing.assert_array_equal(cloud.points[:, :3], points[:, :3])


def test_compressed_data_may_leave_padding_out(write) -> None:
    points = scan(60)
    fields = [*FIELDS[:3], ("_", "u1", 4), *FIELDS[3:]]
    header = pcd_header(fields, 60, "binary_compressed")
    without = compressed(columns_in_turn(points, FIELDS))
    blocks = columns_in_turn(points[:, :3], FIELDS[:3]) + b"\xff" * (4 * 60)
    with_padding = compressed(blocks + columns_in_turn(points[:, 3:], FIELDS[3:]))
    for data in (without, with_padding):
        np.testing.assert_array_equal(read_cloud_file(write(header + data)).points, points)


def test_packed_colours_become_three_columns(write) -> None:
    bits = np.array([0xFF102030, 0x00FFFE01, 0x7FC00000], dtype=np.uint32)
    rows = b"".join(struct.pack("<3fI", 1, 2, 3, int(value)) for value in bits)
    fields = [*FIELDS[:3], ("rgb", "f4", 1)]
    cloud = read_cloud_file(write(pcd_header(fields, 3, "binary") + rows))
    assert cloud.features == ("x", "y", "z", "red", "green", "blue")
    np.testing.assert_array_equal(cloud.points[:, 3:], [[16, 32, 48], [255, 254, 1], [0xC0, 0, 0]])


def test_points_without_return_are_kept_and_counted(write) -> None:
    points = scan(10)
    points[3, :3] = np.nan
    for kind in ("ascii", "binary"):
        cloud = read_cloud_file(write(pcd_header(FIELDS, 10, kind) + data_of(points, kind)))
        assert cloud.num_bad == 1
        assert len(cloud.points) == 10
        np.testing.assert_array_equal(cloud.without_bad().points, np.delete(points, 3, axis=0))


@pytest.mark.parametrize("word", ["nan", "-nan", "NaN", "-nan(ind)", "1.#QNAN", "-1.#IND00"])
def test_nan_in_any_spelling(write, word: str) -> None:
    rows = f"1 2 3 4 5\n{word} {word} {word} 0 6\n"
    cloud = read_cloud_file(write(pcd_header(FIELDS, 2, "ascii") + rows.encode()))
    assert cloud.num_bad == 1
    np.testing.assert_array_equal(cloud.points[0], [1, 2, 3, 4, 5])
    assert np.isnan(cloud.points[1, :3]).all()


def test_an_organised_cloud_is_a_list_of_points(write) -> None:
    points = scan(12)
    content = pcd_header(FIELDS, 12, "binary").replace(b"WIDTH 12\nHEIGHT 1", b"WIDTH 4\nHEIGHT 3")
    cloud = read_cloud_file(write(content + data_of(points, "binary")))
    np.testing.assert_array_equal(cloud.points, points)


def test_a_viewpoint_is_not_applied_but_told(write) -> None:
    content = pcd_header(FIELDS, 5, "binary").replace(b"VIEWPOINT 0 0 0 1", b"VIEWPOINT 0 0 1.5 1")
    cloud = read_cloud_file(write(content + data_of(scan(5), "binary")))
    assert "VIEWPOINT 0 0 1.5 1 0 0 0 is not applied" in cloud.note


@SAME_TMP
@given(
    points=st.lists(
        st.tuples(*[st.floats(width=32, min_value=-8192, max_value=8192)] * 4), min_size=1
    ),
    kind=st.sampled_from(["ascii", "binary", "binary_compressed"]),
)
def test_any_points_come_back(tmp_path: Path, points, kind: str) -> None:
    table = np.array(points, dtype=np.float32)
    data = {
        "ascii": lambda: ascii_rows(table),
        "binary": lambda: point_rows(table, FIELDS[:4]),
        "binary_compressed": lambda: compressed(columns_in_turn(table, FIELDS[:4])),
    }[kind]()
    path = tmp_path / "any.pcd"
    path.write_bytes(pcd_header(FIELDS[:4], len(table), kind) + data)
    np.testing.assert_array_equal(read_cloud_file(path).points, table)


HEADER = pcd_header(FIELDS, 20, "binary")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (HEADER + point_rows(scan(20), FIELDS)[:-1], "truncated: 20 points of 18 bytes need 360"),
        (HEADER, "truncated: .* 0 are there"),
        (HEADER[:60], "no line DATA"),
        (HEADER.replace(b"binary", b"binari"), "unknown DATA 'binari'; did you mean 'binary'"),
        (HEADER.replace(b"SIZE 4 4 4 4 2", b"SIZE 4 4 4 4"), "FIELDS names 5 .* SIZE has 4"),
        (HEADER.replace(b"SIZE 4", b"SIZE 3"), "field x has TYPE F and SIZE 3"),
        (HEADER.replace(b"TYPE F", b"TYPE Q"), "field x has TYPE Q"),
        (HEADER.replace(b"COUNT 1", b"COUNT -1"), "COUNT of x is '-1'; expected a whole number"),
        (HEADER.replace(b"WIDTH 20", b"WIDTH 19"), "POINTS is 20, but WIDTH x HEIGHT is 19"),
        (HEADER.replace(b"FIELDS x y", b"FIELDS a y") + b"\0" * 360, "has no x; expected columns"),
        (pcd_header(FIELDS, 0, "binary"), "holds no points"),
        (pcd_header(FIELDS, 20, "ascii") + ascii_rows(scan(19)), "truncated: 19 of 20 points"),
        (
            pcd_header(FIELDS, 20, "ascii") + ascii_rows(scan(19)) + b"1.0 2.0\n",
            "point 20 of 20 has 2 values, expected 5",
        ),
        (
            pcd_header(FIELDS, 2, "ascii") + b"1 2 3 4 5\n1 2 three 4 5\n",
            "point 2 is '1 2 three 4 5'; expected 5 numbers",
        ),
        (pcd_header(FIELDS, 20, "binary_compressed") + b"\1\2", "sizes of the compressed data"),
        (
            pcd_header(FIELDS, 20, "binary_compressed")
            + data_of(scan(20), "binary_compressed")[:-3],
            "truncated: .* bytes of compressed data",
        ),
        (
            pcd_header(FIELDS, 21, "binary_compressed") + data_of(scan(20), "binary_compressed"),
            "hold 360 bytes, but 21 points of 18 bytes are 378",
        ),
        (
            pcd_header(FIELDS, 20, "binary_compressed") + compressed(b"\0" * 360, b"\xe0\xff\xff"),
            "compressed data are damaged",
        ),
        (scan(30).tobytes(), "does not begin like a .pcd file"),
        (b"", "is empty"),
        (b"ply\nformat ascii 1.0\n", "holds the content of a .ply file, expected .pcd"),
    ],
)
def test_damage_is_told_with_the_file(write, content: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        read_cloud_file(write(content))
    assert "scan.pcd: " in str(caught.value)
    assert "\n" not in str(caught.value)
