"""Feature mimic of FitNets (Romero et al., ICLR 2015): adapted features equal the teacher's.

    L = 1/2 * mean over nodes and channels of (A s_i - t_i)^2,    A a learned 1x1 convolution

Departures: the paper trains the student up to the tap by this loss alone, then goes on without it;
here it acts beside the detection loss. The mean replaces the paper's sum. A is linear, where the
paper's regressor is a convolution followed by the teacher's own non-linearity.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...models.taps import TapInfo
from ...ops.precision import at_least_float32
from ...types import BatchDict
from ..nodes import NodeFeatures
from .base import NodeLoss, NoOptions
from .features import adapter


class FeatureMimicLoss(NodeLoss):
    """Mean squared difference at every node."""

    def __init__(
        self, student: TapInfo, teacher: TapInfo, options: NoOptions | None = None
    ) -> None:
        super().__init__(student, teacher, options)
        self.adapter = adapter(student, teacher)

    def forward(
        self, student: NodeFeatures, teacher: NodeFeatures, batch_dict: BatchDict
    ) -> Tensor:
        """The loss, a scalar, between matched nodes."""
        if len(student) == 0:
            return self.zero_loss(student.features)
        with torch.autocast(student.features.device.type, enabled=False):
            adapted = self.adapter(at_least_float32(student.features))
            target = at_least_float32(teacher.features)
            return (adapted - target).square().mean() / 2
