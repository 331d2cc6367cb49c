"""Selects the channels to keep from their scores."""

from __future__ import annotations

import torch
from torch import Tensor


def select_channels(
    matrix: Tensor, count: int, method: str, generator: torch.Generator | None = None
) -> Tensor:
    """``count`` channels in ascending order.

    Args:
        matrix: (C, C) float64, the score matrix of ``scores.py``; the diagonal holds the scores.
        count: number of channels.
        method: ``magnitude``, ``qr`` or ``random``.
        generator: draws channels for ``random``.
    """
    if method == "random":
        chosen = torch.randperm(len(matrix), generator=generator)[:count]
    elif method == "magnitude":
        chosen = matrix.diagonal().argsort(descending=True, stable=True)[:count]
    else:
        chosen = _pivoted_cholesky(matrix, count)
    return chosen.sort().values


def _pivoted_cholesky(matrix: Tensor, count: int) -> Tensor:
    """The first ``count`` pivots of a Cholesky factorisation (C, C).

    These are the columns that a QR factorisation with column pivoting takes first: each time the
    channel of which the chosen ones explain least.
    """
    residual = matrix.clone()
    is_free = torch.ones(len(matrix), dtype=torch.bool)
    chosen = []
    for _ in range(count):
        pivot = int(residual.diagonal().masked_fill(~is_free, -torch.inf).argmax())
        chosen.append(pivot)
        is_free[pivot] = False
        # Remove from all channels what the pivot explains.
        column = residual[:, pivot] / residual[pivot, pivot].clamp_min(1e-12).sqrt()
        residual = residual - torch.outer(column, column)
    return torch.tensor(chosen)
