"""Keypoints near proposals, chosen sector by sector.

This is the sectorised proposal-centric sampling of PV-RCNN++ (IJCV 2023). Keypoints far from every
proposal are never pooled, so the sampling spends none there. Sampling each sector around the sensor
by itself costs less than sampling the whole scene.
"""

from __future__ import annotations

from math import ceil, pi

import torch
from torch import Tensor

from .point_sampling import stack_furthest_point_sample, three_nn


def near_boxes(points: Tensor, boxes: Tensor, margin_m: float) -> Tensor:
    """Which points are near a box.

    A point is near when its distance to the closest centre of a box is less than half the diagonal
    of that box plus ``margin_m``.

    Args:
        points: (N, 3+).
        boxes: (R, 7+); those without a size are padding.
        margin_m: metres.

    Returns:
        mask (N,) bool, all false where there is no box.
    """
    has_size = (boxes[:, 3:6] > 0).all(dim=1)
    boxes = boxes.detach()[has_size]
    if len(boxes) == 0 or len(points) == 0:
        return torch.zeros(len(points), dtype=torch.bool, device=points.device)
    distances, neighbours = three_nn(points[None, :, :3], boxes[None, :, :3])
    distance = distances[0, :, 0]
    closest = neighbours[0, :, 0]
    half_diagonal = (boxes[:, 3:6] / 2).norm(dim=1)
    return distance < half_diagonal[closest] + margin_m


def sector_furthest_point_sample(points: Tensor, num_samples: int, num_sectors: int) -> Tensor:
    """Rows of the furthest points of each sector around the origin.

    A sector's share of ``num_samples`` is its share of the points, rounded up, and at most all its
    points.

    Args:
        points: (N, 3).
        num_samples: points in all; rounding adds less than one per sector.
        num_sectors: equal angles around z.

    Returns:
        (K,) int64.
    """
    if len(points) == 0:
        return torch.zeros(0, dtype=torch.int64, device=points.device)
    angle_rad = torch.atan2(points[:, 1], points[:, 0]) + pi
    width_rad = 2 * pi / num_sectors
    sector = (angle_rad / width_rad).floor().long().clamp(0, num_sectors - 1)
    by_sector = sector.argsort(stable=True)
    counts = torch.bincount(sector, minlength=num_sectors).tolist()
    samples = []
    for count in counts:
        share = ceil(count / len(points) * num_samples)
        samples.append(min(count, share))
    return by_sector[stack_furthest_point_sample(points[by_sector], counts, samples)]
