"""Boxes under the motion of a scene: flips, rotations around z, scalings, translations."""

from __future__ import annotations

import numpy as np

from ...ops.boxes import along_and_across
from ..box_fields import BOX_FIELDS, VELOCITY

HEADING = 6


def scale_of(motion: np.ndarray) -> float:
    """The factor by which a motion (4, 4) stretches lengths."""
    return float(np.cbrt(abs(np.linalg.det(motion[:3, :3]))))


def move_places(places: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """Points (N, 2) x, y in metres, moved by ``motion`` (4, 4)."""
    moved = places @ motion[:2, :2].T + motion[:2, 3]
    return moved.astype(np.float32)


def move_boxes(boxes: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """Boxes (N, 7 + C), moved by ``motion`` (4, 4): flips, rotations around z, scale, shift.

    The heading is moved as the direction of its vector. So one formula serves rotations and both
    flips, whatever their order. Velocities are vectors too. Headings are in [-pi, pi].
    """
    moved = boxes.astype(np.float64)
    heading = moved[:, HEADING]
    direction = np.stack([np.cos(heading), np.sin(heading)], axis=1)
    turned = direction @ motion[:2, :2].T
    moved[:, :3] = moved[:, :3] @ motion[:3, :3].T + motion[:3, 3]
    moved[:, 3:6] *= scale_of(motion)
    moved[:, HEADING] = np.arctan2(turned[:, 1], turned[:, 0])
    if moved.shape[1] > len(BOX_FIELDS):
        moved[:, VELOCITY] = moved[:, VELOCITY] @ motion[:2, :2].T
    return moved.astype(np.float32)


def inside_footprints(places: np.ndarray, boxes: np.ndarray, margin_m: float = 0.0) -> np.ndarray:
    """(K, N) bool: which points (N, 2) lie in the footprint of which box (K, 7).

    Args:
        margin_m: by which each footprint is enlarged on every side.
    """
    along, across = along_and_across(places, boxes)
    half_length = boxes[:, None, 3] / 2 + margin_m
    half_width = boxes[:, None, 4] / 2 + margin_m
    return (np.abs(along) <= half_length) & (np.abs(across) <= half_width)
