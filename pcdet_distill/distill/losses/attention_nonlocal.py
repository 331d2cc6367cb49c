"""Attention-guided and non-local distillation (Zhang and Ma, ICLR 2021), for the map of a bird's eye view.

With S the student's map behind a 1x1 convolution, T the teacher's, H x W cells, C channels:

    G_s = mean over channels of |.| (H x W),   G_c = mean over cells of |.| (C)
    M_s = HW softmax((G_s(S) + G_s(T)) / TEMPERATURE),   M_c = C softmax((G_c(S) + G_c(T)) / TEMPERATURE)
    L_attention = || G_s(S) - G_s(T) || + || G_c(S) - G_c(T) ||
    L_masked    = ( sum over cells and channels of (T - S)^2 M_s M_c )^(1/2)
    L_nonlocal  = || r(S) - r(T) ||,     r_i = 1/HW * sum_j f(x_i, x_j) x_j
    L = mean over frames of  ATTENTION_WEIGHT L_attention + MASKED_WEIGHT L_masked + NONLOCAL_WEIGHT L_nonlocal

Norms are those of the whole map.

Departures: the relation f is softmax(x_i x_j / sqrt(C)) * HW, without weights of its own: the paper learns those of the
teacher too, and what is learned on both sides can agree on saying nothing. Relations are taken between cells joined by
maxima over POOL x POOL cells, as their number grows with the square. Norms are averaged over the frames, where the
published code takes one of the whole batch, and a term is one map, where it adds up all levels of a pyramid. The masks
are taken as given, as in that code: no gradient flows through them. It differs from the paper's text, which is followed
here: it gives attention the larger weight and the masked features the smaller one (4e-3 and 7e-5 for two-stage
detectors, six times both for one-stage ones, with a temperature of 0.1), averages the two models' masks behind their
softmax, leaves out the mask of channels for two-stage detectors, compares plain means behind learned layers, and takes
plain products as relations, over their number, and adds the map itself to what they tell.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from math import inf
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from ...models.taps import TapInfo
from ..nodes import NodeFeatures
from .base import DistillLoss, read_options
from .features import as_map, whole_maps_only

TINY = 1e-12  # under a root, whose slope at zero is infinite


@dataclasses.dataclass(frozen=True)
class AttentionNonlocalOptions:
    """In yaml the names are in capitals; the values are those of the paper's text for one-stage detectors.

    Attributes:
        temperature: of both attention masks.
        attention_weight, masked_weight, nonlocal_weight: of the three parts; 0 leaves one out.
        pool: cells along each axis that one cell of the relations stands for.
    """

    temperature: float = 0.5
    attention_weight: float = 4e-4
    masked_weight: float = 2e-2
    nonlocal_weight: float = 4e-4
    pool: int = 4


class AttentionNonlocalLoss(DistillLoss):
    """Attention, features under attention, and relations between cells."""

    def __init__(
        self, student: TapInfo, teacher: TapInfo, options: AttentionNonlocalOptions | None = None
    ) -> None:
        super().__init__()
        self.options = options or AttentionNonlocalOptions()
        self.adapter = nn.Conv2d(student.channels, teacher.channels, 1)

    @classmethod
    def from_config(
        cls, cfg: Mapping[str, Any], student: TapInfo, teacher: TapInfo, where: str
    ) -> AttentionNonlocalLoss:
        weights = ("attention_weight", "masked_weight", "nonlocal_weight")
        options = read_options(
            AttentionNonlocalOptions(), cfg, where, ranges=dict.fromkeys(weights, (0, inf))
        )
        whole_maps_only(where, "AttentionNonlocalLoss", student, teacher)
        return cls(student, teacher, options)

    def forward(
        self, student: NodeFeatures, teacher: NodeFeatures, batch_dict: Mapping[str, Any]
    ) -> Tensor:
        if len(student) == 0:
            return self.zero_loss(student.features)
        with torch.autocast(student.features.device.type, enabled=False):
            own, theirs = self.adapter(as_map(student)), as_map(teacher)
            pool = self.options.pool
            parts = {
                "attention": attention_distance(own, theirs),
                "masked": masked_distance(own, theirs, self.options.temperature),
                "nonlocal": norm_of_frames(relations(own, pool) - relations(theirs, pool)),
            }
            self.logs.update({name: value.detach() for name, value in parts.items()})
            return torch.stack(
                [getattr(self.options, f"{name}_weight") * value for name, value in parts.items()]
            ).sum()


def norm_of_frames(values: Tensor) -> Tensor:
    """Mean over frames of the Euclidean norm of (B, ...)."""
    return (values.flatten(1).square().sum(dim=1) + TINY).sqrt().mean()


def attention(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Of (B, C, H, W): over cells (B, 1, H, W), and over channels (B, C, 1, 1)."""
    return maps.abs().mean(dim=1, keepdim=True), maps.abs().mean(dim=(2, 3), keepdim=True)


def attention_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """L_attention."""
    (own_cells, own_channels), (cells, channels) = attention(student), attention(teacher)
    return norm_of_frames(own_cells - cells) + norm_of_frames(own_channels - channels)


def masked_distance(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """L_masked; the masks themselves are not learned."""
    masks = [
        (own + theirs) / temperature
        for own, theirs in zip(attention(student.detach()), attention(teacher))
    ]
    weight = student.new_ones(())
    for mask in masks:
        weight = weight * (torch.softmax(mask.flatten(1), dim=1) * mask[0].numel()).view_as(mask)
    return norm_of_frames((teacher - student) * weight.sqrt())


def relations(maps: Tensor, pool: int) -> Tensor:
    """What all cells tell each cell: (B, cells, C) of (B, C, H, W)."""
    pooled = functional.max_pool2d(maps, pool, ceil_mode=True) if pool > 1 else maps
    cells = pooled.flatten(2).transpose(1, 2)
    alike = torch.softmax(cells @ cells.transpose(1, 2) / cells.shape[2] ** 0.5, dim=2)
    return alike @ cells
