"""Decode sensor_msgs/PointCloud2, the point cloud of ROS 1 and ROS 2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ...errors import DataError
from .cloud import PointCloud
from .columns import Columns, cloud_of_columns

DATATYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}


class PointField(Protocol):
    """sensor_msgs/PointField: where a number of a point stands."""

    name: str
    offset: int
    datatype: int
    count: int


class PointCloud2(Protocol):
    """sensor_msgs/PointCloud2, without its header."""

    height: int
    width: int
    fields: Sequence[PointField]
    is_bigendian: bool
    point_step: int
    row_step: int
    data: np.ndarray  # (bytes,) uint8


def cloud_of_message(message: PointCloud2, where: str) -> PointCloud:
    """The cloud of a message; a message without points gives a cloud without points.

    Args:
        message: as rosbags or rclpy decode it.
        where: begin of error messages.

    Raises:
        DataError: a field is of no known type, or the data are shorter than the message says.
    """
    data = np.frombuffer(bytes(message.data), np.uint8)
    row_step = _row_step(message, len(data))
    _check_size(message, row_step, len(data), where)
    order = ">" if message.is_bigendian else "<"
    columns: Columns = {}
    for field in message.fields:
        dtype = np.dtype(order + _type_of(field, where))
        count = max(1, field.count)  # some drivers write 0 for one number
        if field.offset + count * dtype.itemsize > message.point_step:
            raise DataError(
                f"{where}: field {field.name} ends behind the point_step of "
                f"{message.point_step} bytes"
            )
        for number in range(count):
            name = field.name if count == 1 else f"{field.name}_{number}"
            offset = field.offset + number * dtype.itemsize
            columns[name] = _column(message, data, dtype, offset, row_step)
    return cloud_of_columns(columns, where)


def _column(
    message: PointCloud2, data: np.ndarray, dtype: np.dtype, offset: int, row_step: int
) -> np.ndarray:
    """(height * width,) one number of every point, row after row."""
    shape = (message.height, message.width)
    if 0 in shape:
        return np.zeros(0, dtype)
    steps = (row_step, message.point_step)
    return np.ndarray(shape, dtype, data.data, offset, steps).ravel()


def _row_step(message: PointCloud2, num_bytes: int) -> int:
    """The bytes of a row. Some drivers write none or a wrong number; then rows follow directly."""
    row_bytes = message.width * message.point_step
    if message.row_step < row_bytes or message.height * message.row_step > num_bytes:
        return row_bytes
    return message.row_step


def _type_of(field: PointField, where: str) -> str:
    if field.datatype not in DATATYPES:
        raise DataError(
            f"{where}: field {field.name} has the unknown datatype {field.datatype}; "
            f"expected 1 to {max(DATATYPES)}"
        )
    return DATATYPES[field.datatype]


def _check_size(message: PointCloud2, row_step: int, found: int, where: str) -> None:
    if message.height == 0 or message.width == 0:
        return
    needed = (message.height - 1) * row_step + message.width * message.point_step
    if found < needed:
        raise DataError(
            f"{where}: truncated: {message.height} x {message.width} points of "
            f"{message.point_step} bytes need {needed} bytes, {found} are there"
        )
