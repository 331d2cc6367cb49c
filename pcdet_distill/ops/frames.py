"""Rows of a batch by frame: which belong to one, how many each has, the best of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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


def split_by_frame(frame: Tensor, batch_size: int) -> tuple[Tensor, ...]:
    """The rows (int64) of each frame, in their order; the host waits once for all their numbers.

    Args:
        frame: (N,) the frame of each row.
        batch_size: B.
    """
    order = torch.argsort(frame, stable=True)
    return order.split(rows_by_frame(frame, batch_size))


def rows_by_frame(frame: Tensor, batch_size: int) -> list[int]:
    """How many of the rows (N,) each frame has."""
    numbers = torch.arange(batch_size, device=frame.device)
    # Not bincount: it waits for the highest frame.
    counts: list[int] = (frame == numbers[:, None]).sum(dim=1).tolist()
    return counts


def rows_of_masks(masks: Sequence[Tensor]) -> list[Tensor]:
    """The rows (int64) that each mask (N_i,) keeps, in their order; the host waits once for all.

    ``nonzero`` of each mask would wait for each. Sorting does not wait, and puts the rows that are
    kept first.
    """
    if len(masks) == 0:
        return []
    counts: list[int] = torch.stack([mask.sum() for mask in masks]).tolist()
    rows = []
    for mask, count in zip(masks, counts):
        order = torch.argsort((~mask).to(torch.uint8), stable=True)
        rows.append(order[:count])
    return rows


def stack_frames(
    frame: Tensor, batch_size: int, *columns: Tensor
) -> tuple[list[int], tuple[Tensor, ...]]:
    """Group rows by frame: the number of rows of each frame, and the columns in that order.

    Args:
        frame: (N,) the frame of each row.
        columns: (N, ...) each.
    """
    # On a GPU sorting is faster than learning whether the rows are sorted already.
    if frame.device.type != "cpu" or bool((frame[1:] < frame[:-1]).any()):
        order = torch.argsort(frame, stable=True)
        columns = tuple(column[order] for column in columns)
    return rows_by_frame(frame, batch_size), columns
