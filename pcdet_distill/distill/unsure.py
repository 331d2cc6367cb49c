"""Zones of unlabelled frames in which a teacher is unsure, and says nothing."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from .predictions import Predictions

UNSURE_ZONE = "unsure_zone"  # key of a batch


@dataclasses.dataclass(frozen=True)
class UnsureZone:
    """Scores of a teacher that are no answer where no label could correct it.

    Attributes:
        is_labelled: (B,) bool; in labelled frames every position counts.
        low, high: best scores from ``low`` to ``high`` are unsure.
    """

    is_labelled: Tensor
    low: float
    high: float

    def leave_out(
        self, student: Predictions, teacher: Predictions
    ) -> tuple[Predictions, Predictions]:
        """Matched predictions without the positions in the zone."""
        score = teacher.scores()
        is_unsure = (score >= self.low) & (score <= self.high)
        is_unsure &= ~self.is_labelled.to(score.device)[teacher.batch_index]
        if not bool(is_unsure.any()):
            return student, teacher
        rows = torch.nonzero(~is_unsure).flatten()
        return student.select(rows), teacher.select(rows)
