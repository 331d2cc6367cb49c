"""Rotations as nuScenes writes them: quaternions (w, x, y, z), in arrays (..., 4)."""

from __future__ import annotations

import numpy as np


def rotation_matrices(quaternions: np.ndarray) -> np.ndarray:
    """Rotation matrices (..., 3, 3) of quaternions (..., 4) of any length but zero."""
    values = np.asarray(quaternions, dtype=np.float64)
    values = values / np.linalg.norm(values, axis=-1, keepdims=True)
    w, x, y, z = np.moveaxis(values, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    stacked = [np.stack(row, axis=-1) for row in rows]
    return np.stack(stacked, axis=-2)


def of_matrix(matrix: np.ndarray) -> np.ndarray:
    """The quaternion (4,) of a rotation matrix (3, 3), with w of 0 or more.

    It is the eigenvector of the largest eigenvalue of a symmetric matrix (Bar-Itzhack, 2000), so it
    needs no cases, and a matrix that was rounded gives the nearest rotation.
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = np.asarray(matrix, dtype=np.float64)
    rows = [
        [xx + yy + zz, zy - yz, xz - zx, yx - xy],
        [zy - yz, xx - yy - zz, yx + xy, zx + xz],
        [xz - zx, yx + xy, yy - xx - zz, zy + yz],
        [yx - xy, zx + xz, zy + yz, zz - xx - yy],
    ]
    _, vectors = np.linalg.eigh(np.array(rows))
    quaternion = vectors[:, -1]
    return quaternion if quaternion[0] >= 0 else -quaternion


def multiply(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The rotation ``second``, then ``first``: Hamilton's product (..., 4)."""
    a, b, c, d = np.moveaxis(np.asarray(first, dtype=np.float64), -1, 0)
    w, x, y, z = np.moveaxis(np.asarray(second, dtype=np.float64), -1, 0)
    parts = [
        a * w - b * x - c * y - d * z,
        a * x + b * w + c * z - d * y,
        a * y - b * z + c * w + d * x,
        a * z + b * y - c * x + d * w,
    ]
    return np.stack(parts, axis=-1)


def around_z(angles_rad: np.ndarray) -> np.ndarray:
    """Quaternions (N, 4) of rotations by ``angles_rad`` (N,) around z."""
    half = np.asarray(angles_rad, dtype=np.float64) / 2
    zeros = np.zeros_like(half)
    return np.stack([np.cos(half), zeros, zeros, np.sin(half)], axis=-1)


def yaws(quaternions: np.ndarray) -> np.ndarray:
    """Angle (N,) in radians between the x axis and the rotated x axis, seen from above."""
    forward = rotation_matrices(quaternions)[..., :, 0]
    return np.arctan2(forward[..., 1], forward[..., 0])
