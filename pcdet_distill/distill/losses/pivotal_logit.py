"""Pivotal-position logit distillation of SparseKD (Yang et al., NeurIPS 2022).

Most of a bird's eye view is empty, and a student that imitates the teacher everywhere mainly
learns the background. With m_i the weight of position i, s and t the class scores, b the box
codes, conf the teacher's best class score:

    C_i = sum_c (s_ic - t_ic)^2,    B_i = conf_i * mean_k |b_ik - bt_ik|
    L = sum_i m_i (CLS_WEIGHT * C_i + BOX_WEIGHT * B_i) / sum_i m_i

SELECT defines m:
    confidence   1 where conf > SCORE_THRESH
    top_k        1 at the NUM_POSITIONS most confident positions of each frame
    rank         the same positions, with weight 1 - r / NUM_POSITIONS; r = 0 for the most confident
    gaussian     exp(-d^2 / 2) around the labelled boxes, SIGMA of their length and width

Departures: the paper compares boxes at the labelled objects, not weighted by conf. Here they are
compared at the pivotal positions, and weighted, as an anchor at an object of another class has no
box to imitate. Its code sums over the codes of a centre head, and for anchors takes smooth L1 and
the sine of the difference of headings; here it is the mean of plain differences. Its ranked
positions have equal weights (top_k); that the weight falls with the rank is ours. Its Gaussians
are the round ones of a centre head's targets. Its published configurations multiply the Gaussian
by conf; the weights of scores and boxes are 10 to 15 and 0.2 for students with fewer channels, 7
and 0 for those with larger pillars.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from ...config import option
from ...ops.frames import best_rows, frames_of
from ...types import BatchDict
from ..predictions import Predictions
from .base import PredictionLoss
from .masks import gaussian_weights


@dataclasses.dataclass(frozen=True)
class PivotalLogitOptions:
    """Which positions are compared, and how."""

    select: str = option(
        "confidence",
        choices=("confidence", "top_k", "rank", "gaussian"),
        help="how the positions are chosen and weighted",
    )
    score_thresh: float = option(
        0.1, at_least=0, at_most=1, help="score of the teacher, for SELECT: confidence"
    )
    num_positions: int = option(
        500, above=0, help="positions of each frame, for SELECT: top_k and rank"
    )
    sigma: float = option(
        0.5, above=0, help="width of the Gaussians as a share of the box, for SELECT: gaussian"
    )
    cls_weight: float = option(1.0, at_least=0, help="weight of the class scores")
    box_weight: float = option(1.0, at_least=0, help="weight of the boxes")


class PivotalLogitLoss(PredictionLoss):
    """Scores and box codes at the teacher's pivotal positions."""

    options_class = PivotalLogitOptions

    options: PivotalLogitOptions

    def compute(self, student: Predictions, teacher: Predictions, batch_dict: BatchDict) -> Tensor:
        """The loss, a scalar, between matched predictions. Logs the number of positions."""
        rows, weights = self.pivots(teacher, batch_dict)
        self.logs["positions"] = float(len(rows))
        if len(rows) == 0:
            return self.zero_loss(student.logits, student.codes)
        student = student.select(rows)
        teacher = teacher.select(rows)
        score_difference = student.logits.sigmoid() - teacher.logits.sigmoid()
        score_distance = score_difference.square().sum(dim=1)
        code_difference = student.codes - teacher.codes_like(student)
        box_distance = code_difference.abs().mean(dim=1) * teacher.scores()
        distance = self.options.cls_weight * score_distance + self.options.box_weight * box_distance
        return (weights * distance).sum() / weights.sum()

    @torch.no_grad()
    def pivots(self, teacher: Predictions, batch_dict: BatchDict) -> tuple[Tensor, Tensor]:
        """Rows (M,) of the pivotal positions and their weights (M,), all above 0."""
        options = self.options
        confidence = teacher.scores()
        if options.select in ("top_k", "rank"):
            return self._most_confident(confidence, teacher.batch_index)
        if options.select == "gaussian":
            weights = gaussian_weights(
                teacher.coords, teacher.batch_index, batch_dict["gt_boxes"], options.sigma
            )
        else:
            weights = (confidence > options.score_thresh).to(confidence.dtype)
        rows = torch.nonzero(weights > 0).flatten()
        return rows, weights[rows]

    def _most_confident(self, confidence: Tensor, batch_index: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (M,) of NUM_POSITIONS of each frame, most confident first, and weights (M,)."""
        most = self.options.num_positions
        by_rank = self.options.select == "rank"
        chosen = []
        weights = []
        for rows in frames_of(batch_index):
            best = best_rows(confidence, rows, most)
            chosen.append(best)
            decline = torch.arange(len(best), device=confidence.device) / most
            weights.append(1 - decline.to(confidence.dtype) * by_rank)
        return torch.cat(chosen), torch.cat(weights)
