"""Numba kernels for boxes on the CPU: rotated overlap, greedy NMS, axis-aligned IoU, points in boxes.

The rotated overlap is the one of OpenPCDet's ``iou3d_nms``: float32, a corner belongs to the other box within a margin
of 1 cm, and the area is a fan over the vertices sorted around their mean. The margin makes it differ from exact
clipping by up to about 1e-3 for cars; it is kept because published weights and goldens were made with it.

Kernels are single-threaded, so the answer does not depend on the number of threads.
"""

from __future__ import annotations

import math

import numba
import numpy as np

MARGIN_M = np.float32(1e-2)
MIN_UNION_M2 = np.float32(1e-8)
ZERO = np.float32(0.0)
HALF = np.float32(0.5)
TWO = np.float32(2.0)
MAX_VERTICES = 24  # 16 edge crossings and 8 corners


@numba.njit(cache=True)
def _outlines(boxes):
    """BEV corners (N, 4, 2), (cos, sin) (N, 2) and bounding-circle radius with margin (N,) of boxes (N, 7)."""
    count = boxes.shape[0]
    corners = np.empty((count, 4, 2), np.float32)
    turn = np.empty((count, 2), np.float32)
    reach = np.empty(count, np.float32)
    for n in range(count):
        x, y, half_x, half_y = boxes[n, 0], boxes[n, 1], boxes[n, 3] * HALF, boxes[n, 4] * HALF
        cos, sin = math.cos(boxes[n, 6]), math.sin(boxes[n, 6])
        turn[n, 0], turn[n, 1] = cos, sin
        reach[n] = math.sqrt(half_x * half_x + half_y * half_y) + TWO * MARGIN_M
        for k in range(4):
            # The detour over absolute coordinates copies the reference's rounding, which decides near-identical boxes.
            local_x = (x + half_x if k == 1 or k == 2 else x - half_x) - x
            local_y = (y + half_y if k >= 2 else y - half_y) - y
            corners[n, k, 0] = local_x * cos - local_y * sin + x
            corners[n, k, 1] = local_x * sin + local_y * cos + y
    return corners, turn, reach


@numba.njit(cache=True)
def _side(px, py, qx, qy, ox, oy):
    """Twice the signed area of the triangle (o, p, q)."""
    return (px - ox) * (qy - oy) - (qx - ox) * (py - oy)


@numba.njit(cache=True)
def _inside(px, py, box, turn):
    """True when the point lies in the box enlarged by the margin."""
    dx, dy = px - box[0], py - box[1]
    local_x = dx * turn[0] + dy * turn[1]
    local_y = dy * turn[0] - dx * turn[1]
    return abs(local_x) < box[3] * HALF + MARGIN_M and abs(local_y) < box[4] * HALF + MARGIN_M


@numba.njit(cache=True)
def _add_crossings(corners_a, corners_b, vertices):
    """Write the proper crossings of the two outlines (4, 2) into ``vertices``; returns how many there are."""
    count = 0
    for i in range(4):
        ax, ay = corners_a[i, 0], corners_a[i, 1]
        nx, ny = corners_a[(i + 1) % 4, 0], corners_a[(i + 1) % 4, 1]
        for j in range(4):
            bx, by = corners_b[j, 0], corners_b[j, 1]
            mx, my = corners_b[(j + 1) % 4, 0], corners_b[(j + 1) % 4, 1]
            from_start = _side(bx, by, nx, ny, ax, ay)
            from_end = _side(nx, ny, mx, my, ax, ay)
            if not from_start * from_end > ZERO:
                continue
            if not _side(ax, ay, mx, my, bx, by) * _side(mx, my, nx, ny, bx, by) > ZERO:
                continue
            weight = from_start + from_end
            vertices[count, 0] = (from_end * bx + from_start * mx) / weight
            vertices[count, 1] = (from_end * by + from_start * my) / weight
            count += 1
    return count


