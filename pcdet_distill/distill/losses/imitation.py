"""ImitationLoss: what the losses share that regress the teacher's standardised features."""

from __future__ import annotations

from torch import Tensor

from ...models.taps import TapInfo
from .base import NodeLoss
from .features import ChannelStatistics, adapter


class ImitationLoss(NodeLoss):
    """A learned 1x1 convolution of the student's features imitates the standardised ones.

    Args:
        student, teacher: the compared taps.
        options: of the loss.
    """

    def __init__(self, student: TapInfo, teacher: TapInfo, options: object = None) -> None:
        super().__init__(student, teacher, options)
        self.adapter = adapter(student, teacher)
        self.statistics = ChannelStatistics(teacher.channels)

    def distance(self, student: Tensor, teacher: Tensor, weights: Tensor) -> Tensor:
        """Mean squared difference (...) over the channels at each place.

        Args:
            student: (..., C_s).
            teacher: (..., C_t).
            weights: (...) of the places in the statistics of the teacher's channels.
        """
        if self.training:
            self.statistics.update(teacher.flatten(0, -2), weights.flatten())
        difference = self.adapter(student) - self.statistics.standardise(teacher)
        return difference.square().mean(dim=-1)
