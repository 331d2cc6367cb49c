"""Masked feature imitation (Wang et al., CVPR 2019; BEVDistill, ICLR 2023): features near objects.

With A a learned 1x1 convolution:

    D_i = mean over channels of (A s_i - (t_i - mean) / spread)^2
    L = sum_i w_i D_i / sum_i w_i

MASK defines w:
    box         1 on the labelled boxes, seen from above
    gaussian    exp(-d^2 / 2) around them, SIGMA of their length and width
    score       SCORE of the teacher's node: objectness, the confidence of its head there;
                saliency, its largest channel or number of points, scaled to 0..1 in each frame

BACKGROUND is added everywhere. Mean and spread of each of the teacher's channels are averaged over
the first training batches, weighted by w, and then stay: so a channel of large values does not
count more than others.

Departures: the paper's w is 1 at cells with an anchor that overlaps an object by more than half of
what the best anchor does. Its targets are not standardised. It has 1/2 in front, and a sum over
channels. Its code adapts by a 3x3 convolution and a ReLU.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from ...config import option
from ...errors import ConfigError
from ...models.taps import TapInfo
from ...ops.frames import frames_of
from ...types import BatchDict, ConfigDict
from ..nodes import NodeFeatures
from .features import SCORES, score_of
from .imitation import ImitationLoss
from .masks import box_weights, gaussian_weights
from .node_details import NodeDetails


@dataclasses.dataclass(frozen=True)
class MaskedImitationOptions:
    """Where features are imitated."""

    mask: str = option(
        "gaussian",
        choices=("box", "gaussian", "score"),
        help="weights from labelled boxes, Gaussians around them, or the teacher's scores",
    )
    sigma: float = option(
        0.5, above=0, help="width of the Gaussians as a share of the box, for MASK: gaussian"
    )
    score: str = option(
        "objectness",
        choices=SCORES,
        help="score of the teacher's nodes; must be given for MASK: score",
    )
    background: float = option(
        0.05, at_least=0, at_most=1, help="weight that every node has in addition to the mask's"
    )


class MaskedImitationLoss(ImitationLoss):
    """Squared difference from the teacher's standardised features, near objects."""

    options_class = MaskedImitationOptions

    options: MaskedImitationOptions

    @classmethod
    def options_from_config(
        cls, cfg: ConfigDict, student: TapInfo, teacher: TapInfo, where: str
    ) -> MaskedImitationOptions:
        """The options in ``cfg``. MASK: score needs SCORE: the two scores use other taps."""
        options = super().options_from_config(cfg, student, teacher, where)
        if options.mask == "score" and "SCORE" not in cfg:
            raise ConfigError(
                f"{where}.SCORE is missing; MASK: score needs one of {', '.join(SCORES)}"
            )
        return options

    def compute(
        self, student: NodeFeatures, teacher: NodeFeatures, batch_dict: BatchDict
    ) -> Tensor:
        """The loss, a scalar, between matched nodes."""
        all_weights = self.weights(teacher, batch_dict)
        rows = torch.nonzero(all_weights > 0).flatten()
        if len(rows) == 0:
            return self.zero_loss(student.features)
        weights = all_weights[rows]
        self.observe(teacher.features[rows], weights)
        distance = self.distance(student.features[rows], teacher.features[rows])
        return (distance * weights).sum() / weights.sum()

    @torch.no_grad()
    def details(
        self, student: NodeFeatures, teacher: NodeFeatures, batch_dict: BatchDict
    ) -> NodeDetails:
        """The mask, and the weighted distance of every node."""
        weights = self.weights(teacher, batch_dict)
        smallest = torch.finfo(weights.dtype).tiny
        distance = self.distance(student.features, teacher.features)
        return NodeDetails.of_nodes(weights, distance * weights / weights.sum().clamp_min(smallest))

    @torch.no_grad()
    def weights(self, teacher: NodeFeatures, batch_dict: BatchDict) -> Tensor:
        """w (N,) of every node."""
        options = self.options
        if options.mask == "score":
            score = score_of(teacher, options.score)
            return _scaled(score, teacher.batch_index) + options.background
        coords = teacher.coords
        batch_index = teacher.batch_index
        gt_boxes = batch_dict["gt_boxes"]
        if options.mask == "box":
            return box_weights(coords, batch_index, gt_boxes) + options.background
        return gaussian_weights(coords, batch_index, gt_boxes, options.sigma) + options.background


def _scaled(score: Tensor, batch_index: Tensor) -> Tensor:
    """Scores (N,) divided by the largest of their frame if it exceeds 1; negative ones are 0."""
    scaled = score.clamp_min(0).clone()
    for rows in frames_of(batch_index):
        scaled[rows] = scaled[rows] / scaled[rows].amax().clamp_min(1)
    return scaled
