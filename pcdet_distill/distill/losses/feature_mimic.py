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
from ...types import BatchDict
from ..nodes import NodeFeatures
from .base import NodeLoss, NoOptions
from .features import adapter
from .node_details import NodeDetails


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

    @torch.no_grad()
    def details(
        self, student: NodeFeatures, teacher: NodeFeatures, batch_dict: BatchDict
    ) -> NodeDetails:
        """All nodes count the same."""
        difference = self.adapter(student.features) - teacher.features
        values = difference.square().mean(dim=1) / (2 * len(student))
        return NodeDetails.of_nodes(torch.ones_like(values), values)

    def common_space(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """The student's features behind the convolution, and the teacher's as they are."""
        return self.adapter(student), teacher
