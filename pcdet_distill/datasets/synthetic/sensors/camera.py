"""Camera 2 of the simulated car, and the calibration file that describes it.

The numbers are like KITTI's: a rectified 1242 x 375 image, 720 px focal length, the LiDAR 0.27 m
behind and 0.08 m above the camera. They belong to no real car. The mounting differs from the ideal
by a fraction of a degree. So code that leaves out R0_rect or Tr_velo_to_cam gives wrong results.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

IMAGE_WIDTH = 1242
IMAGE_HEIGHT = 375
NEAR_M = 0.1  # depth of the near plane: what lies closer is not projected
# From LiDAR axes (forward, left, up) to camera axes (right, down, forward).
LIDAR_TO_CAMERA_AXES = np.array(
    [
        [0.0, -1.0, 0.0],
        [0.0, 0.0, -1.0],
        [1.0, 0.0, 0.0],
    ]
)


def _box_edges() -> list[tuple[int, int]]:
    """Pairs of a box's corners that an edge joins. Corner k has the signs of the bits of k."""
    edges = []
    for corner in range(8):
        for axis_bit in (1, 2, 4):
            if not corner & axis_bit:
                edges.append((corner, corner | axis_bit))
    return edges


BOX_EDGES = _box_edges()


def small_rotation(x_rad: float, y_rad: float, z_rad: float) -> np.ndarray:
    """(3, 3) rotation about x, then y, then z."""
    cos = np.cos([x_rad, y_rad, z_rad])
    sin = np.sin([x_rad, y_rad, z_rad])
    about_x = np.array(
        [
            [1, 0, 0],
            [0, cos[0], -sin[0]],
            [0, sin[0], cos[0]],
        ]
    )
    about_y = np.array(
        [
            [cos[1], 0, sin[1]],
            [0, 1, 0],
            [-sin[1], 0, cos[1]],
        ]
    )
    about_z = np.array(
        [
            [cos[2], -sin[2], 0],
            [sin[2], cos[2], 0],
            [0, 0, 1],
        ]
    )
    return about_z @ about_y @ about_x


@dataclass(frozen=True)
class Camera:
    """KITTI's calibration.

    Attributes:
        projections: (4, 3, 4) P0 to P3.
        rectify: (3, 3) R0_rect.
        from_lidar: (3, 4) Tr_velo_to_cam.
    """

    projections: np.ndarray
    rectify: np.ndarray
    from_lidar: np.ndarray

    @staticmethod
    @functools.lru_cache(maxsize=1)
    def standard() -> Camera:
        """The one camera of all simulated frames."""
        intrinsic = np.array(
            [
                [720.0, 0.0, 610.0],
                [0.0, 720.0, 173.0],
                [0.0, 0.0, 1.0],
            ]
        )
        last_columns = (
            (0.0, 0.0, 0.0),
            (-387.0, 0.0, 0.0),
            (44.5, 0.2, 0.0027),
            (-338.5, 2.0, 0.0027),
        )
        projections = np.stack([np.column_stack([intrinsic, column]) for column in last_columns])
        rotation = small_rotation(-0.003, 0.001, 0.002) @ LIDAR_TO_CAMERA_AXES
        from_lidar = np.column_stack([rotation, [-0.005, -0.075, -0.27]])
        return Camera(projections, small_rotation(0.002, -0.0015, -0.001), from_lidar)

    def to_rect(self, points: np.ndarray) -> np.ndarray:
        """LiDAR points (N, 3) in the rectified camera frame, (N, 3)."""
        in_camera = points @ self.from_lidar[:, :3].T + self.from_lidar[:, 3]
        return in_camera @ self.rectify.T

    def to_image(self, rect: np.ndarray) -> np.ndarray:
        """Rectified points (N, 3) of positive depth as pixels (N, 2)."""
        projection = self.projections[2]
        projected = rect @ projection[:, :3].T + projection[:, 3]
        return projected[:, :2] / projected[:, 2:]

    def sees(self, points: np.ndarray, margin_px: float = 0.0) -> np.ndarray:
        """(N,) bool, which LiDAR points (N, 3) fall into the image."""
        to_rect = self.rectify @ self.from_lidar
        to_pixel = self.projections[2, :, :3] @ to_rect
        to_pixel[:, 3] += self.projections[2, :, 3]
        points = np.asarray(points, dtype=np.float64)
        # Homogeneous pixels: column and row are still multiplied by the depth.
        column, row, depth = to_pixel[:, :3] @ points.T + to_pixel[:, 3:]
        low = -margin_px * depth
        right = (IMAGE_WIDTH + margin_px) * depth
        bottom = (IMAGE_HEIGHT + margin_px) * depth
        in_columns = (column >= low) & (column < right)
        in_rows = (row >= low) & (row < bottom)
        return (depth > NEAR_M) & in_columns & in_rows

    def box_in_image(
        self, location: np.ndarray, size_m: np.ndarray, rotation_y: float
    ) -> np.ndarray | None:
        """The 2D box (left, top, right, bottom) of a 3D box, not cut at the image's border.

        None for a box behind the camera. Edges that cross the near plane are cut there.

        Args:
            location: (3,) bottom centre in the rectified frame.
            size_m: (3,) length, width, height.
            rotation_y: about the camera's y axis, as in KITTI's labels.
        """
        corners = _box_corners(location, size_m, rotation_y)
        is_visible = corners[:, 2] >= NEAR_M
        visible = [corner for corner in corners if corner[2] >= NEAR_M]
        for start, end in BOX_EDGES:
            if is_visible[start] != is_visible[end]:
                along = corners[end] - corners[start]
                share = (NEAR_M - corners[start, 2]) / (corners[end, 2] - corners[start, 2])
                visible.append(corners[start] + share * along)
        if not visible:
            return None
        pixels = self.to_image(np.array(visible))
        return np.concatenate([pixels.min(axis=0), pixels.max(axis=0)])

    def calibration_text(self) -> str:
        """KITTI's calibration file: P0 to P3, R0_rect, Tr_velo_to_cam, Tr_imu_to_velo."""
        matrices = {f"P{number}": matrix for number, matrix in enumerate(self.projections)}
        matrices["R0_rect"] = self.rectify
        matrices["Tr_velo_to_cam"] = self.from_lidar
        matrices["Tr_imu_to_velo"] = np.column_stack([np.eye(3), [-0.81, 0.32, -0.8]])
        lines = []
        for name, matrix in matrices.items():
            numbers = " ".join(f"{value:.12e}" for value in matrix.ravel())
            lines.append(f"{name}: {numbers}\n")
        return "".join(lines)


def _box_corners(location: np.ndarray, size_m: np.ndarray, rotation_y: float) -> np.ndarray:
    """(8, 3) corners of a 3D box in the rectified frame, where y points down."""
    unit_corners = []
    for corner in range(8):
        bits = [(corner >> axis) & 1 for axis in range(3)]
        unit_corners.append([bits[0] - 0.5, -bits[1], bits[2] - 0.5])
    length, width, height = size_m
    corners = np.array(unit_corners) * np.array([length, height, width])
    cos = np.cos(rotation_y)
    sin = np.sin(rotation_y)
    rotation = np.array(
        [
            [cos, 0.0, -sin],
            [0.0, 1.0, 0.0],
            [sin, 0.0, cos],
        ]
    )
    return corners @ rotation + location
