"""Boxes between LiDAR and camera coordinates.

A LiDAR box is (x, y, z, dx, dy, dz, heading), and (x, y, z) is its middle. A camera box is
(x, y, z, l, h, w, ry) in rect coordinates, and (x, y, z) is the middle of its bottom. The angles
are related by ``heading = -(ry + pi / 2)`` and are not wrapped.
"""

from __future__ import annotations

import numpy as np

from .calibration import Calibration


def boxes_camera_to_lidar(boxes: np.ndarray, calib: Calibration) -> np.ndarray:
    """(N, 7) camera boxes to (N, 7) LiDAR boxes."""
    length = boxes[:, 3:4]
    height = boxes[:, 4:5]
    width = boxes[:, 5:6]
    centre = calib.rect_to_lidar(boxes[:, 0:3])
    centre[:, 2] += height[:, 0] / 2
    heading = -(boxes[:, 6:7] + np.pi / 2)
    parts = [centre, length, width, height, heading]
    return np.concatenate(parts, axis=1, dtype=boxes.dtype)


def boxes_lidar_to_camera(boxes: np.ndarray, calib: Calibration) -> np.ndarray:
    """(N, 7) LiDAR boxes to (N, 7) camera boxes."""
    length = boxes[:, 3:4]
    width = boxes[:, 4:5]
    height = boxes[:, 5:6]
    bottom = boxes[:, 0:3].copy()
    bottom[:, 2] -= height[:, 0] / 2
    centre = calib.lidar_to_rect(bottom)
    rotation_y = -boxes[:, 6:7] - np.pi / 2
    parts = [centre, length, height, width, rotation_y]
    return np.concatenate(parts, axis=1, dtype=boxes.dtype)


def corners_of_camera_boxes(boxes: np.ndarray) -> np.ndarray:
    """(N, 8, 3) corners in rect coordinates: the four at the bottom, then the four above them."""
    length = boxes[:, 3:4]
    height = boxes[:, 4:5]
    width = boxes[:, 5:6]
    along = np.array([1, 1, -1, -1, 1, 1, -1, -1], dtype=np.float32) / 2 * length
    across = np.array([1, -1, -1, 1, 1, -1, -1, 1], dtype=np.float32) / 2 * width
    up = np.array([0, 0, 0, 0, 1, 1, 1, 1], dtype=np.float32) * height
    cosine = np.cos(boxes[:, 6:7])
    sine = np.sin(boxes[:, 6:7])
    x = boxes[:, 0:1] + cosine * along + sine * across
    y = boxes[:, 1:2] - up
    z = boxes[:, 2:3] - sine * along + cosine * across
    return np.stack([x, y, z], axis=2).astype(np.float32)


def image_boxes_of_camera_boxes(
    boxes: np.ndarray, calib: Calibration, image_shape: np.ndarray | None = None
) -> np.ndarray:
    """(N, 4) image rectangles around the projected corners: left, top, right, bottom in pixels.

    Args:
        image_shape: (height, width) in pixels, to which the rectangles are clipped.
    """
    corners = corners_of_camera_boxes(boxes)
    pixels, _ = calib.rect_to_img(corners.reshape(-1, 3))
    pixels = pixels.reshape(-1, 8, 2)
    rectangles = np.concatenate([pixels.min(axis=1), pixels.max(axis=1)], axis=1)
    if image_shape is None:
        return rectangles
    last_row = image_shape[0] - 1
    last_column = image_shape[1] - 1
    highest = np.array([last_column, last_row, last_column, last_row], dtype=rectangles.dtype)
    return np.clip(rectangles, 0, highest)
