"""Livox's CustomMsg, encoded by rosbags from the definition of its maker, and raw packets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pcdet_distill.datasets.readers import bag_topics, read_bag
from pcdet_distill.datasets.readers.livox import read_custom_msg
from pcdet_distill.errors import DataError

rosbag1 = pytest.importorskip("rosbags.rosbag1")
rosbag2 = pytest.importorskip("rosbags.rosbag2")
typesys = pytest.importorskip("rosbags.typesys")

CUSTOM_POINT = """
uint32 offset_time
float32 x
float32 y
float32 z
uint8 reflectivity
uint8 tag
uint8 line
"""
CUSTOM_MSG = """
std_msgs/Header header
uint64 timebase
uint32 point_num
uint8 lidar_id
uint8[3] rsvd
CustomPoint[] points
"""
PACKET = "uint8[] data\n"
PACKAGES = {"bag": "livox_ros_driver", "db3": "livox_ros_driver2", "mcap": "livox_ros_driver2"}


def store_of(kind: str, definitions: dict[str, str]):
    """The types of a release, and some of other packages."""
    name = "ROS1_NOETIC" if kind == "bag" else "ROS2_HUMBLE"
    store = typesys.get_typestore(typesys.Stores[name])
    for msgtype, text in definitions.items():
        store.register(typesys.get_types_from_msg(text, msgtype))
    return store


def livox_store(kind: str):
    package = PACKAGES[kind]
    definitions = {
        f"{package}/msg/CustomPoint": CUSTOM_POINT,
        f"{package}/msg/CustomMsg": CUSTOM_MSG,
    }
    return store_of(kind, definitions)


def livox_points(count: int, seed: int) -> np.ndarray:
    """(count, 7) offset_time in ns, x, y, z, reflectivity, tag, line."""
    random = np.random.RandomState(seed)
    place = random.uniform(-20, 20, (count, 3)).astype(np.float32)
    times = np.sort(random.randint(0, 100_000_000, count))
    small = random.randint(0, [256, 64, 6], (count, 3))
    return np.column_stack([times, place, small])


def livox_message(store, kind: str, points: np.ndarray, stamp_s: int, frame: str = "livox"):
    make = store.types
    header = {
        "stamp": make["builtin_interfaces/msg/Time"](sec=stamp_s, nanosec=250_000_000),
        "frame_id": frame,
    }
    if kind == "bag":
        header["seq"] = 7
    point = make[f"{PACKAGES[kind]}/msg/CustomPoint"]
    rows = []
    for time, x, y, z, reflectivity, tag, line in points.tolist():
        rows.append(
            point(
                offset_time=int(time),
                x=x,
                y=y,
                z=z,
                reflectivity=int(reflectivity),
                tag=int(tag),
                line=int(line),
            )
        )
    return make[f"{PACKAGES[kind]}/msg/CustomMsg"](
        header=make["std_msgs/msg/Header"](**header),
        timebase=stamp_s * 10**9,
        point_num=len(points),
        lidar_id=3,
        rsvd=np.zeros(3, np.uint8),
        points=rows,
    )


def encoded(store, kind: str, message, msgtype: str) -> bytes:
    encode = store.serialize_ros1 if kind == "bag" else store.serialize_cdr
    return bytes(encode(message, msgtype))


def write_recording(folder: Path, kind: str, store, msgtype: str, messages: list) -> Path:
    """A recording of one topic; returns its file."""
    if kind == "bag":
        path = folder / "drive.bag"
        writer = rosbag1.Writer(path)
    else:
        path = folder / "drive"
        plugin = rosbag2.StoragePlugin.MCAP if kind == "mcap" else rosbag2.StoragePlugin.SQLITE3
        writer = rosbag2.Writer(path, version=9, storage_plugin=plugin)
    with writer:
        connection = writer.add_connection("/livox/lidar", msgtype, typestore=store)
        for number, message in enumerate(messages):
            raw = encoded(store, kind, message, msgtype)
            writer.write(connection, (200 + number) * 10**9, raw)
    return path if kind == "bag" else next(path.glob(f"*.{kind}"))


@pytest.mark.parametrize("kind", ["bag", "db3", "mcap"])
def test_a_recording_of_livox_is_read(tmp_path: Path, kind: str) -> None:
    store = livox_store(kind)
    clouds = [livox_points(50, seed=1), livox_points(31, seed=2)]
    messages = [livox_message(store, kind, cloud, 100 + n) for n, cloud in enumerate(clouds)]
    msgtype = f"{PACKAGES[kind]}/msg/CustomMsg"
    path = write_recording(tmp_path, kind, store, msgtype, messages)
    assert bag_topics(path) == {"/livox/lidar": 2}
    read = list(read_bag(path))
    assert [stamp_s for stamp_s, _ in read] == [100.25, 101.25]
    for (_, cloud), points in zip(read, clouds):
        assert cloud.features == ("x", "y", "z", "intensity", "timestamp", "tag", "ring")
        in_file = points[:, [1, 2, 3, 4, 0, 5, 6]]
        in_file[:, 4] *= 1e-9
        np.testing.assert_allclose(cloud.points, in_file, rtol=1e-6)


@pytest.mark.parametrize("kind", ["bag", "db3"])
@pytest.mark.parametrize("frame", ["", "l", "li", "liv", "livox_frame"])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_names_and_numbers_of_every_length(kind: str, frame: str, count: int) -> None:
    """ROS 2 fills up to the next number, which depends on the length of the name before it."""
    store = livox_store(kind)
    points = livox_points(count, seed=3)
    message = livox_message(store, kind, points, 100, frame)
    raw = encoded(store, kind, message, f"{PACKAGES[kind]}/msg/CustomMsg")
    stamp_s, cloud = read_custom_msg(raw, "ros1" if kind == "bag" else "cdr", "here")
    assert stamp_s == 100.25
    np.testing.assert_allclose(cloud.points[:, :3], points[:, 1:4], rtol=1e-6)


@pytest.mark.parametrize("kind", ["bag", "db3"])
@pytest.mark.parametrize(
    ("left", "words"), [(20, "here: truncated: it ends before"), (-9, "5 points of Livox need")]
)
def test_a_truncated_message_is_told(kind: str, left: int, words: str) -> None:
    store = livox_store(kind)
    message = livox_message(store, kind, livox_points(5, seed=3), 100)
    raw = encoded(store, kind, message, f"{PACKAGES[kind]}/msg/CustomMsg")
    with pytest.raises(DataError, match=words):
        read_custom_msg(raw[:left], "ros1" if kind == "bag" else "cdr", "here")


def test_raw_packets_are_refused_with_the_driver_that_converts_them(tmp_path: Path) -> None:
    msgtype = "velodyne_msgs/msg/VelodyneScan"
    store = store_of("db3", {msgtype: PACKET})
    message = store.types[msgtype](data=np.zeros(9, np.uint8))
    path = write_recording(tmp_path, "db3", store, msgtype, [message])
    with pytest.raises(
        DataError, match=r"raw packets \(velodyne_msgs/VelodyneScan\).* through velo"
    ):
        read_bag(path)
