"""SLICE: measures batch norm statistics again, where dropped channels have changed the input."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from ...models import Detector3DTemplate
from ...types import BatchDict
from .layers import Layer, run_detector
from .plan import ChannelPlan
from .proposals import TeacherPredictions


@torch.no_grad()
def measure_norms(
    student: Detector3DTemplate,
    plan: ChannelPlan,
    batches: Sequence[BatchDict],
    predictions: TeacherPredictions,
) -> int:
    """Set the running statistics of all norms whose input is not the teacher's.

    Each norm first uses the statistics of the batch, as in training, so that the layers behind it
    get normalised features. In the end it keeps mean and variance over the rows of all batches.

    Returns the number of these norms.
    """
    norms = {
        name: plan.student_layers[name]
        for name, flow in plan.flows.items()
        if flow.layer.is_norm and not plan.is_exact(name)
    }
    totals = {name: RowMoments() for name in norms}

    def measure(layer: Layer, inputs: tuple[Tensor, ...]) -> None:
        # Weighted batch norms get as a second input how many points each row stands for.
        row_weights = inputs[1] if len(inputs) > 1 else None
        moments = RowMoments.of(layer.as_rows(inputs[0]), row_weights)
        totals[layer.name].merge(moments)
        # A norm in training divides the batch's squared deviations by their number...
        moments.write_to(layer.module, divisor=moments.count)

    with ExitStack() as handles:
        for layer in norms.values():
            handle = layer.module.register_forward_pre_hook(
                lambda _, inputs, layer=layer: measure(layer, inputs)
            )
            handles.callback(handle.remove)
        for number, batch in enumerate(batches):
            with predictions.replayed(plan.student_layers, number):
                run_detector(student, batch)
    for name, layer in norms.items():
        # ...and keeps in its running variance the unbiased estimate.
        totals[name].write_to(layer.module, divisor=totals[name].count - 1)
    return len(norms)


class RowMoments:
    """Count, mean and squared deviations of rows (R, C), in float64."""

    def __init__(self) -> None:
        self.count = 0.0
        self.mean = torch.zeros((), dtype=torch.float64)
        self.squares = torch.zeros((), dtype=torch.float64)

    @classmethod
    def of(cls, rows: Tensor, row_weights: Tensor | None = None) -> RowMoments:
        """Of rows that count ``row_weights`` (R,) times each, once by default."""
        moments = cls()
        if len(rows) == 0:
            return moments
        rows = rows.double()
        weights = rows.new_ones(len(rows)) if row_weights is None else row_weights.double()
        column = weights[:, None]
        moments.count = float(weights.sum())
        moments.mean = (rows * column).sum(dim=0) / moments.count
        moments.squares = ((rows - moments.mean).square() * column).sum(dim=0)
        return moments

    def merge(self, other: RowMoments) -> None:
        """Add the rows of ``other`` (Chan, Golub and LeVeque, 1979)."""
        if other.count == 0:
            return
        total = self.count + other.count
        step = other.mean - self.mean
        between = step * step * (self.count * other.count / total)
        self.squares = self.squares + other.squares + between
        self.mean = self.mean + step * (other.count / total)
        self.count = total

    def write_to(self, norm: _BatchNorm, divisor: float) -> None:
        """Set a norm's running mean and variance, unless there were fewer than two rows.

        Args:
            norm: a batch norm.
            divisor: of the squared deviations.
        """
        if self.count > 1:
            assert norm.running_mean is not None and norm.running_var is not None
            norm.running_mean.copy_(self.mean)
            norm.running_var.copy_(self.squares / divisor)
