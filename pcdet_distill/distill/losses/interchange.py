"""Interchange transfer of itKD (Cho et al., CVPR 2023): features through one shared autoencoder.

s' = A s is the student's feature behind a learned linear layer, t' the teacher's with zero mean and
unit spread in every channel. The autoencoder is shared: an encoder E to COMPRESSED channels and a
decoder D back. Each has two linear layers, with a ReLU between them.

    L_compressed  = sum_i w_i  mean over channels of (E s'_i - E t'_i)^2  /  sum_i w_i
    L_interchange = mean over nodes and channels of  (D E s' - t')^2 + (D E t' - sg(s'))^2
    L = COMPRESSED_WEIGHT L_compressed + INTERCHANGE_WEIGHT L_interchange

w_i is the teacher's objectness at node i, plus BACKGROUND. What is decompressed is compared with
the other model's feature. So E cannot forget what distinguishes the nodes: L_compressed alone would
be 0 for an encoder that maps everything to one point. sg passes no gradient: A would otherwise
shrink s' to zero, where D finds it most easily (a test shows it).

Departures, from the paper and from its published code:

* The paper widens the student's feature by an adapter too, but D ends in the student's channels and
  the adapter widens D E s' again. So D E t' is compared with s itself, which no adapter can shrink,
  and there is no sg. Here both models meet in the teacher's channels.
* It takes absolute differences, and the interchange adds squared ones at the centres of labelled
  objects. Here all are squared, and w uses the teacher's scores, which frames without labels have.
* Encoder and decoder have three layers each, of 128, 64 and 32 channels, for 384 of the teacher;
  here two, for narrower teachers.
* Its targets are not standardised. So here one weight fits every teacher.
* Its layers are 1x1 convolutions, which is the same for the cells of a map.
* The attention between heads is HeadRelationLoss.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from ...config import option
from ...models.taps import TapInfo
from ...types import BatchDict, ConfigDict
from ..nodes import NodeFeatures
from .features import score_of, with_score
from .imitation import ImitationLoss


@dataclasses.dataclass(frozen=True)
class InterchangeOptions:
    """The autoencoder, and the weights of the parts."""

    compressed: int = option(32, above=0, help="channels between encoder and decoder")
    score: str = option(
        "objectness",
        choices=("none", "objectness"),
        help="weights of the nodes in the compressed comparison; none: equal",
    )
    background: float = option(
        0.05, at_least=0, at_most=1, help="weight that every node has in addition to its objectness"
    )
    compressed_weight: float = option(
        1.0, at_least=0, help="weight of the distance between compressed features"
    )
    interchange_weight: float = option(
        1.0, at_least=0, help="weight of the distance between decompressed and other features"
    )


class InterchangeLoss(ImitationLoss):
    """Distances of compressed features, and of decompressed ones from the other model's."""

    options_class = InterchangeOptions

    options: InterchangeOptions

    def __init__(
        self, student: TapInfo, teacher: TapInfo, options: InterchangeOptions | None = None
    ) -> None:
        super().__init__(student, teacher, options)
        compressed = self.options.compressed
        self.encoder = _two_layers(teacher.channels, 2 * compressed, compressed)
        self.decoder = _two_layers(compressed, 2 * compressed, teacher.channels)

    @classmethod
    def with_input_keys(cls, cfg: ConfigDict, teacher_has_scores: bool) -> ConfigDict:
        """With SCORE: the objectness, if the teacher publishes class scores."""
        return with_score(cfg, teacher_has_scores, otherwise="none")

    def compute(
        self, student: NodeFeatures, teacher: NodeFeatures, batch_dict: BatchDict
    ) -> Tensor:
        """The loss, a scalar, between matched nodes. Logs both parts."""
        weights = self.weights(teacher)
        self.observe(teacher.features, torch.ones_like(weights))
        target = self.target(teacher.features)
        adapted = self.adapt(student.features)
        code = self.encoder(adapted)
        target_code = self.encoder(target)
        distance = (code - target_code).square().mean(dim=1)
        smallest = torch.finfo(weights.dtype).tiny
        compressed = (weights * distance).sum() / weights.sum().clamp_min(smallest)
        there = (self.decoder(code) - target).square().mean()
        back = (self.decoder(target_code) - adapted.detach()).square().mean()
        interchange = there + back
        self.logs["compressed"] = compressed.detach()
        self.logs["interchange"] = interchange.detach()
        return (
            self.options.compressed_weight * compressed
            + self.options.interchange_weight * interchange
        )

    @torch.no_grad()
    def weights(self, teacher: NodeFeatures) -> Tensor:
        """w (N,) of every node."""
        if self.options.score == "none":
            return torch.ones_like(teacher.saliency)
        return score_of(teacher, "objectness") + self.options.background


def _two_layers(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
