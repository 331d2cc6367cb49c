"""Which boxes count: near ones, labelled ones with points, no two-wheelers in bicycle racks."""

from __future__ import annotations

import numpy as np

from .boxes import EvalBoxes
from .protocol import CLASS_RANGE_M, RACK_CLASSES
from .quaternions import rotation_matrices
from .truth import Truth


def filtered(boxes: EvalBoxes, truth: Truth) -> EvalBoxes:
    """The boxes, labelled or detected, that the benchmark scores."""
    boxes = boxes.select(in_range(boxes, truth.poses.ego_translation))
    boxes = boxes.select(boxes.num_points != 0)  # detections have -1
    return boxes.select(~in_rack(boxes, truth.racks))


def in_range(boxes: EvalBoxes, ego_translation: np.ndarray) -> np.ndarray:
    """Which boxes (N,) are nearer to the vehicle than the range of their class.

    Args:
        ego_translation: place of the vehicle at each sample (S, 3).
    """
    offset = boxes.translation[:, :2] - ego_translation[boxes.sample, :2]
    limits = np.array([CLASS_RANGE_M[name] for name in boxes.name])
    return np.linalg.norm(offset, axis=1) < limits


def in_rack(boxes: EvalBoxes, racks: EvalBoxes) -> np.ndarray:
    """Which boxes (N,) are bicycles or motorcycles with their centre in a rack of their sample."""
    result = np.zeros(len(boxes), dtype=bool)
    candidates = np.flatnonzero(np.isin(boxes.name, RACK_CLASSES))
    for index, rotation in enumerate(rotation_matrices(racks.rotation)):
        rows = candidates[boxes.sample[candidates] == racks.sample[index]]
        # Rows times a rotation matrix turn back into the axes of the rack.
        local = (boxes.translation[rows] - racks.translation[index]) @ rotation
        width, length, height = racks.size[index]
        half = np.array([length, width, height]) / 2
        result[rows] |= np.all(np.abs(local) <= half, axis=1)
    return result
