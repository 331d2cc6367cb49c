"""Batch normalisation over rows that each stand for several equal rows.

PointPillars normalises all point slots of all pillars, the empty ones too. The empty slots of a
pillar are equal, so one row with a weight replaces them. The statistics are those of all slots.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...ops.accelerated import norm_kernels
from .channels_last_batch_norm import update_running_statistics


class WeightedBatchNorm1d(nn.BatchNorm1d):
    """BatchNorm1d with a weight for each row; state, options and eval mode are BatchNorm1d's."""

    def forward(self, rows: Tensor, weight: Tensor | None = None) -> Tensor:
        """Normalise ``rows`` (R, C), each of which stands for ``weight`` (R,) equal rows."""
        use_batch_statistics = self.training or self.running_mean is None
        # PyTorch refuses batch statistics of a single row; the code below does not.
        is_plain = weight is None and len(rows) > 1
        if is_plain or not use_batch_statistics:
            return super().forward(rows)
        if len(rows) == 0:
            # The product keeps the parameters in the graph: parallel training needs their
            # gradients.
            return rows * self.weight + self.bias if self.affine else rows
        weight = rows.new_ones(len(rows)) if weight is None else weight.to(rows.dtype)
        if self.affine and rows.device.type == "cpu" and rows.dtype == self.weight.dtype:
            return self._normalise_compiled(rows, weight)
        return self._normalise_plain(rows, weight)

    def _normalise_compiled(self, rows: Tensor, weight: Tensor) -> Tensor:
        """Compiled loops for the CPU, with sums in float64."""
        moments = norm_kernels.weighted_moments(
            rows.detach().contiguous().numpy(), weight.double().numpy()
        )
        mean = torch.from_numpy(moments[0])
        variance = torch.from_numpy(moments[1])
        total = float(weight.double().sum())
        if self.training and self.track_running_stats:
            update_running_statistics(self, mean, variance * (total / max(total - 1, 1)))
        scale = (variance + self.eps).rsqrt()
        return _WeightedNormalise.apply(rows, self.weight, self.bias, weight, mean, scale, total)

    def _normalise_plain(self, rows: Tensor, weight: Tensor) -> Tensor:
        """Plain torch, for any device."""
        total = weight.sum()
        weight = weight.unsqueeze(1)
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
    """Batch norm of rows (R, C) with given mean and inverse deviation (C,), both float64."""

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
        grad = grad.contiguous()
        rows = rows.contiguous()
        dtype = rows.dtype
        # Sums over the rows of the gradient, and of the gradient times (row - mean).
        sums = norm_kernels.gradient_sums(grad.numpy(), rows.numpy(), mean.numpy())
        grad_sum = torch.from_numpy(sums[0])
        grad_times_centred_sum = torch.from_numpy(sums[1])
        # Each output depends on the row itself, and on all rows through mean and deviation:
        # gradient of a row = factor * grad - weight * (constant + slope * (row - mean)).
        factor = scale * gamma
        constant = factor * grad_sum / ctx.total
        slope = factor * scale.square() * grad_times_centred_sum / ctx.total
        to_rows = torch.empty_like(rows)
        norm_kernels.row_gradient(
            grad.numpy(),
            rows.numpy(),
            mean.to(dtype).numpy(),
            weight.numpy(),
            factor.to(dtype).numpy(),
            constant.to(dtype).numpy(),
            slope.to(dtype).numpy(),
            to_rows.numpy(),
        )
        to_gamma = (grad_times_centred_sum * scale).to(dtype)
        to_beta = grad_sum.to(dtype)
        return to_rows, to_gamma, to_beta, None, None, None, None


def normalise_weighted(norm: nn.Module, rows: Tensor, weight: Tensor) -> Tensor:
    """Apply any batch normalisation to rows that count ``weight`` (R,) times each.

    SyncBatchNorm and other replacements take no weights. They get the expanded rows, and one of
    each group of equal rows is returned.
    """
    if isinstance(norm, WeightedBatchNorm1d):
        return norm(rows, weight)
    if not norm.training or len(rows) == 0:
        return norm(rows)
    repeats = weight.long()
    expanded = norm(torch.repeat_interleave(rows, repeats, dim=0))
    first_of_each_group = F.pad(repeats.cumsum(0), (1, -1))
    return expanded[first_of_each_group]
