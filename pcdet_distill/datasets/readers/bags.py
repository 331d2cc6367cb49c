"""Read the clouds of ROS bags and MCAP files by rosbags, from the extra ``readers``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...config import nearest
from ...errors import DataError
from .cloud import PointCloud
from .content import check_head
from .extras import first_line, in_one_line, needed_for
from .mcap_file import McapFile
from .point_cloud2 import cloud_of_message

# The format of each suffix, as content.py finds it. A ROS 2 bag is also a folder.
BAG_SUFFIXES = (".bag", ".db3", ".mcap")
FOLDER_FILE = "metadata.yaml"
CLOUD_TYPES = ("sensor_msgs/msg/PointCloud2", "sensor_msgs/PointCloud2")
DECODED_TYPE = "sensor_msgs/msg/PointCloud2"


def is_bag(path: str | Path) -> bool:
    """Whether a path is a recording: a file of ``BAG_SUFFIXES``, or a folder of ROS 2."""
    path = Path(path)
    if path.is_dir():
        return (path / FOLDER_FILE).is_file()
    return path.suffix.lower() in BAG_SUFFIXES


def bag_topics(path: str | Path) -> dict[str, int]:
    """The topics of PointCloud2 of a recording, with their numbers of messages.

    Raises:
        DataError: the recording cannot be read, or has no clouds.
    """
    path = Path(path)
    with _opened(path) as bag:
        counts: dict[str, int] = {}
        for connection in bag.connections:
            if connection.msgtype in CLOUD_TYPES:
                counts[connection.topic] = counts.get(connection.topic, 0) + connection.msgcount
        found = sorted({f"{other.topic} ({other.msgtype})" for other in bag.connections})
    if not any(counts.values()):
        raise DataError(
            f"{path}: holds no clouds; expected messages of sensor_msgs/PointCloud2, its topics "
            f"are: {', '.join(found) or 'none'}"
        )
    return counts


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
            if connection.topic == topic and connection.msgtype in CLOUD_TYPES
        ]
        decode = _decoder(path, connections[0])
        for number, (_, logged_ns, raw) in enumerate(bag.messages(connections)):
            message = decode(raw)
            stamp = message.header.stamp
            stamp_s = stamp.sec + 1e-9 * stamp.nanosec
            where = f"{path}, message {number} of {topic}"
            yield stamp_s or 1e-9 * logged_ns, cloud_of_message(message, where)


def _decoder(path: Path, connection: Any) -> Callable[[bytes], Any]:
    """The function that decodes the messages of a connection.

    PointCloud2 is the same in every release, so one definition serves, also where the recording
    holds none or types of its maker that cannot be parsed.
    """
    typesys = needed_for(path, "rosbags.typesys")
    encoding = getattr(connection.ext, "serialization_format", "ros1")
    if encoding == "ros1":
        store = typesys.get_typestore(typesys.Stores.ROS1_NOETIC)
        return lambda raw: store.deserialize_ros1(raw, DECODED_TYPE)
    if encoding != "cdr":
        raise DataError(
            f"{path}: messages of {connection.topic} are encoded as '{encoding}'; "
            "expected ros1 or cdr"
        )
    store = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE)
    return lambda raw: store.deserialize_cdr(raw, DECODED_TYPE)


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
