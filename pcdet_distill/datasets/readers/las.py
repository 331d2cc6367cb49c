"""Read .las and .laz files by laspy, from the extra ``readers``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError
from .cloud import PointCloud
from .columns import Columns, cloud_of_columns
from .content import check_head
from .extras import first_line, needed_for

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
    try:
        with laspy.open(path) as reader:
            num_points = reader.header.point_count
            data = reader.read()
        columns = _columns(data)
    except Exception as error:  # laspy, lazrs and numpy have no common error
        raise DataError(f"{path}: truncated or damaged: {first_line(error)}") from None
    if len(columns["x"]) < num_points:
        raise DataError(f"{path}: truncated: {len(columns['x'])} of {num_points} points are there")
    return cloud_of_columns(columns, path)


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
