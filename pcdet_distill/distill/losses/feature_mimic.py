"""Feature mimic of FitNets (Romero et al., ICLR 2015): adapted features equal the teacher's.

    L = 1/2 * mean over nodes and channels of (A s_i - t_i)^2,    A a learned 1x1 convolution

Departures: the paper trains the student up to the tap by this loss alone, then goes on without it;
here it acts beside the detection loss. The mean replaces the paper's sum. A is linear, where the
paper's regressor is a convolution followed by the teacher's own non-linearity.
"""

from __future__ import annotations

from torch import Tensor

from ...models.taps import TapInfo
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

    def compute(
        self, student: NodeFeatures, teacher: NodeFeatures, batch_dict: BatchDict
    ) -> Tensor:
        """The loss, a scalar, between matched nodes."""
        difference = self.adapter(student.features) - teacher.features
        return difference.square().mean() / 2
