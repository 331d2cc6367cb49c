"""Masked feature imitation (Wang et al., CVPR 2019; on the bird's eye view e.g. BEVDistill): features near objects.

    L = sum_i w_i * mean over channels of (A s_i - (t_i - mean) / spread)^2 / sum_i w_i,   A a 1x1 convolution

MASK makes w:
    box         1 on the labelled boxes, seen from above
    gaussian    exp(-d^2 / 2) around them, SIGMA of their length and width
    score       SCORE of the teacher's node: objectness, the confidence of its head there; saliency, its largest
                channel or number of points, scaled to 0..1 in each frame
and BACKGROUND is added everywhere. Mean and spread of each of the teacher's channels are averaged over the first
training batches, where w tells, and then stay: a channel of large values does not count more than others.

Departures: the paper's w is 1 at cells with an anchor that overlaps an object by more than half of what the best anchor
does, its targets are not standardised, and it has 1/2 in front and a sum over channels. Its code adapts by a 3x3
convolution and a ReLU.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...errors import ConfigError
from ...models.model_utils.precision import at_least_float32
from ...models.taps import TapInfo
from ...ops.knn import frames_of
from ..nodes import NodeFeatures
from .base import DistillLoss, read_options
from .features import SCORES, ChannelStatistics, adapter, score_of
from .masks import box_weights, gaussian_weights

MASKS = ("box", "gaussian", "score")


@dataclasses.dataclass(frozen=True)
class MaskedImitationOptions:
    """In yaml the names are in capitals.

    Attributes:
        mask: what tells where features are imitated.
        sigma: of ``gaussian``, as a share of the box.
        score: of ``score``.
        background: weight of every node, beside the mask's.
    """

    mask: str = "gaussian"
    sigma: float = 0.5
    score: str = "objectness"
    background: float = 0.05


class MaskedImitationLoss(DistillLoss):
    """Squared difference from the teacher's standardised features, where there are objects."""

    def __init__(
        self, student: TapInfo, teacher: TapInfo, options: MaskedImitationOptions | None = None
    ) -> None:
        super().__init__()
        self.options = options or MaskedImitationOptions()
        self.adapter = adapter(student, teacher)
        self.statistics = ChannelStatistics(teacher.channels)

    @classmethod
    def from_config(
        cls, cfg: Mapping[str, Any], student: TapInfo, teacher: TapInfo, where: str
    ) -> MaskedImitationLoss:
        options = read_options(
            MaskedImitationOptions(),
            cfg,
            where,
            {"mask": MASKS, "score": SCORES},
            {"background": (0, 1)},
        )
        if options.mask == "score" and "SCORE" not in cfg:
            raise ConfigError(
                f"{where}.SCORE is missing; MASK: score wants one of {', '.join(SCORES)}"
            )
        return cls(student, teacher, options)

    def forward(
        self, student: NodeFeatures, teacher: NodeFeatures, batch_dict: Mapping[str, Any]
    ) -> Tensor:
        with torch.autocast(student.features.device.type, enabled=False):
            weights = self.weights(teacher, batch_dict)
            rows = torch.nonzero(weights > 0).flatten()
            if len(rows) == 0:
                return self.zero_loss(student.features)
            weights, theirs = weights[rows], at_least_float32(teacher.features[rows])
            if self.training:
                self.statistics.observe(theirs, weights)
            apart = self.adapter(
                at_least_float32(student.features[rows])
            ) - self.statistics.standardise(theirs)
            return (apart.square().mean(dim=1) * weights).sum() / weights.sum()

    @torch.no_grad()
    def weights(self, teacher: NodeFeatures, batch_dict: Mapping[str, Any]) -> Tensor:
        """(N,) of every node."""
        options = self.options
        if options.mask == "score":
            found = _scaled(at_least_float32(score_of(teacher, options.score)), teacher.batch_index)
        elif options.mask == "box":
            found = box_weights(teacher.coords, teacher.batch_index, batch_dict["gt_boxes"])
        else:
            found = gaussian_weights(
                teacher.coords, teacher.batch_index, batch_dict["gt_boxes"], options.sigma
            )
        return found + options.background


def _scaled(score: Tensor, batch_index: Tensor) -> Tensor:
    """Scores (N,) as they are where they lie in 0..1, else over the largest of their frame."""
    scaled = score.clamp_min(0).clone()
    for rows in frames_of(batch_index):
        scaled[rows] = scaled[rows] / scaled[rows].amax().clamp_min(1)
    return scaled
