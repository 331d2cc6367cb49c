"""Batch norm whose statistics are those of the batches of all processes, on any device.

torch.nn.SyncBatchNorm does this on CUDA alone. With n_p values in process p and sums over all of
them,

    mean = sum_p sum_i x_i / sum_p n_p        var = sum_p sum_i (x_i - mean)^2 / sum_p n_p

The sums are exchanged by an all-reduce that gradients pass through. So mean and variance, and their
gradients, are those of one process with the whole batch.
"""

from __future__ import annotations

import torch
import torch.distributed.nn.functional as exchange
from torch import Tensor, nn
from torch.nn import functional


class SharedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Takes the place of a BatchNorm1d, 2d or 3d; parameters and buffers have the same names."""

    @classmethod
    def like(cls, norm: nn.modules.batchnorm._BatchNorm) -> SharedBatchNorm:
        """A layer with the parameters, buffers and settings of ``norm``."""
        shared = cls(
            norm.num_features,
            norm.eps,
            norm.momentum,
            affine=norm.affine,
            track_running_stats=norm.track_running_stats,
        )
        shared.weight = norm.weight
        shared.bias = norm.bias
        shared.running_mean = norm.running_mean
        shared.running_var = norm.running_var
        shared.num_batches_tracked = norm.num_batches_tracked
        shared.training = norm.training
        return shared

    def _check_input_dim(self, input: Tensor) -> None:
        """Any input of (N, C) or (N, C, ...)."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (N, C, ...); in evaluation as any batch norm does."""
        if not self.training:
            return functional.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        axes = [axis for axis in range(input.dim()) if axis != 1]
        sums = input.sum(dim=axes)
        count = sums.new_full((1,), input.numel() / self.num_features)
        total = exchange.all_reduce(torch.cat([sums, count]))
        total_count = total[-1:].detach()
        mean = total[:-1] / total_count
        centred = input - _along_channels(mean, input)
        variance = exchange.all_reduce(centred.square().sum(dim=axes)) / total_count
        self._track(mean.detach(), variance.detach(), total_count)
        scale = torch.rsqrt(variance + self.eps)
        if self.affine:
            scale = scale * self.weight
        output = centred * _along_channels(scale, input)
        return output + _along_channels(self.bias, input) if self.affine else output

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Update the running statistics; the running variance is the unbiased one."""
        tracked = self.num_batches_tracked
        if tracked is None or self.running_mean is None or self.running_var is None:
            return
        tracked += 1
        momentum = 1.0 / float(tracked) if self.momentum is None else self.momentum
        unbiased = variance * count / (count - 1).clamp(min=1)
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(unbiased, momentum)


def _along_channels(values: Tensor, input: Tensor) -> Tensor:
    """(C,) as (1, C, 1, ...), to multiply an input with."""
    return values.view(1, -1, *[1] * (input.dim() - 2))


def share_norms(model: nn.Module) -> nn.Module:
    """``model`` with every batch norm replaced, in place but for ``model`` itself."""
    if isinstance(model, nn.modules.batchnorm._BatchNorm):
        return SharedBatchNorm.like(model)
    for name, child in model.named_children():
        setattr(model, name, share_norms(child))
    return model
