"""KITTI labels of a simulated sweep: which road users get one, and its fifteen fields.

KITTI's annotators drew boxes around the objects they could see and marked the rest DontCare. Here a
road user gets a box when enough rays reach it and its image is large enough. One that fails this
becomes DontCare, and one that no ray reaches is left out.
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
# Hidden shares from which the field ``occluded`` is 1 and 2.
PARTLY_HIDDEN = 0.15
LARGELY_HIDDEN = 0.55


def kitti_label_lines(scene: Scene, sweep: Sweep, camera: Camera) -> list[str]:
    """The label lines of one frame: objects, nearest first, then DontCare."""
    objects: list[str] = []
    ignored: list[str] = []
    owners = sweep.owner[sweep.owner >= 0]
    num_points = np.bincount(owners, minlength=len(scene.labels))
    poses = scene.instances.poses
    distance_m = np.hypot(poses[:, 0], poses[:, 1])
    for index in np.argsort(distance_m, kind="stable"):
        label = scene.labels[index]
        if label is None or num_points[index] == 0:
            continue
        line = _label_line(
            label,
            poses[index],
            scene.instances.sizes_m[index],
            camera,
            num_points=int(num_points[index]),
            hidden=1.0 - sweep.visible[index] / sweep.alone[index],
        )
        if line.startswith("DontCare"):
            ignored.append(line)
        elif line:
            objects.append(line)
    return objects + ignored


def _label_line(
    label: str,
    pose: np.ndarray,
    size_m: np.ndarray,
    camera: Camera,
    *,
    num_points: int,
    hidden: float,
) -> str:
    """One label line, or "" for an object outside the image."""
    location = camera.to_rect(pose[None, :3])[0]
    # KITTI measures rotation_y from the camera's x axis (right), clockwise seen from above.
    rotation_y = _wrap(-pose[3] - np.pi / 2)
    box = camera.box_in_image(location, size_m, rotation_y)
    if box is None:
        return ""
    last_pixel = np.array([IMAGE_WIDTH, IMAGE_HEIGHT, IMAGE_WIDTH, IMAGE_HEIGHT]) - 1.0
    visible_box = np.clip(box, 0.0, last_pixel)
    visible_height_px = visible_box[3] - visible_box[1]
    visible_area = (visible_box[2] - visible_box[0]) * visible_height_px
    if visible_area <= 0.0:
        return ""
    area = (box[2] - box[0]) * (box[3] - box[1])
    truncated = 1.0 - visible_area / area
    image_fields = " ".join(f"{value:.2f}" for value in visible_box)
    is_small = num_points < MIN_POINTS or visible_height_px < MIN_HEIGHT_PX
    if is_small or hidden > MAX_HIDDEN or truncated > MAX_TRUNCATED:
        return f"DontCare -1 -1 -10 {image_fields} -1 -1 -1 -1000 -1000 -1000 -10"
    occluded = int(hidden > PARTLY_HIDDEN) + int(hidden > LARGELY_HIDDEN)
    # alpha: rotation relative to the ray from the camera to the object.
    alpha = _wrap(rotation_y - np.arctan2(location[0], location[2]))
    length, width, height = size_m
    box_3d = [height, width, length, *location, rotation_y]
    box_fields = " ".join(f"{value:.2f}" for value in box_3d)
    return f"{label} {truncated:.2f} {occluded} {alpha:.2f} {image_fields} {box_fields}"


def _wrap(angle_rad: float) -> float:
    """The same angle from -pi to pi."""
    return float((angle_rad + np.pi) % (2 * np.pi) - np.pi)
