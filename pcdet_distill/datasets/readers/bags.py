"""Read the clouds of ROS bags and MCAP files by rosbags, from the extra ``readers``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...config import nearest
from ...errors import DataError, first_line
from .cloud import PointCloud
from .content import check_head
from .extras import in_one_line, needed_for
from .livox import read_custom_msg
from .mcap_file import McapFile
from .point_cloud2 import cloud_of_message

# The format of each suffix, as content.py finds it. A ROS 2 bag is also a folder.
BAG_SUFFIXES = (".bag", ".db3", ".mcap")
FOLDER_FILE = "metadata.yaml"
POINT_CLOUD2 = "sensor_msgs/PointCloud2"
LIVOX = ("livox_ros_driver/CustomMsg", "livox_ros_driver2/CustomMsg")
CLOUD_TYPES = (POINT_CLOUD2, *LIVOX)
DECODED_TYPE = "sensor_msgs/msg/PointCloud2"
# Packets as the sensor sends them, and the package of ROS that turns them into points.
PACKET_DRIVERS = {
    "velodyne_msgs/VelodyneScan": "velodyne_pointcloud",
    "ouster_ros/PacketMsg": "ouster_ros",
    "ouster_sensor_msgs/PacketMsg": "ouster_ros",
    "rslidar_msgs/rslidarScan": "rslidar_sdk",
    "rslidar_msg/RslidarPacket": "rslidar_sdk",
    "hesai_ros_driver/UdpFrame": "hesai_ros_driver",
    "pandar_msgs/PandarScan": "hesai_pandar",
}
Decoded = tuple[float, PointCloud]  # the time of the header in seconds, and the cloud


def is_bag(path: str | Path) -> bool:
    """Whether a path is a recording: a file of ``BAG_SUFFIXES``, or a folder of ROS 2."""
    path = Path(path)
    if path.is_dir():
        return (path / FOLDER_FILE).is_file()
    return path.suffix.lower() in BAG_SUFFIXES


def type_name(connection: Any) -> str:
    """The type of a connection's messages without ROS 2's ``msg``: ``sensor_msgs/PointCloud2``."""
    return str(connection.msgtype).replace("/msg/", "/")


def bag_topics(path: str | Path) -> dict[str, int]:
    """The topics of a recording with clouds, with their numbers of messages.

    Clouds are messages of PointCloud2 and Livox's CustomMsg.

    Raises:
        DataError: the recording cannot be read, or has no clouds.
    """
    path = Path(path)
    with _opened(path) as bag:
        counts: dict[str, int] = {}
        for connection in bag.connections:
            if type_name(connection) in CLOUD_TYPES:
                counts[connection.topic] = counts.get(connection.topic, 0) + connection.msgcount
        found = sorted({f"{other.topic} ({other.msgtype})" for other in bag.connections})
        types = {type_name(other) for other in bag.connections}
    if not any(counts.values()):
        _refuse_packets(path, types)
        raise DataError(
            f"{path}: holds no clouds; expected messages of sensor_msgs/PointCloud2, its topics "
            f"are: {', '.join(found) or 'none'}"
        )
    return counts


def _refuse_packets(path: Path, types: Collection[str]) -> None:
    """Say how a recording of raw packets becomes one of clouds."""
    for name, driver in PACKET_DRIVERS.items():
        if name in types:
            raise DataError(
                f"{path}: holds raw packets ({name}) and no points; play it through {driver} and "
                f"record the topic of {POINT_CLOUD2} that this publishes"
            )


def read_bag(path: str | Path, topic: str | None = None) -> Iterator[tuple[float, PointCloud]]:
    """The clouds of a recording, in the order of the recording.

    Args:
        path: a .bag, .db3 or .mcap file, or the folder of a ROS 2 bag.
        topic: which topic; None if the recording has only one with clouds.

    Returns:
        for each message the time of its header in seconds, or the time of recording if that is
        zero, and its cloud. A cloud may have no points.

    Raises:
        DataError: the recording cannot be read, has no clouds, or several topics and none is told.
    """
    path = Path(path)
    return _clouds(path, choose_topic(path, topic))


def choose_topic(path: Path, topic: str | None) -> str:
    """The topic that is read: the told one, or the only one with clouds."""
    counts = bag_topics(path)
    if topic is not None:
        if topic not in counts:
            raise DataError(f"{path}: has no clouds of topic '{topic}'{nearest(topic, counts)}")
        return topic
    with_clouds = [name for name, count in counts.items() if count]
    if len(with_clouds) > 1:
        shown = ", ".join(f"{name} ({counts[name]})" for name in sorted(with_clouds))
        raise DataError(f"{path}: has several topics with clouds, choose one of: {shown}")
    return with_clouds[0]


def _clouds(path: Path, topic: str) -> Iterator[tuple[float, PointCloud]]:
    with _opened(path) as bag:
        connections = [
            connection
            for connection in bag.connections
            if connection.topic == topic and type_name(connection) in CLOUD_TYPES
        ]
        decode = _decoder(path, connections[0])
        for number, (_, logged_ns, raw) in enumerate(bag.messages(connections)):
            stamp_s, cloud = decode(raw, f"{path}, message {number} of {topic}")
            yield stamp_s or 1e-9 * logged_ns, cloud


def _decoder(path: Path, connection: Any) -> Callable[[bytes, str], Decoded]:
    """The function that decodes a message of a connection; it also takes where this is.

    The types are the same in every release, so one definition serves, also where the recording
    holds none or types of its maker that cannot be parsed.
    """
    encoding = getattr(connection.ext, "serialization_format", "ros1")
    if encoding not in ("ros1", "cdr"):
        raise DataError(
            f"{path}: messages of {connection.topic} are encoded as '{encoding}'; "
            "expected ros1 or cdr"
        )
    if type_name(connection) in LIVOX:
        return lambda raw, where: read_custom_msg(bytes(raw), encoding, where)
    typesys = needed_for(path, "rosbags.typesys")
    if encoding == "ros1":
        store = typesys.get_typestore(typesys.Stores.ROS1_NOETIC)
        return lambda raw, where: _decoded(store.deserialize_ros1(raw, DECODED_TYPE), where)
    store = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE)
    return lambda raw, where: _decoded(store.deserialize_cdr(raw, DECODED_TYPE), where)


def _decoded(message: Any, where: str) -> Decoded:
    """Time and cloud of a message of PointCloud2."""
    stamp = message.header.stamp
    return stamp.sec + 1e-9 * stamp.nanosec, cloud_of_message(message, where)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The reader of a recording. What goes wrong while it is open becomes a DataError.

    rosbags reads MCAP files of ROS 2 alone, so single MCAP files have a reader here.
    """
    _check_path(path)
    needed_for(path, "rosbags.typesys")
    try:
        with in_one_line(), _reader(path) as bag:
            yield bag
    except DataError:
        raise
    except Exception as error:  # rosbags, its databases and compressions have no common error
        raise DataError(f"{path}: truncated or damaged: {first_line(error)}") from None


def _reader(path: Path) -> Any:
    suffix = path.suffix.lower()
    if suffix == ".mcap" and path.is_file():
        return McapFile(path)
    module = "rosbags.rosbag1" if suffix == ".bag" else "rosbags.rosbag2"
    return needed_for(path, module).Reader(path)


def _check_path(path: Path) -> None:
    if not path.is_dir():
        check_head(path, (path.suffix.lower(),))
    elif not (path / FOLDER_FILE).is_file():
        raise DataError(f"{path}: no ROS 2 bag, it holds no {FOLDER_FILE}")
