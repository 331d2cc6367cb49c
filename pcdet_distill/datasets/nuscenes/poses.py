"""Poses of sensors and of the vehicle as (4, 4) matrices, float64.

A row of ``calibrated_sensor`` says where a sensor is on the vehicle, a row of ``ego_pose`` where
the vehicle is in the world. The matrix of a row leads from the inner coordinates to the outer ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...evaluation.nuscenes.quaternions import rotation_matrices

Row = Mapping[str, Any]


def outwards(row: Row) -> np.ndarray:
    """From a sensor to the vehicle, or from the vehicle to the world."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation_matrices(row["rotation"])
    matrix[:3, 3] = row["translation"]
    return matrix


def inwards(row: Row) -> np.ndarray:
    """From the vehicle to a sensor, or from the world to the vehicle."""
    # The inverse of a rotation is its transpose, which is exact.
    turn = rotation_matrices(row["rotation"]).T
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    matrix[:3, 3] = turn @ -np.asarray(row["translation"], dtype=np.float64)
    return matrix


def move(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Points (N, 3) moved by a matrix (4, 4)."""
    return points @ matrix[:3, :3].T + matrix[:3, 3]
