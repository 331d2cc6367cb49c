"""Batches that hold less than a detector expects: (points, boxes) of every frame."""

from __future__ import annotations

import numpy as np
from small_model import random_scene

NOTHING = (np.zeros((0, 4), np.float32), np.zeros((0, 8), np.float32))
OUT_OF_RANGE = (
    np.array([[-30, 2, -1, 0.5], [5, 60, -1, 0.5]], np.float32),
    np.zeros((0, 8), np.float32),
)
ONE_POINT = (np.array([[5.1, 1.2, -1.0, 0.5]], np.float32), np.zeros((0, 8), np.float32))
ONE_VOXEL = (
    np.repeat(ONE_POINT[0], 3, axis=0),
    np.array([[5, 1, -1, 3.9, 1.6, 1.56, 0.2, 1]], np.float32),
)
NO_BOXES = (random_scene(5)[0], np.zeros((0, 8), np.float32))
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
    "boxes without points": [(NOTHING[0], random_scene(2)[1])],
}
