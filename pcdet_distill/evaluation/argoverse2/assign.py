"""Which detections of one category in one frame are right, by Argoverse 2's rule.

Every detection belongs to the object whose centre is nearest in 3D, taken by others or not. Of the
detections that belong to an object, the one with the best score is right, if it is near enough. All
others are wrong, even where a second object is near.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...ops.boxes import limit_period
from .protocol import Argoverse2Protocol


class FrameScores(NamedTuple):
    """The detections of one category in one frame that count, the best score first.

    Attributes:
        score: (D,).
        is_right: (D, T) at each distance of the protocol.
        errors: (D, 3) translation in metres, 1 - IoU of the sizes, heading in radians; the worst
            ones where a detection has no match at the distance for errors.
        num_objects: objects that count.
    """

    score: np.ndarray
    is_right: np.ndarray
    errors: np.ndarray
    num_objects: int


def assign(
    objects: np.ndarray,
    num_points: np.ndarray,
    detections: np.ndarray,
    score: np.ndarray,
    protocol: Argoverse2Protocol,
) -> FrameScores:
    """Match boxes (D, 7) with the boxes (G, 7) of objects.

    Args:
        num_points: (G,) points inside of each object; one without points does not count.
        score: (D,) of the detections.
    """
    counted = objects[_in_range(objects, protocol) & (num_points > 0)]
    order = np.argsort(-score, kind="stable")
    order = order[_in_range(detections[order], protocol)][: protocol.max_detections]
    boxes = detections[order]
    is_right = np.zeros((len(boxes), len(protocol.distances_m)), dtype=bool)
    errors = np.tile(protocol.worst_errors, (len(boxes), 1))
    if len(boxes) and len(counted):
        distance_m = np.linalg.norm(boxes[:, None, :3] - counted[None, :, :3], axis=2)
        nearest = distance_m.argmin(axis=1)
        owner, first = np.unique(nearest, return_index=True)
        is_right[first] = distance_m[first, owner, None] < np.array(protocol.distances_m)
        near = distance_m[first, owner] < protocol.error_distance_m
        errors[first[near]] = box_errors(boxes[first[near]], counted[owner[near]])
    return FrameScores(score[order], is_right, errors, len(counted))


def _in_range(boxes: np.ndarray, protocol: Argoverse2Protocol) -> np.ndarray:
    distance_m: np.ndarray = np.linalg.norm(boxes[:, :3], axis=1)
    return distance_m < protocol.max_range_m


def box_errors(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Translation, size and heading errors (M, 3) of boxes (M, 7) against their objects (M, 7)."""
    translation_m = np.linalg.norm(found[:, :3] - truth[:, :3], axis=1)
    shared = np.minimum(found[:, 3:6], truth[:, 3:6]).prod(axis=1)
    around_both = np.maximum(found[:, 3:6], truth[:, 3:6]).prod(axis=1)
    turn_rad = np.abs(limit_period(found[:, 6] - truth[:, 6], 0.5, 2 * np.pi))
    return np.stack([translation_m, 1 - shared / around_both, turn_rad], axis=1)
