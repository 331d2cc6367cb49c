"""Augmentations of the whole scene: flip, rotation, scaling, translation.

Each draws from the item's own random state, changes points and boxes in place, notes what it drew under OpenPCDet's key
(``flip_x``, ``noise_rot``, ``noise_scale``, ``noise_translate``) and multiplies its motion onto ``lidar_aug_matrix``,
so that ``lidar_aug_matrix @ (x, y, z, 1)`` leads from the recorded to the augmented scene.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...config import required
from ...errors import ConfigError
from ...ops.boxes import rotate_points_along_z

WHERE = "DATA_CONFIG.DATA_AUGMENTOR.AUG_CONFIG_LIST"
LEAST_SCALE_SPAN = 1e-3  # a narrower WORLD_SCALE_RANGE means no scaling, and draws no number


def flip_along_axis(points: np.ndarray, boxes: np.ndarray, axis: str) -> None:
    """Mirror points (N, 3+) and boxes (M, 7) in place; ``x`` keeps x and negates y."""
    column = 1 if axis == "x" else 0
    points[:, column] *= -1
    boxes[:, column] *= -1
    boxes[:, 6] *= -1
    if axis == "y":
        boxes[:, 6] -= np.pi


def rotate_scene(points: np.ndarray, boxes: np.ndarray, angle_rad: float) -> None:
    """Turn points (N, 3+) and boxes (M, 7) in place around z, from x towards y."""
    angle = np.array([angle_rad], dtype=np.float32)
    points[:, :3] = rotate_points_along_z(points[None, :, :3], angle)[0]
    boxes[:, :3] = rotate_points_along_z(boxes[None, :, :3], angle)[0]
    boxes[:, 6] += angle_rad


def scale_scene(points: np.ndarray, boxes: np.ndarray, factor: float) -> None:
    """Scale points (N, 3+) and boxes (M, 7), places and sizes, in place."""
    points[:, :3] *= factor
    boxes[:, :6] *= factor


def _note_motion(data_dict: dict[str, Any], motion: np.ndarray) -> None:
    """Put a (3, 3) linear motion in front of ``lidar_aug_matrix`` (4, 4)."""
    step = np.eye(4)
    step[:3, :3] = motion
    data_dict["lidar_aug_matrix"] = step @ data_dict["lidar_aug_matrix"]


class RandomWorldFlip:
    """Mirror the scene with probability one half, for each of ALONG_AXIS_LIST."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.axes: Sequence[str] = required(config, "ALONG_AXIS_LIST", f"{WHERE}.random_world_flip")
        for axis in self.axes:
            if axis not in ("x", "y"):
                raise ConfigError(
                    f"{WHERE}.random_world_flip.ALONG_AXIS_LIST: unknown axis '{axis}'; known: x, y"
                )

    def __call__(self, data_dict: dict[str, Any], random: np.random.RandomState) -> None:
        for axis in self.axes:
            flips = bool(random.choice([False, True], replace=False, p=[0.5, 0.5]))
            data_dict[f"flip_{axis}"] = flips
            if flips:
                flip_along_axis(data_dict["points"], data_dict["gt_boxes"], axis)
                _note_motion(
                    data_dict, np.diag([1.0, -1.0, 1.0] if axis == "x" else [-1.0, 1.0, 1.0])
                )


class RandomWorldRotation:
    """Turn the scene around z by an angle out of WORLD_ROT_ANGLE (radians; one number means plus or minus it)."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        angle = required(config, "WORLD_ROT_ANGLE", f"{WHERE}.random_world_rotation")
        self.lowest_rad, self.highest_rad = (
            angle if isinstance(angle, (list, tuple)) else (-angle, angle)
        )

    def __call__(self, data_dict: dict[str, Any], random: np.random.RandomState) -> None:
        angle_rad = random.uniform(self.lowest_rad, self.highest_rad)
        rotate_scene(data_dict["points"], data_dict["gt_boxes"], angle_rad)
        data_dict["noise_rot"] = angle_rad
        cosine, sine = np.cos(angle_rad), np.sin(angle_rad)
        _note_motion(data_dict, np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]]))


class RandomWorldScaling:
    """Scale the scene by a factor out of WORLD_SCALE_RANGE."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.lowest, self.highest = required(
            config, "WORLD_SCALE_RANGE", f"{WHERE}.random_world_scaling"
        )

    def __call__(self, data_dict: dict[str, Any], random: np.random.RandomState) -> None:
        narrow = self.highest - self.lowest < LEAST_SCALE_SPAN
        factor = 1.0 if narrow else random.uniform(self.lowest, self.highest)
        scale_scene(data_dict["points"], data_dict["gt_boxes"], factor)
        data_dict["noise_scale"] = factor
        _note_motion(data_dict, np.eye(3) * factor)


class RandomWorldTranslation:
    """Shift the scene by normal noise of NOISE_TRANSLATE_STD metres along x, y, z."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.std_m = required(config, "NOISE_TRANSLATE_STD", f"{WHERE}.random_world_translation")
        if len(self.std_m) != 3:
            raise ConfigError(
                f"{WHERE}.random_world_translation.NOISE_TRANSLATE_STD: expected three lengths"
            )

    def __call__(self, data_dict: dict[str, Any], random: np.random.RandomState) -> None:
        shift_m = random.normal(0.0, self.std_m, size=3)
        data_dict["points"][:, :3] += shift_m.astype(np.float32)
        data_dict["gt_boxes"][:, :3] += shift_m.astype(np.float32)
        data_dict["noise_translate"] = shift_m
        data_dict["lidar_aug_matrix"] = data_dict["lidar_aug_matrix"].copy()
        data_dict["lidar_aug_matrix"][:3, 3] += shift_m
