"""Read a .bin file of float32 points: a frame, or an object of the ground-truth database."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import DataError


def read_points(path: Path, num_features: int = 4) -> np.ndarray:
    """(N, num_features) float32 points of a .bin file. An empty file is a frame without points."""
    try:
        values = np.fromfile(path, dtype=np.uint8)
    except FileNotFoundError:
        raise DataError(f"{path}: this point file does not exist") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    point_bytes = 4 * num_features
    if values.size % point_bytes:
        raise DataError(
            f"{path}: {values.size} bytes are not a whole number of points of {num_features} "
            f"float32 ({point_bytes} bytes each); the file is truncated or of another format"
        )
    points = values.view(np.float32).reshape(-1, num_features)
    num_bad = len(points) - int(np.isfinite(points).all(axis=1).sum())
    if num_bad:
        raise DataError(
            f"{path}: {num_bad} of {len(points)} points hold NaN or infinity; "
            "expected finite numbers"
        )
    return points
