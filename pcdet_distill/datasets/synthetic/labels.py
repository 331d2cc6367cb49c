"""KITTI labels for a simulated sweep: who is labelled, how much of it is hidden, and the fifteen fields.

KITTI's annotators drew boxes around what they saw and marked the rest DontCare. Here a road user is labelled when
enough rays reach it and its image is not too small; one that is in view but fails this becomes DontCare; one that no
ray reaches is left out.
"""

from __future__ import annotations

import numpy as np

from .builder import Scene
from .camera import IMAGE_HEIGHT, IMAGE_WIDTH, Camera
from .lidar import Sweep

MIN_POINTS = 5
MIN_HEIGHT_PX = 16.0
MAX_HIDDEN = 0.93
MAX_TRUNCATED = 0.95
PARTLY_HIDDEN, LARGELY_HIDDEN = 0.15, 0.55  # hidden shares from which `occluded` is 1 and 2


def kitti_label_lines(scene: Scene, sweep: Sweep, camera: Camera) -> list[str]:
    """Label rows of one frame, nearest first, DontCare rows last."""
    objects: list[str] = []
    ignored: list[str] = []
    counted = np.bincount(sweep.owner[sweep.owner >= 0], minlength=len(scene.labels))
    nearest_first = np.argsort(np.hypot(*scene.instances.poses[:, :2].T), kind="stable")
    for index in nearest_first:
        label = scene.labels[index]
        if label is None or counted[index] == 0:
            continue
        line = _object_line(
            label,
            scene.instances.poses[index],
            scene.instances.sizes_m[index],
            camera,
            int(counted[index]),
            1.0 - sweep.visible[index] / sweep.alone[index],
        )
        if line:
            (ignored if line.startswith("DontCare") else objects).append(line)
    return objects + ignored


def _object_line(
    label: str, pose: np.ndarray, size_m: np.ndarray, camera: Camera, points: int, hidden: float
) -> str:
    """One label row, or "" for an object outside the image."""
    location = camera.to_rect(pose[None, :3])[0]
    rotation_y = _wrap(-pose[3] - np.pi / 2)
    whole = camera.box_in_image(location, size_m, rotation_y)
    if whole is None:
        return ""
    limits = np.array([IMAGE_WIDTH, IMAGE_HEIGHT, IMAGE_WIDTH, IMAGE_HEIGHT]) - 1.0
    seen = np.clip(whole, 0.0, limits)
    area = (seen[2] - seen[0]) * (seen[3] - seen[1])
    if area <= 0.0:
        return ""
    truncated = 1.0 - area / ((whole[2] - whole[0]) * (whole[3] - whole[1]))
    image_box = " ".join(f"{value:.2f}" for value in seen)
    if (
        points < MIN_POINTS
        or hidden > MAX_HIDDEN
        or truncated > MAX_TRUNCATED
        or seen[3] - seen[1] < MIN_HEIGHT_PX
    ):
        return f"DontCare -1 -1 -10 {image_box} -1 -1 -1 -1000 -1000 -1000 -10"
    occluded = int(hidden > PARTLY_HIDDEN) + int(hidden > LARGELY_HIDDEN)
    alpha = _wrap(rotation_y - np.arctan2(location[0], location[2]))
    length, width, height = size_m
    solid = [height, width, length, *location, rotation_y]
    return f"{label} {truncated:.2f} {occluded} {alpha:.2f} {image_box} {' '.join(f'{value:.2f}' for value in solid)}"


def _wrap(angle_rad: float) -> float:
    return float((angle_rad + np.pi) % (2 * np.pi) - np.pi)
