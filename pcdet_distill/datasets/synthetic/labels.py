"""KITTI labels of a simulated sweep: which road users get one, and its fifteen fields.

KITTI's annotators drew boxes around the objects they could see and marked the rest DontCare. Here a
road user gets a box when enough rays reach it and its image is large enough. One that fails this
becomes DontCare, and one that no ray reaches is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..kitti.object3d import DONT_CARE
from .scenes.builder import Scene
from .scenes.tilt import tilted_bottoms
from .sensors.camera import IMAGE_HEIGHT, IMAGE_WIDTH, Camera
from .sensors.lidar import Sweep
from .sensors.raycast import Instances

MIN_POINTS = 5
MIN_HEIGHT_PX = 16.0
MAX_HIDDEN = 0.93
MAX_TRUNCATED = 0.95
# Hidden shares from which the field ``occluded`` is 1 and 2.
PARTLY_HIDDEN = 0.15
LARGELY_HIDDEN = 0.55


@dataclass(frozen=True)
class Label:
    """One line of a label file.

    Attributes:
        name: KITTI's class, or DontCare.
        number: of the object in the scene.
        num_points: returns of the object.
        truncated: share of its 2D box outside the image.
        occluded: 0 visible, 1 partly hidden, 2 largely hidden.
        image_box: (4,) left, top, right, bottom, cut at the image's border.
        location: (3,) bottom centre in the rectified camera frame.
        size_m: (3,) length, width, height.
        rotation_y: about the camera's y axis.
    """

    name: str
    number: int
    num_points: int
    truncated: float
    occluded: int
    image_box: np.ndarray
    location: np.ndarray
    size_m: np.ndarray
    rotation_y: float

    @property
    def is_ignored(self) -> bool:
        """Whether it is a DontCare region."""
        return self.name == DONT_CARE

    def as_ignored(self) -> Label:
        """The same place as a DontCare region."""
        return replace(self, name=DONT_CARE)

    def line(self) -> str:
        """The line of the label file."""
        image_fields = " ".join(f"{value:.2f}" for value in self.image_box)
        if self.is_ignored:
            return f"{DONT_CARE} -1 -1 -10 {image_fields} -1 -1 -1 -1000 -1000 -1000 -10"
        # alpha: rotation relative to the ray from the camera to the object.
        alpha = wrap(self.rotation_y - np.arctan2(self.location[0], self.location[2]))
        length, width, height = self.size_m
        box_3d = [height, width, length, *self.location, wrap(self.rotation_y)]
        box_fields = " ".join(f"{value:.2f}" for value in box_3d)
        return (
            f"{self.name} {self.truncated:.2f} {self.occluded} {alpha:.2f} "
            f"{image_fields} {box_fields}"
        )


def frame_labels(scene: Scene, sweep: Sweep, camera: Camera) -> list[Label]:
    """The true labels of one frame: objects, nearest first, then DontCare."""
    objects: list[Label] = []
    ignored: list[Label] = []
    owners = sweep.owner[sweep.owner >= 0]
    num_points = np.bincount(owners, minlength=len(scene.labels))
    poses = scene.instances.poses
    bottoms = tilted_bottoms(scene)
    distance_m = np.hypot(poses[:, 0], poses[:, 1])
    for index in np.argsort(distance_m, kind="stable"):
        name = scene.labels[index]
        if name is None or num_points[index] == 0:
            continue
        label = _label(
            name,
            int(index),
            bottoms[index],
            scene.instances,
            camera,
            num_points=int(num_points[index]),
            hidden=1.0 - sweep.visible[index] / sweep.alone[index],
        )
        if label is None:
            continue
        (ignored if label.is_ignored else objects).append(label)
    return objects + ignored


def _label(
    name: str,
    number: int,
    bottom: np.ndarray,
    instances: Instances,
    camera: Camera,
    *,
    num_points: int,
    hidden: float,
) -> Label | None:
    """The true label of an object whose bottom centre (3,) is given; None outside the image."""
    location = camera.to_rect(bottom[None])[0]
    size_m = instances.sizes_m[number]
    # KITTI measures rotation_y from the camera's x axis (right), clockwise seen from above.
    rotation_y = wrap(-instances.poses[number, 3] - np.pi / 2)
    box = camera.box_in_image(location, size_m, rotation_y)
    if box is None:
        return None
    last_pixel = np.array([IMAGE_WIDTH, IMAGE_HEIGHT, IMAGE_WIDTH, IMAGE_HEIGHT]) - 1.0
    visible_box = np.clip(box, 0.0, last_pixel)
    visible_height_px = visible_box[3] - visible_box[1]
    visible_area = (visible_box[2] - visible_box[0]) * visible_height_px
    if visible_area <= 0.0:
        return None
    area = (box[2] - box[0]) * (box[3] - box[1])
    truncated = 1.0 - visible_area / area
    is_small = num_points < MIN_POINTS or visible_height_px < MIN_HEIGHT_PX
    label = Label(
        name=name,
        number=number,
        num_points=num_points,
        truncated=truncated,
        occluded=int(hidden > PARTLY_HIDDEN) + int(hidden > LARGELY_HIDDEN),
        image_box=visible_box,
        location=location,
        size_m=size_m,
        rotation_y=rotation_y,
    )
    if is_small or hidden > MAX_HIDDEN or truncated > MAX_TRUNCATED:
        return label.as_ignored()
    return label


def wrap(angle_rad: float) -> float:
    """The same angle from -pi to pi."""
    return float((angle_rad + np.pi) % (2 * np.pi) - np.pi)
