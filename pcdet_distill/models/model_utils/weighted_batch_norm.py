"""Batch normalisation over rows that stand for several equal rows each.

PointPillars normalises all point slots of all pillars, empty slots included. The empty slots of one pillar are equal,
so one row with a weight replaces them; the statistics below are those of the expanded rows.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .channels_last_batch_norm import update_running_statistics


class WeightedBatchNorm1d(nn.BatchNorm1d):
    """BatchNorm1d whose rows count ``weight`` times. State, options and eval mode are BatchNorm1d's."""

    def forward(self, rows: Tensor, weight: Tensor | None = None) -> Tensor:
        """Normalise ``rows`` (R, C); ``weight`` (R,) says how many equal rows each stands for (None: one)."""
        use_batch_statistics = self.training or self.running_mean is None
        if weight is None and len(rows) > 1 or not use_batch_statistics:
            return super().forward(rows)
        if len(rows) == 0:
            return rows * self.weight + self.bias if self.affine else rows  # keeps the parameters in the graph
        weight = rows.new_ones(len(rows)) if weight is None else weight.to(rows.dtype)
        weight, total = weight.unsqueeze(1), weight.sum()
        mean = (rows * weight).sum(dim=0) / total
        centred = rows - mean
        variance = (centred.square() * weight).sum(dim=0) / total
        if self.training and self.track_running_stats:
            unbiased = variance * (total / (total - 1).clamp_min(1))
            update_running_statistics(self, mean.detach(), unbiased.detach())
        scale = (variance + self.eps).rsqrt()
        if not self.affine:
            return centred * scale
        return torch.addcmul(self.bias, centred, scale * self.weight)


def normalise_weighted(norm: nn.Module, rows: Tensor, weight: Tensor) -> Tensor:
    """``norm`` over rows that count ``weight`` (R,) times each, whatever batch normalisation ``norm`` is.

    SyncBatchNorm and other replacements know no weights: they get the expanded rows, of which one of each is returned.
    """
    if isinstance(norm, WeightedBatchNorm1d):
        return norm(rows, weight)
    if not norm.training or len(rows) == 0:
        return norm(rows)
    repeats = weight.long()
    expanded = norm(torch.repeat_interleave(rows, repeats, dim=0))
    return expanded[F.pad(repeats.cumsum(0), (1, -1))]
