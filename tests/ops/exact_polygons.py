"""Exact BEV overlap of rotated boxes in float64, by Sutherland-Hodgman clipping.

Shares no code with the package, so that tests can compare against it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

Polygon = list[tuple[float, float]]


def outline(box: np.ndarray) -> Polygon:
    """Corners of a box (7,), counterclockwise."""
    x, y, _, dx, dy, _, heading = (float(value) for value in box)
    cos = math.cos(heading)
    sin = math.sin(heading)
    half_x = dx / 2
    half_y = dy / 2
    local = ((-half_x, -half_y), (half_x, -half_y), (half_x, half_y), (-half_x, half_y))
    return [(x + u * cos - v * sin, y + u * sin + v * cos) for u, v in local]


def clip(subject: Polygon, start: tuple[float, float], end: tuple[float, float]) -> Polygon:
    """The part of a polygon on the left of the line from ``start`` to ``end``."""

    def distance_to_left(point: tuple[float, float]) -> float:
        """Up to the length of the line."""
        along_x = end[0] - start[0]
        along_y = end[1] - start[1]
        return along_x * (point[1] - start[1]) - along_y * (point[0] - start[0])

    result: Polygon = []
    for vertex, following in edges(subject):
        a = distance_to_left(vertex)
        b = distance_to_left(following)
        if a >= 0:
            result.append(vertex)
        if (a > 0 > b) or (a < 0 < b):
            share = a / (a - b)
            x = vertex[0] + share * (following[0] - vertex[0])
            y = vertex[1] + share * (following[1] - vertex[1])
            result.append((x, y))
    return result


def edges(polygon: Polygon) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Start and end of every edge."""
    return list(zip(polygon, polygon[1:] + polygon[:1]))


def area(polygon: Polygon) -> float:
    """Shoelace formula."""
    return sum(p[0] * q[1] - q[0] * p[1] for p, q in edges(polygon)) / 2


def overlap(box_a: np.ndarray, box_b: np.ndarray) -> float:
    polygon = outline(box_a)
    for start, end in edges(outline(box_b)):
        polygon = clip(polygon, start, end) if polygon else polygon
    return area(polygon) if polygon else 0.0


def iou_bev(box_a: np.ndarray, box_b: np.ndarray) -> float:
    shared = overlap(box_a, box_b)
    return shared / (float(box_a[3] * box_a[4]) + float(box_b[3] * box_b[4]) - shared)


def iou_matrix(boxes_a: np.ndarray, boxes_b: np.ndarray) -> np.ndarray:
    return matrix(iou_bev, boxes_a, boxes_b)


def overlap_matrix(boxes_a: np.ndarray, boxes_b: np.ndarray) -> np.ndarray:
    return matrix(overlap, boxes_a, boxes_b)


def matrix(
    measure: Callable[[np.ndarray, np.ndarray], float], boxes_a: np.ndarray, boxes_b: np.ndarray
) -> np.ndarray:
    """The measure (N, M) of all pairs of boxes (N, 7) and (M, 7)."""
    values = np.zeros((len(boxes_a), len(boxes_b)))
    for row, box_a in enumerate(boxes_a):
        for column, box_b in enumerate(boxes_b):
            values[row, column] = measure(box_a, box_b)
    return values
