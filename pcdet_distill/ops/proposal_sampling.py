"""Keypoints near proposals, chosen sector by sector (sectorised proposal-centric sampling of PV-RCNN++, IJCV 2023)."""

from __future__ import annotations

from math import ceil, pi

import torch
from torch import Tensor

from .point_sampling import stack_furthest_point_sample, three_nn


def near_boxes(points: Tensor, boxes: Tensor, margin_m: float) -> Tensor:
    """Mask (N,) of the points (N, 3) nearer to the closest centre of boxes (R, 7 + C) than half that box's diagonal
    and ``margin_m``. Boxes without a size are padding; where there are no others no point is near.
    """
    boxes = boxes.detach()[(boxes[:, 3:6] > 0).all(dim=1)]
    if len(boxes) == 0 or len(points) == 0:
        return torch.zeros(len(points), dtype=torch.bool, device=points.device)
    distance, closest = three_nn(points[None, :, :3], boxes[None, :, :3])
    half_diagonal = (boxes[:, 3:6] / 2).norm(dim=1)
    return distance[0, :, 0] < half_diagonal[closest[0, :, 0]] + margin_m


def sector_furthest_point_sample(points: Tensor, num_samples: int, num_sectors: int) -> Tensor:
    """Rows (K,) int64 of the furthest points of each sector around the origin, of points (N, 3).

    A sector gets a share of ``num_samples`` as large as its share of the points, rounded up, and no more than it has.
    """
    if len(points) == 0:
        return torch.zeros(0, dtype=torch.int64, device=points.device)
    angle = torch.atan2(points[:, 1], points[:, 0]) + pi
    sector = (angle / (2 * pi / num_sectors)).floor().long().clamp(0, num_sectors - 1)
    order = sector.argsort(stable=True)
    counts = torch.bincount(sector, minlength=num_sectors).tolist()
    samples = [min(count, ceil(count / len(points) * num_samples)) for count in counts]
    return order[stack_furthest_point_sample(points[order], counts, samples)]