@numba.njit(cache=True)
def _fan_area(vertices, count, order_key):
    """Area of the convex polygon whose ``count`` vertices come in any order (they are sorted in place)."""
    mean_x, mean_y = ZERO, ZERO
    for k in range(count):
        mean_x += vertices[k, 0]
        mean_y += vertices[k, 1]
    mean_x /= np.float32(count)
    mean_y /= np.float32(count)
    for k in range(count):
        dx, dy = vertices[k, 0] - mean_x, vertices[k, 1] - mean_y
        length = abs(dx) + abs(dy)
        key = dy / length if length > ZERO else ZERO  # grows with atan2, without its cost
        if dx < ZERO:
            key = (TWO if dy >= ZERO else -TWO) - key
        x, y = vertices[k, 0], vertices[k, 1]
        slot = k
        while slot > 0 and order_key[slot - 1] > key:
            order_key[slot] = order_key[slot - 1]
            vertices[slot, 0], vertices[slot, 1] = vertices[slot - 1, 0], vertices[slot - 1, 1]
            slot -= 1
        order_key[slot], vertices[slot, 0], vertices[slot, 1] = key, x, y
    twice = ZERO
    for k in range(1, count - 1):
        twice += _side(
            vertices[k, 0],
            vertices[k, 1],
            vertices[k + 1, 0],
            vertices[k + 1, 1],
            vertices[0, 0],
            vertices[0, 1],
        )
    return abs(twice) * HALF


@numba.njit(cache=True)
def _overlap(box_a, corners_a, turn_a, box_b, corners_b, turn_b, vertices, order_key):
    """Overlap area of two boxes from their outlines; ``vertices`` (24, 2) and ``order_key`` (24,) are scratch."""
    count = _add_crossings(corners_a, corners_b, vertices)
    for k in range(4):
        if _inside(corners_b[k, 0], corners_b[k, 1], box_a, turn_a):
            vertices[count, 0], vertices[count, 1] = corners_b[k, 0], corners_b[k, 1]
            count += 1
        if _inside(corners_a[k, 0], corners_a[k, 1], box_b, turn_b):
            vertices[count, 0], vertices[count, 1] = corners_a[k, 0], corners_a[k, 1]
            count += 1
    return _fan_area(vertices, count, order_key) if count > 2 else ZERO


@numba.njit(cache=True)
def rotated_overlaps(boxes_a, boxes_b):
    """BEV overlap areas (N, M) float32 of boxes (N, 7) and (M, 7) float32, both C-contiguous."""
    corners_a, turn_a, reach_a = _outlines(boxes_a)
    corners_b, turn_b, reach_b = _outlines(boxes_b)
    vertices = np.empty((MAX_VERTICES, 2), np.float32)
    order_key = np.empty(MAX_VERTICES, np.float32)
    areas = np.zeros((boxes_a.shape[0], boxes_b.shape[0]), np.float32)
    for i in range(boxes_a.shape[0]):
        for j in range(boxes_b.shape[0]):
            dx, dy, near = (
                boxes_a[i, 0] - boxes_b[j, 0],
                boxes_a[i, 1] - boxes_b[j, 1],
                reach_a[i] + reach_b[j],
            )
            if dx * dx + dy * dy > near * near:
                continue
            areas[i, j] = _overlap(
                boxes_a[i],
                corners_a[i],
                turn_a[i],
                boxes_b[j],
                corners_b[j],
                turn_b[j],
                vertices,
                order_key,
            )
    return areas


@numba.njit(cache=True)
def _aligned_overlap(box_a, box_b):
    """BEV overlap area of two boxes whose heading is ignored."""
    width = min(box_a[0] + box_a[3] * HALF, box_b[0] + box_b[3] * HALF) - max(
        box_a[0] - box_a[3] * HALF, box_b[0] - box_b[3] * HALF
    )
    height = min(box_a[1] + box_a[4] * HALF, box_b[1] + box_b[4] * HALF) - max(
        box_a[1] - box_a[4] * HALF, box_b[1] - box_b[4] * HALF
    )
    return max(width, ZERO) * max(height, ZERO)


