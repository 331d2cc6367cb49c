"""The points of a frame: one sweep, or several in the coordinates of the newest one.

The vehicle moves between sweeps, so each older sweep is moved by the matrix of its info. The column
``timestamp`` tells the age of each point in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...config import inside, nearest
from ...errors import ConfigError, DataError
from ..point_files import read_points
from ..readers import read_cloud_file

AGE = "timestamp"
STORED = ("x", "y", "z", "intensity")  # of OpenPCDet's .bin files
FEATURES = (*STORED, "ring", AGE)
Info = Mapping[str, Any]


def check_features(features: Sequence[str]) -> None:
    """Refuse columns that a sweep does not have."""
    if tuple(features[:3]) != STORED[:3]:
        raise ConfigError(
            "DATA_CONFIG.POINT_FEATURE_ENCODING.src_feature_list: must begin with x, y, z, found "
            f"{list(features)}"
        )
    for name in features:
        if name not in FEATURES:
            raise ConfigError(
                "DATA_CONFIG.POINT_FEATURE_ENCODING.src_feature_list: a sweep of Argoverse 2 has "
                f"no '{name}'{nearest(name, FEATURES)}"
            )


def read_frame(root: Path, info: Info, features: Sequence[str], max_sweeps: int) -> np.ndarray:
    """(N, len(features)) float32 points of a frame, those of the newest sweep first.

    Args:
        root: folder that the paths of an info are relative to.
        info: of the frame.
        features: columns, of ``FEATURES``.
        max_sweeps: sweeps that are joined. A log's first frames have fewer.
    """
    newest = inside(root, info["point_cloud"]["velodyne_path"], "infos")
    parts = [read_sweep(newest, features, age_s=0.0)]
    for sweep in info["sweeps"][: max_sweeps - 1]:
        points = read_sweep(inside(root, sweep["lidar_path"], "infos"), features, sweep["time_lag"])
        # In float64: positions in a city are kilometres, of which millimetres matter.
        matrix = np.asarray(sweep["transform_matrix"], dtype=np.float64)
        points[:, :3] = points[:, :3].astype(np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
        parts.append(points)
    return np.concatenate(parts)


def read_sweep(path: Path, features: Sequence[str], age_s: float) -> np.ndarray:
    """(N, len(features)) float32 of one file: Argoverse 2's .feather, or OpenPCDet's .bin."""
    names = [name for name in features if name != AGE]
    if path.suffix == ".bin":
        values = _read_bin(path, names)
    else:
        values = read_cloud_file(path).without_bad().select(names, str(path))
    points = np.full((len(values), len(features)), age_s, dtype=np.float32)
    points[:, [features.index(name) for name in names]] = values
    return points


def _read_bin(path: Path, names: Sequence[str]) -> np.ndarray:
    for name in names:
        if name not in STORED:
            raise DataError(f"{path}: holds {', '.join(STORED)} only, no {name}")
    points = read_points(path, len(STORED))
    return points[:, [STORED.index(name) for name in names]]
