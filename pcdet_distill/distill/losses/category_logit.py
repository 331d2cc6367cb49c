"""Category-aware logits of CaKDP (Zhang et al., CVPR 2024): what the teacher says to proposals.

P_fc are the NUM_POSITIONS positions of frame f where the student's score of class c is highest:
these become its detections, and its false alarms. p_s and p_t are the scores of class c.

    q_i = p_t * iou_i^IOU_POWER
    L   = mean over classes c and frames f of   mean over i in P_fc of
          BCE(p_s, q_i) - BCE(q_i, q_i)

Each class has its own positions and its own mean, so rare classes count as much as cars. iou_i is
the bird's eye IoU of the student's box with the teacher's at position i. So a proposal keeps the
teacher's score only as far as its box is right. No gradient flows through the IoU.

PROPOSALS: teacher takes the positions of the teacher's highest scores, which also teaches what the
student misses; both takes the positions where the larger of the two scores is highest.

Departures, from the paper and from its published code:

* The paper's teacher has two stages. Its second one scores the teacher's boxes at the positions
  that the student proposes. Here the teacher's head scores the same position: teachers of one stage
  are as good.
* The code takes the positions that NMS keeps of all classes together (IoU 0.7, scores above 0.25,
  at most 200). Cars are most of them; here each class has its own.
* It compares the student's best logit with the one logit of the second stage, which knows no
  classes, by squared differences. Here scores of one class are compared, so by cross entropy.
* The paper refines the student's scores in the end by an IoU that an added branch predicts. Here
  detectors have no added branches, and the IoU shapes the target.
* Its pruning of filters is another subject; INIT_STUDENT selects channels.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor
from torch.nn import functional

from ...config import option
from ...ops.boxes import boxes_iou_bev
from ...ops.frames import best_rows, frames_of
from ...types import BatchDict
from ..predictions import ABSENT_LOGIT, Predictions
from .base import PredictionLoss

PROPOSALS = ("student", "teacher", "both")
LEAST_IOU = 1e-6  # a power of 0 would make the target's own slope infinite


@dataclasses.dataclass(frozen=True)
class CategoryLogitOptions:
    """Which positions are compared, and what a wrong box costs."""

    proposals: str = option(
        "student", choices=PROPOSALS, help="whose scores choose the positions of a class"
    )
    num_positions: int = option(64, above=0, help="positions of each frame and class")
    iou_power: float = option(
        0.5,
        at_least=0,
        help="power of the IoU of both boxes in the target; 0 takes the teacher's score as it is",
    )


class CategoryLogitLoss(PredictionLoss):
    """Cross entropy of class scores at the best positions of each class."""

    options_class = CategoryLogitOptions

    options: CategoryLogitOptions

    def compute(self, student: Predictions, teacher: Predictions, batch_dict: BatchDict) -> Tensor:
        """The loss, a scalar, between matched predictions."""
        losses = []
        for frame_rows in frames_of(student.batch_index):
            for column in range(student.logits.shape[1]):
                rows = self.proposals(student, teacher, frame_rows, column)
                if len(rows):
                    losses.append(self._class_loss(student, teacher, rows, column))
        if not losses:
            return self.zero_loss(student.logits, student.codes)
        return torch.stack(losses).mean()

    @torch.no_grad()
    def proposals(
        self, student: Predictions, teacher: Predictions, frame_rows: Tensor, column: int
    ) -> Tensor:
        """Rows (M,) of one frame where the class of a column is most likely, the best first."""
        own = student.logits[frame_rows, column]
        theirs = teacher.logits[frame_rows, column]
        chosen_by = {"student": own, "teacher": theirs, "both": torch.maximum(own, theirs)}
        present = torch.nonzero((own != ABSENT_LOGIT) & (theirs != ABSENT_LOGIT)).flatten()
        logits = chosen_by[self.options.proposals]
        return frame_rows[best_rows(logits, present, self.options.num_positions)]

    def _class_loss(
        self, student: Predictions, teacher: Predictions, rows: Tensor, column: int
    ) -> Tensor:
        """Mean over the rows (M,) of the divergence of one class."""
        student = student.select(rows)
        teacher = teacher.select(rows)
        target = teacher.logits[:, column].sigmoid() * self._quality(student, teacher)
        logits = student.logits[:, column]
        cross_entropy = functional.binary_cross_entropy_with_logits(logits, target)
        entropy = functional.binary_cross_entropy(target, target)
        return cross_entropy - entropy

    @torch.no_grad()
    def _quality(self, student: Predictions, teacher: Predictions) -> Tensor | float:
        """iou^IOU_POWER (M,) of both boxes at the same positions."""
        if self.options.iou_power == 0:
            return 1.0
        own_boxes = student.boxes()[:, :7]
        overlaps = boxes_iou_bev(own_boxes, teacher.boxes()[:, :7].to(own_boxes.dtype))
        # An untrained student's box may be too large for a number.
        iou = overlaps.diagonal().nan_to_num(0.0).clamp(LEAST_IOU, 1.0)
        return iou**self.options.iou_power
