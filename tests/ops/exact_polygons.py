"""Exact BEV overlap of rotated boxes in float64, by Sutherland-Hodgman clipping.

Shares no code with the package, so that tests can compare against it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

Point = tuple[float, float]
Polygon = list[Point]


def outline(box: np.ndarray) -> Polygon:
    """Corners of a box (7,), counterclockwise."""
    x, y, _, dx, dy, _, heading = (float(value) for value in box)
    cos = math.cos(heading)
    sin = math.sin(heading)
    half_x = dx / 2
    half_y = dy / 2
    local = ((-half_x, -half_y), (half_x, -half_y), (half_x, half_y), (-half_x, half_y))
    corners = []
    for along, across in local:
        corner_x = x + along * cos - across * sin
        corner_y = y + along * sin + across * cos
        corners.append((corner_x, corner_y))
    return corners


def clip(subject: Polygon, start: Point, end: Point) -> Polygon:
    """The part of a polygon on the left of the line from ``start`` to ``end``."""

    def distance_to_left(point: Point) -> float:
        """Times the length of the line; negative on its right."""
        line_x = end[0] - start[0]
        line_y = end[1] - start[1]
        return line_x * (point[1] - start[1]) - line_y * (point[0] - start[0])

    clipped: Polygon = []
    for vertex, following in edges(subject):
        distance = distance_to_left(vertex)
        following_distance = distance_to_left(following)
        if distance >= 0:
            clipped.append(vertex)
        if distance * following_distance < 0:  # the edge crosses the line
            share = distance / (distance - following_distance)
            x = vertex[0] + share * (following[0] - vertex[0])
            y = vertex[1] + share * (following[1] - vertex[1])
            clipped.append((x, y))
    return clipped


def edges(polygon: Polygon) -> list[tuple[Point, Point]]:
    """Start and end of every edge."""
    return list(zip(polygon, polygon[1:] + polygon[:1]))


def area(polygon: Polygon) -> float:
    """Shoelace formula."""
    doubled = 0.0
    for (start_x, start_y), (end_x, end_y) in edges(polygon):
        doubled += start_x * end_y - end_x * start_y
    return doubled / 2


def overlap(box_a: np.ndarray, box_b: np.ndarray) -> float:
    polygon = outline(box_a)
    for start, end in edges(outline(box_b)):
        polygon = clip(polygon, start, end)
    return area(polygon)


def iou_bev(box_a: np.ndarray, box_b: np.ndarray) -> float:
    shared = overlap(box_a, box_b)
    area_a = float(box_a[3] * box_a[4])
    area_b = float(box_b[3] * box_b[4])
    return shared / (area_a + area_b - shared)


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
