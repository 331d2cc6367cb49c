"""Read a file of float32 points (.bin), whole or cut out for the ground-truth database."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import DataError


def read_points(path: Path, num_features: int = 4) -> np.ndarray:
    """(N, num_features) float32 points of a .bin file; an empty file is a frame without points."""
    try:
        values = np.fromfile(path, dtype=np.uint8)
    except FileNotFoundError:
        raise DataError(f"{path}: this point file does not exist") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    if values.size % (4 * num_features):
        raise DataError(
            f"{path}: {values.size} bytes are not a whole number of points of {num_features} float32 "
            f"({4 * num_features} bytes each); the file is truncated or of another format"
        )
    points = values.view(np.float32).reshape(-1, num_features)
    bad = len(points) - int(np.isfinite(points).all(axis=1).sum())
    if bad:
        raise DataError(
            f"{path}: {bad} of {len(points)} points hold NaN or infinity; expected finite numbers"
        )
    return points
