"""Batches that hold less than a detector expects: (points, boxes) of every frame."""

from __future__ import annotations

import numpy as np
from small_model import random_scene

_NO_POINTS = np.zeros((0, 4), np.float32)
_NO_BOXES = np.zeros((0, 8), np.float32)
_POINTS_OUT_OF_RANGE = np.array([[-30, 2, -1, 0.5], [5, 60, -1, 0.5]], np.float32)
_POINT = np.array([[5.1, 1.2, -1.0, 0.5]], np.float32)
_CAR_AROUND_THE_POINT = np.array([[5, 1, -1, 3.9, 1.6, 1.56, 0.2, 1]], np.float32)
_POINTS_OF_A_SCENE, _ = random_scene(5)
_, _BOXES_OF_A_SCENE = random_scene(2)

NOTHING = (_NO_POINTS, _NO_BOXES)
OUT_OF_RANGE = (_POINTS_OUT_OF_RANGE, _NO_BOXES)
ONE_POINT = (_POINT, _NO_BOXES)
ONE_VOXEL = (np.repeat(_POINT, 3, axis=0), _CAR_AROUND_THE_POINT)
NO_BOXES = (_POINTS_OF_A_SCENE, _NO_BOXES)
BOXES_ALONE = (_NO_POINTS, _BOXES_OF_A_SCENE)

ODD_BATCHES = {
    "no point at all": [NOTHING],
    "two frames, no point at all": [NOTHING, NOTHING],
    "no point in range": [OUT_OF_RANGE, OUT_OF_RANGE],
    "one point": [ONE_POINT],
    "one voxel on a box": [ONE_VOXEL],
    "last frame empty": [random_scene(0), NOTHING],
    "first frame empty": [NOTHING, random_scene(0)],
    "no ground truth": [NO_BOXES, NO_BOXES],
    "ground truth in one frame": [NO_BOXES, random_scene(1)],
    "boxes without points": [BOXES_ALONE],
}
