"""Feature mimic of FitNets (Romero et al., ICLR 2015): the student's features, adapted, equal the teacher's.

    L = 1/2 * mean over nodes and channels of (A s_i - t_i)^2,    A a 1x1 convolution that is learned

Departures: the paper trains up to the tap by this loss alone and goes on without it; here it acts beside the detection
loss. The mean stands for the paper's sum. A is linear, where the paper's regressor is a convolution that ends in the
teacher's own non-linearity.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...models.model_utils.precision import at_least_float32
from ...models.taps import TapInfo
from ..nodes import NodeFeatures
from .base import DistillLoss, no_options
from .features import adapter


class FeatureMimicLoss(DistillLoss):
    """Mean squared difference at every node."""

    def __init__(self, student: TapInfo, teacher: TapInfo) -> None:
        super().__init__()
        self.adapter = adapter(student, teacher)

    @classmethod
    def from_config(
        cls, cfg: Mapping[str, Any], student: TapInfo, teacher: TapInfo, where: str
    ) -> FeatureMimicLoss:
        no_options(cfg, where)
        return cls(student, teacher)

    def forward(
        self, student: NodeFeatures, teacher: NodeFeatures, batch_dict: Mapping[str, Any]
    ) -> Tensor:
        if len(student) == 0:
            return self.zero_loss(student.features)
        with torch.autocast(student.features.device.type, enabled=False):
            difference = self.adapter(at_least_float32(student.features)) - at_least_float32(
                teacher.features
            )
            return difference.square().mean() / 2
