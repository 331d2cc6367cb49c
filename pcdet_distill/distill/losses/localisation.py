"""Localisation distillation (Zheng et al., CVPR 2022): the teacher's knowledge of where a box ends, where it matters.

The paper's head predicts a distribution over bins for every side of a box; student and teacher distributions are
compared by KL, in the main region (positions assigned to an object) and in the valuable one (positions that nearly
were). The heads here predict one number for each code of a box. As it is adapted:

    every code stands for a Laplace distribution around its value, of width TEMPERATURE; then in closed form
    KL(code_t, code_s) = d + exp(-d) - 1,    d = |code_t - code_s| / TEMPERATURE
    L = sum_i m_i * sum over codes of KL_i / sum_i m_i

A position belongs to a region by the bird's eye IoU of the teacher's box with a labelled box: above MAIN_IOU m = 1,
above VALUABLE_IOU m = VALUABLE_WEIGHT. Positions the teacher gives less than SCORE_THRESH are not looked at.

Departures: bins became a Laplace distribution, and their softmax temperature of 10 its width. The paper's main region
is that of the label assigner; its valuable one has anchors whose DIoU with an object lies between a quarter of the
assigner's threshold and all of it. Its code weighs a position of the main region by the student's own score, and one of
the valuable region by a quarter of its anchor's IoU; it sums over positions, averages over bins and multiplies by the
square of the temperature. The paper distils class scores as well, which is left to another term.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from math import inf
from typing import Any

import torch
from torch import Tensor

from ...errors import ConfigError
from ...ops.boxes import boxes_iou_bev
from ..predictions import PredictionReader, Predictions
from .base import DistillLoss, read_options
from .masks import real_boxes


@dataclasses.dataclass(frozen=True)
class LocalisationOptions:
    """In yaml the names are in capitals; see the head of this file."""

    temperature: float = 0.1
    main_iou: float = 0.5
    valuable_iou: float = 0.25
    valuable_weight: float = 0.25
    score_thresh: float = 0.05


class LocalisationLoss(DistillLoss):
    """KL of box codes at and around the objects."""

    sees = "predictions"

    def __init__(self, options: LocalisationOptions | None = None) -> None:
        super().__init__()
        self.options = options or LocalisationOptions()

    @classmethod
    def from_config(
        cls,
        cfg: Mapping[str, Any],
        student: PredictionReader,
        teacher: PredictionReader,
        where: str,
    ) -> LocalisationLoss:
        share = (0.0, 1.0)
        options = read_options(
            LocalisationOptions(),
            cfg,
            where,
            ranges={
                "main_iou": share,
                "valuable_iou": share,
                "valuable_weight": (0, inf),
                "score_thresh": share,
            },
        )
        if options.valuable_iou > options.main_iou:
            raise ConfigError(
                f"{where}.VALUABLE_IOU: expected at most MAIN_IOU, {options.main_iou}, "
                f"found {options.valuable_iou}"
            )
        return cls(options)

    def forward(
        self, student: Predictions, teacher: Predictions, batch_dict: Mapping[str, Any]
    ) -> Tensor:
        rows, weights = self.regions(teacher, batch_dict["gt_boxes"])
        self.logs["positions"] = float(len(rows))
        if len(rows) == 0:
            return self.zero_loss(student.logits, student.codes)
        with torch.autocast(student.logits.device.type, enabled=False):
            own = student.select(rows)
            apart = (
                own.codes - teacher.select(rows).codes_like(own)
            ).abs() / self.options.temperature
            divergence = (apart + torch.exp(-apart) - 1).sum(dim=1)
            return (divergence * weights).sum() / weights.sum()

    @torch.no_grad()
    def regions(self, teacher: Predictions, gt_boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (M,) of both regions and their weights (M,), all above 0."""
        options = self.options
        candidates = torch.nonzero(teacher.scores() > options.score_thresh).flatten()
        boxes, frames = teacher.select(candidates).boxes(), teacher.batch_index[candidates]
        weights = boxes.new_zeros(len(boxes))
        for frame in range(len(gt_boxes)):
            rows, real = torch.nonzero(frames == frame).flatten(), real_boxes(gt_boxes, frame)
            if len(rows) and len(real):
                overlap = boxes_iou_bev(boxes[rows, :7], real[:, :7].to(boxes.dtype)).amax(dim=1)
                near = (overlap > options.valuable_iou).to(boxes.dtype) * options.valuable_weight
                weights[rows] = torch.where(overlap > options.main_iou, 1.0, near)
        kept = torch.nonzero(weights > 0).flatten()
        return candidates[kept], weights[kept]
