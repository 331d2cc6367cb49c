"""Anchors: boxes of fixed sizes and headings on a regular grid, one set per class (SECOND, Sensors 2018).

Everything is float32 and rounded as OpenPCDet rounds it: a box may overlap several anchors alike, and the last digit
decides which of them it claims.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...config import required

WHERE = "MODEL.DENSE_HEAD.ANCHOR_GENERATOR_CONFIG"


class AnchorGenerator:
    """Anchors of one class for every entry of ``anchor_generator_config``."""

    def __init__(
        self, anchor_range: Sequence[float], anchor_generator_config: Sequence[Mapping[str, Any]]
    ) -> None:
        self.anchor_range = [float(limit) for limit in anchor_range]
        self.config = list(anchor_generator_config)

    def generate_anchors(
        self, grid_sizes: Sequence[Sequence[int]]
    ) -> tuple[list[Tensor], list[int]]:
        """Anchors for feature maps of ``grid_sizes`` (nx, ny), one for each class.

        Returns:
            per class anchors (1, ny, nx, sizes, rotations, 7), a size once for every bottom height, and the number of
            anchors at one location.
        """
        anchors = [
            self._anchors_of_class(settings, int(nx), int(ny))
            for settings, (nx, ny) in zip(self.config, grid_sizes)
        ]
        return anchors, [grid.shape[3] * grid.shape[4] for grid in anchors]

    def _anchors_of_class(self, settings: Mapping[str, Any], nx: int, ny: int) -> Tensor:
        sizes = torch.tensor(required(settings, "anchor_sizes", WHERE), dtype=torch.float32).view(
            -1, 3
        )
        rotations = torch.tensor(required(settings, "anchor_rotations", WHERE), dtype=torch.float32)
        bottoms = torch.tensor(
            required(settings, "anchor_bottom_heights", WHERE), dtype=torch.float32
        )
        align_center = settings.get("align_center", False)
        x = _positions(self.anchor_range[0], self.anchor_range[3], nx, align_center)
        y = _positions(self.anchor_range[1], self.anchor_range[4], ny, align_center)
        bottoms, sizes = bottoms.repeat_interleave(len(sizes)), sizes.repeat(len(bottoms), 1)
        anchors = torch.empty(1, ny, nx, len(sizes), len(rotations), 7)
        anchors[..., 0] = x[:, None, None]
        anchors[..., 1] = y[:, None, None, None]
        anchors[..., 2] = (bottoms + sizes[:, 2] / 2)[:, None]
        anchors[..., 3:6] = sizes[:, None, :]
        anchors[..., 6] = rotations
        return anchors


def _positions(lower: float, upper: float, count: int, align_center: bool) -> Tensor:
    """Where anchors stand on one axis: on the cells' centres, or from one end of the range to the other."""
    if align_center:
        step = (upper - lower) / count
        lower = lower + step / 2
    else:
        step = (upper - lower) / max(count - 1, 1)
    return torch.arange(lower, lower + step * (count - 0.5), step, dtype=torch.float32)
