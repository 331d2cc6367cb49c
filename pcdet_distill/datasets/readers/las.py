"""Read .las and .laz files by laspy, from the extra ``readers``."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ...errors import DataError, first_line
from .cloud import PointCloud
from .columns import Columns, cloud_of_columns
from .content import check_head
from .extras import needed_for

SHORT_HEADER_BYTES = 227  # of LAS 1.0 to 1.2
HEADER_BYTES = 375  # of LAS 1.4
RECORD_BYTES = 54  # the least that a variable-length record takes
EXTENDED_RECORD_BYTES = 60
CHUNK_BYTES = 20  # the least: one point
COMPRESSED = 0x80  # the bit of the point format that marks .laz

# The standard columns that say something of a point; the others are flags of the survey.
# ``classification`` is there too: it is what somebody found, no measurement.
USED = (
    "intensity",
    "return_number",
    "number_of_returns",
    "classification",
    "scan_angle",
    "scan_angle_rank",
    "gps_time",
    "red",
    "green",
    "blue",
    "nir",
)


def read_las(path: Path) -> PointCloud:
    """The cloud of a .las or .laz file, with the extra columns that it may have."""
    laspy = needed_for(path, "laspy")
    check_head(path, (".las",))
    _check_sizes(path)
    try:
        with laspy.open(path) as reader:
            num_points = reader.header.point_count
            data = reader.read()
        columns = _columns(data)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # laspy and NumPy have no common error; Rust panics have none
        raise DataError(f"{path}: truncated or damaged: {first_line(error)}") from None
    if len(columns["x"]) < num_points:
        raise DataError(f"{path}: truncated: {len(columns['x'])} of {num_points} points are there")
    return cloud_of_columns(columns, path)


def _check_sizes(path: Path) -> None:
    """Refuse a header that tells of more than the file can hold.

    laspy would read a damaged number of records for hours, and lazrs would ask for as much memory.
    """
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        header = file.read(HEADER_BYTES)
        if len(header) < SHORT_HEADER_BYTES:
            raise DataError(f"{path}: truncated: its header is missing")
        data_start, num_records = struct.unpack_from("<II", header, 96)
        needed = num_records * RECORD_BYTES
        if header[25] >= 4 and len(header) == HEADER_BYTES:  # LAS 1.4
            (num_extended,) = struct.unpack_from("<I", header, 243)
            needed += num_extended * EXTENDED_RECORD_BYTES
        if header[104] & COMPRESSED:
            needed += _num_chunks(file, data_start, size) * CHUNK_BYTES
    if data_start > size or needed > size:
        raise DataError(
            f"{path}: truncated or damaged: its header tells of {max(data_start, needed)} bytes, "
            f"it has {size}"
        )


def _num_chunks(file: BinaryIO, data_start: int, size: int) -> int:
    """The number of chunks of a .laz file, which stands in a table at its end."""
    file.seek(data_start)
    place = file.read(8)
    if len(place) < 8:
        return 0
    (table,) = struct.unpack("<q", place)
    if not 0 < table <= size - 8:
        return 0
    file.seek(table)
    _, num_chunks = struct.unpack("<II", file.read(8))
    return num_chunks


def _columns(data: Any) -> Columns:
    """The columns of laspy's LasData. Its x, y, z are scaled to float64."""
    columns: Columns = {}
    present = set(data.point_format.dimension_names)
    used = [name for name in USED if name in present]
    extra = list(data.point_format.extra_dimension_names)
    for name in ("x", "y", "z", *used, *extra):
        values = np.array(data[name])
        if values.ndim == 1:
            columns[name] = values
            continue
        for number in range(values.shape[1]):
            columns[f"{name}_{number}"] = values[:, number]
    return columns
