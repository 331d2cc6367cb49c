"""What the losses share in which an adapted student imitates its teacher."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from ...models.taps import TapInfo
from .base import MapLoss, NodeLoss
from .features import ChannelStatistics, adapter


class ImitationLoss(NodeLoss):
    """A learned 1x1 convolution of the student's features imitates the standardised ones.

    Args:
        student, teacher: the compared taps.
        options: of the loss.
        adapted: whether there is a convolution; False for a loss that compares no channels.
    """

    def __init__(
        self, student: TapInfo, teacher: TapInfo, options: object = None, *, adapted: bool = True
    ) -> None:
        super().__init__(student, teacher, options)
        self.adapter = adapter(student, teacher) if adapted else None
        self.statistics = ChannelStatistics(teacher.channels)

    def adapt(self, student: Tensor) -> Tensor:
        """(..., C_t) of the student's features (..., C_s)."""
        assert self.adapter is not None
        return self.adapter(student)

    def observe(self, teacher: Tensor, weights: Tensor) -> None:
        """While training, take features (..., C_t) with weights (...) into the statistics."""
        if self.training:
            self.statistics.update(teacher.flatten(0, -2), weights.flatten())

    def target(self, teacher: Tensor) -> Tensor:
        """The teacher's features (..., C_t), standardised in every channel."""
        return self.statistics.standardise(teacher)

    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Mean squared difference (...) over the channels at each place.

        Args:
            student: (..., C_s).
            teacher: (..., C_t).
        """
        return (self.adapt(student) - self.target(teacher)).square().mean(dim=-1)

    def common_space(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor] | None:
        """The student's features behind the convolution, and the teacher's, standardised."""
        if self.adapter is None:
            return None
        return self.adapt(student), self.target(teacher)


class AdaptedMapLoss(MapLoss):
    """Compares the teacher's map with the student's behind a learned 1x1 convolution.

    Args:
        student, teacher: the compared taps.
        options: of the loss.
    """

    def __init__(self, student: TapInfo, teacher: TapInfo, options: object = None) -> None:
        super().__init__(student, teacher, options)
        self.adapter = nn.Conv2d(student.channels, teacher.channels, 1)

    def common_space(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor] | None:
        """The student's cells behind the convolution, and the teacher's as they are."""
        weight = self.adapter.weight.flatten(1)
        return functional.linear(student, weight, self.adapter.bias), teacher
