"""The scene that the tests of augmentations change."""

from __future__ import annotations

import numpy as np


def scene(seed: int = 0) -> dict:
    """A car, a pedestrian and 200 random points."""
    car_box = [10, 2, -1, 4, 1.6, 1.5, 0.4]
    pedestrian_box = [20, -5, -1, 0.8, 0.6, 1.7, -2.0]
    random = np.random.RandomState(seed)
    points = random.uniform([0, -20, -2, 0], [40, 20, 1, 1], (200, 4))
    return {
        "points": points.astype(np.float32),
        "gt_boxes": np.array([car_box, pedestrian_box], dtype=np.float32),
        "gt_names": np.array(["Car", "Pedestrian"]),
    }
