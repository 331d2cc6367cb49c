"""Decode livox_ros_driver's CustomMsg, the cloud of Livox's LiDARs in ROS 1 and ROS 2.

A message has a header, a time, and a list of points: offset_time, x, y, z, reflectivity, tag, line.
The points stand one after the other, so they are read as one array. A decoder of any message type
would make 20,000 objects of them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from ...errors import DataError
from .cloud import PointCloud
from .columns import cloud_of_columns

POINT_FIELDS = (
    ("offset_time", "u4"),
    ("x", "f4"),
    ("y", "f4"),
    ("z", "f4"),
    ("reflectivity", "u1"),
    ("tag", "u1"),
    ("line", "u1"),
)
POINT_BYTES = 19
# In ROS 2 the first field of the next point begins at a multiple of four.
POINT_STEP_CDR = 20
CDR_HEAD_BYTES = 4


@dataclass
class Cursor:
    """Walks through the bytes of a message.

    Attributes:
        content: the message.
        order: ``<`` or ``>``.
        is_aligned: ROS 2 puts a number at a multiple of its size, ROS 1 does not.
        position: of the next byte.
    """

    content: bytes
    order: str
    is_aligned: bool
    position: int = 0

    def number(self, code: str) -> int:
        """The next number, of a type that ``struct`` names by a letter."""
        size = struct.calcsize(f"={code}")
        if self.is_aligned:
            self.position += -self.position % size
        (value,) = struct.unpack_from(self.order + code, self.content, self.position)
        self.position += size
        return int(value)

    def skip(self, num_bytes: int) -> None:
        """Leave out some bytes."""
        self.position += num_bytes


def read_custom_msg(raw: bytes, encoding: str, where: str) -> tuple[float, PointCloud]:
    """The time of the header in seconds, and the cloud; it may have no points.

    Args:
        raw: the bytes of a message.
        encoding: ``ros1`` or ``cdr``.
        where: begin of error messages.

    Raises:
        DataError: the message is shorter than it says.
    """
    try:
        cursor = _body(raw, encoding)
        stamp_s = _stamp(cursor, encoding)
        cursor.number("Q")  # timebase in ns, the time of the header once more
        cursor.number("I")  # point_num
        cursor.skip(4)  # lidar_id, rsvd
        count = cursor.number("I")
    except struct.error:
        raise DataError(f"{where}: truncated: it ends before its points") from None
    step = POINT_STEP_CDR if encoding == "cdr" else POINT_BYTES
    needed = max(0, (count - 1) * step + POINT_BYTES) if count else 0
    found = len(cursor.content) - cursor.position
    if found < needed:
        raise DataError(
            f"{where}: truncated: {count} points of Livox need {needed} bytes, {found} are there"
        )
    points = _points(cursor, count, step)
    columns = {name: points[name].copy() for name, _ in POINT_FIELDS}
    return stamp_s, cloud_of_columns(columns, where)


def _body(raw: bytes, encoding: str) -> Cursor:
    if encoding == "ros1":
        return Cursor(raw, "<", is_aligned=False)
    order = "<" if raw[1:2] == b"\x01" else ">"
    return Cursor(raw[CDR_HEAD_BYTES:], order, is_aligned=True)


def _stamp(cursor: Cursor, encoding: str) -> float:
    """The time of the header in seconds; leaves out the rest of the header."""
    if encoding == "ros1":
        cursor.number("I")  # seq
    seconds = cursor.number("I")
    nanoseconds = cursor.number("I")
    cursor.skip(cursor.number("I"))  # frame_id, with its length before it
    return seconds + 1e-9 * nanoseconds


def _points(cursor: Cursor, count: int, step: int) -> np.ndarray:
    """(count,) the points as records."""
    names = [name for name, _ in POINT_FIELDS]
    formats = [cursor.order + kind for _, kind in POINT_FIELDS]
    offsets = np.cumsum([0, *(np.dtype(kind).itemsize for kind in formats[:-1])]).tolist()
    point = np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": step})
    # The last point has no padding behind it.
    content = cursor.content[cursor.position :].ljust(count * step, b"\0")
    return np.frombuffer(content, point, count)
