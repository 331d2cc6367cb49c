"""Contrastive representation distillation (Tian et al., ICLR 2020), in the form for dense features: InfoNCE over nodes.

The student's node must find the teacher's node of the same place among those of M places of the whole batch:

    z = normalised embeddings W_s s, W_t t;    L = -1/M * sum_i log( exp(z_i z'_i / T) / sum_j exp(z_i z'_j / T) )

Both embeddings are learned: to ignore their input would make all places look alike, which costs log M and not 0.

Departures: the paper tells one right pair from 16384 wrong ones by the sum of binary decisions (NCE), once with the
student's embedding and once with the teacher's; its code does so in 128 channels with T = 0.07. The wrong ones are
whole images of other classes, from a memory that is a moving average of their embeddings and passes no gradient on.
Here they are the other places of the batch, of any class, with gradients on both sides; the decision is one among M, in
one direction, and the defaults are the options' below.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from ...models.model_utils.precision import at_least_float32
from ...models.taps import TapInfo
from ...ops.knn import frames_of
from ..nodes import NodeFeatures
from .base import DistillLoss, read_options
from .features import SCORES, score_of


@dataclasses.dataclass(frozen=True)
class ContrastiveOptions:
    """In yaml the names are in capitals.

    Attributes:
        num_nodes: places of each frame that take part.
        sampling: ``top``, the teacher's nodes of the highest score, or ``random``. Empty cells all look alike.
        score: ``saliency`` or ``objectness``, for ``top``.
        embed_dim: channels of the embeddings.
        temperature: T.
    """

    num_nodes: int = 256
    sampling: str = "top"
    score: str = "saliency"
    embed_dim: int = 64
    temperature: float = 0.1


class ContrastiveLoss(DistillLoss):
    """Which of the teacher's nodes belongs to this one of the student."""

    def __init__(
        self, student: TapInfo, teacher: TapInfo, options: ContrastiveOptions | None = None
    ) -> None:
        super().__init__()
        self.options = options = options or ContrastiveOptions()
        self.student_embedding = nn.Linear(student.channels, options.embed_dim)
        self.teacher_embedding = nn.Linear(teacher.channels, options.embed_dim)

    @classmethod
    def from_config(
        cls, cfg: Mapping[str, Any], student: TapInfo, teacher: TapInfo, where: str
    ) -> ContrastiveLoss:
        choices = {"sampling": ("top", "random"), "score": SCORES}
        return cls(student, teacher, read_options(ContrastiveOptions(), cfg, where, choices))

    def forward(
        self, student: NodeFeatures, teacher: NodeFeatures, batch_dict: Mapping[str, Any]
    ) -> Tensor:
        rows = self._sample(teacher)
        if len(rows) == 0:
            return self.zero_loss(student.features)
        with torch.autocast(student.features.device.type, enabled=False):
            own = functional.normalize(
                self.student_embedding(at_least_float32(student.features[rows])), dim=1
            )
            theirs = functional.normalize(
                self.teacher_embedding(at_least_float32(teacher.features[rows])), dim=1
            )
            alike = own @ theirs.T / self.options.temperature
            right = torch.arange(len(rows), device=rows.device)
            self.logs["found"] = (alike.detach().argmax(dim=1) == right).float().mean()
            return functional.cross_entropy(alike, right)

    @torch.no_grad()
    def _sample(self, teacher: NodeFeatures) -> Tensor:
        """Rows (M,) that take part."""
        if self.options.sampling == "random":
            score = torch.rand(len(teacher), device=teacher.batch_index.device)
        else:
            score = score_of(teacher, self.options.score)
        chosen = [teacher.batch_index.new_zeros(0)]
        for rows in frames_of(teacher.batch_index):
            chosen.append(rows[score[rows].topk(min(self.options.num_nodes, len(rows))).indices])
        return torch.cat(chosen)
