"""Which rows of a batch belong to which frame, and the best of them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def frames_of(batch_index: Tensor) -> Iterator[Tensor]:
    """Row numbers (n,) of each frame that has rows, for a ``batch_index`` (N,) in any order."""
    for frame, count in enumerate(torch.bincount(batch_index.long()).tolist()):
        if count:
            yield torch.nonzero(batch_index == frame).flatten()


def best_rows(scores: Tensor, rows: Tensor, count: int) -> Tensor:
    """Those ``count`` of ``rows`` (n,) with the highest ``scores`` (N,), the best first.

    All of them where there are fewer.
    """
    best = scores[rows].topk(min(count, len(rows))).indices
    return rows[best]
