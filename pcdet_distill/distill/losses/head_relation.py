"""Head attention of itKD (Cho et al., CVPR 2023): how the predictions of a frame relate.

The NUM_POSITIONS positions of each frame with the teacher's highest scores are related. X has one
row for each of them. With D columns of X, its relations are self-attention without learned weights:

    a(X)_ij  = softmax over j of  x_i . x_j / (TEMPERATURE sqrt(D))
    K(X, Y)  = mean over i of  sum over j of  a(Y)_ij log( a(Y)_ij / a(X)_ij )
    L = mean over frames of  INTRA_WEIGHT (K(P_s, P_t) + K(B_s, B_t)) / 2
                           + INTER_WEIGHT K([P_s B_s], [P_t B_t])

P are class scores, B box codes. The first two compare relations within one output of the head, the
last those of all outputs together. The teacher's boxes are encoded relative to the student's
anchors.

Departures, from the paper and from its published code:

* In the code the columns of X attend to each other, over the labelled objects of a frame. Here the
  positions attend to each other: heads with anchors have many positions for one object.
* It takes the positions of labelled objects; here they are the teacher's best ones.
* It compares what comes out of the attention, by absolute differences, behind a learned layer that
  fuses intra and inter relations. That layer is shared by both models, and could learn to pass on
  nothing. Here the relations themselves are compared, and nothing is learned.
* The code has no TEMPERATURE; its products are divided by the root of the number of objects.
"""

from __future__ import annotations

import dataclasses
from math import sqrt

import torch
from torch import Tensor
from torch.nn import functional

from ...config import option
from ...ops.frames import best_rows, frames_of
from ...types import BatchDict
from ..predictions import Predictions
from .base import PredictionLoss


@dataclasses.dataclass(frozen=True)
class HeadRelationOptions:
    """Which positions are related, and how."""

    num_positions: int = option(128, above=1, help="positions of each frame that are related")
    temperature: float = option(
        0.1, above=0, help="of the softmax; a small one attends to few positions"
    )
    intra_weight: float = option(
        1.0, at_least=0, help="weight of relations within scores and within boxes"
    )
    inter_weight: float = option(
        1.0, at_least=0, help="weight of relations of scores and boxes together"
    )


class HeadRelationLoss(PredictionLoss):
    """Divergence of the attention between the predictions of a frame."""

    options_class = HeadRelationOptions

    options: HeadRelationOptions

    def compute(self, student: Predictions, teacher: Predictions, batch_dict: BatchDict) -> Tensor:
        """The loss, a scalar, between matched predictions."""
        confidence = teacher.scores()
        losses = []
        for rows in frames_of(student.batch_index):
            best = best_rows(confidence, rows, self.options.num_positions)
            losses.append(self._frame_loss(student.select(best), teacher.select(best)))
        return torch.stack(losses).mean()

    def _frame_loss(self, student: Predictions, teacher: Predictions) -> Tensor:
        """The loss of the chosen positions of one frame."""
        student_scores = student.logits.sigmoid()
        teacher_scores = teacher.logits.sigmoid()
        codes = teacher.codes_like(student)
        within_scores = self._divergence(student_scores, teacher_scores)
        within_boxes = self._divergence(student.codes, codes)
        together = self._divergence(
            torch.cat([student_scores, student.codes], dim=1),
            torch.cat([teacher_scores, codes], dim=1),
        )
        intra = (within_scores + within_boxes) / 2
        return self.options.intra_weight * intra + self.options.inter_weight * together

    def _divergence(self, student: Tensor, teacher: Tensor) -> Tensor:
        """K of rows (n, D) of the student and of the teacher."""
        return functional.kl_div(
            self._log_attention(student),
            self._log_attention(teacher),
            reduction="batchmean",
            log_target=True,
        )

    def _log_attention(self, rows: Tensor) -> Tensor:
        """log a (n, n) of rows (n, D)."""
        similarity = rows @ rows.T / (self.options.temperature * sqrt(rows.shape[1]))
        return functional.log_softmax(similarity, dim=1)
