"""Read a .bin file whose columns are known: a frame of KITTI, or an object of the database.

This is the fast way, for training. Files of other people are read by ``readers``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import DataError
from .readers.content import named_errors
from .readers.number_file import check_columns, check_whole


def read_points(path: Path, num_features: int = 4) -> np.ndarray:
    """(N, num_features) float32 points of a .bin file. An empty file is a frame without points."""
    with named_errors(path):
        values = np.fromfile(path, dtype=np.uint8)
    check_whole(path, values.size, num_features)
    points = values.view(np.float32).reshape(-1, num_features)
    # NaN and infinity survive a sum, which is several times faster than to look at every number.
    if np.isfinite(values.view(np.float32).sum(dtype=np.float64)):
        return points
    num_bad = len(points) - int(np.isfinite(points).all(axis=1).sum())
    if num_bad:
        raise DataError(
            f"{path}: {num_bad} of {len(points)} points hold NaN or infinity; "
            "expected finite numbers"
        )
    return points


def check_point_file(path: Path, num_features: int = 4) -> None:
    """Refuse a .bin file whose values are clearly points of another number of columns.

    It looks at the values, which takes longer than to read them, so one file of a folder is
    checked. Other faults are found by ``read_points``.
    """
    if not path.is_file():
        return
    with named_errors(path):
        values = np.fromfile(path, dtype=np.float32)
    check_columns(path, values, num_features)
