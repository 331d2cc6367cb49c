"""Exact BEV overlap of rotated boxes in float64 by Sutherland-Hodgman clipping."""

from __future__ import annotations

import math

import numpy as np

Polygon = list[tuple[float, float]]


def outline(box: np.ndarray) -> Polygon:
    """Corners of a box (7,) counter the clock."""
    x, y, _, dx, dy, _, heading = (float(value) for value in box)
    cos, sin = math.cos(heading), math.sin(heading)
    return [
        (x + u * cos - v * sin, y + u * sin + v * cos)
        for u, v in ((-dx / 2, -dy / 2), (dx / 2, -dy / 2), (dx / 2, dy / 2), (-dx / 2, dy / 2))
    ]


def clip(subject: Polygon, start: tuple[float, float], end: tuple[float, float]) -> Polygon:
    """The part of a polygon on the left of the line from ``start`` to ``end``."""

    def left_by(point: tuple[float, float]) -> float:
        return (end[0] - start[0]) * (point[1] - start[1]) - (end[1] - start[1]) * (
            point[0] - start[0]
        )

    result: Polygon = []
    for here, there in zip(subject, subject[1:] + subject[:1]):
        a, b = left_by(here), left_by(there)
        if a >= 0:
            result.append(here)
        if (a > 0 > b) or (a < 0 < b):
            share = a / (a - b)
            result.append(
                (here[0] + share * (there[0] - here[0]), here[1] + share * (there[1] - here[1]))
            )
    return result


def area(polygon: Polygon) -> float:
    return sum(p[0] * q[1] - q[0] * p[1] for p, q in zip(polygon, polygon[1:] + polygon[:1])) / 2


def overlap(box_a: np.ndarray, box_b: np.ndarray) -> float:
    polygon, window = outline(box_a), outline(box_b)
    for start, end in zip(window, window[1:] + window[:1]):
        polygon = clip(polygon, start, end) if polygon else polygon
    return area(polygon) if polygon else 0.0


def iou_bev(box_a: np.ndarray, box_b: np.ndarray) -> float:
    shared = overlap(box_a, box_b)
    return shared / (float(box_a[3] * box_a[4]) + float(box_b[3] * box_b[4]) - shared)


def iou_matrix(boxes_a: np.ndarray, boxes_b: np.ndarray) -> np.ndarray:
    values = [iou_bev(a, b) for a in boxes_a for b in boxes_b]
    return np.array(values).reshape(len(boxes_a), len(boxes_b))
