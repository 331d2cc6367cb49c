"""A comprehensive overhaul of feature distillation (Heo et al., ICCV 2019).

The teacher's features t are taken before their ReLU, and cut at a margin m below zero:

    t' = max(t, m),   m_c = mean of the negative values of channel c
    s' = batch norm of a 1x1 convolution of s
    d(t', s') = 0 where s' <= t' <= 0, else (t' - s')^2
    L = mean over nodes and channels of d

The student need not reproduce negative values exactly: the ReLU turns both into zero. A tap behind
the ReLU has no negative values. Then m = 0, and the student may have any negative value where the
teacher has a zero.

Departures: the paper computes m from the teacher's batch norm; here it is averaged over the first
training batches, which works for any tap. A term is one layer, where the paper adds up several, in
its code each with half the weight of the next deeper one. L is a mean, where it sums over a frame.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...models.taps import TapInfo
from ...types import BatchDict
from ..nodes import NodeFeatures
from .base import NodeLoss, NoOptions
from .features import calibration_step


class OverhaulLoss(NodeLoss):
    """Partial squared distance to the teacher's features behind a margin ReLU."""

    margin: Tensor
    steps: Tensor

    def __init__(
        self, student: TapInfo, teacher: TapInfo, options: NoOptions | None = None
    ) -> None:
        super().__init__(student, teacher, options)
        self.adapter = nn.Linear(student.channels, teacher.channels, bias=False)
        self.norm = nn.BatchNorm1d(teacher.channels)
        self.register_buffer("margin", torch.zeros(teacher.channels))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def compute(
        self, student: NodeFeatures, teacher: NodeFeatures, batch_dict: BatchDict
    ) -> Tensor:
        """The loss, a scalar, between matched nodes."""
        if len(student) < 2:  # batch norm needs two rows for a variance
            return self.zero_loss(student.features)
        if self.training:
            self._update_margin(teacher.features)
        target = torch.maximum(teacher.features, self.margin)
        adapted = self.norm(self.adapter(student.features))
        return partial_distance(target, adapted).mean()

    @torch.no_grad()
    def _update_margin(self, features: Tensor) -> None:
        """Average the mean negative value of each channel of (N, C) over the first batches.

        A channel without a negative value counts as 0.
        """
        is_negative = features < 0
        count = is_negative.sum(dim=0).clamp_min(1)
        mean = (features * is_negative).sum(dim=0) / count
        step = calibration_step(self.steps)
        self.margin += (mean.to(self.margin.dtype) - self.margin) * step
        self.steps += 1


def partial_distance(teacher: Tensor, student: Tensor) -> Tensor:
    """Squared differences (N, C); zero where student <= teacher <= 0."""
    is_equal_after_relu = (student <= teacher) & (teacher <= 0)
    return (teacher - student).square().masked_fill(is_equal_after_relu, 0)
