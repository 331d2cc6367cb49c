"""The points of several sweeps as one cloud, in the coordinates of the newest sweep.

The vehicle moves between sweeps, so each older sweep is moved by the matrix of its info. A moving
object leaves a trail, and the column ``timestamp`` tells how old each point is: a detector learns
velocities from that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...config import inside
from ...errors import DataError
from ..point_files import read_points

STORED_FEATURES = 5  # x, y, z, intensity, and the number of the beam, which is not used
CAR_M = 1.0  # points of a sweep nearer to the sensor than this in x and in y are of the car itself
TIME = 4


def read_frame(
    clouds: Path,
    info: Mapping[str, Any],
    max_sweeps: int,
    random: np.random.RandomState | None = None,
) -> np.ndarray:
    """(N, 5) float32 x, y, z, intensity and age in seconds of the points of a key frame.

    Args:
        clouds: folder that the paths of an info are relative to.
        info: of the key frame.
        max_sweeps: sweeps that are joined, the key frame included.
        random: draws the sweeps and their order, as in OpenPCDet, also where the info holds more
            than are asked for. Without it they are the newest ones, in their own order.
    """
    key_frame = read_points(inside(clouds, info["lidar_path"], "infos"), STORED_FEATURES)
    key_frame[:, TIME] = 0.0
    parts = [key_frame]
    for sweep in _chosen(info["sweeps"], max_sweeps - 1, random):
        parts.append(_read_sweep(clouds, sweep))
    return np.concatenate(parts)


def _chosen(
    sweeps: Sequence[Mapping[str, Any]], count: int, random: np.random.RandomState | None
) -> list[Mapping[str, Any]]:
    if count > len(sweeps):
        raise DataError(
            f"its info holds {len(sweeps)} earlier sweeps, but DATA_CONFIG.MAX_SWEEPS asks for "
            f"{count + 1} sweeps; make the info files again with this MAX_SWEEPS, or set it to "
            f"{len(sweeps) + 1}"
        )
    if random is None:
        return list(sweeps[:count])
    drawn = random.choice(len(sweeps), count, replace=False)
    return [sweeps[index] for index in drawn]


def _read_sweep(clouds: Path, sweep: Mapping[str, Any]) -> np.ndarray:
    """(N, 5) points of an older sweep, without the car's own, moved to the key frame."""
    points = read_points(inside(clouds, sweep["lidar_path"], "infos"), STORED_FEATURES)
    of_car = (np.abs(points[:, 0]) < CAR_M) & (np.abs(points[:, 1]) < CAR_M)
    points = np.compress(~of_car, points, axis=0)
    if sweep["transform_matrix"] is not None:
        matrix = np.asarray(sweep["transform_matrix"], dtype=np.float64)
        # In float64, as in OpenPCDet, so that the points are equal bit for bit.
        moved = points[:, :3].astype(np.float64) @ matrix[:3, :3].T
        moved += matrix[:3, 3]
        points[:, :3] = moved
    points[:, TIME] = sweep["time_lag"]
    return points
