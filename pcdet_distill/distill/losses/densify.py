"""Sparse2Dense (Wang et al., NeurIPS 2022): the features of a teacher that sees dense objects.

N are the entries (frame, channel, cell) of the teacher's map that are not zero, E those that are.
With A a learned 1x1 convolution:

    L = OCCUPIED_WEIGHT * mean over N of (A s - t)^2  +  EMPTY_WEIGHT * mean over E of (A s)^2

Behind a ReLU most entries are zero. One mean over all of them would teach the student to be empty.
Each group has its own mean, so the few entries that say something count as much as all others.

The dense points are not the loss's part. The teacher sees more by its own DATA_PROCESSOR: more
beams, several sweeps (cfgs/synthetic/privileged/).

Departures, from the paper and from its published code:

* The paper's student has a module of its own that fills its map (S2D), and learns to reconstruct
  the dense points behind it. The first stays in the detector. Here a detector stays as it is, and
  only learns the features.
* A second pair of maps is compared in the same way, of the reconstruction; there is none here.
* The code compares sparse maps before the 2D backbone. Student and teacher have the same channels
  there, so it has no adapter. N is where t > 0, which behind a ReLU is the same.
* Its weights are 10 and 20 for voxels, so 1 and 2 keep their ratio. For pillars both are 10, after
  2x2 max pooling of both maps, which saves memory.
* Its teacher sees objects made dense from many frames, and also teaches its heat map: add a
  LogitBoxLoss.
"""

from __future__ import annotations

import dataclasses

from torch import Tensor

from ...config import option
from ...types import BatchDict
from .imitation import AdaptedMapLoss


@dataclasses.dataclass(frozen=True)
class DensifyOptions:
    """Weights of the two groups of entries; the paper's ratio."""

    occupied_weight: float = option(
        1.0, at_least=0, help="weight of the entries where the teacher's map is not zero"
    )
    empty_weight: float = option(
        2.0, at_least=0, help="weight of the entries where the teacher's map is zero"
    )


class DensifyLoss(AdaptedMapLoss):
    """Squared difference from the teacher's map; its zeros and all other entries apart."""

    options_class = DensifyOptions

    options: DensifyOptions

    def compute(self, student: Tensor, teacher: Tensor, batch_dict: BatchDict) -> Tensor:
        """The loss, a scalar, between maps (B, C_s, H, W) and (B, C_t, H, W)."""
        squares = (self.adapter(student) - teacher).square()
        is_occupied = teacher != 0
        self.logs["occupied"] = is_occupied.float().mean()
        occupied = mean_where(squares, is_occupied)
        empty = mean_where(squares, ~is_occupied)
        return self.options.occupied_weight * occupied + self.options.empty_weight * empty


def mean_where(values: Tensor, is_chosen: Tensor) -> Tensor:
    """Mean of the chosen values, 0 if there are none."""
    return (values * is_chosen).sum() / is_chosen.sum().clamp_min(1)
