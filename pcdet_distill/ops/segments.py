"""The largest row of each run of rows. Of equal rows the first one gets the gradient.

``torch.segment_reduce`` has the same values, but its backward pass hands a negative gradient in full to every one of
several equal maxima; repeated points make those.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .accelerated import point_kernels


def segment_max(rows: Tensor, lengths: Tensor) -> Tensor:
    """Maximum (M, C) of each channel over runs of rows (R, C) that are ``lengths`` (M,) long, all at least 1."""
    return _SegmentMax.apply(rows, lengths)


def segment_argmax(rows: Tensor, lengths: Tensor) -> Tensor:
    """Where (M, C) int64 the first of the largest values of each run stands."""
    ends = lengths.cumsum(0)
    if rows.device.type == "cpu" and rows.dtype in (torch.float32, torch.float64):
        return torch.from_numpy(
            point_kernels.segment_argmax(rows.detach().contiguous().numpy(), ends.numpy())
        )
    return segment_argmax_plain(rows, lengths)


def segment_argmax_plain(rows: Tensor, lengths: Tensor) -> Tensor:
    """``segment_argmax`` in plain torch, any device."""
    run = torch.repeat_interleave(
        torch.arange(len(lengths), device=rows.device), lengths, output_size=len(rows)
    )
    place = run.unsqueeze(1).expand_as(rows)
    largest = rows.new_full((len(lengths), rows.shape[1]), -torch.inf).scatter_reduce(
        0, place, rows, "amax"
    )
    order = torch.arange(len(rows), device=rows.device).unsqueeze(1)
    first = torch.where(rows == largest[run], order, len(rows) - 1)
    return first.new_full(largest.shape, len(rows) - 1).scatter_reduce(0, place, first, "amin")


class _SegmentMax(torch.autograd.Function):
    """A gather at the maxima; every row and channel is the maximum of one run at most."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, lengths: Tensor) -> Tensor:
        at = segment_argmax(rows, lengths)
        ctx.save_for_backward(at)
        ctx.total = len(rows)
        return rows.gather(0, at)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        at = ctx.saved_tensors[0]
        return grad.new_zeros(ctx.total, grad.shape[1]).scatter(0, at, grad), None
