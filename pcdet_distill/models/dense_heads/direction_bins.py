"""DirectionBins: a classifier for the two directions of a heading (SECOND, Sensors 2018)."""

from __future__ import annotations

import dataclasses
from math import pi

import torch
from torch import Tensor

from ...config import required
from ...ops.boxes import limit_period
from ...types import ConfigDict


@dataclasses.dataclass(frozen=True)
class DirectionBins:
    """Bins of the full circle, for heads that regress the heading with a sine.

    The loss sin(a - b) is also zero for a box that faces the opposite way. The regressed heading is
    therefore known modulo half a circle, and a classifier of two bins decides between the two
    directions.

    Attributes:
        count: number of bins, NUM_DIR_BINS.
        offset_rad: where the first bin begins, DIR_OFFSET. Most cars drive along the axes. 45
            degrees keep them away from the borders of the bins.
        limit_offset: DIR_LIMIT_OFFSET, a share of a bin. Before the classified bin is added, the
            regressed heading is shifted by whole bins to [-limit_offset, 1 - limit_offset) bins.
    """

    count: int
    offset_rad: float
    limit_offset: float

    @classmethod
    def from_config(cls, head_cfg: ConfigDict, where: str) -> DirectionBins | None:
        """The bins of a DENSE_HEAD block; None without USE_DIRECTION_CLASSIFIER."""
        if not head_cfg.get("USE_DIRECTION_CLASSIFIER"):
            return None
        return cls(
            count=required(head_cfg, "NUM_DIR_BINS", where),
            offset_rad=required(head_cfg, "DIR_OFFSET", where),
            limit_offset=required(head_cfg, "DIR_LIMIT_OFFSET", where),
        )

    @property
    def width_rad(self) -> float:
        """Angle that one bin covers."""
        return 2 * pi / self.count

    def bin_of(self, heading: Tensor) -> Tensor:
        """Index of the bin, int64 (...), of each heading (...)."""
        from_first_bin = limit_period(heading - self.offset_rad, 0, 2 * pi)
        index = torch.floor(from_first_bin / self.width_rad).long()
        # Rounding may put an angle just below the full circle into a bin that does not exist.
        return index.clamp(0, self.count - 1)

    def correct(self, heading: Tensor, logits: Tensor) -> Tensor:
        """Headings (...) turned into the bin with the highest of the logits (..., count)."""
        within_bin = limit_period(heading - self.offset_rad, self.limit_offset, self.width_rad)
        best_bin = logits.argmax(dim=-1).to(heading.dtype)
        return within_bin + self.offset_rad + self.width_rad * best_bin
