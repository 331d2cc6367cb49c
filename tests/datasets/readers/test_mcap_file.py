"""MCAP written record by record: profiles, compressions, with and without a summary."""

from __future__ import annotations

import importlib
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from cloud_writers import scan
from test_bags import message_of

from pcdet_distill.datasets.readers import bag_topics, read_bag
from pcdet_distill.errors import DataError

typesys = pytest.importorskip("rosbags.typesys")
MAGIC = b"\x89MCAP0\r\n"
TYPE = "sensor_msgs/msg/PointCloud2"


def record(kind: int, content: bytes) -> bytes:
    return struct.pack("<BQ", kind, len(content)) + content


def text(words: str) -> bytes:
    return struct.pack("<I", len(words.encode())) + words.encode()


def compress(data: bytes, compression: str) -> bytes:
    if compression == "lz4":
        return pytest.importorskip("lz4.frame").compress(data)
    if compression == "zstd":
        try:
            return importlib.import_module("compression.zstd").compress(data)
        except ImportError:
            return pytest.importorskip("backports.zstd").compress(data)
    return data


def chunk(records: bytes, compression: str) -> bytes:
    head = struct.pack("<QQQI", 0, 9, len(records), zlib.crc32(records)) + text(compression)
    packed = compress(records, compression)
    return record(6, head + struct.pack("<Q", len(packed)) + packed)


def message_records(encoding: str) -> list[bytes]:
    if encoding == "ros1":
        store = typesys.get_typestore(typesys.Stores.ROS1_NOETIC)
        encode = store.serialize_ros1
    else:
        store = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE)
        encode = store.serialize_cdr
    records = []
    for number in range(3):
        raw = bytes(encode(message_of(store, scan(30, number), 100 + number), TYPE))
        head = struct.pack("<HIQQ", 7, number, number, number)
        records.append(record(5, head + raw))
        records.append(record(5, struct.pack("<HIQQ", 8, number, number, number) + b"hello"))
    return records


def mcap(encoding: str, compression: str | None, with_summary: bool, profile: str = "") -> bytes:
    """Three clouds of channel 7 in two chunks, or outside of chunks for None."""
    name = "sensor_msgs/PointCloud2" if encoding == "ros1" else TYPE
    schemas = record(3, struct.pack("<H", 1) + text(name) + text("") + text(""))
    schemas += record(3, struct.pack("<H", 2) + text("Words") + text("protobuf") + text(""))
    channels = record(4, struct.pack("<HH", 7, 1) + text("/lidar") + text(encoding) + text(""))
    channels += record(4, struct.pack("<HH", 8, 2) + text("/words") + text("x") + text(""))
    messages = message_records(encoding)
    parts = [schemas + channels + b"".join(messages[:2]), b"".join(messages[2:])]
    data = MAGIC + record(1, text(profile) + text("a test"))
    for part in parts:
        data += part if compression is None else chunk(part, compression)
    data += record(15, struct.pack("<I", 0))
    summary = b""
    if with_summary:
        counts = struct.pack("<I", 20) + struct.pack("<HQHQ", 7, 3, 8, 3)
        statistics = struct.pack("<QHIIIIQQ", 6, 2, 2, 0, 0, 2, 0, 9)
        summary = schemas + channels + record(11, statistics + counts)
    start = len(data) if with_summary else 0
    return data + summary + record(2, struct.pack("<QQI", start, 0, 0)) + MAGIC


@pytest.mark.parametrize("encoding", ["cdr", "ros1"])
@pytest.mark.parametrize("compression", [None, "", "lz4", "zstd"])
@pytest.mark.parametrize("with_summary", [True, False])
def test_clouds_of_every_kind_of_file(tmp_path: Path, encoding, compression, with_summary) -> None:
    path = tmp_path / "a.mcap"
    path.write_bytes(mcap(encoding, compression, with_summary))
    assert bag_topics(path) == {"/lidar": 3}
    read = list(read_bag(path))
    assert [stamp_s for stamp_s, _ in read] == [100.5, 101.5, 102.5]
    for number, (_, cloud) in enumerate(read):
        np.testing.assert_array_equal(cloud.points, scan(30, number))


def test_an_encoding_that_is_not_of_ros_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    path.write_bytes(mcap("cdr", "", True).replace(text("cdr"), text("xml")))
    with pytest.raises(DataError, match="messages of /lidar are encoded as 'xml'; expected ros1"):
        next(iter(read_bag(path)))


@pytest.mark.parametrize("position", [0.4, 0.7])
def test_a_changed_byte_is_noticed(tmp_path: Path, position: float) -> None:
    content = bytearray(mcap("cdr", "", True))
    content[int(position * len(content))] ^= 255
    path = tmp_path / "a.mcap"
    path.write_bytes(content)
    with pytest.raises(DataError, match="a.mcap: truncated or damaged: a chunk has a wrong"):
        list(read_bag(path))


def test_an_unknown_compression_is_told(tmp_path: Path) -> None:
    content = mcap("cdr", "lz4", True).replace(text("lz4"), text("a\nb"))
    path = tmp_path / "a.mcap"
    path.write_bytes(content)
    with pytest.raises(DataError, match="its compression 'a[?]b' needs a package"):
        list(read_bag(path))
