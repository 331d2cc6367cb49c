"""How near detections and objects of the same frame are: exact rotated IoU, distance of centres.

The common ground of two boxes is exact: one rectangle is clipped by the edges of the other, in
float64. ``ops.boxes`` follows OpenPCDet's NMS, whose margin of 1 cm changes the IoU of a pedestrian
by about a hundredth; that would decide matches near the threshold.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np

from .frames import Rows

MAX_CORNERS = 24  # a rectangle clipped by four lines has 8; the rest is room for rounding

compiled = numba.njit(cache=True)


class Pairs(NamedTuple):
    """All pairs of a detection and an object of the same frame, frame after frame.

    The pair of detection d and object g of frame f, both counted within the frame, is at
    ``start[f] + d * (objects of the frame) + g``.

    Attributes:
        start: (F,) int64.
        bev: (P,) float64 IoU on the ground.
        volume: (P,) float64 IoU in 3D.
        distance_m: (P,) float64 distance of the centres on the ground.
    """

    start: np.ndarray
    bev: np.ndarray
    volume: np.ndarray
    distance_m: np.ndarray


def compare_boxes(detections: Rows, objects: Rows) -> Pairs:
    """Overlaps and distances of all pairs within a frame."""
    per_frame = np.diff(detections.start) * np.diff(objects.start)
    end = np.cumsum(per_frame)
    num_pairs = int(end[-1]) if len(end) else 0
    bev, volume, distance_m = _compare(
        detections.box, detections.start, objects.box, objects.start, num_pairs
    )
    return Pairs((end - per_frame).astype(np.int64), bev, volume, distance_m)


@compiled
def _compare(dt_box, dt_start, gt_box, gt_start, num_pairs):
    """IoU on the ground, IoU in 3D and distance (P,) of each pair."""
    bev = np.zeros(num_pairs)
    volume = np.zeros(num_pairs)
    distance_m = np.zeros(num_pairs)
    polygon = np.empty((MAX_CORNERS, 2))
    clipped = np.empty((MAX_CORNERS, 2))
    pair = 0
    for frame in range(len(gt_start) - 1):
        for d in range(dt_start[frame], dt_start[frame + 1]):
            for g in range(gt_start[frame], gt_start[frame + 1]):
                box = dt_box[d]
                other = gt_box[g]
                distance_m[pair] = math.hypot(box[0] - other[0], box[1] - other[1])
                reach_m = (math.hypot(box[3], box[4]) + math.hypot(other[3], other[4])) / 2
                if distance_m[pair] <= reach_m:
                    shared_m2 = _shared_ground(box, other, polygon, clipped)
                    bev[pair] = _iou(shared_m2, box[3] * box[4], other[3] * other[4])
                    shared_m3 = shared_m2 * _shared_height(box, other)
                    size = box[3] * box[4] * box[5]
                    volume[pair] = _iou(shared_m3, size, other[3] * other[4] * other[5])
                pair += 1
    return bev, volume, distance_m


@compiled
def _iou(shared, size, other_size):
    if not (shared > 0 and size > 0 and other_size > 0):
        return 0.0
    return shared / (size + other_size - shared)


@compiled
def _shared_height(box, other):
    top = min(box[2] + box[5] / 2, other[2] + other[5] / 2)
    bottom = max(box[2] - box[5] / 2, other[2] - other[5] / 2)
    return max(top - bottom, 0.0)


@compiled
def _shared_ground(box, other, polygon, clipped):
    """Area in m² that two boxes share on the ground.

    The corners of ``box`` are written in the axes of ``other``, which is upright there. Then each
    of its four sides cuts off what lies beyond (Sutherland and Hodgman's clipping).
    ``polygon`` and ``clipped`` (24, 2) are memory to work in.
    """
    _write_corners(box, other, polygon)
    count = 4
    for axis in range(2):
        half = other[3 + axis] / 2
        count = _clip(polygon, count, axis, 1.0, half, clipped)
        count = _clip(clipped, count, axis, -1.0, half, polygon)
    doubled = 0.0
    for k in range(count):
        after = (k + 1) % count
        doubled += polygon[k, 0] * polygon[after, 1] - polygon[after, 0] * polygon[k, 1]
    return abs(doubled) / 2


@compiled
def _write_corners(box, other, corners):
    """Write the ground corners (4, 2) of ``box`` in the axes of ``other``, in turn."""
    cos = math.cos(other[6])
    sin = math.sin(other[6])
    x = box[0] - other[0]
    y = box[1] - other[1]
    along = x * cos + y * sin
    across = y * cos - x * sin
    turn_cos = math.cos(box[6] - other[6])
    turn_sin = math.sin(box[6] - other[6])
    for k in range(4):
        forward = box[3] / 2 if k == 0 or k == 3 else -box[3] / 2
        left = box[4] / 2 if k < 2 else -box[4] / 2
        corners[k, 0] = along + forward * turn_cos - left * turn_sin
        corners[k, 1] = across + forward * turn_sin + left * turn_cos


@compiled
def _clip(polygon, count, axis, sign, half, result):
    """Keep the part of a polygon where ``sign * coordinate <= half``; returns its corners' number.

    A convex polygon stays one: each cut adds at most one corner.
    """
    kept = 0
    for k in range(count):
        after = (k + 1) % count
        here = half - sign * polygon[k, axis]
        there = half - sign * polygon[after, axis]
        if here >= 0:
            result[kept] = polygon[k]
            kept += 1
        if (here > 0 and there < 0) or (here < 0 and there > 0):
            share = here / (here - there)
            result[kept] = polygon[k] + share * (polygon[after] - polygon[k])
            kept += 1
    return kept
