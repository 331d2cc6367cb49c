"""Which beam of the sensor measured each point of a cloud that does not say so.

LiDAR Distillation (https://arxiv.org/abs/2203.14956) finds the beams of real data in order to thin
them out. Here there are two ways:

* ``order``: KITTI stores ring after ring from the top, each turning left from straight ahead. A new
  ring starts where the azimuth falls back. This is right near the sensor too, where elevations blur
  because the lasers do not start from one point. A beam without any return is not counted.
* ``elevation``: the nearest cluster of elevations. The clusters start at the beams of the sensor's
  table and move to the means of their points, as k-means does.
"""

from __future__ import annotations

import numpy as np

from ..errors import DataError

LEAST_FALL_RAD = np.deg2rad(0.5)  # less is the unevenness of the firings within a ring
MOST_RINGS = 256
CLUSTER_STEPS = 5


def beam_numbers(points: np.ndarray, method: str) -> np.ndarray:
    """(N,) number of each point's beam, 0 at the top.

    Args:
        points: (N, 3+) in the sensor's frame; for ``order`` in the order of KITTI's files.
        method: ``order``, or ``elevation`` for the beams of an HDL-64E.
    """
    if method == "order":
        return beams_by_order(points)
    # Only this way needs the simulator, which knows the beams of the sensor.
    from .synthetic.sensors.sensor_options import standard_sensor

    return beams_by_elevation(points, standard_sensor().elevations_rad)


def beams_by_order(points: np.ndarray) -> np.ndarray:
    """(N,) number of the ring, counted from the start of the file."""
    azimuth = np.arctan2(points[:, 1].astype(float), points[:, 0].astype(float))
    turn = np.mod(azimuth, 2 * np.pi)
    starts = np.diff(turn, prepend=turn[:1]) < -LEAST_FALL_RAD
    rings = np.cumsum(starts)
    if len(rings) and rings[-1] >= MOST_RINGS:
        raise DataError(
            f"the points form {rings[-1] + 1} rings by their order, and no sensor has more than "
            f"{MOST_RINGS}; expected KITTI's order, or COMMON_CLOUD.BEAMS: elevation"
        )
    return rings


def beams_by_elevation(points: np.ndarray, table_rad: np.ndarray) -> np.ndarray:
    """(N,) number of the nearest beam.

    Args:
        points: (N, 3+).
        table_rad: (B,) elevations of the beams, falling.
    """
    horizontal_m = np.hypot(points[:, 0].astype(float), points[:, 1].astype(float))
    elevation = np.arctan2(points[:, 2].astype(float), horizontal_m)
    centres = table_rad.copy()
    for _ in range(CLUSTER_STEPS):
        beam = _nearest(elevation, centres)
        counts = np.bincount(beam, minlength=len(centres))
        sums = np.bincount(beam, weights=elevation, minlength=len(centres))
        has_points = counts > 0
        centres[has_points] = sums[has_points] / counts[has_points]
    return _nearest(elevation, centres)


def _nearest(elevation: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """(N,) index of the nearest of falling ``centres`` (B,)."""
    borders = (centres[:-1] + centres[1:]) / 2
    # searchsorted wants rising borders.
    return np.searchsorted(-borders, -elevation)
