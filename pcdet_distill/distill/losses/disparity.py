"""Representation disparity (RDD; Li et al., ICCV 2023): positions where both disagree most.

A proposal is a position whose best score, of student or teacher, exceeds SCORE_THRESH. Its
disparity is the largest difference of a class score,

    r_i = max over classes of |p_s - p_t|

Of each frame the NUM_REGIONS proposals of the largest disparity are compared. They are of two
sides: missed ones, where the teacher is surer than the student, and surplus ones, where the student
is. With M the missed and S the surplus ones of the batch:

    D_i = LOGIT_WEIGHT (BCE(p_s, p_t) - BCE(p_t, p_t)) + BOX_WEIGHT conf smoothL1(b_s - b_t)
    L   = 1/2 mean over M of D_i  +  1/2 mean over S of D_i

BCE is summed over the classes, smoothL1 over the codes, with beta = 1/9; conf is the teacher's best
score. An untrained student proposes everywhere: without the two means its surplus would hide the
few objects that it misses.

Departures, from the paper; no code of it is known:

* The paper pairs the region of every proposal, the teacher's or the student's, with the same region
  of the other model. Here a pair is one position of both heads.
* Its disparity is the mutual information of both regions' features, behind a softmax over channels
  at temperature 4. A mask m in 0..1 is optimised so that pairs of high disparity weigh most. Here
  the disparity is that of the scores, and the mask chooses the NUM_REGIONS highest.
* L is a mean over all pairs there; the halves for both sides are ours.
* It takes plain absolute differences of scores and boxes, and of scores alone for centre heads.
  Here cross entropy and smooth L1 are those of LogitBoxLoss, and conf weighs the boxes.
* Features of the regions are compared too. They are another kind of input: add a RegionMimicLoss.
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
from .logit_box import code_distance, divergence


@dataclasses.dataclass(frozen=True)
class DisparityOptions:
    """Which positions are compared, and the weights of scores and boxes."""

    num_regions: int = option(
        256, above=0, help="proposals of each frame that are compared, those that differ most"
    )
    score_thresh: float = option(
        0.1,
        at_least=0,
        at_most=1,
        help="score of student or teacher above which a position is a proposal",
    )
    logit_weight: float = option(1.0, at_least=0, help="weight of the class scores")
    box_weight: float = option(1.0, at_least=0, help="weight of the boxes")


class DisparityLoss(PredictionLoss):
    """Scores and boxes of the proposals about which student and teacher disagree most."""

    options_class = DisparityOptions

    options: DisparityOptions

    def compute(self, student: Predictions, teacher: Predictions, batch_dict: BatchDict) -> Tensor:
        """The loss, a scalar, between matched predictions. Logs the size of both sides."""
        rows, is_missed = self.regions(student, teacher)
        self.logs["missed"] = is_missed.float().sum()
        self.logs["surplus"] = (~is_missed).float().sum()
        if len(rows) == 0:
            return self.zero_loss(student.logits, student.codes)
        distance = self._distance(student.select(rows), teacher.select(rows))
        sides = [distance[side] for side in (is_missed, ~is_missed) if bool(side.any())]
        return torch.stack([side.mean() for side in sides]).sum() / 2

    @torch.no_grad()
    def regions(self, student: Predictions, teacher: Predictions) -> tuple[Tensor, Tensor]:
        """Rows (M,) that are compared, and whether the teacher is surer there (M,)."""
        student_scores = student.logits.sigmoid()
        teacher_scores = teacher.logits.sigmoid()
        disparity = (student_scores - teacher_scores).abs().amax(dim=1)
        best_student = student.scores()
        best_teacher = teacher.scores()
        is_proposal = torch.maximum(best_student, best_teacher) > self.options.score_thresh
        chosen = []
        for frame_rows in frames_of(student.batch_index):
            proposals = frame_rows[is_proposal[frame_rows]]
            chosen.append(best_rows(disparity, proposals, self.options.num_regions))
        rows = torch.cat(chosen)
        return rows, best_teacher[rows] > best_student[rows]

    def _distance(self, student: Predictions, teacher: Predictions) -> Tensor:
        """D (M,) of every compared position."""
        scores = divergence(student.logits, teacher.logits).sum(dim=1)
        boxes = code_distance(student, teacher)
        return (
            self.options.logit_weight * scores + self.options.box_weight * teacher.scores() * boxes
        )
