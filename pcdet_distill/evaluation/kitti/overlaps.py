"""Overlaps of every detection with every object of its own frame: image, BEV and 3D, in one pass over the frames.

The rotated overlap is the one of OpenPCDet's evaluator, which is not the one of its NMS: float32 vertices, corners on
the border count as inside, vertices sorted by a pseudo-angle, area summed in float64. Degenerate contacts give NaN,
which no threshold passes; hence numpy's error model.

Coinciding edges do not cross by its rule: a detection equal to its object to the last bit can get an overlap of 1/3 or
0. OpenPCDet's numbers have the same flaw, which real detections never meet, and are matched here including it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np

from .frames import Detections, Truth

MAX_VERTICES = 24  # 8 corners and 16 edge crossings
SLACK_M = np.float32(
    1e-3
)  # boxes whose bounding circles stay further apart than this are not clipped
ZERO = np.float32(0.0)
TWO = np.float32(2.0)


@dataclass(frozen=True)
class Overlaps:
    """Overlaps of all pairs within a frame, frame after frame.

    The pair (det, gt) of frame f is at ``start[f] + det * num_gt + gt``; ``start`` (F + 1,) int64. ``by_metric`` maps
    "bbox", "bev" and "3d" to (P,) float32. ``dontcare`` (D,) float32 is the largest share of a detection's image box
    that one DontCare region covers.
    """

    start: np.ndarray
    by_metric: dict[str, np.ndarray]
    dontcare: np.ndarray


def compute_overlaps(truth: Truth, detections: Detections) -> Overlaps:
    """All overlaps within frames: the work is linear in the number of frames."""
    pairs = np.diff(truth.start) * np.diff(detections.start)
    start = np.concatenate(([0], np.cumsum(pairs, dtype=np.int64))).astype(np.int64)
    bbox, bev, volume, dontcare = _frame_overlaps(
        truth.start,
        truth.bbox,
        truth.box,
        truth.name == "DontCare",
        detections.start,
        detections.bbox,
        detections.box.astype(np.float32),
        start,
    )
    return Overlaps(start, {"bbox": bbox, "bev": bev, "3d": volume}, dontcare)


@numba.njit(cache=True, error_model="numpy")
def _frame_overlaps(gt_start, gt_bbox, gt_box, is_dontcare, dt_start, dt_bbox, dt_box, pair_start):
    bbox = np.zeros(pair_start[-1], np.float32)
    bev = np.zeros(pair_start[-1], np.float32)
    volume = np.zeros(pair_start[-1], np.float32)
    dontcare = np.zeros(dt_start[-1], np.float32)
    gt_outline, dt_outline = np.empty((4, 2), np.float32), np.empty((4, 2), np.float32)
    vertices, order_key = (
        np.empty((MAX_VERTICES, 2), np.float32),
        np.empty(MAX_VERTICES, np.float32),
    )
    gt_flat = gt_box.astype(np.float32)
    for frame in range(len(gt_start) - 1):
        pair = pair_start[frame]
        for d in range(dt_start[frame], dt_start[frame + 1]):
            _outline(dt_box[d], dt_outline)
            for g in range(gt_start[frame], gt_start[frame + 1]):
                inner = _image_overlap(dt_bbox[d], gt_bbox[g])
                if inner > ZERO:
                    size = _image_size(dt_bbox[d])
                    bbox[pair] = inner / (size + _image_size(gt_bbox[g]) - inner)
                    if is_dontcare[g]:
                        dontcare[d] = max(dontcare[d], inner / size)
                if _circles_meet(dt_box[d], gt_flat[g]):
                    _outline(gt_flat[g], gt_outline)
                    shared = _shared_area(gt_outline, dt_outline, vertices, order_key)
                    areas = gt_flat[g, 3] * gt_flat[g, 5] + dt_box[d, 3] * dt_box[d, 5]
                    bev[pair] = shared / (areas - shared)
                    volume[pair] = _volume_iou(dt_box[d], gt_box[g], np.float32(shared))
                pair += 1
    return bbox, bev, volume, dontcare


@numba.njit(cache=True, error_model="numpy")
def _image_size(bbox):
    return (bbox[2] - bbox[0]) * (bbox[3] - bbox[1])


@numba.njit(cache=True, error_model="numpy")
def _image_overlap(bbox, other):
    width = min(bbox[2], other[2]) - max(bbox[0], other[0])
    height = min(bbox[3], other[3]) - max(bbox[1], other[1])
    return width * height if width > ZERO and height > ZERO else ZERO


@numba.njit(cache=True, error_model="numpy")
def _volume_iou(dt_box, gt_box, shared_area):
    """3D IoU from the shared ground area; boxes are x, y (down, at the bottom), z, l, h, w, rotation_y."""
    height = min(dt_box[1], gt_box[1]) - max(dt_box[1] - dt_box[4], gt_box[1] - gt_box[4])
    if not (shared_area > ZERO and height > 0):
        return 0.0
    shared = height * shared_area
    return shared / (dt_box[3] * dt_box[4] * dt_box[5] + gt_box[3] * gt_box[4] * gt_box[5] - shared)


@numba.njit(cache=True, error_model="numpy")
def _circles_meet(box, other):
    dx, dz = box[0] - other[0], box[2] - other[2]
    reach = (
        math.sqrt(box[3] * box[3] + box[5] * box[5])
        + math.sqrt(other[3] * other[3] + other[5] * other[5])
    ) / TWO
    return dx * dx + dz * dz <= (reach + SLACK_M) ** 2


@numba.njit(cache=True, error_model="numpy")
def _outline(box, outline):
    """Write the ground corners (4, 2) of a camera box, in (x, z)."""
    cos, sin = math.cos(box[6]), math.sin(box[6])
    for k in range(4):
        along = (-box[3] if k < 2 else box[3]) / TWO
        across = (-box[5] if k == 0 or k == 3 else box[5]) / TWO
        outline[k, 0] = cos * along + sin * across + box[0]
        outline[k, 1] = -sin * along + cos * across + box[2]


@numba.njit(cache=True, error_model="numpy")
def _inside(x, y, outline):
    """True when the point lies in the rectangle or on its border."""
    ab_x, ab_y = outline[1, 0] - outline[0, 0], outline[1, 1] - outline[0, 1]
    ad_x, ad_y = outline[3, 0] - outline[0, 0], outline[3, 1] - outline[0, 1]
    ap_x, ap_y = x - outline[0, 0], y - outline[0, 1]
    on_ab, on_ad = ab_x * ap_x + ab_y * ap_y, ad_x * ap_x + ad_y * ap_y
    return ZERO <= on_ab <= ab_x * ab_x + ab_y * ab_y and ZERO <= on_ad <= ad_x * ad_x + ad_y * ad_y


@numba.njit(cache=True, error_model="numpy")
def _add_crossing(a, b, c, d, vertices, count):
    """Append the crossing of the segments ab and cd, if there is one; returns the new number of vertices."""
    ba_x, ba_y = b[0] - a[0], b[1] - a[1]
    ca_x, ca_y = c[0] - a[0], c[1] - a[1]
    da_x, da_y = d[0] - a[0], d[1] - a[1]
    if (da_y * ca_x > ca_y * da_x) == (
        (d[1] - b[1]) * (c[0] - b[0]) > (c[1] - b[1]) * (d[0] - b[0])
    ):
        return count
    if (ca_y * ba_x > ba_y * ca_x) == (da_y * ba_x > ba_y * da_x):
        return count
    dc_x, dc_y = d[0] - c[0], d[1] - c[1]
    line_ab, line_cd = a[0] * b[1] - b[0] * a[1], c[0] * d[1] - d[0] * c[1]
    scale = ba_y * dc_x - ba_x * dc_y
    vertices[count, 0] = (line_ab * dc_x - ba_x * line_cd) / scale
    vertices[count, 1] = (line_ab * dc_y - ba_y * line_cd) / scale
    return count + 1


@numba.njit(cache=True, error_model="numpy")
def _sort_around_mean(vertices, count, order_key):
    mean_x, mean_y = ZERO, ZERO
    for k in range(count):
        mean_x += vertices[k, 0]
        mean_y += vertices[k, 1]
    mean_x, mean_y = np.float32(mean_x / count), np.float32(mean_y / count)
    for k in range(count):
        x, y = vertices[k, 0], vertices[k, 1]
        dx, dy = x - mean_x, y - mean_y
        key = dx / math.sqrt(dx * dx + dy * dy)
        if dy < ZERO:
            key = -TWO - key
        slot = k
        while slot > 0 and order_key[slot - 1] > key:
            order_key[slot] = order_key[slot - 1]
            vertices[slot, 0], vertices[slot, 1] = vertices[slot - 1, 0], vertices[slot - 1, 1]
            slot -= 1
        order_key[slot], vertices[slot, 0], vertices[slot, 1] = key, x, y


@numba.njit(cache=True, error_model="numpy")
def _shared_area(outline_a, outline_b, vertices, order_key):
    """Overlap area (float64) of two rectangles (4, 2); ``vertices`` (24, 2) and ``order_key`` (24,) are scratch."""
    count = 0
    for k in range(4):
        if _inside(outline_a[k, 0], outline_a[k, 1], outline_b):
            vertices[count, 0], vertices[count, 1] = outline_a[k, 0], outline_a[k, 1]
            count += 1
        if _inside(outline_b[k, 0], outline_b[k, 1], outline_a):
            vertices[count, 0], vertices[count, 1] = outline_b[k, 0], outline_b[k, 1]
            count += 1
    for i in range(4):
        for j in range(4):
            count = _add_crossing(
                outline_a[i],
                outline_a[(i + 1) % 4],
                outline_b[j],
                outline_b[(j + 1) % 4],
                vertices,
                count,
            )
    if count < 3:
        return 0.0
    _sort_around_mean(vertices, count, order_key)
    area = 0.0
    for k in range(1, count - 1):
        twice = (vertices[0, 0] - vertices[k + 1, 0]) * (vertices[k, 1] - vertices[k + 1, 1]) - (
            vertices[0, 1] - vertices[k + 1, 1]
        ) * (vertices[k, 0] - vertices[k + 1, 0])
        area += abs(twice / 2.0)
    return area
