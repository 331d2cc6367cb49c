"""Similarity-preserving distillation (Tung and Mori, ICCV 2019): similarities within a batch.

With one row of Q for everything that is compared, n rows:

    G = rows of (Q Q^T), each divided by its norm;    L = 1 / n^2 * || G_s - G_t ||_F^2

G has no channels, so student and teacher may differ in their number and no adapter is needed.

OVER: frames is the paper: a row of Q is a whole frame, and n is the batch size. A detector's batch
has few frames, and one of a single frame gives no gradient. OVER: nodes is an addition: the rows
are the NUM_NODES best nodes of a frame, and L is averaged over the frames.

Departures: OVER: nodes is not in the paper.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor
from torch.nn import functional

from ...config import option
from ...models.taps import TapInfo
from ...ops.frames import best_rows, frames_of
from ...types import BatchDict, ConfigDict
from ..nodes import NodeFeatures, as_map
from ..term_inputs import require_map
from .base import NodeLoss
from .features import SCORES, score_of


@dataclasses.dataclass(frozen=True)
class SimilarityOptions:
    """What is compared with each other."""

    over: str = option(
        "frames",
        choices=("frames", "nodes"),
        help="compare the frames of a batch, or the best nodes of each frame",
    )
    num_nodes: int = option(512, above=0, help="nodes of each frame, for OVER: nodes")
    score: str = option(
        "saliency",
        choices=SCORES,
        help="score of the teacher's nodes by which the best are taken, for OVER: nodes",
    )


class SimilarityLoss(NodeLoss):
    """Squared difference of the similarities among frames, or among the nodes of a frame."""

    options_class = SimilarityOptions

    options: SimilarityOptions

    @classmethod
    def options_from_config(
        cls, cfg: ConfigDict, student: TapInfo, teacher: TapInfo, where: str
    ) -> SimilarityOptions:
        """The options in ``cfg``. Frames are only compared by whole maps."""
        options = super().options_from_config(cfg, student, teacher, where)
        if options.over == "frames":
            require_map(student, "SimilarityLoss with OVER: frames", where)
            require_map(teacher, "SimilarityLoss with OVER: frames", where)
        return options

    def compute(
        self, student: NodeFeatures, teacher: NodeFeatures, batch_dict: BatchDict
    ) -> Tensor:
        """The loss, a scalar, between matched nodes."""
        if self.options.over == "frames":
            return similarity_distance(as_map(student).flatten(1), as_map(teacher).flatten(1))
        score = score_of(teacher, self.options.score)
        distances = []
        for rows in frames_of(student.batch_index):
            best = best_rows(score, rows, self.options.num_nodes)
            distances.append(similarity_distance(student.features[best], teacher.features[best]))
        return torch.stack(distances).mean()


def similarity_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the normalised similarities of the rows (n, D_s) and (n, D_t)."""
    student_similarity = functional.normalize(student @ student.T, dim=1)
    teacher_similarity = functional.normalize(teacher @ teacher.T, dim=1)
    return (student_similarity - teacher_similarity).square().mean()
