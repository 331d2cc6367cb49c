"""Stacks: the points of all items (frames) one after the other, in one tensor.

OpenPCDet's "stack" layout. Unlike the batch layout (B, N, 3), items may have different numbers of
points. An index into a stack is a row of the whole stack.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .accelerated.point_kernels import Queries, Searched
from .constants import constant

# Rows of each item of a stack.
Counts = Sequence[int] | Tensor
# Distances between points that a plain version holds at once: 16 MB.
PAIRS_PER_CHUNK = 1 << 22


@dataclasses.dataclass(frozen=True)
class Stack:
    """Places of B items, one item after the other.

    Attributes:
        xyz: (N, 3) float32, without a graph.
        starts: B + 1 rows: where each item begins, and where the last one ends.
    """

    xyz: Tensor
    starts: list[int]

    @classmethod
    def of_counts(cls, points: Tensor, counts: Counts) -> Stack:
        """The stack of ``points`` (N, 3+) whose items have ``counts`` (B,) rows."""
        return cls(points.detach()[:, :3].float(), stack_starts(counts))

    @classmethod
    def of_batch(cls, points: Tensor) -> Stack:
        """The stack of a batch (B, N, 3+)."""
        num_items, count = points.shape[:2]
        return cls.of_counts(points.reshape(-1, points.shape[2]), [count] * num_items)

    def __len__(self) -> int:
        """Number of points."""
        return len(self.xyz)

    @property
    def num_items(self) -> int:
        """B."""
        return len(self.starts) - 1

    @property
    def on_cpu(self) -> bool:
        """Whether the compiled kernels take it."""
        return self.xyz.device.type == "cpu"

    @property
    def sizes(self) -> list[int]:
        """How many points each item has."""
        return [end - start for start, end in zip(self.starts, self.starts[1:])]

    def device_starts(self) -> Tensor:
        """``starts`` as a tensor (B + 1,) int64 beside the points."""
        return starts_on(self.xyz.device, self.starts)

    def rows_of(self, item: int) -> slice:
        """The rows of one item."""
        return slice(self.starts[item], self.starts[item + 1])

    def parts_of(self, item: int, work_per_point: int) -> list[slice]:
        """The rows of one item in parts.

        Args:
            item: which one.
            work_per_point: intermediate numbers that one point needs; those of a part fit into
                ``PAIRS_PER_CHUNK``.
        """
        step = max(1, PAIRS_PER_CHUNK // max(work_per_point, 1))
        end = self.starts[item + 1]
        return [slice(row, min(row + step, end)) for row in range(self.starts[item], end, step)]

    def as_searched(self) -> Searched:
        """For kernels that search among the points."""
        columns = np.ascontiguousarray(self.xyz.numpy().T)
        return Searched(columns, np.array(self.starts))

    def as_queries(self) -> Queries:
        """For kernels that search around the points."""
        return Queries(self.xyz.contiguous().numpy(), np.array(self.starts))


def stack_starts(counts: Counts) -> list[int]:
    """Where each item of a stack begins, and where the last one ends: B + 1 rows."""
    numbers = counts.tolist() if isinstance(counts, Tensor) else counts
    ends = np.cumsum([int(number) for number in numbers]).tolist()
    return [0, *ends]


def starts_on(device: torch.device, starts: list[int]) -> Tensor:
    """``stack_starts`` as a tensor (B + 1,) int64.

    Items of equal size need no copy from the host, for which the device would have to wait.
    """
    steps = {end - start for start, end in zip(starts, starts[1:])}
    if len(steps) == 1:
        return torch.arange(len(starts), device=device) * steps.pop()
    return constant(starts, device)


def squared_distances(points: Tensor, others: Tensor) -> Tensor:
    """Squared distances (...) of points (..., 3) that broadcast.

    x, y and z are added in the order of the reference; a different order rounds differently.
    """
    square_x, square_y, square_z = (points - others).square().unbind(dim=-1)
    return square_x + square_y + square_z


def item_offsets(num_items: int, count: int, device: torch.device) -> Tensor:
    """First stacked row (B, 1, 1) int64 of each item of a batch (B, ``count``, ...)."""
    return count * torch.arange(num_items, device=device).view(-1, 1, 1)
