"""Attention transfer (Zagoruyko and Komodakis, ICLR 2017): the student looks where the teacher looks.

With Q_i = sum over channels of |f_ic|^POWER, the attention of a frame as one vector over its nodes:

    L = mean over frames of  || Q_s / ||Q_s|| - Q_t / ||Q_t|| ||^2

It needs no adapter.

Departures: the paper writes the norm; its code, as this one, the square, which has a gradient at zero. That code
averages over the nodes what is summed here, so its weight is for a loss smaller by their number. It adds several layers
up, where a term is one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

from ...models.model_utils.precision import at_least_float32
from ...models.taps import TapInfo
from ...ops.knn import frames_of
from ..nodes import NodeFeatures
from .base import DistillLoss, read_options


@dataclasses.dataclass(frozen=True)
class AttentionTransferOptions:
    """In yaml the names are in capitals.

    Attributes:
        power: of the activations; the larger, the more the strongest channel decides.
    """

    power: float = 2.0


class AttentionTransferLoss(DistillLoss):
    """Squared distance of the normalised attentions of each frame."""

    def __init__(self, options: AttentionTransferOptions | None = None) -> None:
        super().__init__()
        self.options = options or AttentionTransferOptions()

    @classmethod
    def from_config(
        cls, cfg: Mapping[str, Any], student: TapInfo, teacher: TapInfo, where: str
    ) -> AttentionTransferLoss:
        return cls(read_options(AttentionTransferOptions(), cfg, where, ranges={"power": (1, 8)}))

    def forward(
        self, student: NodeFeatures, teacher: NodeFeatures, batch_dict: Mapping[str, Any]
    ) -> Tensor:
        if len(student) == 0:
            return self.zero_loss(student.features)
        with torch.autocast(student.features.device.type, enabled=False):
            own, theirs = self._attention(student.features), self._attention(teacher.features)
            parts = [
                (functional.normalize(own[rows], dim=0) - functional.normalize(theirs[rows], dim=0))
                .square()
                .sum()
                for rows in frames_of(student.batch_index)
            ]
            return torch.stack(parts).mean()

    def _attention(self, features: Tensor) -> Tensor:
        """(N,)"""
        return at_least_float32(features).abs().pow(self.options.power).sum(dim=1)
