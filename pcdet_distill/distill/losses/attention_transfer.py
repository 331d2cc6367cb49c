"""Attention transfer (Zagoruyko and Komodakis, ICLR 2017): activity where the teacher is active.

With Q_i = sum over channels c of |f_ic|^POWER, the attention of a frame as one vector over its
nodes:

    L = mean over frames of  || Q_s / ||Q_s|| - Q_t / ||Q_t|| ||^2

Channels are summed up, so student and teacher may differ in their number and no adapter is needed.

Departures: the paper writes the norm; its code, as this one, the square, which has a gradient at
zero. That code averages over the nodes what is summed here, so a weight from there must be divided
by their number. It adds up several layers, where a term is one.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor
from torch.nn import functional

from ...config import option
from ...ops.frames import frames_of
from ...types import BatchDict
from ..nodes import NodeFeatures
from .base import NodeLoss


@dataclasses.dataclass(frozen=True)
class AttentionTransferOptions:
    """How channels become attention."""

    power: float = option(
        2.0,
        at_least=1,
        at_most=8,
        help="exponent of the activations; the larger, the more the strongest channel counts",
    )


class AttentionTransferLoss(NodeLoss):
    """Squared distance of the normalised attentions of each frame."""

    options_class = AttentionTransferOptions

    options: AttentionTransferOptions

    def compute(
        self, student: NodeFeatures, teacher: NodeFeatures, batch_dict: BatchDict
    ) -> Tensor:
        """The loss, a scalar, between matched nodes."""
        student_attention = self._attention(student.features)
        teacher_attention = self._attention(teacher.features)
        distances = []
        for rows in frames_of(student.batch_index):
            student_frame = functional.normalize(student_attention[rows], dim=0)
            teacher_frame = functional.normalize(teacher_attention[rows], dim=0)
            distances.append((student_frame - teacher_frame).square().sum())
        return torch.stack(distances).mean()

    def _attention(self, features: Tensor) -> Tensor:
        """Q (N,) of features (N, C)."""
        return features.abs().pow(self.options.power).sum(dim=1)
