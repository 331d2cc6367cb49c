"""3D boxes: corners, rotation, rotated and axis-aligned IoU.

A box is ``(x, y, z, dx, dy, dz, heading)`` in LiDAR coordinates: the centre and the full sizes in
metres, and the heading in radians around z from x towards y. Functions on single boxes take numpy
arrays or tensors and return the same kind; the IoU functions take tensors on any device. Further
columns of a box are ignored.

``boxes_iou_bev`` and ``boxes_iou3d`` follow OpenPCDet's ``iou3d_nms`` to the rounding, with its
corner margin of 1 cm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import ModuleType
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from .accelerated import box_kernels
from .constants import constant_like
from .dispatch import Operator

Array = TypeVar("Array", np.ndarray, Tensor)

CORNER_MARGIN_M = 1e-2
MIN_UNION_BEV_M2 = 1e-8
MIN_UNION_M3 = 1e-6
MIN_UNION_NEAREST_M2 = 1e-6
PAIRS_PER_CHUNK = 1 << 16
# Corners in OpenPCDet's order: four below, from the front left clockwise as seen from above, then
# the same four above.
CORNER_SIGNS = (
    (1, 1, -1),
    (1, -1, -1),
    (-1, -1, -1),
    (-1, 1, -1),
    (1, 1, 1),
    (1, -1, 1),
    (-1, -1, 1),
    (-1, 1, 1),
)


def limit_period(value: Array, offset: float = 0.5, period: float = math.pi) -> Array:
    """Shift each value by whole periods into ``[-offset * period, (1 - offset) * period)``."""
    floor = torch.floor if isinstance(value, Tensor) else np.floor
    return value - floor(value / period + offset) * period


def rotate_points_along_z(points: Array, angle_rad: Array) -> Array:
    """Rotate points (B, N, 3 + C) by angle (B,) around z, from x towards y.

    The C further columns are kept.
    """
    if not isinstance(points, Tensor):
        return _rotate_array_along_z(points, torch.as_tensor(angle_rad))
    cos = torch.cos(angle_rad)[:, None].to(points)
    sin = torch.sin(angle_rad)[:, None].to(points)
    x = points[..., 0]
    y = points[..., 1]
    turned = torch.stack((x * cos - y * sin, x * sin + y * cos), dim=-1)
    return torch.cat((turned, points[..., 2:]), dim=-1)


def _rotate_array_along_z(points: np.ndarray, angle_rad: Tensor) -> np.ndarray:
    """The same for an array, column by column, which saves the copies of joining them."""
    # torch's cosine: numpy's may differ in the last bit.
    cos = torch.cos(angle_rad).numpy()[:, None].astype(points.dtype)
    sin = torch.sin(angle_rad).numpy()[:, None].astype(points.dtype)
    x = points[..., 0]
    y = points[..., 1]
    rotated = np.array(points, order="C")
    rotated[..., 0] = x * cos - y * sin
    rotated[..., 1] = x * sin + y * cos
    return rotated


def along_and_across(places: Array, boxes: Array) -> tuple[Array, Array]:
    """Offsets (G, N) in metres of places (N, 2) from the centres of boxes (G, 7), in their axes.

    The first is along the heading of a box, the second to its left.
    """
    x = places[None, :, 0] - boxes[:, 0:1]
    y = places[None, :, 1] - boxes[:, 1:2]
    heading = boxes[:, 6:7]
    library: ModuleType = torch if isinstance(heading, Tensor) else np
    cos = library.cos(heading)
    sin = library.sin(heading)
    return x * cos + y * sin, y * cos - x * sin


def boxes_to_corners_3d(boxes: Array) -> Array:
    """The eight corners (N, 8, 3) of boxes (N, 7): rows 0-3 below, 4-7 above in the same order."""
    if not isinstance(boxes, Tensor):
        return boxes_to_corners_3d(torch.as_tensor(boxes)).numpy()
    signs = constant_like(CORNER_SIGNS, boxes) / 2
    local = boxes[:, None, 3:6] * signs
    return rotate_points_along_z(local, boxes[:, 6]) + boxes[:, None, 0:3]


def enlarge_box3d(boxes: Array, extra_width: Sequence[float] = (0, 0, 0)) -> Array:
    """A copy of boxes (N, 7+) whose full sizes grew by ``extra_width`` (dx, dy, dz) metres."""
    if not isinstance(boxes, Tensor):
        return enlarge_box3d(torch.as_tensor(boxes), extra_width).numpy()
    larger = boxes.clone()
    larger[:, 3:6] += constant_like(extra_width, boxes)
    return larger


def mask_boxes_outside_range(
    boxes: np.ndarray,
    limit_range: ArrayLike,
    min_num_corners: int = 1,
    use_center_to_filter: bool = True,
) -> np.ndarray:
    """Mask (N,) bool of the boxes (N, 7+) that belong to a range, borders included.

    Args:
        boxes: (N, 7+).
        limit_range: (x0, y0, z0, x1, y1, z1).
        min_num_corners: without ``use_center_to_filter``, a box belongs to the range when so many
            of its corners do. Their heights are ignored.
        use_center_to_filter: a box belongs to the range when its centre does.
    """
    low, high = np.asarray(limit_range).reshape(2, 3)
    if use_center_to_filter:
        centres = boxes[:, 0:3]
        inside: np.ndarray = np.all((centres >= low) & (centres <= high), axis=1)
        return inside
    corners = boxes_to_corners_3d(boxes[:, 0:7])[..., :2]
    corner_inside = np.all((corners >= low[:2]) & (corners <= high[:2]), axis=2)
    return np.count_nonzero(corner_inside, axis=1) >= min_num_corners


def boxes_overlap_bev(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """BEV overlap areas (N, M) in m² of rotated boxes (N, 7) and (M, 7), with the corner margin."""
    boxes_a = _plain_boxes(boxes_a)
    boxes_b = _plain_boxes(boxes_b)
    return OVERLAP_BEV.on(boxes_a.device)(boxes_a, boxes_b)


def _overlap_bev_numba(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """``boxes_overlap_bev``, compiled for the CPU."""
    return torch.from_numpy(box_kernels.rotated_overlaps(boxes_a.numpy(), boxes_b.numpy()))


def boxes_iou_bev(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """Rotated BEV IoU (N, M) of boxes (N, 7) and (M, 7); heights are ignored."""
    overlap = boxes_overlap_bev(boxes_a, boxes_b)
    return _iou_of_overlap(overlap, _bev_area(boxes_a), _bev_area(boxes_b), MIN_UNION_BEV_M2)


def boxes_iou3d(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """3D IoU (N, M) of boxes (N, 7) and (M, 7): rotated BEV overlap times the common height."""
    boxes_a = _plain_boxes(boxes_a)
    boxes_b = _plain_boxes(boxes_b)
    bottom_a, top_a = _bottom_and_top(boxes_a)
    bottom_b, top_b = _bottom_and_top(boxes_b)
    top = torch.minimum(top_a[:, None], top_b[None])
    bottom = torch.maximum(bottom_a[:, None], bottom_b[None])
    height = (top - bottom).clamp(min=0)
    overlap = boxes_overlap_bev(boxes_a, boxes_b) * height
    volume_a = boxes_a[:, 3:6].prod(dim=1)
    volume_b = boxes_b[:, 3:6].prod(dim=1)
    return _iou_of_overlap(overlap, volume_a, volume_b, MIN_UNION_M3)


def _bottom_and_top(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Heights (N,) of the lower and the upper face of boxes (N, 7)."""
    half_height = boxes[:, 5] / 2
    return boxes[:, 2] - half_height, boxes[:, 2] + half_height


