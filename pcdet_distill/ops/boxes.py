"""3D boxes: corners, rotation, rotated and axis-aligned IoU.

A box is ``(x, y, z, dx, dy, dz, heading)`` in LiDAR coordinates: metres, centre of the box, heading in radians around z
from x towards y. Functions on single boxes take numpy arrays or tensors and answer in kind; the IoU functions take
tensors on any device. Further columns of a box are ignored.

``boxes_iou_bev`` and ``boxes_iou3d`` follow OpenPCDet's ``iou3d_nms`` to the rounding, its 1 cm corner margin included.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from .accelerated import box_kernels

Array = TypeVar("Array", np.ndarray, Tensor)

CORNER_MARGIN_M = 1e-2
MIN_UNION_BEV_M2 = 1e-8
MIN_UNION_M3 = 1e-6
MIN_UNION_NEAREST_M2 = 1e-6
PAIRS_PER_CHUNK = 1 << 16
# Corners in OpenPCDet's order: four below counter the clock from the front left, then the same four above.
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
    """Rotate points (B, N, 3 + C) by angle (B,) around z, from x towards y; the C further columns are kept."""
    if not isinstance(points, Tensor):
        return rotate_points_along_z(torch.as_tensor(points), torch.as_tensor(angle_rad)).numpy()
    cos, sin = torch.cos(angle_rad)[:, None].to(points), torch.sin(angle_rad)[:, None].to(points)
    x, y = points[..., 0], points[..., 1]
    turned = torch.stack((x * cos - y * sin, x * sin + y * cos), dim=-1)
    return torch.cat((turned, points[..., 2:]), dim=-1)


def boxes_to_corners_3d(boxes: Array) -> Array:
    """The eight corners (N, 8, 3) of boxes (N, 7): rows 0-3 below, 4-7 above them in the same order."""
    if not isinstance(boxes, Tensor):
        return boxes_to_corners_3d(torch.as_tensor(boxes)).numpy()
    signs = boxes.new_tensor(CORNER_SIGNS) / 2
    local = boxes[:, None, 3:6] * signs
    return rotate_points_along_z(local, boxes[:, 6]) + boxes[:, None, 0:3]


def enlarge_box3d(boxes: Array, extra_width: Sequence[float] = (0, 0, 0)) -> Array:
    """A copy of boxes (N, 7+) whose full sizes grew by ``extra_width`` (dx, dy, dz) metres."""
    if not isinstance(boxes, Tensor):
        return enlarge_box3d(torch.as_tensor(boxes), extra_width).numpy()
    larger = boxes.clone()
    larger[:, 3:6] += boxes.new_tensor(extra_width)
    return larger


def mask_boxes_outside_range(
    boxes: np.ndarray,
    limit_range: ArrayLike,
    min_num_corners: int = 1,
    use_center_to_filter: bool = True,
) -> np.ndarray:
    """Mask (N,) bool of the boxes (N, 7+) that belong to the range (x0, y0, z0, x1, y1, z1), borders included.

    A box belongs to it by its centre, or, with ``use_center_to_filter=False``, by at least ``min_num_corners`` of its
    corners, whose heights are not looked at.
    """
    places = (
        boxes[:, None, 0:3] if use_center_to_filter else boxes_to_corners_3d(boxes[:, 0:7])[..., :2]
    )
    axes = places.shape[2]
    low, high = np.asarray(limit_range).reshape(2, 3)[:, :axes]
    inside = np.all((places >= low) & (places <= high), axis=2)
    return np.count_nonzero(inside, axis=1) >= (1 if use_center_to_filter else min_num_corners)


def boxes_overlap_bev(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """BEV overlap areas (N, M) in square metres of rotated boxes (N, 7) and (M, 7), with the 1 cm corner margin."""
    boxes_a, boxes_b = _plain_boxes(boxes_a), _plain_boxes(boxes_b)
    if boxes_a.device.type == "cpu":
        return torch.from_numpy(box_kernels.rotated_overlaps(boxes_a.numpy(), boxes_b.numpy()))
    return boxes_overlap_bev_plain(boxes_a, boxes_b)


def boxes_iou_bev(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """Rotated BEV IoU (N, M) of boxes (N, 7) and (M, 7); heights are ignored."""
    return _iou_of_overlap(
        boxes_overlap_bev(boxes_a, boxes_b),
        _bev_area(boxes_a),
        _bev_area(boxes_b),
        MIN_UNION_BEV_M2,
    )


def boxes_iou3d(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """3D IoU (N, M) of boxes (N, 7) and (M, 7): rotated BEV overlap times the common height."""
    boxes_a, boxes_b = _plain_boxes(boxes_a), _plain_boxes(boxes_b)
    top = torch.minimum(
        (boxes_a[:, 2] + boxes_a[:, 5] / 2)[:, None], (boxes_b[:, 2] + boxes_b[:, 5] / 2)[None]
    )
    bottom = torch.maximum(
        (boxes_a[:, 2] - boxes_a[:, 5] / 2)[:, None], (boxes_b[:, 2] - boxes_b[:, 5] / 2)[None]
    )
    overlap = boxes_overlap_bev(boxes_a, boxes_b) * (top - bottom).clamp(min=0)
    volume_a, volume_b = boxes_a[:, 3:6].prod(dim=1), boxes_b[:, 3:6].prod(dim=1)
    return _iou_of_overlap(overlap, volume_a, volume_b, MIN_UNION_M3)


def boxes_bev_aligned_iou(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """BEV IoU (N, M) of boxes (N, 7) and (M, 7) with their headings ignored."""
    return _aligned_iou(_rectangles(boxes_a, None), _rectangles(boxes_b, None), MIN_UNION_BEV_M2)


def boxes3d_nearest_bev_iou(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """BEV IoU (N, M) of boxes (N, 7) and (M, 7), each turned to the nearest axis first: how anchors are matched."""
    return _aligned_iou(
        _rectangles(boxes_a, boxes_a[:, 6]),
        _rectangles(boxes_b, boxes_b[:, 6]),
        MIN_UNION_NEAREST_M2,
    )


def _plain_boxes(boxes: Tensor) -> Tensor:
    """Boxes (N, 7) float32, contiguous, without gradient."""
    return boxes.detach()[:, :7].float().contiguous()


def _bev_area(boxes: Tensor) -> Tensor:
    return boxes[:, 3].detach().float() * boxes[:, 4].detach().float()


def _iou_of_overlap(overlap: Tensor, size_a: Tensor, size_b: Tensor, min_union: float) -> Tensor:
    return overlap / (size_a[:, None] + size_b[None] - overlap).clamp(min=min_union)


def _rectangles(boxes: Tensor, heading_rad: Tensor | None) -> Tensor:
    """Rectangles (N, 4) as x1, y1, x2, y2 of boxes (N, 7): unturned, or turned to the axis nearest to the heading."""
    boxes = boxes.detach().float()
    sizes = boxes[:, 3:5]
    if heading_rad is not None:
        across = limit_period(heading_rad.detach().float()).abs() >= math.pi / 4
        sizes = torch.where(across[:, None], sizes.flip(1), sizes)
    return torch.cat((boxes[:, 0:2] - sizes / 2, boxes[:, 0:2] + sizes / 2), dim=1)


def _aligned_iou(rects_a: Tensor, rects_b: Tensor, min_union: float) -> Tensor:
    if rects_a.device.type == "cpu":
        columns_b = np.ascontiguousarray(rects_b.numpy().T)
        return torch.from_numpy(
            box_kernels.aligned_iou(rects_a.numpy(), columns_b, np.float32(min_union))
        )
    return aligned_iou_plain(rects_a, rects_b, min_union)


def aligned_iou_plain(rects_a: Tensor, rects_b: Tensor, min_union: float) -> Tensor:
    """IoU (N, M) of rectangles (N, 4) and (M, 4) as x1, y1, x2, y2: plain torch, any device."""
    low = torch.maximum(rects_a[:, None, 0:2], rects_b[None, :, 0:2])
    high = torch.minimum(rects_a[:, None, 2:4], rects_b[None, :, 2:4])
    overlap = (high - low).clamp(min=0).prod(dim=-1)
    size_a, size_b = (
        (rects[:, 2] - rects[:, 0]) * (rects[:, 3] - rects[:, 1]) for rects in (rects_a, rects_b)
    )
    return _iou_of_overlap(overlap, size_a, size_b, min_union)


def boxes_overlap_bev_plain(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """``boxes_overlap_bev`` in plain torch: the pairs whose bounding circles meet are clipped side by side."""
    boxes_a, boxes_b = _plain_boxes(boxes_a), _plain_boxes(boxes_b)
    reach_a, reach_b = (
        boxes[:, 3:5].norm(dim=1) / 2 + 2 * CORNER_MARGIN_M for boxes in (boxes_a, boxes_b)
    )
    offset = boxes_a[:, None, 0:2] - boxes_b[None, :, 0:2]
    near = offset.square().sum(dim=-1) <= (reach_a[:, None] + reach_b[None]).square()
    areas = near.new_zeros(near.shape, dtype=torch.float32)
    for pairs in near.nonzero().split(PAIRS_PER_CHUNK):
        row, column = pairs.unbind(1)
        areas[row, column] = _clip_pairs(boxes_a[row], boxes_b[column])
    return areas


def _clip_pairs(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """Overlap area (P,) of the pairs of boxes (P, 7), (P, 7)."""
    corners_a, corners_b = _bev_corners(boxes_a), _bev_corners(boxes_b)
    crossings, crosses = _edge_crossings(corners_a, corners_b)
    candidates = torch.cat((crossings, corners_b, corners_a), dim=1)
    valid = torch.cat(
        (crosses, _corners_inside(corners_b, boxes_a), _corners_inside(corners_a, boxes_b)), dim=1
    )
    count = valid.sum(dim=1)
    mean = torch.where(valid[..., None], candidates, 0.0).sum(dim=1) / count.clamp(min=1)[:, None]
    offset = candidates - mean[:, None]
    angle_rad = torch.where(valid, torch.atan2(offset[..., 1], offset[..., 0]), torch.inf)
    order = angle_rad.argsort(dim=1)
    # Invalid candidates come last and collapse onto the first vertex, where they add no area.
    polygon = candidates.gather(1, order[..., None].expand_as(candidates))
    polygon = (
        torch.where(valid.gather(1, order)[..., None], polygon, polygon[:, :1]) - polygon[:, :1]
    )
    twice = polygon[:, :-1, 0] * polygon[:, 1:, 1] - polygon[:, :-1, 1] * polygon[:, 1:, 0]
    return torch.where(count > 2, twice.sum(dim=1).abs() / 2, 0.0)


def _bev_corners(boxes: Tensor) -> Tensor:
    """BEV corners (P, 4, 2) of boxes (P, 7), counter the clock."""
    signs = boxes.new_tensor(((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)))
    centre = boxes[:, None, 0:2]
    local = (centre + boxes[:, None, 3:5] * signs) - centre  # the reference's rounding
    return rotate_points_along_z(local, boxes[:, 6]) + centre


def _corners_inside(corners: Tensor, boxes: Tensor) -> Tensor:
    """Mask (P, 4): corners (P, 4, 2) that lie in the box (P, 7) of their row, enlarged by the margin."""
    local = rotate_points_along_z(corners - boxes[:, None, 0:2], -boxes[:, 6])
    return (local.abs() < boxes[:, None, 3:5] / 2 + CORNER_MARGIN_M).all(dim=-1)


def _edge_crossings(corners_a: Tensor, corners_b: Tensor) -> tuple[Tensor, Tensor]:
    """Crossings (P, 16, 2) of the edges of two outlines (P, 4, 2), and the mask (P, 16) of those that exist."""
    start_a, end_a = corners_a[:, :, None], corners_a.roll(-1, dims=1)[:, :, None]
    start_b, end_b = corners_b[:, None], corners_b.roll(-1, dims=1)[:, None]
    from_start, from_end = _side(start_b, end_a, start_a), _side(end_a, end_b, start_a)
    crosses = (from_start * from_end > 0) & (
        _side(start_a, end_b, start_b) * _side(end_b, end_a, start_b) > 0
    )
    weight = torch.where(crosses, from_start + from_end, 1.0)[..., None]
    points = (from_end[..., None] * start_b + from_start[..., None] * end_b) / weight
    return points.flatten(1, 2), crosses.flatten(1, 2)


def _side(point: Tensor, other: Tensor, origin: Tensor) -> Tensor:
    """Twice the signed area of the triangles (origin, point, other), each (..., 2)."""
    return (point[..., 0] - origin[..., 0]) * (other[..., 1] - origin[..., 1]) - (
        other[..., 0] - origin[..., 0]
    ) * (point[..., 1] - origin[..., 1])
