"""Recordings written by rosbags' writers: ROS 1, ROS 2 and MCAP."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cloud_writers import scan

from pcdet_distill.datasets.readers import bag_topics, is_bag, read_bag, read_cloud_file
from pcdet_distill.datasets.readers.point_cloud2 import cloud_of_message
from pcdet_distill.errors import DataError

rosbag1 = pytest.importorskip("rosbags.rosbag1")
rosbag2 = pytest.importorskip("rosbags.rosbag2")
typesys = pytest.importorskip("rosbags.typesys")

KINDS = ["bag", "db3", "mcap", "folder"]
STEP = 22  # bytes of a point: x y z, 2 of padding, intensity f4, ring u2, 2 of padding
POINT = np.dtype(
    {
        "names": ["x", "y", "z", "intensity", "ring"],
        "formats": ["<f4", "<f4", "<f4", "<f4", "<u2"],
        "offsets": [0, 4, 8, 14, 18],
        "itemsize": STEP,
    }
)
FIELDS = [("x", 0, 7), ("y", 4, 7), ("z", 8, 7), ("intensity", 14, 7), ("ring", 18, 4)]


def structs(points: np.ndarray) -> np.ndarray:
    rows = np.zeros(len(points), POINT)
    for number, name in enumerate(POINT.names):
        rows[name] = points[:, number]
    return rows


def message_of(store, points: np.ndarray, stamp_s: int):
    make = store.types
    stamp = make["builtin_interfaces/msg/Time"](sec=stamp_s, nanosec=500_000_000)
    header = {"stamp": stamp, "frame_id": "lidar"}
    if "seq" in make["std_msgs/msg/Header"].__dataclass_fields__:
        header["seq"] = 0
    field = make["sensor_msgs/msg/PointField"]
    return make["sensor_msgs/msg/PointCloud2"](
        header=make["std_msgs/msg/Header"](**header),
        height=1,
        width=len(points),
        fields=[
            field(name=name, offset=offset, datatype=kind, count=1) for name, offset, kind in FIELDS
        ],
        is_bigendian=False,
        point_step=STEP,
        row_step=STEP * len(points),
        data=np.frombuffer(structs(points).tobytes(), np.uint8),
        is_dense=True,
    )


def write_bag(folder: Path, kind: str, topics: dict[str, list[np.ndarray]]) -> Path:
    """A recording of clouds, and of a topic of texts. Returns what a user would pass."""
    if kind == "bag":
        store = typesys.get_typestore(typesys.Stores.ROS1_NOETIC)
        path = folder / "drive.bag"
        writer = rosbag1.Writer(path)
        encode = store.serialize_ros1
    else:
        store = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE)
        path = folder / "drive"
        plugin = rosbag2.StoragePlugin.MCAP if kind == "mcap" else rosbag2.StoragePlugin.SQLITE3
        writer = rosbag2.Writer(path, version=9, storage_plugin=plugin)
        encode = store.serialize_cdr
    with writer:
        text = writer.add_connection("/notes", "std_msgs/msg/String", typestore=store)
        note = store.types["std_msgs/msg/String"](data="hello")
        writer.write(text, 1, encode(note, "std_msgs/msg/String"))
        for topic, clouds in topics.items():
            connection = writer.add_connection(
                topic, "sensor_msgs/msg/PointCloud2", typestore=store
            )
            for number, points in enumerate(clouds):
                message = message_of(store, points, 100 + number)
                raw = encode(message, "sensor_msgs/msg/PointCloud2")
                writer.write(connection, (200 + number) * 10**9, raw)
    if kind in ("db3", "mcap"):
        return next(path.glob(f"*.{kind}"))
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_every_cloud_of_a_recording_comes_in_its_order(tmp_path: Path, kind: str) -> None:
    clouds = [scan(40, seed) for seed in range(3)]
    path = write_bag(tmp_path, kind, {"/lidar": clouds})
    assert is_bag(path)
    assert bag_topics(path) == {"/lidar": 3}
    read = list(read_bag(path))
    assert [stamp_s for stamp_s, _ in read] == [100.5, 101.5, 102.5]
    for (_, cloud), points in zip(read, clouds):
        assert cloud.features == ("x", "y", "z", "intensity", "ring")
        np.testing.assert_array_equal(cloud.points, points)


@pytest.mark.parametrize("kind", KINDS)
def test_one_of_several_topics_is_chosen(tmp_path: Path, kind: str) -> None:
    topics = {"/front": [scan(10, 1)], "/rear": [scan(20, 2), scan(30, 3)]}
    path = write_bag(tmp_path, kind, topics)
    with pytest.raises(DataError, match=r"several topics .*: /front \(1\), /rear \(2\)"):
        read_bag(path)
    with pytest.raises(DataError, match="no clouds of topic '/raer'; did you mean '/rear'"):
        read_bag(path, "/raer")
    assert [len(cloud.points) for _, cloud in read_bag(path, "/rear")] == [20, 30]


@pytest.mark.parametrize("kind", KINDS)
def test_a_recording_without_clouds_lists_its_topics(tmp_path: Path, kind: str) -> None:
    path = write_bag(tmp_path, kind, {})
    with pytest.raises(DataError, match=r"no clouds.*topics are: /notes \(std_msgs/msg/String\)"):
        read_bag(path)


@pytest.mark.parametrize("kind", ["bag", "db3", "mcap"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_recording_is_told(tmp_path: Path, kind: str, share: float) -> None:
    path = write_bag(tmp_path, kind, {"/lidar": [scan(2000, seed) for seed in range(4)]})
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=f"{path.name}.*: truncated or damaged") as caught:
        list(read_bag(path))
    assert "\n" not in str(caught.value)


def test_what_is_no_recording_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty.bag").touch()
    (tmp_path / "wrong.mcap").write_bytes(b"#ROSBAG V2.0\n" + b"\0" * 100)
    (tmp_path / "folder").mkdir()
    for name, words in [
        ("empty.bag", "is empty"),
        ("wrong.mcap", "content of a .bag file, expected .mcap"),
        ("folder", "no ROS 2 bag"),
        ("missing.db3", "does not exist"),
    ]:
        with pytest.raises(DataError, match=words) as caught:
            read_bag(tmp_path / name)
        assert name in str(caught.value)
    assert not is_bag(tmp_path / "folder")
    with pytest.raises(DataError, match="a recording of many clouds"):
        read_cloud_file(tmp_path / "empty.bag")


def message(**changes) -> SimpleNamespace:
    """A message of six points in two rows."""
    points = structs(scan(6))
    values = {
        "height": 2,
        "width": 3,
        "fields": [
            SimpleNamespace(name=name, offset=offset, datatype=kind, count=1)
            for name, offset, kind in FIELDS
        ],
        "is_bigendian": False,
        "point_step": STEP,
        "row_step": 3 * STEP,
        "data": np.frombuffer(points.tobytes(), np.uint8),
    }
    return SimpleNamespace(**{**values, **changes})


def test_rows_may_have_padding() -> None:
    row = 3 * STEP
    data = message().data
    padding = np.full(7, 255, np.uint8)
    with_padding = np.concatenate([data[:row], padding, data[row:], padding])
    cloud = cloud_of_message(message(row_step=row + 7, data=with_padding), "m")
    np.testing.assert_array_equal(cloud.points, scan(6))


@pytest.mark.parametrize("row_step", [0, STEP, 6 * STEP])
def test_a_wrong_row_step_of_a_driver_is_ignored(row_step: int) -> None:
    np.testing.assert_array_equal(cloud_of_message(message(row_step=row_step), "m").points, scan(6))


def test_big_endian_data_are_read() -> None:
    swapped = structs(scan(6)).astype(POINT.newbyteorder(">"))
    data = np.frombuffer(swapped.tobytes(), np.uint8)
    cloud = cloud_of_message(message(is_bigendian=True, data=data), "m")
    np.testing.assert_array_equal(cloud.points, scan(6))


@pytest.mark.parametrize(
    ("datatype", "kind"),
    [(1, "i1"), (2, "u1"), (3, "i2"), (4, "u2"), (5, "i4"), (6, "u4"), (7, "f4"), (8, "f8")],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_datatype_is_read(datatype: int, kind: str, order: str) -> None:
    size = int(kind[1])
    rows = np.zeros(6, [("place", order + "f4", 3), ("value", order + kind, 2), ("rest", "u1", 3)])
    rows["place"] = scan(6)[:, :3]
    rows["value"] = np.arange(12).reshape(6, 2)
    fields = [
        *message().fields[:3],
        SimpleNamespace(name="value", offset=12, datatype=datatype, count=2),
    ]
    step = 12 + 2 * size + 3
    cloud = cloud_of_message(
        message(
            fields=fields,
            point_step=step,
            row_step=3 * step,
            is_bigendian=order == ">",
            data=np.frombuffer(rows.tobytes(), np.uint8),
        ),
        "m",
    )
    assert cloud.features == ("x", "y", "z", "value_0", "value_1")
    np.testing.assert_array_equal(cloud.points[:, 3:], np.arange(12).reshape(6, 2))


def test_a_message_without_points_is_an_empty_cloud() -> None:
    empty = message(width=0, row_step=0, data=np.zeros(0, np.uint8))
    cloud = cloud_of_message(empty, "m")
    assert cloud.points.shape == (0, 5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": np.zeros(100, np.uint8)}, "truncated: 2 x 3 points of 22 bytes need 132 bytes"),
        ({"point_step": 16, "row_step": 48}, "field intensity ends behind the point_step of 16"),
        (
            {"fields": [SimpleNamespace(name="x", offset=0, datatype=9, count=1)]},
            "field x has the unknown datatype 9",
        ),
        ({"fields": message().fields[1:]}, "has no x; expected columns x, y, z"),
    ],
)
def test_a_damaged_message_is_told(changes, words: str) -> None:
    with pytest.raises(DataError, match=f"^drive.bag: .*{words}"):
        cloud_of_message(message(**changes), "drive.bag")
