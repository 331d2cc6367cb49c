"""Attention-guided and non-local distillation (Zhang and Ma, ICLR 2021), for bird's eye view maps.

With S the student's map behind a 1x1 convolution, T the teacher's, H x W cells, C channels:

    G_s = mean over channels of |.| (H x W),   G_c = mean over cells of |.| (C)
    M_s = HW softmax((G_s(S) + G_s(T)) / TEMPERATURE)
    M_c = C softmax((G_c(S) + G_c(T)) / TEMPERATURE)
    L_attention = || G_s(S) - G_s(T) || + || G_c(S) - G_c(T) ||
    L_masked    = ( sum over cells and channels of (T - S)^2 M_s M_c )^(1/2)
    L_nonlocal  = || r(S) - r(T) ||,     r_i = 1/HW * sum_j f(x_i, x_j) x_j
    L = mean over frames of
        ATTENTION_WEIGHT L_attention + MASKED_WEIGHT L_masked + NONLOCAL_WEIGHT L_nonlocal

Norms are those of the whole map.

Departures, from the paper's text and from its published code:

* The relation f is softmax(x_i x_j / sqrt(C)) * HW, without weights of its own. The paper learns
  weights for the teacher too, and what is learned on both sides can agree on being constant.
* Relations are taken between cells of POOL x POOL maxima, as their number grows with the square.
* Norms are averaged over the frames; the code takes one norm of the whole batch.
* A term is one map; the code adds up all levels of a feature pyramid.
* No gradient flows through the masks, as in the code.
* The weights follow the text, not the code. The code gives attention the larger weight and the
  masked features the smaller one: 4e-3 and 7e-5 for two-stage detectors. For one-stage detectors
  both are six times as large, and the temperature is 0.1.
* Other differences of the code: it averages the two models' masks after their softmax, and leaves
  out the channel mask for two-stage detectors. It compares plain means behind learned layers. Its
  relations are plain products, divided by their number, and it adds the map itself to them.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor
from torch.nn import functional

from ...config import option
from ...types import BatchDict
from .imitation import AdaptedMapLoss

TINY = 1e-12  # under a root, whose slope at zero is infinite


@dataclasses.dataclass(frozen=True)
class AttentionNonlocalOptions:
    """The defaults are those of the paper's text for one-stage detectors."""

    temperature: float = option(
        0.5, above=0, help="of both attention masks; a large one makes them even"
    )
    attention_weight: float = option(
        4e-4, at_least=0, help="weight of the distance between attentions"
    )
    masked_weight: float = option(
        2e-2, at_least=0, help="weight of the distance between features under the attention masks"
    )
    nonlocal_weight: float = option(
        4e-4, at_least=0, help="weight of the distance between relations of cells"
    )
    pool: int = option(
        4, above=0, help="cells along each axis that are pooled before relations are taken"
    )


class AttentionNonlocalLoss(AdaptedMapLoss):
    """Attention, features under attention, and relations between cells."""

    options_class = AttentionNonlocalOptions

    options: AttentionNonlocalOptions

    def compute(self, student: Tensor, teacher: Tensor, batch_dict: BatchDict) -> Tensor:
        """The loss, a scalar, between maps (B, C_s, H, W) and (B, C_t, H, W)."""
        options = self.options
        adapted = self.adapter(student)
        relation_difference = relations(adapted, options.pool) - relations(teacher, options.pool)
        parts = {
            "attention": attention_distance(adapted, teacher),
            "masked": masked_distance(adapted, teacher, options.temperature),
            "nonlocal": norm_of_frames(relation_difference),
        }
        for name, part in parts.items():
            self.logs[name] = part.detach()
        weighted = [
            options.attention_weight * parts["attention"],
            options.masked_weight * parts["masked"],
            options.nonlocal_weight * parts["nonlocal"],
        ]
        return torch.stack(weighted).sum()


def norm_of_frames(values: Tensor) -> Tensor:
    """Mean over frames of the Euclidean norm of (B, ...)."""
    squares = values.flatten(1).square().sum(dim=1)
    return (squares + TINY).sqrt().mean()


def cell_attention(maps: Tensor) -> Tensor:
    """G_s (B, 1, H, W) of (B, C, H, W)."""
    return maps.abs().mean(dim=1, keepdim=True)


def channel_attention(maps: Tensor) -> Tensor:
    """G_c (B, C, 1, 1) of (B, C, H, W)."""
    return maps.abs().mean(dim=(2, 3), keepdim=True)


def attention_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """L_attention."""
    of_cells = norm_of_frames(cell_attention(student) - cell_attention(teacher))
    of_channels = norm_of_frames(channel_attention(student) - channel_attention(teacher))
    return of_cells + of_channels


def masked_distance(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """L_masked. No gradient flows through the masks."""
    constant = student.detach()
    cell_sum = cell_attention(constant) + cell_attention(teacher)
    channel_sum = channel_attention(constant) + channel_attention(teacher)
    weight = _mask(cell_sum / temperature) * _mask(channel_sum / temperature)
    return norm_of_frames((teacher - student) * weight.sqrt())


def _mask(scores: Tensor) -> Tensor:
    """Softmax over all entries of a frame of (B, ...), scaled to a mean of 1."""
    shares = torch.softmax(scores.flatten(1), dim=1)
    return (shares * shares.shape[1]).view_as(scores)


def relations(maps: Tensor, pool: int) -> Tensor:
    """r (B, cells, C) of maps (B, C, H, W): what all cells contribute to each cell."""
    pooled = functional.max_pool2d(maps, pool, ceil_mode=True) if pool > 1 else maps
    cells = pooled.flatten(2).transpose(1, 2)
    scale = cells.shape[2] ** 0.5
    similarity = torch.softmax(cells @ cells.transpose(1, 2) / scale, dim=2)
    return similarity @ cells
