"""Which points lie in which boxes, with the three margins that OpenPCDet's numbers depend on.

``points_in_boxes`` (0.01 mm) follows its CUDA op. ``points_in_boxes_mask`` (1 cm) follows its CPU
op, which ground-truth sampling and its database use. ``count_points_in_corners`` (no margin)
replaces the Delaunay hulls with which OpenPCDet counts ``num_points_in_gt``. Heights are inclusive
in all three; x and y are strict in the first two.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .accelerated import box_kernels
from .boxes import along_and_across

DEVICE_MARGIN_M = 1e-5
HOST_MARGIN_M = 1e-2
ROUNDING_M = 1e-6


def points_in_boxes(points: Tensor, boxes: Tensor) -> Tensor:
    """Index of the first box that holds each point, or -1.

    Args:
        points: (..., N, 3+).
        boxes: (..., T, 7) with the same leading axes; the boxes of a frame hold only its points.

    Returns:
        (..., N) int64.
    """
    if points.dim() > 2:
        frames = zip(points, boxes)
        return torch.stack([points_in_boxes(of_frame, its_boxes) for of_frame, its_boxes in frames])
    if len(boxes) == 0:
        return torch.full((len(points),), -1, dtype=torch.int64, device=points.device)
    inside = inside_boxes(points, boxes)
    first_box = inside.to(torch.uint8).argmax(dim=0)
    return torch.where(inside.any(dim=0), first_box, -1)


def inside_boxes(points: Tensor, boxes: Tensor) -> Tensor:
    """Mask (T, N) bool of points (N, 3+) in boxes (T, 7) by the rule of OpenPCDet's CUDA op."""
    points = points.detach()
    boxes = boxes.detach()
    if points.device.type != "cpu":
        return points_in_boxes_plain(points, boxes)
    mask = box_kernels.points_in_boxes(
        _float_rows(points.numpy(), 3), _float_rows(boxes.numpy(), 7), np.float32(DEVICE_MARGIN_M)
    )
    return torch.from_numpy(mask).bool()


def points_in_boxes_plain(points: Tensor, boxes: Tensor) -> Tensor:
    """``inside_boxes`` in plain torch, any device."""
    points = points[:, :3].float()
    boxes = boxes[:, :7].float()
    local_x, local_y = along_and_across(points[:, :2], boxes)
    offset_z = points[None, :, 2] - boxes[:, 2:3]
    half_x, half_y, half_z = (boxes[:, 3:6] / 2).split(1, dim=1)
    within_x = local_x.abs() < half_x + DEVICE_MARGIN_M
    within_y = local_y.abs() < half_y + DEVICE_MARGIN_M
    within_z = offset_z.abs() <= half_z
    return within_x & within_y & within_z


def points_in_boxes_mask(points: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Mask (T, N) uint8 of points (N, 3+) in boxes (T, 7+) by the rule of OpenPCDet's CPU op."""
    mask: np.ndarray = box_kernels.points_in_boxes(
        _float_rows(points, 3), _float_rows(boxes, 7), np.float32(HOST_MARGIN_M)
    )
    return mask


def count_points_in_corners(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """How many points lie in each cuboid, surface included.

    A point is inside when its offset from corner 0, projected on each of the three edges that leave
    that corner, lies between 0 and the edge's length.

    Args:
        points: (N, 3+).
        corners: (T, 8, 3) in the order of ``boxes_to_corners_3d``, in LiDAR or camera coordinates.

    Returns:
        (T,) int32.
    """
    cuboids = np.asarray(corners, np.float64).reshape(-1, 8, 3)
    centres = cuboids.mean(axis=1)
    radii = np.linalg.norm(cuboids - centres[:, None], axis=2).max(axis=1) + ROUNDING_M
    lowest = centres - radii[:, None]
    highest = centres + radii[:, None]
    edges = cuboids[:, [1, 3, 4]] - cuboids[:, :1]
    lengths = (edges**2).sum(axis=2)
    x = np.ascontiguousarray(points[:, 0])
    y = np.ascontiguousarray(points[:, 1])
    counts = np.zeros(len(cuboids), np.int32)
    for index, cuboid in enumerate(cuboids):
        # Only the points near the cuboid are projected: most of a scan is far from it.
        near = (x >= lowest[index, 0]) & (x <= highest[index, 0])
        near &= (y >= lowest[index, 1]) & (y <= highest[index, 1])
        candidates = points[near, :3]
        if len(candidates):
            along = (candidates - cuboid[0]) @ edges[index].T
            inside = (along >= 0) & (along <= lengths[index])
            counts[index] = inside.all(axis=1).sum()
    return counts


def _float_rows(array: np.ndarray, columns: int) -> np.ndarray:
    """The first columns of an array (N, columns+) as contiguous float32."""
    return np.ascontiguousarray(array[:, :columns], dtype=np.float32)
