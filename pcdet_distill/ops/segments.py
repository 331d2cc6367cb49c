"""The maximum over each run of rows. Of equal maxima the first one gets the gradient.

``torch.segment_reduce`` has the same values, but with a negative gradient its backward pass gives
the full gradient to every one of several equal maxima. Repeated points have equal features.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .accelerated import point_kernels


def segment_max(rows: Tensor, lengths: Tensor) -> Tensor:
    """Maximum of each channel over runs of consecutive rows.

    Args:
        rows: (R, C).
        lengths: (M,) int64 rows of each run, all at least 1.

    Returns:
        (M, C).
    """
    largest: Tensor = _SegmentMax.apply(rows, lengths)
    return largest


def segment_argmax(rows: Tensor, lengths: Tensor) -> Tensor:
    """Row (M, C) int64 of the first of the largest values in each run and channel."""
    compiled = rows.device.type == "cpu" and rows.dtype in (torch.float32, torch.float64)
    if not compiled:
        return segment_argmax_plain(rows, lengths)
    ends = lengths.cumsum(0).numpy()
    return torch.from_numpy(point_kernels.segment_argmax(rows.detach().contiguous().numpy(), ends))


def segment_argmax_plain(rows: Tensor, lengths: Tensor) -> Tensor:
    """``segment_argmax`` in plain torch, any device."""
    segments = torch.arange(len(lengths), device=rows.device)
    segment_of_row = torch.repeat_interleave(segments, lengths, output_size=len(rows))
    return group_argmax(rows, segment_of_row, len(lengths)).clamp_max(len(rows) - 1)


def group_argmax(rows: Tensor, group: Tensor, num_groups: int) -> Tensor:
    """The first of the rows with the largest value, by group and channel.

    Args:
        rows: (R, C).
        group: (R,) int64, in any order.
        num_groups: G.

    Returns:
        (G, C) int64, R for an empty group.
    """
    no_row = len(rows)
    shape = (num_groups, rows.shape[1])
    target = group.unsqueeze(1).expand_as(rows)
    largest = rows.new_full(shape, -torch.inf).scatter_reduce(0, target, rows, "amax")
    numbers = torch.arange(len(rows), device=rows.device).unsqueeze(1)
    candidates = torch.where(rows == largest[group], numbers, no_row)
    return candidates.new_full(shape, no_row).scatter_reduce(0, target, candidates, "amin")


class _SegmentMax(torch.autograd.Function):
    """A gather at the maxima.

    Every row belongs to one run, so the backward pass writes each place at most once.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, lengths: Tensor) -> Tensor:
        maxima = segment_argmax(rows, lengths)
        ctx.save_for_backward(maxima)
        ctx.num_rows = len(rows)
        return rows.gather(0, maxima)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (maxima,) = ctx.saved_tensors
        of_rows = grad.new_zeros(ctx.num_rows, grad.shape[1])
        return of_rows.scatter(0, maxima, grad), None
