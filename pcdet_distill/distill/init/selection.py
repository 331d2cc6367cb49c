"""Which channels to keep, from what speaks for them."""

from __future__ import annotations

import torch
from torch import Tensor


def select(matrix: Tensor, count: int, how: str, generator: torch.Generator) -> Tensor:
    """``count`` channels in order.

    Args:
        matrix: (C, C) float64, how channels vary together, each times its weight; the diagonal is a channel's score.
        count: how many.
        how: ``magnitude``, ``qr`` or ``random``.
        generator: for ``random``.
    """
    if how == "random":
        chosen = torch.randperm(len(matrix), generator=generator)[:count]
    elif how == "magnitude":
        chosen = matrix.diagonal().argsort(descending=True, stable=True)[:count]
    else:
        chosen = _least_explained_first(matrix, count)
    return chosen.sort().values


def _least_explained_first(matrix: Tensor, count: int) -> Tensor:
    """Pivoted Cholesky factorisation: the order in which QR with column pivoting takes the columns."""
    rest, free = matrix.clone(), torch.ones(len(matrix), dtype=torch.bool)
    chosen = []
    for _ in range(count):
        pivot = int(rest.diagonal().masked_fill(~free, -torch.inf).argmax())
        chosen.append(pivot)
        free[pivot] = False
        column = rest[:, pivot] / rest[pivot, pivot].clamp_min(1e-12).sqrt()
        rest = rest - torch.outer(column, column)
    return torch.tensor(chosen)
