"""Localisation distillation (Zheng et al., CVPR 2022): distributions of boxes near objects.

The paper's head predicts a distribution over bins for every side of a box. The distributions of
student and teacher are compared by KL divergence. This is done in two regions: the main one, of
positions assigned to an object, and the valuable one, of positions that nearly were. The heads here
predict one number for each code of a box. So every code is taken as the centre of a Laplace
distribution of width TEMPERATURE, whose KL divergence has a closed form:

    KL(code_t, code_s) = d + exp(-d) - 1,    d = |code_t - code_s| / TEMPERATURE
    L = sum_i m_i * sum over codes of KL_i / sum_i m_i

The region of a position follows from the bird's eye IoU of the teacher's box with the labelled
boxes: above MAIN_IOU m = 1, above VALUABLE_IOU m = VALUABLE_WEIGHT. Positions with a score of the
teacher below SCORE_THRESH are left out.

Departures: bins became a Laplace distribution, and their softmax temperature of 10 its width. The
paper's main region is that of the label assigner; its valuable one has anchors whose DIoU with an
object lies between a quarter of the assigner's threshold and all of it. Its code has other weights:
the student's own score in the main region, a quarter of the anchor's IoU in the valuable one. It
sums over positions, averages over bins and multiplies by the square of the temperature. The paper
distils class scores as well; here another term does that.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from ...config import option
from ...errors import ConfigError
from ...ops.boxes import boxes_iou_bev
from ...types import BatchDict, ConfigDict
from ..labelled_boxes import without_padding
from ..predictions import PredictionReader, Predictions
from .base import PredictionLoss


@dataclasses.dataclass(frozen=True)
class LocalisationOptions:
    """The regions and their weights."""

    temperature: float = option(
        0.1, above=0, help="width of the Laplace distributions, in units of the box codes"
    )
    main_iou: float = option(
        0.5,
        at_least=0,
        at_most=1,
        help="bird's eye IoU with a labelled box above which a position is in the main region",
    )
    valuable_iou: float = option(
        0.25, at_least=0, at_most=1, help="the same for the valuable region; at most MAIN_IOU"
    )
    valuable_weight: float = option(
        0.25, at_least=0, help="weight of the valuable region; the main one has 1"
    )
    score_thresh: float = option(
        0.05, at_least=0, at_most=1, help="positions with a lower score of the teacher are left out"
    )


class LocalisationLoss(PredictionLoss):
    """KL divergence of box codes at and around the objects."""

    options_class = LocalisationOptions

    options: LocalisationOptions

    @classmethod
    def options_from_config(
        cls, cfg: ConfigDict, student: PredictionReader, teacher: PredictionReader, where: str
    ) -> LocalisationOptions:
        """The options in ``cfg``. The main region lies inside the valuable one."""
        options = super().options_from_config(cfg, student, teacher, where)
        if options.valuable_iou > options.main_iou:
            raise ConfigError(
                f"{where}.VALUABLE_IOU: expected at most MAIN_IOU, {options.main_iou}, "
                f"found {options.valuable_iou}"
            )
        return options

    def compute(self, student: Predictions, teacher: Predictions, batch_dict: BatchDict) -> Tensor:
        """The loss, a scalar, between matched predictions. Logs the number of positions."""
        rows, weights = self.regions(teacher, batch_dict["gt_boxes"])
        self.logs["positions"] = float(len(rows))
        if len(rows) == 0:
            return self.zero_loss(student.logits, student.codes)
        student = student.select(rows)
        target = teacher.select(rows).codes_like(student)
        distance = (student.codes - target).abs() / self.options.temperature
        divergence = (distance + torch.exp(-distance) - 1).sum(dim=1)
        return (divergence * weights).sum() / weights.sum()

    @torch.no_grad()
    def regions(self, teacher: Predictions, gt_boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (M,) of both regions and their weights (M,), all above 0."""
        candidates = torch.nonzero(teacher.scores() > self.options.score_thresh).flatten()
        boxes = teacher.select(candidates).boxes()
        batch_index = teacher.batch_index[candidates]
        weights = boxes.new_zeros(len(boxes))
        for frame, frame_boxes in enumerate(gt_boxes):
            rows = torch.nonzero(batch_index == frame).flatten()
            labelled = without_padding(frame_boxes)
            if len(rows) and len(labelled):
                overlap = boxes_iou_bev(boxes[rows, :7], labelled[:, :7].to(boxes.dtype))
                weights[rows] = self._region_weights(overlap.amax(dim=1), weights.dtype)
        kept = torch.nonzero(weights > 0).flatten()
        return candidates[kept], weights[kept]

    def _region_weights(self, overlap: Tensor, dtype: torch.dtype) -> Tensor:
        """m (N,) of each position by its best overlap (N,) with a labelled box."""
        is_valuable = (overlap > self.options.valuable_iou).to(dtype)
        valuable = is_valuable * self.options.valuable_weight
        return torch.where(overlap > self.options.main_iou, 1.0, valuable)
