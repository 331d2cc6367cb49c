"""What the losses between features share: adapters, maps of nodes, statistics of the teacher's channels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ConfigError, DataError
from ...models.model_utils.precision import at_least_float32
from ...models.taps import TapInfo
from ..nodes import NodeFeatures

CALIBRATION_STEPS = (
    20  # batches whose statistics are averaged; then they stay, so that targets hold still
)
SMALLEST_SPREAD = 1e-3
SCORES = ("saliency", "objectness")


def score_of(teacher: NodeFeatures, score: str) -> Tensor:
    """(N,) how much each node matters: its ``saliency``, or the ``objectness`` the teacher's head gives its place."""
    if score == "saliency":
        return teacher.saliency
    if teacher.objectness is None:
        raise DataError(
            "SCORE is objectness, but the teacher's nodes carry none; see with_objectness in nodes.py"
        )
    return teacher.objectness


def adapter(student: TapInfo, teacher: TapInfo) -> nn.Linear:
    """A 1x1 convolution from the student's channels to the teacher's, for rows of nodes."""
    return nn.Linear(student.channels, teacher.channels)


def whole_maps_only(where: str, name: str, *taps: Any) -> None:
    """Refuse taps whose nodes do not fill a map."""
    for tap in taps:
        if tap.kind != "bev":
            raise ConfigError(
                f"{where}: {name} compares whole maps, but tap '{tap.path}' gives {tap.kind} features; "
                "name a bev tap"
            )


def as_map(nodes: NodeFeatures) -> Tensor:
    """(B, C, H, W) of nodes that are cells of a grid on the ground; cells without a node are zero."""
    assert nodes.cells is not None and nodes.grid is not None
    width, height, _ = nodes.grid.size
    frames = int(nodes.batch_index[-1]) + 1 if len(nodes) else 0
    features = at_least_float32(nodes.features)
    place = (nodes.batch_index * height + nodes.cells[:, 1]) * width + nodes.cells[:, 2]
    if len(nodes) < frames * height * width:
        features = features.new_zeros(frames * height * width, features.shape[1]).index_copy(
            0, place, features
        )
    return features.view(frames, height, width, -1).permute(0, 3, 1, 2)


class ChannelStatistics(nn.Module):
    """Mean and spread of each channel of the teacher, averaged over the first training batches, then fixed.

    They are saved with the distillation, so that a resumed training goes on with the same targets.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.square: Tensor
        self.steps: Tensor
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("square", torch.ones(channels))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def observe(self, features: Tensor, weights: Tensor) -> None:
        """Take part in the average: (N, C) rows, each with a weight (N,)."""
        share = weights / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)
        step = (1 / (self.steps + 1)) * (self.steps < CALIBRATION_STEPS)
        first = self.steps == 0
        for buffer, values in ((self.mean, features), (self.square, features.square())):
            own = (values * share[:, None]).sum(dim=0).to(buffer.dtype)
            buffer.copy_(torch.where(first, own, buffer + (own - buffer) * step))
        self.steps += 1

    def standardise(self, features: Tensor) -> Tensor:
        """Zero mean and unit spread per channel."""
        spread = (self.square - self.mean.square()).clamp_min(0).sqrt().clamp_min(SMALLEST_SPREAD)
        return (features - self.mean) / spread
