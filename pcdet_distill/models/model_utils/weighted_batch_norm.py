"""Batch normalisation over rows that stand for several equal rows each.

PointPillars normalises all point slots of all pillars, empty slots included. The empty slots of one pillar are equal,
so one row with a weight replaces them; the statistics below are those of the expanded rows.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...ops.accelerated import norm_kernels
from .channels_last_batch_norm import update_running_statistics


class WeightedBatchNorm1d(nn.BatchNorm1d):
    """BatchNorm1d whose rows count ``weight`` times. State, options and eval mode are BatchNorm1d's."""

    def forward(self, rows: Tensor, weight: Tensor | None = None) -> Tensor:
        """Normalise ``rows`` (R, C); ``weight`` (R,) says how many equal rows each stands for (None: one)."""
        use_batch_statistics = self.training or self.running_mean is None
        if weight is None and len(rows) > 1 or not use_batch_statistics:
            return super().forward(rows)
        if len(rows) == 0:
            return (
                rows * self.weight + self.bias if self.affine else rows
            )  # keeps the parameters in the graph
        weight = rows.new_ones(len(rows)) if weight is None else weight.to(rows.dtype)
        if self.affine and rows.device.type == "cpu" and rows.dtype == self.weight.dtype:
            return self._normalise_compiled(rows, weight)
        return self._normalise_plain(rows, weight)

    def _normalise_compiled(self, rows: Tensor, weight: Tensor) -> Tensor:
        """On the CPU, with sums in float64 and a backward pass of two loops."""
        mean, variance = (
            torch.from_numpy(moment)
            for moment in norm_kernels.weighted_moments(
                rows.detach().contiguous().numpy(), weight.double().numpy()
            )
        )
        total = float(weight.double().sum())
        if self.training and self.track_running_stats:
            update_running_statistics(self, mean, variance * (total / max(total - 1, 1)))
        scale = (variance + self.eps).rsqrt()
        return _WeightedNormalise.apply(rows, self.weight, self.bias, weight, mean, scale, total)

    def _normalise_plain(self, rows: Tensor, weight: Tensor) -> Tensor:
        """Plain torch, any device."""
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


class _WeightedNormalise(torch.autograd.Function):
    """Batch norm of rows (R, C) whose mean and inverse deviation (C,) float64 have been computed already."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        gamma: Tensor,
        beta: Tensor,
        weight: Tensor,
        mean: Tensor,
        scale: Tensor,
        total: float,
    ) -> Tensor:
        ctx.save_for_backward(rows, gamma, weight, mean, scale)
        ctx.total = total
        factor = scale * gamma
        return torch.addcmul((beta - mean * factor).to(rows.dtype), rows, factor.to(rows.dtype))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, gamma, weight, mean, scale = ctx.saved_tensors
        grad, rows, dtype = grad.contiguous(), rows.contiguous(), rows.dtype
        plain, along = (
            torch.from_numpy(part)
            for part in norm_kernels.gradient_sums(grad.numpy(), rows.numpy(), mean.numpy())
        )
        factor = scale * gamma
        constant, slope = factor * plain / ctx.total, factor * scale.square() * along / ctx.total
        to_rows = torch.empty_like(rows)
        centre, factors, constants, slopes = (
            vector.to(dtype).numpy() for vector in (mean, factor, constant, slope)
        )
        norm_kernels.row_gradient(
            grad.numpy(),
            rows.numpy(),
            centre,
            weight.numpy(),
            factors,
            constants,
            slopes,
            to_rows.numpy(),
        )
        return to_rows, (along * scale).to(dtype), plain.to(dtype), None, None, None, None


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