@numba.njit(cache=True)
def greedy_nms(boxes, thresh, rotated, max_kept):
    """Indices (K,) int64 kept by greedy NMS over boxes (N, 7) float32 that are sorted by falling score.

    A box goes when its IoU with a kept one is above ``thresh`` (float32); at most ``max_kept`` boxes are kept.
    """
    count = boxes.shape[0]
    corners, turn, reach = _outlines(boxes)
    vertices = np.empty((MAX_VERTICES, 2), np.float32)
    order_key = np.empty(MAX_VERTICES, np.float32)
    suppressed = np.zeros(count, np.bool_)
    kept = np.empty(min(count, max_kept), np.int64)
    found = 0
    for i in range(count):
        if suppressed[i]:
            continue
        if found == kept.shape[0]:
            break
        kept[found] = i
        found += 1
        area = boxes[i, 3] * boxes[i, 4]
        for j in range(i + 1, count):
            if suppressed[j]:
                continue
            dx, dy, near = boxes[i, 0] - boxes[j, 0], boxes[i, 1] - boxes[j, 1], reach[i] + reach[j]
            if dx * dx + dy * dy > near * near:
                continue
            if rotated:
                overlap = _overlap(
                    boxes[i],
                    corners[i],
                    turn[i],
                    boxes[j],
                    corners[j],
                    turn[j],
                    vertices,
                    order_key,
                )
            else:
                overlap = _aligned_overlap(boxes[i], boxes[j])
            union = max(area + boxes[j, 3] * boxes[j, 4] - overlap, MIN_UNION_M2)
            suppressed[j] = overlap / union > thresh
    return kept[:found]


@numba.njit(cache=True)
def aligned_iou(rects_a, rects_b, min_union):
    """IoU (N, M) float32 of axis-aligned rectangles (N, 4) and (4, M) float32 as x1, y1, x2, y2; mind the transpose."""
    left, low, right, high = rects_b[0], rects_b[1], rects_b[2], rects_b[3]
    area_b = (right - left) * (high - low)
    iou = np.empty((rects_a.shape[0], rects_b.shape[1]), np.float32)
    for i in range(rects_a.shape[0]):
        x1, y1, x2, y2 = rects_a[i, 0], rects_a[i, 1], rects_a[i, 2], rects_a[i, 3]
        area = (x2 - x1) * (y2 - y1)
        row = iou[i]
        for j in range(row.shape[0]):
            width = (x2 if x2 < right[j] else right[j]) - (x1 if x1 > left[j] else left[j])
            height = (y2 if y2 < high[j] else high[j]) - (y1 if y1 > low[j] else low[j])
            inner = (width if width > ZERO else ZERO) * (height if height > ZERO else ZERO)
            union = area + area_b[j] - inner
            row[j] = inner / (union if union > min_union else min_union)
    return iou


@numba.njit(cache=True)
def points_in_boxes(points, boxes, margin):
    """Mask (T, N) uint8 of points (N, 3) float32 in boxes (T, 7) float32: z inclusive, x and y strict with margin."""
    mask = np.zeros((boxes.shape[0], points.shape[0]), np.uint8)
    for t in range(boxes.shape[0]):
        x, y, z = boxes[t, 0], boxes[t, 1], boxes[t, 2]
        half_x, half_y, half_z = (
            boxes[t, 3] * HALF + margin,
            boxes[t, 4] * HALF + margin,
            boxes[t, 5] * HALF,
        )
        cos, sin = math.cos(boxes[t, 6]), math.sin(boxes[t, 6])
        for n in range(points.shape[0]):
            if abs(points[n, 2] - z) > half_z:
                continue
            dx, dy = points[n, 0] - x, points[n, 1] - y
            if abs(dx * cos + dy * sin) < half_x and abs(dy * cos - dx * sin) < half_y:
                mask[t, n] = 1
    return mask
