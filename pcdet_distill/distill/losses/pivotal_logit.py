"""Pivotal-position logit distillation of SparseKD (Yang et al., NeurIPS 2022): predictions at few places that matter.

Most of a bird's eye view is empty, and a student that imitates the teacher everywhere learns to imitate emptiness. With
m_i the weight of position i, s and t the class scores, b the box codes, conf the teacher's best class:

    L = sum_i m_i (CLS_WEIGHT * sum_c (s_ic - t_ic)^2 + BOX_WEIGHT * conf_i * mean_k |b_ik - bt_ik|) / sum_i m_i

SELECT makes m:
    confidence   1 where conf > SCORE_THRESH
    top_k        1 at the NUM_POSITIONS surest positions of each frame
    rank         the same positions, weighing 1 - r / NUM_POSITIONS with r = 0 for the surest
    gaussian     exp(-d^2 / 2) around the labelled boxes, SIGMA of their length and width

Departures: the paper's boxes are compared at the labelled objects and not weighed by conf; here they are compared at
the pivotal positions, and weighed, as an anchor at an object of another class has no box to teach. Its code sums over
the codes of a centre head, and for anchors takes smooth L1 and the sine of the difference of headings; here it is the
mean of plain differences. Its ranked positions weigh alike (top_k); that the weight falls with the rank is ours. Its
Gaussians are the round ones of a centre head's targets. Its published configurations multiply the Gaussian by conf;
scores weigh 10 to 15 and boxes 0.2 for students with fewer channels, 7 and 0 for those with larger pillars.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from math import inf
from typing import Any

import torch
from torch import Tensor

from ...ops.knn import frames_of
from ..predictions import PredictionReader, Predictions
from .base import DistillLoss, read_options
from .masks import gaussian_weights

SELECTIONS = ("confidence", "top_k", "rank", "gaussian")


@dataclasses.dataclass(frozen=True)
class PivotalLogitOptions:
    """In yaml the names are in capitals.

    Attributes:
        select: how the positions are chosen.
        score_thresh: of ``confidence``.
        num_positions: of ``top_k`` and ``rank``, in each frame.
        sigma: of ``gaussian``, as a share of the box.
        cls_weight, box_weight: of the two parts; 0 leaves one out.
    """

    select: str = "confidence"
    score_thresh: float = 0.1
    num_positions: int = 500
    sigma: float = 0.5
    cls_weight: float = 1.0
    box_weight: float = 1.0


class PivotalLogitLoss(DistillLoss):
    """Scores and box codes at the teacher's pivotal positions."""

    sees = "predictions"

    def __init__(self, options: PivotalLogitOptions | None = None) -> None:
        super().__init__()
        self.options = options or PivotalLogitOptions()

    @classmethod
    def from_config(
        cls,
        cfg: Mapping[str, Any],
        student: PredictionReader,
        teacher: PredictionReader,
        where: str,
    ) -> PivotalLogitLoss:
        return cls(
            read_options(
                PivotalLogitOptions(),
                cfg,
                where,
                {"select": SELECTIONS},
                {"score_thresh": (0, 1), "cls_weight": (0, inf), "box_weight": (0, inf)},
            )
        )

    def forward(
        self, student: Predictions, teacher: Predictions, batch_dict: Mapping[str, Any]
    ) -> Tensor:
        rows, weights = self.pivots(teacher, batch_dict)
        self.logs["positions"] = float(len(rows))
        if len(rows) == 0:
            return self.zero_loss(student.logits, student.codes)
        with torch.autocast(student.logits.device.type, enabled=False):
            own, theirs = student.select(rows), teacher.select(rows)
            classes = (own.logits.sigmoid() - theirs.logits.sigmoid()).square().sum(dim=1)
            boxes = (own.codes - theirs.codes_like(own)).abs().mean(dim=1) * theirs.scores()
            parts = self.options.cls_weight * classes + self.options.box_weight * boxes
            return (weights * parts).sum() / weights.sum()

    @torch.no_grad()
    def pivots(self, teacher: Predictions, batch_dict: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Rows (M,) of the pivotal positions and their weights (M,), all above 0."""
        options, scores = self.options, teacher.scores()
        if options.select in ("top_k", "rank"):
            return self._surest(scores, teacher.batch_index)
        if options.select == "gaussian":
            weights = gaussian_weights(
                teacher.coords, teacher.batch_index, batch_dict["gt_boxes"], options.sigma
            )
        else:
            weights = (scores > options.score_thresh).to(scores.dtype)
        rows = torch.nonzero(weights > 0).flatten()
        return rows, weights[rows]

    def _surest(self, scores: Tensor, batch_index: Tensor) -> tuple[Tensor, Tensor]:
        chosen, weights = [batch_index.new_zeros(0)], [scores.new_zeros(0)]
        for rows in frames_of(batch_index):
            count = min(self.options.num_positions, len(rows))
            chosen.append(rows[scores[rows].topk(count).indices])
            fall = torch.arange(count, device=scores.device) / self.options.num_positions
            weights.append(1 - fall.to(scores.dtype) * (self.options.select == "rank"))
        return torch.cat(chosen), torch.cat(weights)
