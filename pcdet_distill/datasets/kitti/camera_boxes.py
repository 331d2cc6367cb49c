"""Boxes between LiDAR and camera: centre against bottom centre, heading against rotation_y.

A LiDAR box is (x, y, z, dx, dy, dz, heading) with its centre in the middle; a camera box is (x, y, z, l, h, w, ry) with
its centre at the bottom, in rect coordinates. ``heading = -(ry + pi / 2)``; angles are not wrapped.
"""

from __future__ import annotations

import numpy as np

from .calibration import Calibration


def boxes_camera_to_lidar(boxes: np.ndarray, calib: Calibration) -> np.ndarray:
    """(N, 7) camera boxes to (N, 7) LiDAR boxes."""
    length, height, width = boxes[:, 3:4], boxes[:, 4:5], boxes[:, 5:6]
    centre = calib.rect_to_lidar(boxes[:, 0:3])
    centre[:, 2] += height[:, 0] / 2
    return np.concatenate(
        [centre, length, width, height, -(boxes[:, 6:7] + np.pi / 2)], axis=1, dtype=boxes.dtype
    )


def boxes_lidar_to_camera(boxes: np.ndarray, calib: Calibration) -> np.ndarray:
    """(N, 7) LiDAR boxes to (N, 7) camera boxes."""
    length, width, height = boxes[:, 3:4], boxes[:, 4:5], boxes[:, 5:6]
    bottom = boxes[:, 0:3].copy()
    bottom[:, 2] -= height[:, 0] / 2
    centre = calib.lidar_to_rect(bottom)
    return np.concatenate(
        [centre, length, height, width, -boxes[:, 6:7] - np.pi / 2], axis=1, dtype=boxes.dtype
    )


def corners_of_camera_boxes(boxes: np.ndarray) -> np.ndarray:
    """(N, 8, 3) corners in rect coordinates: the four at the bottom, then the four above them."""
    length, height, width = boxes[:, 3:4], boxes[:, 4:5], boxes[:, 5:6]
    along = np.array([1, 1, -1, -1, 1, 1, -1, -1], dtype=np.float32) / 2 * length
    across = np.array([1, -1, -1, 1, 1, -1, -1, 1], dtype=np.float32) / 2 * width
    up = np.array([0, 0, 0, 0, 1, 1, 1, 1], dtype=np.float32) * height
    cosine, sine = np.cos(boxes[:, 6:7]), np.sin(boxes[:, 6:7])
    x = boxes[:, 0:1] + cosine * along + sine * across
    z = boxes[:, 2:3] - sine * along + cosine * across
    return np.stack([x, boxes[:, 1:2] - up, z], axis=2).astype(np.float32)


def image_boxes_of_camera_boxes(
    boxes: np.ndarray, calib: Calibration, image_shape: np.ndarray | None = None
) -> np.ndarray:
    """(N, 4) image rectangles (left, top, right, bottom) around the projected corners, clipped to (height, width)."""
    corners = corners_of_camera_boxes(boxes)
    pixels, _ = calib.rect_to_img(corners.reshape(-1, 3))
    pixels = pixels.reshape(-1, 8, 2)
    rectangles = np.concatenate([pixels.min(axis=1), pixels.max(axis=1)], axis=1)
    if image_shape is not None:
        height, width = image_shape[0], image_shape[1]
        rectangles = np.clip(
            rectangles, 0, np.array([width - 1, height - 1] * 2, dtype=rectangles.dtype)
        )
    return rectangles
