"""Shared by losses between features: adapters, scores of nodes, statistics of channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...errors import DataError
from ...models.taps import TapInfo
from ...moved import forward_names
from ...types import ConfigDict
from ..nodes import NodeFeatures

# Statistics of the teacher are averaged over this many batches. Later they stay, so that the
# targets of the student do not move.
CALIBRATION_STEPS = 20
SMALLEST_SPREAD = 1e-3
SCORES = ("saliency", "objectness")


def score_of(teacher: NodeFeatures, score: str) -> Tensor:
    """How much each node (N,) matters.

    ``saliency`` comes with the nodes; ``objectness`` is the largest class score at their places.
    """
    if score == "saliency":
        return teacher.saliency
    if teacher.objectness is None:
        raise DataError(
            "SCORE is objectness, but the teacher's nodes carry none; see with_objectness, or "
            "choose another SCORE"
        )
    return teacher.objectness


def with_score(cfg: ConfigDict, teacher_has_scores: bool, otherwise: str) -> ConfigDict:
    """A term's block in which SCORE is given.

    By default it is the objectness if there are class scores: those that the teacher publishes, or
    the tap SCORE_TAP.

    Args:
        cfg: the block.
        teacher_has_scores: whether the teacher publishes its class scores.
        otherwise: the SCORE of a teacher without.
    """
    if cfg.get("SCORE") is not None:
        return cfg
    has_scores = teacher_has_scores or cfg.get("SCORE_TAP") is not None
    return {**cfg, "SCORE": "objectness" if has_scores else otherwise}


def adapter(student: TapInfo, teacher: TapInfo) -> nn.Linear:
    """A 1x1 convolution from the student's channels to the teacher's, for rows of nodes."""
    return nn.Linear(student.channels, teacher.channels)


def calibration_step(steps: Tensor) -> Tensor:
    """How far a mean moves towards the next batch, after ``steps`` batches.

    Steps of 1/n make it the mean of n batches. After CALIBRATION_STEPS it stays.
    """
    return (1 / (steps + 1)) * (steps < CALIBRATION_STEPS)


class ChannelStatistics(nn.Module):
    """Mean and spread of each channel of the teacher, averaged over the first training batches.

    They are buffers of the loss, so that a resumed training has the same targets.
    """

    mean: Tensor
    square: Tensor
    steps: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("square", torch.ones(channels))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def update(self, features: Tensor, weights: Tensor) -> None:
        """Add one batch to the average: rows (N, C), each with a weight (N,)."""
        share = weights / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)
        step = calibration_step(self.steps)
        self._average(self.mean, features, share, step)
        self._average(self.square, features.square(), share, step)
        self.steps += 1

    def _average(self, buffer: Tensor, values: Tensor, share: Tensor, step: Tensor) -> None:
        batch_mean = (values * share[:, None]).sum(dim=0).to(buffer.dtype)
        updated = buffer + (batch_mean - buffer) * step
        buffer.copy_(torch.where(self.steps == 0, batch_mean, updated))

    def standardise(self, features: Tensor) -> Tensor:
        """Zero mean and unit spread in every channel."""
        variance = (self.square - self.mean.square()).clamp_min(0)
        spread = variance.sqrt().clamp_min(SMALLEST_SPREAD)
        return (features - self.mean) / spread


# Old names, for one more version.
__getattr__ = forward_names(__name__, "pcdet_distill.distill.nodes", ["as_map"])
