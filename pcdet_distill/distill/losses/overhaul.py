"""A comprehensive overhaul of feature distillation (Heo et al., ICCV 2019): margin ReLU and partial distance.

The teacher's features are taken before their ReLU, t, and its harmless depths are cut at a margin below zero:

    t' = max(t, m),   m_c = mean of the negative values of channel c
    d(t', s') = 0 where s' <= t' <= 0, else (t' - s')^2,      s' = batch norm of a 1x1 convolution of s
    L = mean over nodes and channels of d

Negative values the student need not reproduce exactly: both leave zero behind the ReLU. A tap behind the ReLU has no
negative values; then m = 0, and the student may put any negative value where the teacher has a zero.

Departures: the paper computes m from the teacher's batch norm; here it is averaged over the first training batches,
which serves any tap. A term is one layer, where the paper adds several up, in its code each with half the weight of the
next deeper one, and a mean, where it sums over a frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...models.model_utils.precision import at_least_float32
from ...models.taps import TapInfo
from ..nodes import NodeFeatures
from .base import DistillLoss, no_options
from .features import CALIBRATION_STEPS


class OverhaulLoss(DistillLoss):
    """Partial squared distance to the teacher's features behind a margin ReLU."""

    def __init__(self, student: TapInfo, teacher: TapInfo) -> None:
        super().__init__()
        self.adapter = nn.Linear(student.channels, teacher.channels, bias=False)
        self.norm = nn.BatchNorm1d(teacher.channels)
        self.margin: Tensor
        self.steps: Tensor
        self.register_buffer("margin", torch.zeros(teacher.channels))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    @classmethod
    def from_config(
        cls, cfg: Mapping[str, Any], student: TapInfo, teacher: TapInfo, where: str
    ) -> OverhaulLoss:
        no_options(cfg, where)
        return cls(student, teacher)

    def forward(
        self, student: NodeFeatures, teacher: NodeFeatures, batch_dict: Mapping[str, Any]
    ) -> Tensor:
        if len(student) < 2:  # batch norm knows no spread of a single row
            return self.zero_loss(student.features)
        with torch.autocast(student.features.device.type, enabled=False):
            theirs = at_least_float32(teacher.features)
            if self.training:
                self._learn_margin(theirs)
            adapted = self.norm(self.adapter(at_least_float32(student.features)))
            return partial_distance(torch.maximum(theirs, self.margin), adapted).mean()

    @torch.no_grad()
    def _learn_margin(self, features: Tensor) -> None:
        """Average the mean negative value of each channel (N, C), of channels that have one, over the first batches."""
        below = features < 0
        mean = (features * below).sum(dim=0) / below.sum(dim=0).clamp_min(1)
        step = (1 / (self.steps + 1)) * (self.steps < CALIBRATION_STEPS)
        self.margin += (mean.to(self.margin.dtype) - self.margin) * step
        self.steps += 1


def partial_distance(teacher: Tensor, student: Tensor) -> Tensor:
    """Squared differences (N, C), zero where the student is below a teacher that is not positive."""
    harmless = (student <= teacher) & (teacher <= 0)
    return (teacher - student).square().masked_fill(harmless, 0)
