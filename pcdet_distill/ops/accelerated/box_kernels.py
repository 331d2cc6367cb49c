"""Numba kernels for boxes on the CPU: rotated overlap, greedy NMS, aligned IoU, points in boxes.

The rotated overlap is the one of OpenPCDet's ``iou3d_nms``, in float32. The vertices of the common
polygon are the crossings of the two outlines and the corners that lie in the other box. A corner
counts as inside within a margin of 1 cm. The vertices are sorted by angle around their mean, and
the area is that of a fan of triangles over them. Because of the margin the area differs from exact
clipping by up to about 1e-3 for cars. The margin stays because published weights and goldens depend
on it.

Kernels are single-threaded, so the result does not depend on the number of threads.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np

MARGIN_M = np.float32(1e-2)
MIN_UNION_M2 = np.float32(1e-8)
ZERO = np.float32(0.0)
HALF = np.float32(0.5)
TWO = np.float32(2.0)
MAX_VERTICES = 24  # 16 edge crossings and 8 corners

Point = tuple[float, float]


class Outlines(NamedTuple):
    """Boxes with what the overlap needs of each.

    Attributes:
        boxes: (N, 7) float32.
        corners: (N, 4, 2) float32 in the bird's eye view, in turn around the box.
        turn: (N, 2) float32 cosine and sine of the heading.
        reach: (N,) float32 radius of the circle around the corners, with a margin.
    """

    boxes: np.ndarray
    corners: np.ndarray
    turn: np.ndarray
    reach: np.ndarray


class Polygon(NamedTuple):
    """Scratch memory for the common polygon of two boxes.

    Attributes:
        vertices: (24, 2) float32.
        order_key: (24,) float32, by which the vertices are sorted.
    """

    vertices: np.ndarray
    order_key: np.ndarray


@numba.njit(cache=True)
def _empty_polygon() -> Polygon:
    return Polygon(np.empty((MAX_VERTICES, 2), np.float32), np.empty(MAX_VERTICES, np.float32))


@numba.njit(cache=True)
def _outlines(boxes: np.ndarray) -> Outlines:
    """Outlines of boxes (N, 7) float32."""
    count = boxes.shape[0]
    corners = np.empty((count, 4, 2), np.float32)
    turn = np.empty((count, 2), np.float32)
    reach = np.empty(count, np.float32)
    for n in range(count):
        x = boxes[n, 0]
        y = boxes[n, 1]
        half_x = boxes[n, 3] * HALF
        half_y = boxes[n, 4] * HALF
        cos = math.cos(boxes[n, 6])
        sin = math.sin(boxes[n, 6])
        turn[n, 0] = cos
        turn[n, 1] = sin
        reach[n] = math.sqrt(half_x * half_x + half_y * half_y) + TWO * MARGIN_M
        for k in range(4):
            # Adding and subtracting the centre copies the rounding of the reference, which decides
            # the overlap of nearly identical boxes.
            corner_x = x + half_x if k == 1 or k == 2 else x - half_x
            corner_y = y + half_y if k >= 2 else y - half_y
            local_x = corner_x - x
            local_y = corner_y - y
            corners[n, k, 0] = local_x * cos - local_y * sin + x
            corners[n, k, 1] = local_x * sin + local_y * cos + y
    return Outlines(boxes, corners, turn, reach)


@numba.njit(cache=True)
def _point(points: np.ndarray, k: int) -> Point:
    """Row k of points (n, 2)."""
    return points[k, 0], points[k, 1]


@numba.njit(cache=True)
def _side(point: Point, other: Point, origin: Point) -> float:
    """Twice the signed area of the triangle (origin, point, other)."""
    return (point[0] - origin[0]) * (other[1] - origin[1]) - (other[0] - origin[0]) * (
        point[1] - origin[1]
    )


@numba.njit(cache=True)
def _inside(point: Point, outlines: Outlines, n: int) -> bool:
    """Whether the point lies in box n enlarged by the margin."""
    boxes = outlines.boxes
    cos, sin = _point(outlines.turn, n)
    dx = point[0] - boxes[n, 0]
    dy = point[1] - boxes[n, 1]
    local_x = dx * cos + dy * sin
    local_y = dy * cos - dx * sin
    reach_x = boxes[n, 3] * HALF + MARGIN_M
    reach_y = boxes[n, 4] * HALF + MARGIN_M
    return abs(local_x) < reach_x and abs(local_y) < reach_y


@numba.njit(cache=True)
def _add_crossings(corners_a: np.ndarray, corners_b: np.ndarray, vertices: np.ndarray) -> int:
    """Write the crossings of two outlines (4, 2) to ``vertices``; returns how many there are.

    Two edges cross when the ends of each lie on different sides of the other.
    """
    count = 0
    for i in range(4):
        start_a = _point(corners_a, i)
        end_a = _point(corners_a, (i + 1) % 4)
        for j in range(4):
            start_b = _point(corners_b, j)
            end_b = _point(corners_b, (j + 1) % 4)
            from_start = _side(start_b, end_a, start_a)
            from_end = _side(end_a, end_b, start_a)
            if not from_start * from_end > ZERO:
                continue
            if not _side(start_a, end_b, start_b) * _side(end_b, end_a, start_b) > ZERO:
                continue
            # The crossing divides edge b in the ratio of the distances of its ends from edge a.
            weight = from_start + from_end
            vertices[count, 0] = (from_end * start_b[0] + from_start * end_b[0]) / weight
            vertices[count, 1] = (from_end * start_b[1] + from_start * end_b[1]) / weight
            count += 1
    return count


@numba.njit(cache=True)
def _add_corners_inside(
    a: Outlines, i: int, b: Outlines, j: int, vertices: np.ndarray, count: int
) -> int:
    """Add the corners of box i and box j that lie in the other one to the first ``count`` vertices.

    Returns the new count.
    """
    for k in range(4):
        corner = b.corners[j, k, 0], b.corners[j, k, 1]
        if _inside(corner, a, i):
            vertices[count, 0], vertices[count, 1] = corner
            count += 1
        corner = a.corners[i, k, 0], a.corners[i, k, 1]
        if _inside(corner, b, j):
            vertices[count, 0], vertices[count, 1] = corner
            count += 1
    return count


@numba.njit(cache=True)
def _direction(dx: float, dy: float) -> float:
    """A number in [-2, 2] that grows with ``atan2(dy, dx)`` and is cheaper to compute."""
    length = abs(dx) + abs(dy)
    sine = dy / length if length > ZERO else ZERO
    if dx >= ZERO:
        return sine
    half_turn = TWO if dy >= ZERO else -TWO
    return half_turn - sine


@numba.njit(cache=True)
def insert_vertex(
    vertices: np.ndarray, order_key: np.ndarray, count: int, key: float, x: float, y: float
) -> None:
    """Put a vertex in its place among the first ``count``, which are sorted by their keys."""
    slot = count
    while slot > 0 and order_key[slot - 1] > key:
        order_key[slot] = order_key[slot - 1]
        vertices[slot, 0] = vertices[slot - 1, 0]
        vertices[slot, 1] = vertices[slot - 1, 1]
        slot -= 1
    order_key[slot] = key
    vertices[slot, 0] = x
    vertices[slot, 1] = y


@numba.njit(cache=True)
def _sort_vertices(polygon: Polygon, count: int) -> None:
    """Sort the first ``count`` vertices by their angle around their mean (insertion sort)."""
    vertices = polygon.vertices
    order_key = polygon.order_key
    mean_x = ZERO
    mean_y = ZERO
    for k in range(count):
        mean_x += vertices[k, 0]
        mean_y += vertices[k, 1]
    mean_x /= np.float32(count)
    mean_y /= np.float32(count)
    for k in range(count):
        x = vertices[k, 0]
        y = vertices[k, 1]
        key = _direction(x - mean_x, y - mean_y)
        insert_vertex(vertices, order_key, k, key, x, y)


@numba.njit(cache=True)
def _fan_area(vertices: np.ndarray, count: int) -> float:
    """Area of a convex polygon from the triangles between its first vertex and each edge."""
    first = _point(vertices, 0)
    twice = ZERO
    for k in range(1, count - 1):
        twice += _side(_point(vertices, k), _point(vertices, k + 1), first)
    return abs(twice) * HALF


@numba.njit(cache=True)
def _may_overlap(a: Outlines, i: int, b: Outlines, j: int) -> bool:
    """Whether the circles around box i and box j meet."""
    dx = a.boxes[i, 0] - b.boxes[j, 0]
    dy = a.boxes[i, 1] - b.boxes[j, 1]
    near = a.reach[i] + b.reach[j]
    return not dx * dx + dy * dy > near * near


@numba.njit(cache=True)
def _overlap(a: Outlines, i: int, b: Outlines, j: int, polygon: Polygon) -> float:
    """Overlap area of box i and box j."""
    vertices = polygon.vertices
    count = _add_crossings(a.corners[i], b.corners[j], vertices)
    count = _add_corners_inside(a, i, b, j, vertices, count)
    if count <= 2:
        return ZERO
    _sort_vertices(polygon, count)
    return _fan_area(vertices, count)


@numba.njit(cache=True)
def rotated_overlaps(boxes_a: np.ndarray, boxes_b: np.ndarray) -> np.ndarray:
    """BEV overlap areas (N, M) float32 of boxes (N, 7) and (M, 7) float32, both C-contiguous."""
    outlines_a = _outlines(boxes_a)
    outlines_b = _outlines(boxes_b)
    polygon = _empty_polygon()
    areas = np.zeros((boxes_a.shape[0], boxes_b.shape[0]), np.float32)
    for i in range(boxes_a.shape[0]):
        for j in range(boxes_b.shape[0]):
            if _may_overlap(outlines_a, i, outlines_b, j):
                areas[i, j] = _overlap(outlines_a, i, outlines_b, j, polygon)
    return areas


@numba.njit(cache=True)
def _aligned_overlap(box_a: np.ndarray, box_b: np.ndarray) -> float:
    """BEV overlap area of two boxes (7,) whose headings are ignored."""
    left = max(box_a[0] - box_a[3] * HALF, box_b[0] - box_b[3] * HALF)
    right = min(box_a[0] + box_a[3] * HALF, box_b[0] + box_b[3] * HALF)
    low = max(box_a[1] - box_a[4] * HALF, box_b[1] - box_b[4] * HALF)
    high = min(box_a[1] + box_a[4] * HALF, box_b[1] + box_b[4] * HALF)
    return max(right - left, ZERO) * max(high - low, ZERO)


@numba.njit(cache=True)
def _suppress_later(
    outlines: Outlines,
    i: int,
    thresh: float,
    rotated: bool,
    polygon: Polygon,
    suppressed: np.ndarray,
) -> None:
    """Mark in ``suppressed`` (N,) bool the boxes after box i with an IoU above ``thresh``."""
    boxes = outlines.boxes
    area = boxes[i, 3] * boxes[i, 4]
    for j in range(i + 1, boxes.shape[0]):
        if suppressed[j] or not _may_overlap(outlines, i, outlines, j):
            continue
        if rotated:
            overlap = _overlap(outlines, i, outlines, j, polygon)
        else:
            overlap = _aligned_overlap(boxes[i], boxes[j])
        union = max(area + boxes[j, 3] * boxes[j, 4] - overlap, MIN_UNION_M2)
        suppressed[j] = overlap / union > thresh


@numba.njit(cache=True)
def greedy_nms(boxes: np.ndarray, thresh: float, rotated: bool, max_kept: int) -> np.ndarray:
    """Indices (K,) int64 that greedy NMS keeps.

    Args:
        boxes: (N, 7) float32, sorted by falling score.
        thresh: float32; a box is dropped when its IoU with a kept one is above it.
        rotated: by rotated IoU, or else with the headings ignored.
        max_kept: boxes kept at most.
    """
    outlines = _outlines(boxes)
    polygon = _empty_polygon()
    suppressed = np.zeros(boxes.shape[0], np.bool_)
    kept = np.empty(min(boxes.shape[0], max_kept), np.int64)
    count = 0
    for i in range(boxes.shape[0]):
        if suppressed[i]:
            continue
        if count == kept.shape[0]:
            break
        kept[count] = i
        count += 1
        _suppress_later(outlines, i, thresh, rotated, polygon, suppressed)
    return kept[:count]


@numba.njit(cache=True)
def _smaller(a: float, b: float) -> float:
    """``min`` without its rules for NaN, which keep the compiler from vectorising a loop."""
    return a if a < b else b


@numba.njit(cache=True)
def _larger(a: float, b: float) -> float:
    """``max`` without its rules for NaN."""
    return a if a > b else b


@numba.njit(cache=True)
def aligned_iou(rects_a: np.ndarray, rects_b: np.ndarray, min_union: float) -> np.ndarray:
    """IoU (N, M) float32 of axis-aligned rectangles given by x1, y1, x2, y2.

    Args:
        rects_a: (N, 4) float32.
        rects_b: (4, M) float32, transposed: the inner loop then runs over contiguous memory.
        min_union: a smaller union counts as so many square metres.
    """
    left, low, right, high = rects_b[0], rects_b[1], rects_b[2], rects_b[3]
    area_b = (right - left) * (high - low)
    iou = np.empty((rects_a.shape[0], rects_b.shape[1]), np.float32)
    for i in range(rects_a.shape[0]):
        x1, y1, x2, y2 = rects_a[i, 0], rects_a[i, 1], rects_a[i, 2], rects_a[i, 3]
        area = (x2 - x1) * (y2 - y1)
        row = iou[i]
        for j in range(row.shape[0]):
            width = _smaller(x2, right[j]) - _larger(x1, left[j])
            height = _smaller(y2, high[j]) - _larger(y1, low[j])
            inner = _larger(width, ZERO) * _larger(height, ZERO)
            union = area + area_b[j] - inner
            row[j] = inner / _larger(union, min_union)
    return iou


@numba.njit(cache=True)
def points_in_boxes(points: np.ndarray, boxes: np.ndarray, margin: float) -> np.ndarray:
    """Mask (T, N) uint8 of points (N, 3) float32 in boxes (T, 7) float32.

    Heights are inclusive; x and y are strict, with ``margin`` metres around the box.
    """
    mask = np.zeros((boxes.shape[0], points.shape[0]), np.uint8)
    for t in range(boxes.shape[0]):
        x, y, z = boxes[t, 0], boxes[t, 1], boxes[t, 2]
        half_x = boxes[t, 3] * HALF + margin
        half_y = boxes[t, 4] * HALF + margin
        half_z = boxes[t, 5] * HALF
        cos = math.cos(boxes[t, 6])
        sin = math.sin(boxes[t, 6])
        for n in range(points.shape[0]):
            if abs(points[n, 2] - z) > half_z:
                continue
            dx = points[n, 0] - x
            dy = points[n, 1] - y
            if abs(dx * cos + dy * sin) < half_x and abs(dy * cos - dx * sin) < half_y:
                mask[t, n] = 1
    return mask
