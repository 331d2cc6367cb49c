"""Logits and boxes of the head, after Hinton et al. (2015) and Chen et al. (NeurIPS 2017).

s and t are the scores (sigmoid of the logits) of student and teacher, conf is the teacher's best
class score. P are the n positions of the batch with conf > SCORE_THRESH.

    L = LOGIT_WEIGHT / n * sum over all positions and classes of  BCE(s, t) - BCE(t, t)
      + BOX_WEIGHT / n * sum over P of  conf * sum over the codes of smoothL1(code_s - code_t)

with beta = 1/9 in smoothL1. BCE(t, t), the entropy of the teacher, makes L zero for a perfect
student. A batch in which P is empty has L = 0.

Departures: the first paper softens the softmax of both sides by a temperature; these scores are
sigmoids, compared as they are. The second bounds the box loss by the teacher's own error; here the
teacher's boxes are weighted by its confidence. The code of the heading is compared as it is: the
student learns the teacher's. The detection loss of anchor heads takes the sine of the difference
instead, for which two headings half a circle apart are equally good.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor
from torch.nn import functional

from ...config import option
from ...types import BatchDict
from ..predictions import Predictions
from .base import PredictionLoss

SMOOTH_L1_BETA = 1 / 9  # as in the detection loss of anchor heads


@dataclasses.dataclass(frozen=True)
class LogitBoxOptions:
    """Weights of logits and boxes."""

    score_thresh: float = option(
        0.1,
        at_least=0,
        at_most=1,
        help="boxes are compared where the teacher's score exceeds it; the number of these "
        "positions divides both sums",
    )
    logit_weight: float = option(1.0, at_least=0, help="weight of the class scores")
    box_weight: float = option(1.0, at_least=0, help="weight of the boxes")


class LogitBoxLoss(PredictionLoss):
    """Cross entropy of class scores, smooth L1 of box codes where the teacher is confident."""

    options_class = LogitBoxOptions

    options: LogitBoxOptions

    def compute(self, student: Predictions, teacher: Predictions, batch_dict: BatchDict) -> Tensor:
        """The loss, a scalar, between matched predictions. Logs the number of positions."""
        confidence = teacher.scores()
        positive = torch.nonzero(confidence > self.options.score_thresh).flatten()
        self.logs["positions"] = float(len(positive))
        if len(positive) == 0:
            return self.zero_loss(student.logits, student.codes)
        logit_loss = divergence(student.logits, teacher.logits).sum() / len(positive)
        distance = code_distance(student.select(positive), teacher.select(positive))
        box_loss = (distance * confidence[positive]).sum() / len(positive)
        self.logs["logit"] = logit_loss.detach()
        self.logs["box"] = box_loss.detach()
        return self.options.logit_weight * logit_loss + self.options.box_weight * box_loss


def code_distance(student: Predictions, teacher: Predictions) -> Tensor:
    """Smooth L1 distance (N,) of the box codes at each position, both as the student codes."""
    target = teacher.codes_like(student)
    distance = functional.smooth_l1_loss(
        student.codes, target, beta=SMOOTH_L1_BETA, reduction="none"
    )
    return distance.sum(dim=1)


def divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """BCE (N, C) of the student's logits with the teacher's scores, less the teacher's entropy.

    With logits x of the student and y of the teacher, BCE(s, t) = log(1 + e^x) - t x. The
    difference then needs half the passes over all anchors that two cross entropies would take.
    """
    difference = functional.softplus(student) - functional.softplus(teacher)
    return difference - teacher.sigmoid() * (student - teacher)
