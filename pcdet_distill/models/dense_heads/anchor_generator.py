"""AnchorGenerator: boxes of fixed sizes and headings on a regular grid (SECOND, Sensors 2018).

Everything is computed in float32 and rounded as OpenPCDet rounds it. A box may overlap several
anchors equally, and the last digit then decides which of them becomes positive.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...config import required
from ...types import ConfigDict

WHERE = "MODEL.DENSE_HEAD.ANCHOR_GENERATOR_CONFIG"
BOX_SIZE = 7  # x, y, z, dx, dy, dz, heading


class AnchorGenerator:
    """Makes the anchors of every class.

    Args:
        anchor_range: metres; x, y, z minimum, then maximum.
        anchor_generator_config: an entry for every class.
    """

    def __init__(
        self, anchor_range: Sequence[float], anchor_generator_config: Sequence[ConfigDict]
    ) -> None:
        self.anchor_range = [float(limit) for limit in anchor_range]
        self.config = list(anchor_generator_config)

    def generate_anchors(
        self, grid_sizes: Sequence[Sequence[int]]
    ) -> tuple[list[Tensor], list[int]]:
        """Anchors on feature maps of ``grid_sizes`` (nx, ny), one for each class.

        Returns:
            per class anchors (1, ny, nx, sizes, rotations, 7), and their number in one cell. Every
            size occurs once for each bottom height.
        """
        grids = []
        for settings, (nx, ny) in zip(self.config, grid_sizes):
            grids.append(self._anchors_of_class(settings, int(nx), int(ny)))
        num_in_cell = [grid.shape[3] * grid.shape[4] for grid in grids]
        return grids, num_in_cell

    def _anchors_of_class(self, settings: ConfigDict, nx: int, ny: int) -> Tensor:
        sizes = _float_tensor(settings, "anchor_sizes").view(-1, 3)
        rotations = _float_tensor(settings, "anchor_rotations")
        bottoms = _float_tensor(settings, "anchor_bottom_heights")
        # All sizes at the first height, then all at the second.
        bottoms_of_sizes = bottoms.repeat_interleave(len(sizes))
        sizes = sizes.repeat(len(bottoms), 1)
        align_center = settings.get("align_center", False)
        x_min, y_min, _, x_max, y_max, _ = self.anchor_range
        x = _positions(x_min, x_max, nx, align_center)
        y = _positions(y_min, y_max, ny, align_center)
        anchors = torch.empty(1, ny, nx, len(sizes), len(rotations), BOX_SIZE)
        anchors[..., 0] = x[:, None, None]
        anchors[..., 1] = y[:, None, None, None]
        # The config gives the height of the bottom, a box that of its centre.
        anchors[..., 2] = (bottoms_of_sizes + sizes[:, 2] / 2)[:, None]
        anchors[..., 3:6] = sizes[:, None, :]
        anchors[..., 6] = rotations
        return anchors


def _float_tensor(settings: ConfigDict, key: str) -> Tensor:
    return torch.tensor(required(settings, key, WHERE), dtype=torch.float32)


def _positions(lower: float, upper: float, count: int, align_center: bool) -> Tensor:
    """Where anchors stand along one axis: (count,) metres.

    With ``align_center`` they stand on the centres of the cells. Otherwise they are spread from one
    end of the range to the other, the default of SECOND: up to half a cell beside the centre.
    """
    if align_center:
        step = (upper - lower) / count
        lower = lower + step / 2
    else:
        step = (upper - lower) / max(count - 1, 1)
    # The end lies half a step behind the last position, so that rounding adds or drops none.
    return torch.arange(lower, lower + step * (count - 0.5), step, dtype=torch.float32)
