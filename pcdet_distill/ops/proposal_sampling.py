"""Keypoints near proposals, chosen sector by sector.

This is the sectorised proposal-centric sampling of PV-RCNN++ (IJCV 2023). Keypoints far from every
proposal are never pooled, so the sampling spends none there. Sampling each sector around the sensor
by itself costs less than sampling the whole scene.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, pi

import torch
from torch import Tensor

from .point_sampling import stack_furthest_point_sample, three_nn

FAR_M = 1e6  # further than any point of a scan


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
    if len(boxes) == 0 or len(points) == 0:
        return torch.zeros(len(points), dtype=torch.bool, device=points.device)
    boxes = boxes.detach()
    has_size = (boxes[:, 3:6] > 0).all(dim=1)
    # Padding moves out of reach. To leave it out, the host would have to wait for its number.
    centres = torch.where(has_size[:, None], boxes[:, :3], FAR_M)
    distances, neighbours = three_nn(points[None, :, :3], centres[None])
    distance = distances[0, :, 0]
    closest = neighbours[0, :, 0]
    half_diagonal = (boxes[:, 3:6] / 2).norm(dim=1)
    return has_size[closest] & (distance < half_diagonal[closest] + margin_m)


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
    frame = torch.zeros(len(points), dtype=torch.int64, device=points.device)
    is_taken = torch.ones(len(points), dtype=torch.bool, device=points.device)
    return sample_sectors(points, frame, is_taken, 1, num_samples, num_sectors=num_sectors)


def sample_sectors(
    points: Tensor,
    frame: Tensor,
    is_candidate: Tensor,
    num_frames: int,
    num_samples: int,
    *,
    num_sectors: int,
) -> Tensor:
    """``sector_furthest_point_sample`` of each frame of a batch; the host waits once for all.

    Args:
        points: (N, 3).
        frame: (N,) int64.
        is_candidate: (N,) bool, which points may be chosen.
        num_frames: B.
        num_samples: points of a frame; rounding adds less than one per sector.
        num_sectors: equal angles around z.

    Returns:
        (K,) int64, frame by frame and sector by sector.
    """
    angle_rad = torch.atan2(points[:, 1], points[:, 0]) + pi
    width_rad = 2 * pi / num_sectors
    sector = (angle_rad / width_rad).floor().long().clamp(0, num_sectors - 1)
    num_groups = num_frames * num_sectors
    group = torch.where(is_candidate, frame * num_sectors + sector, num_groups)
    # Not bincount: it waits for the highest group.
    all_counts = torch.zeros(num_groups + 1, dtype=torch.int64, device=points.device)
    all_counts.scatter_add_(0, group, torch.ones_like(group))
    counts: list[int] = all_counts[:num_groups].tolist()
    samples: list[int] = []
    for first in range(0, num_groups, num_sectors):
        samples += _shares(counts[first : first + num_sectors], num_samples)
    by_group = group.argsort(stable=True)[: sum(counts)]
    return by_group[stack_furthest_point_sample(points[by_group], counts, samples)]


def _shares(counts: Sequence[int], num_samples: int) -> list[int]:
    """How many points each sector of a frame gives, which has ``counts`` of them."""
    total = sum(counts)
    return [min(count, ceil(count / total * num_samples)) if count else 0 for count in counts]
