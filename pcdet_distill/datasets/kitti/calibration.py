"""KITTI's calibration of one frame: from LiDAR to camera to image coordinates and back.

There are three coordinate systems. LiDAR: x forward, y left, z up. Rectified camera ("rect"): x
right, y down, z forward. Image: u right, v down. A calib file is read by the names of its lines.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ...errors import DataError
from ..text_structures import NamedMatrices, read_text

SHAPES = {"P2": (3, 4), "R0_rect": (3, 3), "Tr_velo_to_cam": (3, 4)}
CALIBRATION_FILE = NamedMatrices(**SHAPES)


class Calibration:
    """Projection of camera 2, rectifying rotation, and LiDAR to camera.

    Args:
        P2: (3, 4) projection matrix of camera 2.
        R0: (3, 3) rectifying rotation.
        V2C: (3, 4) rigid motion from LiDAR to the unrectified camera.
    """

    def __init__(self, P2: np.ndarray, R0: np.ndarray, V2C: np.ndarray) -> None:
        self.P2 = np.asarray(P2, dtype=np.float32)
        self.R0 = np.asarray(R0, dtype=np.float32)
        self.V2C = np.asarray(V2C, dtype=np.float32)
        # Focal lengths and principal point in pixels, offset of camera 2 from camera 0 in metres.
        self.fu = self.P2[0, 0]
        self.fv = self.P2[1, 1]
        self.cu = self.P2[0, 2]
        self.cv = self.P2[1, 2]
        if self.fu == 0 or self.fv == 0:
            raise DataError("calibration: the focal length in P2 is 0; expected a real camera's")
        self.tx = self.P2[0, 3] / -self.fu
        self.ty = self.P2[1, 3] / -self.fv
        self._lidar_to_rect = self.V2C.T @ self.R0.T
        square = np.eye(4)
        square[:, :3] = self._lidar_to_rect.astype(np.float64)
        try:
            self._rect_to_lidar = np.linalg.inv(square)
        except np.linalg.LinAlgError:
            raise DataError(
                "calibration: R0_rect and Tr_velo_to_cam cannot be inverted; expected a rotation "
                "and a rigid motion"
            ) from None

    @classmethod
    def from_file(cls, path: Path) -> Calibration:
        """Read a KITTI calib file."""
        missing = "this calibration file does not exist; every frame needs one"
        matrices = CALIBRATION_FILE.read(path, read_text(path, "a calibration file", missing))
        for name, matrix in matrices.items():
            if np.linalg.matrix_rank(matrix[:, :3]) < 3:
                raise DataError(
                    f"{path}: the line '{name}:' cannot be inverted; expected the matrix of a real "
                    "camera"
                )
        return cls(*matrices.values())

    @classmethod
    def from_info(cls, calib: Mapping[str, np.ndarray]) -> Calibration:
        """From the ``calib`` entry of an info: P2, R0_rect, Tr_velo_to_cam, each (4, 4)."""
        matrices = []
        for name, (num_rows, num_columns) in SHAPES.items():
            matrices.append(np.asarray(calib[name])[:num_rows, :num_columns])
        return cls(*matrices)

    def to_info(self) -> dict[str, np.ndarray]:
        """The ``calib`` entry of an info: (4, 4) matrices completed by the identity."""
        info = {}
        for name, matrix in zip(SHAPES, (self.P2, self.R0, self.V2C)):
            info[name] = np.eye(4, dtype=np.float32)
            info[name][: matrix.shape[0], : matrix.shape[1]] = matrix
        return info

    def lidar_to_rect(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) LiDAR to (N, 3) rect."""
        return _homogeneous(points) @ self._lidar_to_rect

    def rect_to_lidar(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) rect to (N, 3) LiDAR."""
        homogeneous = _homogeneous(points).astype(np.float64)
        return (homogeneous @ self._rect_to_lidar)[:, :3].astype(np.float32)

    def rect_to_img(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, 3) rect to pixels (N, 2) and depth (N,) in metres."""
        projected = _homogeneous(points) @ self.P2.T
        depth_m = points[:, 2]
        pixels = np.empty((len(points), 2), dtype=np.result_type(projected, points))
        with np.errstate(divide="ignore", invalid="ignore"):
            # Column by column, which is faster than rows of two.
            np.divide(projected[:, 0], depth_m, out=pixels[:, 0])
            np.divide(projected[:, 1], depth_m, out=pixels[:, 1])
        return pixels, projected[:, 2] - self.P2[2, 3]

    def lidar_to_img(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, 3) LiDAR to pixels (N, 2) and depth (N,) in metres."""
        return self.rect_to_img(self.lidar_to_rect(points))

    def img_to_rect(self, u: np.ndarray, v: np.ndarray, depth_m: np.ndarray) -> np.ndarray:
        """Pixels (N,), (N,) and depth (N,) to (N, 3) rect."""
        x = (u - self.cu) * depth_m / self.fu + self.tx
        y = (v - self.cv) * depth_m / self.fv + self.ty
        return np.stack([x, y, depth_m], axis=1)

    def in_image(self, points_rect: np.ndarray, image_shape: np.ndarray) -> np.ndarray:
        """(N,) bool: the rect points that camera 2 sees in an image of (height, width) pixels."""
        pixels, depth_m = self.rect_to_img(points_rect)
        u = pixels[:, 0]
        v = pixels[:, 1]
        return (u >= 0) & (u < image_shape[1]) & (v >= 0) & (v < image_shape[0]) & (depth_m >= 0)


def _homogeneous(points: np.ndarray) -> np.ndarray:
    """(N, 3) to (N, 4) with a column of ones."""
    return np.concatenate([points, np.ones((len(points), 1), dtype=np.float32)], axis=1)
