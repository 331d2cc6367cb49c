"""Which points lie in which boxes, with the three margins that OpenPCDet's numbers depend on.

``points_in_boxes`` (0.01 mm) is the rule of its CUDA op, ``points_in_boxes_mask`` (1 cm) that of its CPU op (used by gt
sampling and the gt database), and ``count_points_in_corners`` (none) replaces the Delaunay hulls that count
``num_points_in_gt``. Heights are inclusive in all of them; x and y are strict in the first two.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .accelerated import box_kernels

DEVICE_MARGIN_M = 1e-5
HOST_MARGIN_M = 1e-2
ROUNDING_M = 1e-6


def points_in_boxes(points: Tensor, boxes: Tensor) -> Tensor:
    """Index (..., N) int64 of the first box (..., T, 7) that holds each point (..., N, 3+), or -1.

    Leading batch axes of points and boxes must agree; a batch item's boxes only hold that item's points.
    """
    if points.dim() > 2:
        return torch.stack(
            [points_in_boxes(item, item_boxes) for item, item_boxes in zip(points, boxes)]
        )
    if len(boxes) == 0:
        return torch.full((len(points),), -1, dtype=torch.int64, device=points.device)
    inside = inside_boxes(points, boxes)
    return torch.where(inside.any(dim=0), inside.to(torch.uint8).argmax(dim=0), -1)


def inside_boxes(points: Tensor, boxes: Tensor) -> Tensor:
    """Mask (T, N) bool of points (N, 3+) in boxes (T, 7) by the CUDA rule; the compiled kernel on the CPU."""
    points, boxes = points.detach(), boxes.detach()
    if points.device.type != "cpu":
        return points_in_boxes_plain(points, boxes)
    mask = box_kernels.points_in_boxes(
        _float_rows(points.numpy(), 3), _float_rows(boxes.numpy(), 7), np.float32(DEVICE_MARGIN_M)
    )
    return torch.from_numpy(mask).bool()


def points_in_boxes_plain(points: Tensor, boxes: Tensor) -> Tensor:
    """Mask (T, N) bool of points (N, 3+) in boxes (T, 7) by the CUDA rule: plain torch, any device."""
    points, boxes = points[:, :3].float(), boxes[:, :7].float()
    offset = points[None] - boxes[:, None, 0:3]
    cos, sin = torch.cos(boxes[:, 6:7]), torch.sin(boxes[:, 6:7])
    local_x = offset[..., 0] * cos + offset[..., 1] * sin
    local_y = offset[..., 1] * cos - offset[..., 0] * sin
    half = boxes[:, 3:6] / 2
    flat = (local_x.abs() < half[:, 0:1] + DEVICE_MARGIN_M) & (
        local_y.abs() < half[:, 1:2] + DEVICE_MARGIN_M
    )
    return flat & (offset[..., 2].abs() <= half[:, 2:3])


def points_in_boxes_mask(points: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Mask (T, N) uint8 of points (N, 3+) in boxes (T, 7+) by the CPU rule (1 cm margin in x and y)."""
    return box_kernels.points_in_boxes(
        _float_rows(points, 3), _float_rows(boxes, 7), np.float32(HOST_MARGIN_M)
    )


def count_points_in_corners(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """How many of the points (N, 3+) lie in each cuboid of corners (T, 8, 3): (T,) int32, surface included.

    Corners come in the order of ``boxes_to_corners_3d``, in any frame (LiDAR or camera). A point is inside when its
    offset from corner 0 reaches between 0 and the full edge along each of the three edges that leave that corner.
    """
    counts = np.zeros(len(corners), np.int32)
    for index, cuboid in enumerate(np.asarray(corners, np.float64)):
        centre = cuboid.mean(axis=0)
        radius = np.linalg.norm(cuboid - centre, axis=1).max() + ROUNDING_M
        near = (np.abs(points[:, 0] - centre[0]) <= radius) & (
            np.abs(points[:, 1] - centre[1]) <= radius
        )
        edges = cuboid[[1, 3, 4]] - cuboid[0]
        along = (points[near, :3] - cuboid[0]) @ edges.T
        counts[index] = ((along >= 0) & (along <= (edges**2).sum(axis=1))).all(axis=1).sum()
    return counts


def _float_rows(array: np.ndarray, columns: int) -> np.ndarray:
    """The first columns of an array (N, columns+) as contiguous float32."""
    return np.ascontiguousarray(array[:, :columns], dtype=np.float32)
