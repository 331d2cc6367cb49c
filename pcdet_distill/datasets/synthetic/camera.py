"""Camera 2 of the simulated car, and the calibration file that describes it.

The numbers are like KITTI's (a rectified 1242 x 375 image, 720 px focal length, the LiDAR 0.27 m behind and 0.08 m
above the camera), but they belong to no car. The mounting differs from the ideal by a fraction of a degree, so that
code that forgets R0_rect or Tr_velo_to_cam is found out.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

IMAGE_WIDTH, IMAGE_HEIGHT = 1242, 375
NEAR_M = 0.1
FORWARD = np.array(
    [[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]]
)  # LiDAR axes to camera axes
_EDGES = [(a, b) for a in range(8) for b in range(a + 1, 8) if bin(a ^ b).count("1") == 1]


def _small_rotation(x_rad: float, y_rad: float, z_rad: float) -> np.ndarray:
    cos, sin = np.cos([x_rad, y_rad, z_rad]), np.sin([x_rad, y_rad, z_rad])
    about_x = np.array([[1, 0, 0], [0, cos[0], -sin[0]], [0, sin[0], cos[0]]])
    about_y = np.array([[cos[1], 0, sin[1]], [0, 1, 0], [-sin[1], 0, cos[1]]])
    about_z = np.array([[cos[2], -sin[2], 0], [sin[2], cos[2], 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


@dataclass(frozen=True)
class Camera:
    """projections ``(4, 3, 4)`` P0..P3; rectify ``(3, 3)``; from_lidar ``(3, 4)``."""

    projections: np.ndarray
    rectify: np.ndarray
    from_lidar: np.ndarray

    @staticmethod
    @functools.lru_cache(maxsize=1)
    def standard() -> Camera:
        """The one camera of all simulated frames."""
        intrinsic = np.array([[720.0, 0.0, 610.0], [0.0, 720.0, 173.0], [0.0, 0.0, 1.0]])
        baselines = (
            (0.0, 0.0, 0.0),
            (-387.0, 0.0, 0.0),
            (44.5, 0.2, 0.0027),
            (-338.5, 2.0, 0.0027),
        )
        projections = np.stack([np.column_stack([intrinsic, shift]) for shift in baselines])
        rotation = _small_rotation(-0.003, 0.001, 0.002) @ FORWARD
        from_lidar = np.column_stack([rotation, [-0.005, -0.075, -0.27]])
        return Camera(projections, _small_rotation(0.002, -0.0015, -0.001), from_lidar)

    def to_rect(self, points: np.ndarray) -> np.ndarray:
        """LiDAR points ``(N, 3)`` in the rectified camera frame, ``(N, 3)``."""
        return (points @ self.from_lidar[:, :3].T + self.from_lidar[:, 3]) @ self.rectify.T

    def to_image(self, rect: np.ndarray) -> np.ndarray:
        """Rectified points ``(N, 3)`` with positive depth as pixels ``(N, 2)``."""
        projected = rect @ self.projections[2, :, :3].T + self.projections[2, :, 3]
        return projected[:, :2] / projected[:, 2:]

    def sees(self, points: np.ndarray, margin_px: float = 0.0) -> np.ndarray:
        """Which LiDAR points ``(N, 3)`` fall into the image, ``(N,)`` bool."""
        to_rect = self.rectify @ self.from_lidar
        to_pixel = self.projections[2, :, :3] @ to_rect
        to_pixel[:, 3] += self.projections[2, :, 3]
        column, row, depth = (
            to_pixel[:, :3] @ np.asarray(points, dtype=np.float64).T + to_pixel[:, 3:]
        )
        low, right, bottom = (
            -margin_px * depth,
            (IMAGE_WIDTH + margin_px) * depth,
            (IMAGE_HEIGHT + margin_px) * depth,
        )
        return (depth > NEAR_M) & (column >= low) & (column < right) & (row >= low) & (row < bottom)

    def box_in_image(
        self, location: np.ndarray, size_m: np.ndarray, rotation_y: float
    ) -> np.ndarray | None:
        """The unclipped 2D box (left, top, right, bottom) of a 3D box, or None when it lies behind the camera.

        ``location`` is the bottom centre in the rectified frame, ``size_m`` length, width, height. Edges that cross
        the near plane are cut there.
        """
        corner = np.array(
            [[(k & 1) - 0.5, -((k >> 1) & 1), ((k >> 2) & 1) - 0.5] for k in range(8)]
        )
        corner = corner * size_m[[0, 2, 1]]
        cos, sin = np.cos(rotation_y), np.sin(rotation_y)
        corner = corner @ np.array([[cos, 0.0, -sin], [0.0, 1.0, 0.0], [sin, 0.0, cos]]) + location
        visible = [point for point in corner if point[2] >= NEAR_M]
        for a, b in _EDGES:
            if (corner[a, 2] < NEAR_M) != (corner[b, 2] < NEAR_M):
                share = (NEAR_M - corner[a, 2]) / (corner[b, 2] - corner[a, 2])
                visible.append(corner[a] + share * (corner[b] - corner[a]))
        if not visible:
            return None
        pixels = self.to_image(np.array(visible))
        return np.concatenate([pixels.min(axis=0), pixels.max(axis=0)])

    def calibration_text(self) -> str:
        """KITTI's calibration file: P0..P3, R0_rect, Tr_velo_to_cam, Tr_imu_to_velo."""
        imu = np.column_stack([np.eye(3), [-0.81, 0.32, -0.8]])
        rows = [(f"P{k}", matrix) for k, matrix in enumerate(self.projections)]
        rows += [
            ("R0_rect", self.rectify),
            ("Tr_velo_to_cam", self.from_lidar),
            ("Tr_imu_to_velo", imu),
        ]
        return "".join(
            f"{name}: {' '.join(f'{value:.12e}' for value in matrix.ravel())}\n"
            for name, matrix in rows
        )
