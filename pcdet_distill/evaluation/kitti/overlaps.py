"""Overlaps of every detection with every object of its own frame: image, BEV and 3D, in one pass.

The rotated overlap is the one of OpenPCDet's evaluator, which is not the one of its NMS: float32
corners, corners on the border count as inside, corners of the intersection sorted by a
pseudo-angle, area summed in float64. Degenerate contacts give NaN, which exceeds no threshold; so
numba needs numpy's error model, which divides by zero without an exception.

Edges that coincide do not cross by its rule: a detection equal to its object to the last bit can
get an overlap of 1/3 or 0. OpenPCDet's numbers have this flaw too, and are matched here with it.
Real detections never equal an object to the last bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np

from ...ops.accelerated.box_kernels import insert_vertex
from .frames import Detections, Truth

MAX_CORNERS = 24  # of an intersection: 8 corners of the boxes and 16 crossings of their edges
SLACK_M = np.float32(1e-3)  # boxes whose bounding circles are further apart do not overlap
ZERO = np.float32(0.0)
TWO = np.float32(2.0)

compiled = numba.njit(cache=True, error_model="numpy")


@dataclass(frozen=True)
class Overlaps:
    """Overlaps of all pairs within a frame, frame after frame.

    Attributes:
        start: (F + 1,) int64. The pair (det, gt) of frame f is at ``start[f] + det * num_gt + gt``.
        by_metric: "bbox", "bev" and "3d", each (P,) float32.
        dontcare: (D,) float32, largest share of a detection's image box that one DontCare region
            covers.
    """

    start: np.ndarray
    by_metric: dict[str, np.ndarray]
    dontcare: np.ndarray


class Boxes(NamedTuple):
    """The boxes of all frames, as the compiled loop reads them.

    Image boxes are (N, 4) float32, camera boxes (N, 7): those of detections float32, those of
    objects float64. ``start`` are the row numbers of each frame, (F + 1,) int64.
    """

    gt_start: np.ndarray
    gt_bbox: np.ndarray
    gt_box: np.ndarray
    gt_is_dontcare: np.ndarray
    dt_start: np.ndarray
    dt_bbox: np.ndarray
    dt_box: np.ndarray


def compute_overlaps(truth: Truth, detections: Detections) -> Overlaps:
    """All overlaps within frames: the work is linear in the number of frames."""
    pairs = np.diff(truth.start) * np.diff(detections.start)
    start = np.concatenate(([0], np.cumsum(pairs, dtype=np.int64))).astype(np.int64)
    boxes = Boxes(
        gt_start=truth.start,
        gt_bbox=truth.bbox,
        gt_box=truth.box,
        gt_is_dontcare=truth.name == "DontCare",
        dt_start=detections.start,
        dt_bbox=detections.bbox,
        dt_box=detections.box.astype(np.float32),
    )
    bbox, bev, volume, dontcare = _overlaps_of_frames(boxes, start[-1])
    return Overlaps(start, {"bbox": bbox, "bev": bev, "3d": volume}, dontcare)


@compiled
def _overlaps_of_frames(boxes: Boxes, num_pairs: int) -> tuple[np.ndarray, ...]:
    """Image, BEV and 3D overlap (P,) of each pair, and the share in DontCare (D,), all float32."""
    bbox = np.zeros(num_pairs, np.float32)
    bev = np.zeros(num_pairs, np.float32)
    volume = np.zeros(num_pairs, np.float32)
    dontcare = np.zeros(boxes.dt_start[-1], np.float32)
    gt_outline = np.empty((4, 2), np.float32)
    dt_outline = np.empty((4, 2), np.float32)
    corners = np.empty((MAX_CORNERS, 2), np.float32)
    order_key = np.empty(MAX_CORNERS, np.float32)
    gt_flat = boxes.gt_box.astype(np.float32)
    pair = 0
    for frame in range(len(boxes.gt_start) - 1):
        for d in range(boxes.dt_start[frame], boxes.dt_start[frame + 1]):
            dt_box = boxes.dt_box[d]
            _write_outline(dt_box, dt_outline)
            for g in range(boxes.gt_start[frame], boxes.gt_start[frame + 1]):
                shared_image = _shared_image_area(boxes.dt_bbox[d], boxes.gt_bbox[g])
                if shared_image > ZERO:
                    size = _image_area(boxes.dt_bbox[d])
                    union = size + _image_area(boxes.gt_bbox[g]) - shared_image
                    bbox[pair] = shared_image / union
                    if boxes.gt_is_dontcare[g]:
                        dontcare[d] = max(dontcare[d], shared_image / size)
                if _circles_meet(dt_box, gt_flat[g]):
                    _write_outline(gt_flat[g], gt_outline)
                    shared = _shared_ground_area(gt_outline, dt_outline, corners, order_key)
                    areas = gt_flat[g, 3] * gt_flat[g, 5] + dt_box[3] * dt_box[5]
                    bev[pair] = shared / (areas - shared)
                    volume[pair] = _volume_iou(dt_box, boxes.gt_box[g], np.float32(shared))
                pair += 1
    return bbox, bev, volume, dontcare


@compiled
def _image_area(bbox):
    return (bbox[2] - bbox[0]) * (bbox[3] - bbox[1])


@compiled
def _shared_image_area(bbox, other):
    width = min(bbox[2], other[2]) - max(bbox[0], other[0])
    height = min(bbox[3], other[3]) - max(bbox[1], other[1])
    return width * height if width > ZERO and height > ZERO else ZERO


@compiled
def _volume_iou(dt_box, gt_box, shared_area):
    """3D IoU from the shared ground area; the y of a camera box points down, to its bottom."""
    bottom = min(dt_box[1], gt_box[1])
    top = max(dt_box[1] - dt_box[4], gt_box[1] - gt_box[4])
    height = bottom - top
    if not (shared_area > ZERO and height > 0):
        return 0.0
    shared = height * shared_area
    return shared / (dt_box[3] * dt_box[4] * dt_box[5] + gt_box[3] * gt_box[4] * gt_box[5] - shared)


@compiled
def _circles_meet(box, other):
    """Whether the circles around two ground rectangles meet: a cheap test before the exact one."""
    dx = box[0] - other[0]
    dz = box[2] - other[2]
    diagonal = math.sqrt(box[3] * box[3] + box[5] * box[5])
    other_diagonal = math.sqrt(other[3] * other[3] + other[5] * other[5])
    reach = (diagonal + other_diagonal) / TWO
    return dx * dx + dz * dz <= (reach + SLACK_M) ** 2


@compiled
def _write_outline(box, outline):
    """Write the ground corners (4, 2) of a camera box, in (x, z)."""
    cos = math.cos(box[6])
    sin = math.sin(box[6])
    for k in range(4):
        along = (-box[3] if k < 2 else box[3]) / TWO
        across = (-box[5] if k == 0 or k == 3 else box[5]) / TWO
        outline[k, 0] = cos * along + sin * across + box[0]
        outline[k, 1] = -sin * along + cos * across + box[2]


@compiled
def _is_inside(x, y, outline):
    """Whether a point lies in the rectangle or on its border.

    Its projections on the two edges at corner a must not exceed the edges ab and ad.
    """
    ab_x = outline[1, 0] - outline[0, 0]
    ab_y = outline[1, 1] - outline[0, 1]
    ad_x = outline[3, 0] - outline[0, 0]
    ad_y = outline[3, 1] - outline[0, 1]
    ap_x = x - outline[0, 0]
    ap_y = y - outline[0, 1]
    on_ab = ab_x * ap_x + ab_y * ap_y
    on_ad = ad_x * ap_x + ad_y * ap_y
    return ZERO <= on_ab <= ab_x * ab_x + ab_y * ab_y and ZERO <= on_ad <= ad_x * ad_x + ad_y * ad_y


@compiled
def _add_crossing(a, b, c, d, corners, count):
    """Append the crossing of the segments ab and cd, if there is one; returns the new count.

    They cross when c and d lie on different sides of ab, and a and b on different sides of cd.
    """
    ba_x = b[0] - a[0]
    ba_y = b[1] - a[1]
    ca_x = c[0] - a[0]
    ca_y = c[1] - a[1]
    da_x = d[0] - a[0]
    da_y = d[1] - a[1]
    a_is_left = da_y * ca_x > ca_y * da_x
    b_is_left = (d[1] - b[1]) * (c[0] - b[0]) > (c[1] - b[1]) * (d[0] - b[0])
    if a_is_left == b_is_left:
        return count
    c_is_left = ca_y * ba_x > ba_y * ca_x
    d_is_left = da_y * ba_x > ba_y * da_x
    if c_is_left == d_is_left:
        return count
    dc_x = d[0] - c[0]
    dc_y = d[1] - c[1]
    line_ab = a[0] * b[1] - b[0] * a[1]
    line_cd = c[0] * d[1] - d[0] * c[1]
    scale = ba_y * dc_x - ba_x * dc_y
    corners[count, 0] = (line_ab * dc_x - ba_x * line_cd) / scale
    corners[count, 1] = (line_ab * dc_y - ba_y * line_cd) / scale
    return count + 1


@compiled
def _sort_around_mean(corners, count, order_key):
    """Sort the first ``count`` corners around their mean, by insertion.

    The key grows with the angle without computing it: the cosine above the mean, -2 minus the
    cosine below.
    """
    mean_x = ZERO
    mean_y = ZERO
    for k in range(count):
        mean_x += corners[k, 0]
        mean_y += corners[k, 1]
    mean_x = np.float32(mean_x / count)
    mean_y = np.float32(mean_y / count)
    for k in range(count):
        x = corners[k, 0]
        y = corners[k, 1]
        dx = x - mean_x
        dy = y - mean_y
        key = dx / math.sqrt(dx * dx + dy * dy)
        if dy < ZERO:
            key = -TWO - key
        insert_vertex(corners, order_key, k, key, x, y)


@compiled
def _find_corners(outline_a, outline_b, corners):
    """Write the corners of the intersection of two rectangles (4, 2); returns their number."""
    count = 0
    for k in range(4):
        if _is_inside(outline_a[k, 0], outline_a[k, 1], outline_b):
            corners[count] = outline_a[k]
            count += 1
        if _is_inside(outline_b[k, 0], outline_b[k, 1], outline_a):
            corners[count] = outline_b[k]
            count += 1
    for i in range(4):
        a = outline_a[i]
        b = outline_a[(i + 1) % 4]
        for j in range(4):
            c = outline_b[j]
            d = outline_b[(j + 1) % 4]
            count = _add_crossing(a, b, c, d, corners, count)
    return count


@compiled
def _shared_ground_area(outline_a, outline_b, corners, order_key):
    """Overlap area (float64) of two rectangles (4, 2).

    ``corners`` (24, 2) and ``order_key`` (24,) are memory to work in.
    """
    count = _find_corners(outline_a, outline_b, corners)
    if count < 3:
        return 0.0
    _sort_around_mean(corners, count, order_key)
    area = 0.0
    first_x = corners[0, 0]
    first_y = corners[0, 1]
    for k in range(1, count - 1):  # the triangles that the first corner spans with each edge
        next_x = corners[k + 1, 0]
        next_y = corners[k + 1, 1]
        twice = (first_x - next_x) * (corners[k, 1] - next_y) - (first_y - next_y) * (
            corners[k, 0] - next_x
        )
        area += abs(twice / 2.0)
    return area
