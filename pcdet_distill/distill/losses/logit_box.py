"""Logits and boxes: the student's head repeats what the teacher's head says (Hinton et al., 2015; Chen et al., 2017).

With s, t the scores (sigmoid of the logits) of student and teacher, conf the teacher's best class, and P the positions
with conf > SCORE_THRESH, n = |P| in the batch:

    L = LOGIT_WEIGHT / n * sum over all positions and classes of  BCE(s, t) - BCE(t, t)
      + BOX_WEIGHT / n * sum over P of  conf * sum over the codes of smoothL1(code_s - code_t),  beta = 1/9

A batch in which the teacher is sure of nothing teaches nothing: L = 0.

Departures: the first paper softens both sides' softmax by a temperature; these scores are sigmoids, compared as they
are. The second bounds the box loss by the teacher's own error; here the teacher's boxes count as much as it is sure.
The code of the heading is compared as it is. The detection loss of anchor heads takes the sine of the difference and
leaves open which of two codes, half a circle apart, a student writes: here it is the teacher's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from math import inf
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

from ..predictions import PredictionReader, Predictions
from .base import DistillLoss, read_options

SMOOTH_L1_BETA = 1 / 9  # as in the detection loss of anchor heads


@dataclasses.dataclass(frozen=True)
class LogitBoxOptions:
    """In yaml the names are in capitals.

    Attributes:
        score_thresh: positions where the teacher is surer than this teach boxes, and their number divides both sums.
        logit_weight, box_weight: of the two sums; 0 leaves one out.
    """

    score_thresh: float = 0.1
    logit_weight: float = 1.0
    box_weight: float = 1.0


class LogitBoxLoss(DistillLoss):
    """Cross entropy of all class scores, smooth L1 of the box codes where the teacher sees an object."""

    sees = "predictions"

    def __init__(self, options: LogitBoxOptions | None = None) -> None:
        super().__init__()
        self.options = options or LogitBoxOptions()

    @classmethod
    def from_config(
        cls,
        cfg: Mapping[str, Any],
        student: PredictionReader,
        teacher: PredictionReader,
        where: str,
    ) -> LogitBoxLoss:
        return cls(
            read_options(
                LogitBoxOptions(),
                cfg,
                where,
                ranges={"score_thresh": (0, 1), "logit_weight": (0, inf), "box_weight": (0, inf)},
            )
        )

    def forward(
        self, student: Predictions, teacher: Predictions, batch_dict: Mapping[str, Any]
    ) -> Tensor:
        scores = teacher.scores()
        positive = torch.nonzero(scores > self.options.score_thresh).flatten()
        self.logs["positions"] = float(len(positive))
        if len(positive) == 0:
            return self.zero_loss(student.logits, student.codes)
        with torch.autocast(student.logits.device.type, enabled=False):
            logits = divergence(student.logits, teacher.logits).sum() / len(positive)
            sure = student.select(positive)
            targets = teacher.select(positive).codes_like(sure)
            boxes = functional.smooth_l1_loss(
                sure.codes, targets, beta=SMOOTH_L1_BETA, reduction="none"
            ).sum(dim=1)
            boxes = (boxes * scores[positive]).sum() / len(positive)
            self.logs["logit"], self.logs["box"] = logits.detach(), boxes.detach()
            return self.options.logit_weight * logits + self.options.box_weight * boxes


def divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """BCE of the student's logits against the teacher's scores, less what the teacher itself would have: (N, C)."""
    target = teacher.sigmoid()
    own = functional.binary_cross_entropy_with_logits(student, target, reduction="none")
    return own - functional.binary_cross_entropy_with_logits(teacher, target, reduction="none")
