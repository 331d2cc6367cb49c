"""Contrastive representation distillation (Tian et al., ICLR 2020) as InfoNCE over nodes.

Each node of the student must find the teacher's node of the same place among M places of the batch:

    z_i = W_s s_i and z'_i = W_t t_i, divided by their norms
    L = -1/M * sum_i log( exp(z_i z'_i / T) / sum_j exp(z_i z'_j / T) )

Both embeddings W are learned. They cannot collapse: an embedding that ignores its input makes all
places look alike, which costs log M and not 0.

Departures: the paper distinguishes one right pair from 16384 wrong ones by binary decisions (NCE).
It does so in both directions, its code in 128 channels with T = 0.07. The wrong ones are whole
images of other classes, from a memory that is a moving average of their embeddings and passes no
gradient on. Here the wrong ones are the other places of the batch, of any class, with gradients on
both sides. The decision is one among M, in one direction. The options below have other defaults.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...config import option
from ...models.taps import TapInfo
from ...ops.frames import best_rows, frames_of
from ...types import BatchDict
from ..nodes import NodeFeatures
from .base import NodeLoss
from .features import SCORES, score_of


@dataclasses.dataclass(frozen=True)
class ContrastiveOptions:
    """Which places take part, and how they are embedded."""

    num_nodes: int = option(256, above=0, help="places of each frame that take part")
    sampling: str = option(
        "top",
        choices=("top", "random"),
        help="take the places of the highest score, or random ones; most random ones are empty",
    )
    score: str = option(
        "saliency", choices=SCORES, help="score of the teacher's nodes, for SAMPLING: top"
    )
    embed_dim: int = option(64, above=0, help="channels of the embeddings")
    temperature: float = option(
        0.1, above=0, help="T; a small one concentrates the loss on the most similar wrong places"
    )


class ContrastiveLoss(NodeLoss):
    """Cross entropy of the decision which teacher's node belongs to a node of the student."""

    options_class = ContrastiveOptions

    options: ContrastiveOptions

    def __init__(
        self, student: TapInfo, teacher: TapInfo, options: ContrastiveOptions | None = None
    ) -> None:
        super().__init__(student, teacher, options)
        width = self.options.embed_dim
        self.student_embedding = nn.Linear(student.channels, width)
        self.teacher_embedding = nn.Linear(teacher.channels, width)

    def compute(
        self, student: NodeFeatures, teacher: NodeFeatures, batch_dict: BatchDict
    ) -> Tensor:
        """The loss, a scalar, between matched nodes. Logs how often the right place is found."""
        rows = self._sample(teacher)
        student_embedding = self.student_embedding(student.features[rows])
        student_embedding = functional.normalize(student_embedding, dim=1)
        teacher_embedding = self.teacher_embedding(teacher.features[rows])
        teacher_embedding = functional.normalize(teacher_embedding, dim=1)
        similarity = student_embedding @ teacher_embedding.T / self.options.temperature
        right_place = torch.arange(len(rows), device=rows.device)
        is_found = similarity.detach().argmax(dim=1) == right_place
        self.logs["found"] = is_found.float().mean()
        return functional.cross_entropy(similarity, right_place)

    @torch.no_grad()
    def _sample(self, teacher: NodeFeatures) -> Tensor:
        """Rows (M,) that take part."""
        if self.options.sampling == "random":
            score = torch.rand(len(teacher), device=teacher.batch_index.device)
        else:
            score = score_of(teacher, self.options.score)
        chosen = []
        for rows in frames_of(teacher.batch_index):
            chosen.append(best_rows(score, rows, self.options.num_nodes))
        return torch.cat(chosen)