def boxes_bev_aligned_iou(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """BEV IoU (N, M) of boxes (N, 7) and (M, 7) with their headings ignored."""
    return _aligned_iou(_rectangles(boxes_a, None), _rectangles(boxes_b, None), MIN_UNION_BEV_M2)


def boxes3d_nearest_bev_iou(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """BEV IoU (N, M) of boxes (N, 7) and (M, 7), each turned to its nearest axis first.

    OpenPCDet matches anchors by it: it is cheap, and anchors have headings of 0 and 90 degrees.
    """
    rects_a = _rectangles(boxes_a, boxes_a[:, 6])
    rects_b = _rectangles(boxes_b, boxes_b[:, 6])
    return _aligned_iou(rects_a, rects_b, MIN_UNION_NEAREST_M2)


def _plain_boxes(boxes: Tensor) -> Tensor:
    """Boxes (N, 7) float32, contiguous, without gradient."""
    return boxes.detach()[:, :7].float().contiguous()


def _bev_area(boxes: Tensor) -> Tensor:
    return boxes[:, 3].detach().float() * boxes[:, 4].detach().float()


def _iou_of_overlap(overlap: Tensor, size_a: Tensor, size_b: Tensor, min_union: float) -> Tensor:
    """IoU (N, M) from overlaps (N, M) and sizes (N,), (M,)."""
    union = size_a[:, None] + size_b[None] - overlap
    return overlap / union.clamp(min=min_union)


def _rectangles(boxes: Tensor, heading_rad: Tensor | None) -> Tensor:
    """Rectangles (N, 4) as x1, y1, x2, y2 of boxes (N, 7).

    Without a heading (N,) the boxes are taken as unturned, otherwise turned to the nearest axis.
    """
    boxes = boxes.detach().float()
    centres = boxes[:, 0:2]
    sizes = boxes[:, 3:5]
    if heading_rad is not None:
        across = limit_period(heading_rad.detach().float()).abs() >= math.pi / 4
        sizes = torch.where(across[:, None], sizes.flip(1), sizes)
    return torch.cat((centres - sizes / 2, centres + sizes / 2), dim=1)


def _aligned_iou(rects_a: Tensor, rects_b: Tensor, min_union: float) -> Tensor:
    """``aligned_iou_plain``, by the compiled kernel on a CPU."""
    if rects_a.device.type != "cpu":
        return aligned_iou_plain(rects_a, rects_b, min_union)
    columns_b = np.ascontiguousarray(rects_b.numpy().T)
    iou = box_kernels.aligned_iou(rects_a.numpy(), columns_b, np.float32(min_union))
    return torch.from_numpy(iou)


def aligned_iou_plain(rects_a: Tensor, rects_b: Tensor, min_union: float) -> Tensor:
    """IoU (N, M) of rectangles (N, 4) and (M, 4) as x1, y1, x2, y2: plain torch, any device."""
    low = torch.maximum(rects_a[:, None, 0:2], rects_b[None, :, 0:2])
    high = torch.minimum(rects_a[:, None, 2:4], rects_b[None, :, 2:4])
    overlap = (high - low).clamp(min=0).prod(dim=-1)
    return _iou_of_overlap(overlap, _area(rects_a), _area(rects_b), min_union)


def _area(rects: Tensor) -> Tensor:
    """Areas (N,) of rectangles (N, 4)."""
    return (rects[:, 2] - rects[:, 0]) * (rects[:, 3] - rects[:, 1])


def boxes_overlap_bev_plain(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """``boxes_overlap_bev`` in plain torch: all pairs whose bounding circles meet, side by side."""
    boxes_a = _plain_boxes(boxes_a)
    boxes_b = _plain_boxes(boxes_b)
    near_m = reach_m(boxes_a)[:, None] + reach_m(boxes_b)[None]
    offset = boxes_a[:, None, 0:2] - boxes_b[None, :, 0:2]
    near = offset.square().sum(dim=-1) <= near_m.square()
    areas = near.new_zeros(near.shape, dtype=torch.float32)
    for pairs in near.nonzero().split(PAIRS_PER_CHUNK):
        row, column = pairs.unbind(1)
        areas[row, column] = _clip_pairs(boxes_a[row], boxes_b[column])
    return areas


OVERLAP_BEV = Operator(
    "rotated IoU",
    plain=boxes_overlap_bev_plain,
    numba=_overlap_bev_numba,
    triton="rotated_iou:overlap_bev",
)


def reach_m(boxes: Tensor) -> Tensor:
    """Radius (N,) of the circle around the BEV corners of boxes (N, 7), with a margin."""
    return boxes[:, 3:5].norm(dim=1) / 2 + 2 * CORNER_MARGIN_M


def _clip_pairs(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """Overlap areas (P,) of pairs of boxes (P, 7), (P, 7).

    The vertices of the common polygon are the crossings of the outlines and the corners of each box
    inside the other. Every pair has room for all 24 candidates; ``valid`` marks the real ones.
    """
    corners_a = bev_corners(boxes_a)
    corners_b = bev_corners(boxes_b)
    crossings, crosses = _edge_crossings(corners_a, corners_b)
    candidates = torch.cat((crossings, corners_b, corners_a), dim=1)
    b_in_a = _corners_inside(corners_b, boxes_a)
    a_in_b = _corners_inside(corners_a, boxes_b)
    valid = torch.cat((crosses, b_in_a, a_in_b), dim=1)
    polygon = _sorted_polygon(candidates, valid)
    # Shoelace formula, around the first vertex.
    current = polygon[:, :-1]
    following = polygon[:, 1:]
    twice = current[..., 0] * following[..., 1] - current[..., 1] * following[..., 0]
    has_area = valid.sum(dim=1) > 2
    return torch.where(has_area, twice.sum(dim=1).abs() / 2, 0.0)


def _sorted_polygon(candidates: Tensor, valid: Tensor) -> Tensor:
    """Vertices (P, 24, 2) by angle around their mean, relative to the first one.

    Invalid candidates come last and collapse onto the first vertex, where they add no area.
    """
    count = valid.sum(dim=1).clamp(min=1)
    mean = torch.where(valid[..., None], candidates, 0.0).sum(dim=1) / count[:, None]
    offset = candidates - mean[:, None]
    angle_rad = torch.atan2(offset[..., 1], offset[..., 0])
    order = torch.where(valid, angle_rad, torch.inf).argsort(dim=1)
    vertices = candidates.gather(1, order[..., None].expand_as(candidates))
    is_vertex = valid.gather(1, order)[..., None]
    first = vertices[:, :1]
    return torch.where(is_vertex, vertices, first) - first


def bev_corners(boxes: Tensor) -> Tensor:
    """BEV corners (P, 4, 2) of boxes (P, 7), counterclockwise."""
    signs = constant_like(((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)), boxes)
    centre = boxes[:, None, 0:2]
    # Adding and subtracting the centre copies the rounding of the reference.
    local = (centre + boxes[:, None, 3:5] * signs) - centre
    return rotate_points_along_z(local, boxes[:, 6]) + centre


def _corners_inside(corners: Tensor, boxes: Tensor) -> Tensor:
    """Mask (P, 4) of the corners (P, 4, 2) in the box (P, 7) of their row, with the margin."""
    local = rotate_points_along_z(corners - boxes[:, None, 0:2], -boxes[:, 6])
    return (local.abs() < boxes[:, None, 3:5] / 2 + CORNER_MARGIN_M).all(dim=-1)


def _edge_crossings(corners_a: Tensor, corners_b: Tensor) -> tuple[Tensor, Tensor]:
    """Crossings of the edges of two outlines (P, 4, 2).

    Two edges cross when the ends of each lie on different sides of the other.

    Returns:
        points (P, 16, 2), and the mask (P, 16) of those that exist.
    """
    start_a = corners_a[:, :, None]
    end_a = corners_a.roll(-1, dims=1)[:, :, None]
    start_b = corners_b[:, None]
    end_b = corners_b.roll(-1, dims=1)[:, None]
    from_start = _side(start_b, end_a, start_a)
    from_end = _side(end_a, end_b, start_a)
    a_divides_b = from_start * from_end > 0
    b_divides_a = _side(start_a, end_b, start_b) * _side(end_b, end_a, start_b) > 0
    crosses = a_divides_b & b_divides_a
    # The crossing divides edge b in the ratio of the distances of its ends from edge a.
    weight = torch.where(crosses, from_start + from_end, 1.0)[..., None]
    points = (from_end[..., None] * start_b + from_start[..., None] * end_b) / weight
    return points.flatten(1, 2), crosses.flatten(1, 2)


def _side(point: Tensor, other: Tensor, origin: Tensor) -> Tensor:
    """Twice the signed area (...) of the triangles (origin, point, other), each (..., 2)."""
    to_point = point - origin
    to_other = other - origin
    return to_point[..., 0] * to_other[..., 1] - to_other[..., 0] * to_point[..., 1]
