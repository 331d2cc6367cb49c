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
from .dispatch import Operator

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
    leading = points.shape[:-2]
    frames_of_points = points.reshape(leading.numel(), *points.shape[-2:])
    frames_of_boxes = boxes.reshape(leading.numel(), *boxes.shape[-2:])
    found = FIRST_BOX.on(points.device)(frames_of_points, frames_of_boxes)
    return found.view(*leading, points.shape[-2])


def first_box_plain(points: Tensor, boxes: Tensor) -> Tensor:
    """Index (B, N) int64 of the first of boxes (B, T, 7) that holds each of points (B, N, 3+)."""
    found = points.new_full(points.shape[:2], -1, dtype=torch.int64)
    if boxes.shape[1] == 0:
        return found
    for frame, (of_frame, its_boxes) in enumerate(zip(points, boxes)):
        inside = inside_boxes(of_frame, its_boxes)
        first_box = inside.to(torch.uint8).argmax(dim=0)
        found[frame] = torch.where(inside.any(dim=0), first_box, -1)
    return found


def inside_boxes(points: Tensor, boxes: Tensor) -> Tensor:
    """Mask (T, N) bool of points (N, 3+) in boxes (T, 7+) by the rule of OpenPCDet's CUDA op."""
    return INSIDE_BOXES.on(points.device)(points.detach(), boxes.detach())


def _inside_boxes_numba(points: Tensor, boxes: Tensor) -> Tensor:
    """``points_in_boxes_plain``, compiled for the CPU."""
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


INSIDE_BOXES = Operator(
    "the mask of points in boxes",
    plain=points_in_boxes_plain,
    numba=_inside_boxes_numba,
    triton="points_in_boxes:inside_boxes",
)
FIRST_BOX = Operator("points in boxes", plain=first_box_plain, triton="points_in_boxes:first_box")


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
