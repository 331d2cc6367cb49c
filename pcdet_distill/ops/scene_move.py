"""Motions of whole scenes that were drawn by a worker, applied to the points on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .constants import constant_like


@dataclass(frozen=True, eq=False)
class SceneMove:
    """How the points of one frame have to move, and which of them stay.

    Attributes:
        matrix: (4, 4) float64, maps (x, y, z, 1).
        limits_m: lowest x and y, then highest; points beyond them after the motion are dropped.
            None keeps all.
    """

    matrix: np.ndarray
    limits_m: tuple[float, float, float, float] | None = None

    def then(self, matrix: np.ndarray) -> SceneMove:
        """This motion followed by another one."""
        return replace(self, matrix=matrix @ self.matrix)

    def within(self, point_cloud_range: np.ndarray) -> SceneMove:
        """This motion, after which points beyond a range (6,) in x and y are dropped."""
        x_min, y_min, _, x_max, y_max, _ = (float(limit) for limit in point_cloud_range)
        return replace(self, limits_m=(x_min, y_min, x_max, y_max))


def move_points(points: Tensor, moves: Sequence[SceneMove]) -> Tensor:
    """The points of a batch after the motions of their frames, without those beyond the limits.

    Args:
        points: (N, 1 + C), frame, x, y, z and more columns; unchanged.
        moves: of each frame. All have the same limits.
    """
    matrices = constant_like(np.stack([move.matrix for move in moves]).tolist(), points)
    of_point = matrices[points[:, 0].long()]
    turned = (of_point[:, :3, :3] @ points[:, 1:4].unsqueeze(-1)).squeeze(-1)
    points = torch.cat([points[:, :1], turned + of_point[:, :3, 3], points[:, 4:]], dim=1)
    limits_m = moves[0].limits_m
    if limits_m is None:
        return points
    limits = constant_like(limits_m, points)
    place = points[:, 1:3]
    is_inside = ((place >= limits[:2]) & (place <= limits[2:])).all(dim=1)
    return points[torch.nonzero(is_inside)[:, 0]]
