"""Augmentations of the whole scene: flip, rotation, scaling, translation.

Each draws from the item's own random state and changes points and boxes in place. It stores what it
drew under OpenPCDet's key (``flip_x``, ``noise_rot``, ``noise_scale``, ``noise_translate``) and
multiplies its matrix onto ``lidar_aug_matrix``. So ``lidar_aug_matrix @ (x, y, z, 1)`` maps the
recorded scene to the augmented one.

Boxes (M, 7) are x, y, z, dx, dy, dz, heading; boxes (M, 9) also have the velocity vx, vy. A
velocity is a vector in the scene: it is flipped, rotated and scaled with it, and a translation
leaves it alone. An unknown velocity is NaN and stays NaN.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...config import required
from ...config.values import is_number
from ...errors import ConfigError
from ...ops.boxes import rotate_points_along_z
from ...types import ConfigDict
from ..box_fields import BOX_FIELDS, VELOCITY
from ..item import Item

WHERE = "DATA_CONFIG.DATA_AUGMENTOR.AUG_CONFIG_LIST"
MIRRORS = {"x": [1.0, -1.0, 1.0], "y": [-1.0, 1.0, 1.0]}  # factors of x, y, z
LEAST_SCALE_SPAN = 1e-3  # a narrower WORLD_SCALE_RANGE means no scaling, and draws no number


def _has_velocity(boxes: np.ndarray) -> bool:
    return boxes.shape[1] > len(BOX_FIELDS)


def flip_along_axis(points: np.ndarray, boxes: np.ndarray, axis: str) -> None:
    """Mirror points (N, 3+) and boxes (M, 7 or 9) in place; ``x`` keeps x and negates y."""
    column = 1 if axis == "x" else 0
    points[:, column] *= -1
    boxes[:, column] *= -1
    boxes[:, 6] *= -1
    if axis == "y":
        boxes[:, 6] -= np.pi
    if _has_velocity(boxes):
        boxes[:, VELOCITY.start + column] *= -1


def rotate_scene(points: np.ndarray, boxes: np.ndarray, angle_rad: float) -> None:
    """Turn points (N, 3+) and boxes (M, 7 or 9) in place around z, from x towards y."""
    angle = np.array([angle_rad], dtype=np.float32)
    points[:, :3] = rotate_points_along_z(points[None, :, :3], angle)[0]
    boxes[:, :3] = rotate_points_along_z(boxes[None, :, :3], angle)[0]
    boxes[:, 6] += angle_rad
    if _has_velocity(boxes):
        boxes[:, VELOCITY] = rotate_points_along_z(boxes[None, :, VELOCITY], angle)[0]


def scale_scene(points: np.ndarray, boxes: np.ndarray, factor: float) -> None:
    """Scale points (N, 3+) and boxes (M, 7 or 9) in place: places, sizes and velocities."""
    points[:, :3] *= factor
    boxes[:, :6] *= factor
    if _has_velocity(boxes):
        boxes[:, VELOCITY] *= factor


def _note_motion(data_dict: Item, motion: np.ndarray) -> None:
    """Multiply a (3, 3) linear motion onto ``lidar_aug_matrix`` (4, 4), from the left."""
    step = np.eye(4)
    step[:3, :3] = motion
    data_dict["lidar_aug_matrix"] = step @ data_dict["lidar_aug_matrix"]


NUMBER_WORDS = {2: "two", 3: "three"}


def numbers_of(value: object, count: int, where: str) -> list[float]:
    """The ``count`` finite numbers of an option that is a list of them."""
    entries = list(value) if isinstance(value, (list, tuple)) else []
    if len(entries) != count or not all(map(_is_finite, entries)):
        raise ConfigError(f"{where}: expected {NUMBER_WORDS[count]} numbers, found {value!r}")
    return [float(entry) for entry in entries]


def _is_finite(entry: object) -> bool:
    return is_number(entry) and abs(entry) < np.inf


class RandomWorldFlip:
    """Mirror the scene with probability one half, for each of ALONG_AXIS_LIST."""

    motion = "scene"

    def __init__(self, config: ConfigDict) -> None:
        where = f"{WHERE}.random_world_flip"
        self.axes: Sequence[str] = required(config, "ALONG_AXIS_LIST", where)
        for axis in self.axes:
            if axis not in MIRRORS:
                raise ConfigError(f"{where}.ALONG_AXIS_LIST: unknown axis '{axis}'; known: x, y")

    def __call__(self, data_dict: Item, random: np.random.RandomState) -> None:
        for axis in self.axes:
            flips = bool(random.choice([False, True], replace=False, p=[0.5, 0.5]))
            data_dict[f"flip_{axis}"] = flips
            if flips:
                flip_along_axis(data_dict["points"], data_dict["gt_boxes"], axis)
                _note_motion(data_dict, np.diag(MIRRORS[axis]))


class RandomWorldRotation:
    """Turn the scene around z by a random angle out of WORLD_ROT_ANGLE, in radians.

    WORLD_ROT_ANGLE is (lowest, highest), or one number for the range from minus to plus it.
    """

    motion = "scene"

    def __init__(self, config: ConfigDict) -> None:
        where = f"{WHERE}.random_world_rotation"
        angle_rad = required(config, "WORLD_ROT_ANGLE", where)
        if is_number(angle_rad):
            angle_rad = (-angle_rad, angle_rad)
        self.lowest_rad, self.highest_rad = numbers_of(angle_rad, 2, f"{where}.WORLD_ROT_ANGLE")

    def __call__(self, data_dict: Item, random: np.random.RandomState) -> None:
        angle_rad = random.uniform(self.lowest_rad, self.highest_rad)
        rotate_scene(data_dict["points"], data_dict["gt_boxes"], angle_rad)
        data_dict["noise_rot"] = angle_rad
        cosine = np.cos(angle_rad)
        sine = np.sin(angle_rad)
        _note_motion(data_dict, np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]]))


class RandomWorldScaling:
    """Scale the scene by a random factor out of WORLD_SCALE_RANGE."""

    motion = "scene"

    def __init__(self, config: ConfigDict) -> None:
        where = f"{WHERE}.random_world_scaling"
        scales = required(config, "WORLD_SCALE_RANGE", where)
        self.lowest, self.highest = numbers_of(scales, 2, f"{where}.WORLD_SCALE_RANGE")

    def __call__(self, data_dict: Item, random: np.random.RandomState) -> None:
        is_narrow = self.highest - self.lowest < LEAST_SCALE_SPAN
        factor = 1.0 if is_narrow else random.uniform(self.lowest, self.highest)
        scale_scene(data_dict["points"], data_dict["gt_boxes"], factor)
        data_dict["noise_scale"] = factor
        _note_motion(data_dict, np.eye(3) * factor)


class RandomWorldTranslation:
    """Shift the scene by normal noise of NOISE_TRANSLATE_STD metres along x, y, z."""

    motion = "scene"

    def __init__(self, config: ConfigDict) -> None:
        where = f"{WHERE}.random_world_translation"
        std_m = required(config, "NOISE_TRANSLATE_STD", where)
        self.std_m = numbers_of(std_m, 3, f"{where}.NOISE_TRANSLATE_STD")
        if min(self.std_m) < 0:
            raise ConfigError(f"{where}.NOISE_TRANSLATE_STD: expected three lengths, none negative")

    def __call__(self, data_dict: Item, random: np.random.RandomState) -> None:
        shift_m = random.normal(0.0, self.std_m, size=3)
        data_dict["points"][:, :3] += shift_m.astype(np.float32)
        data_dict["gt_boxes"][:, :3] += shift_m.astype(np.float32)
        data_dict["noise_translate"] = shift_m
        matrix = data_dict["lidar_aug_matrix"].copy()
        matrix[:3, 3] += shift_m
        data_dict["lidar_aug_matrix"] = matrix
