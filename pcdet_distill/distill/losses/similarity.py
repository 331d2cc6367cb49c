"""Similarity-preserving distillation (Tung and Mori, ICCV 2019): what is alike for the teacher is so for the student.

    G = rows of (Q Q^T), each divided by its norm;    L = 1 / n^2 * || G_s - G_t ||_F^2

OVER: frames (the paper) makes a row of Q of a whole frame, n frames in the batch; a detector's batch holds few of them,
and a batch of one teaches nothing. OVER: nodes makes a row of each of the NUM_NODES best nodes of a frame, and averages
over the frames, which the paper does not have. It needs no adapter.
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
from .features import SCORES, as_map, score_of, whole_maps_only


@dataclasses.dataclass(frozen=True)
class SimilarityOptions:
    """In yaml the names are in capitals.

    Attributes:
        over: what is compared with each other: ``frames`` or ``nodes``.
        num_nodes: per frame, for ``nodes``.
        score: which nodes these are: those of the highest ``saliency`` or ``objectness``.
    """

    over: str = "frames"
    num_nodes: int = 512
    score: str = "saliency"


class SimilarityLoss(DistillLoss):
    """Squared difference of the similarities among frames, or among the nodes of a frame."""

    def __init__(self, options: SimilarityOptions | None = None) -> None:
        super().__init__()
        self.options = options or SimilarityOptions()

    @classmethod
    def from_config(
        cls, cfg: Mapping[str, Any], student: TapInfo, teacher: TapInfo, where: str
    ) -> SimilarityLoss:
        options = read_options(
            SimilarityOptions(), cfg, where, {"over": ("frames", "nodes"), "score": SCORES}
        )
        if options.over == "frames":
            whole_maps_only(where, "SimilarityLoss with OVER: frames", student, teacher)
        return cls(options)

    def forward(
        self, student: NodeFeatures, teacher: NodeFeatures, batch_dict: Mapping[str, Any]
    ) -> Tensor:
        if len(student) == 0:
            return self.zero_loss(student.features)
        with torch.autocast(student.features.device.type, enabled=False):
            if self.options.over == "frames":
                return similarity_distance(as_map(student).flatten(1), as_map(teacher).flatten(1))
            parts = []
            for rows in frames_of(student.batch_index):
                score = score_of(teacher, self.options.score)[rows]
                best = rows[score.topk(min(self.options.num_nodes, len(rows))).indices]
                parts.append(
                    similarity_distance(
                        at_least_float32(student.features[best]),
                        at_least_float32(teacher.features[best]),
                    )
                )
            return torch.stack(parts).mean()


def similarity_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the normalised similarities of the rows (n, D_s) and (n, D_t)."""
    own, theirs = (functional.normalize(rows @ rows.T, dim=1) for rows in (student, teacher))
    return (own - theirs).square().mean()
