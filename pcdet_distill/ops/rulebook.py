"""Rulebooks: which input row meets which output row under which weight of a sparse convolution's kernel.

An output cell o of a convolution is fed by the input cells i with ``o * stride - padding + offset * dilation = i`` for
some offset of the kernel (z, y, x; x runs fastest). A rulebook lists these pairs of rows, offset by offset.

The plain versions here sort and search; on a CPU the compiled twins in ``accelerated.rulebook_kernels`` hash. Both list
the same pairs in the same order, and number new cells alike: as they are first met, offset by offset, row by row.
"""
from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Kernel:
    """Geometry of a convolution; all lists run over the grid's axes in their order (z, y, x)."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    @property
    def volume(self) -> int:
        """Number of offsets."""
        return int(torch.Size(self.size).numel())

    def offsets(self) -> list[tuple[int, ...]]:
        """All offsets, the last axis fastest."""
        return list(itertools.product(*map(range, self.size)))

    def output_shape(self, shape: Sequence[int]) -> list[int]:
        """Cells of the output's grid along every axis."""
        axes = zip(shape, self.size, self.stride, self.padding, self.dilation)
        return [(cells + 2 * padding - dilation * (size - 1) - 1) // stride + 1
                for cells, size, stride, padding, dilation in axes]


@dataclasses.dataclass(frozen=True)
class RowSums:
    """For every row, which entries of a list are added up: ``entries[starts[row]:starts[row + 1]]``, in that order."""

    entries: Tensor
    starts: Tensor

    @classmethod
    def of(cls, rows: Tensor, num_rows: int) -> RowSums:
        """Entry i of the list belongs to row ``rows[i]``."""
        entries = torch.sort(rows, stable=True).indices
        starts = torch.zeros(num_rows + 1, dtype=torch.int64, device=rows.device)
        torch.cumsum(torch.bincount(rows, minlength=num_rows), dim=0, out=starts[1:])
        return cls(entries, starts)


@dataclasses.dataclass(frozen=True)
class Rulebook:
    """Pairs of rows of a convolution with K kernel offsets.

    Attributes:
        in_rows: (P,) int64, grouped by offset.
        out_rows: (P,) int64.
        counts: K numbers of pairs.
        num_in: input rows.
        num_out: output rows.
        identity: the offset at which every row meets itself; its pairs are not listed. None where there is none.
    """

    in_rows: Tensor
    out_rows: Tensor
    counts: tuple[int, ...]
    num_in: int
    num_out: int
    identity: int | None = None

    @cached_property
    def into_outputs(self) -> RowSums:
        """Which pairs end in each output row."""
        return row_sums(self.out_rows, self.num_out)

    @cached_property
    def into_inputs(self) -> RowSums:
        """Which pairs start from each input row."""
        return row_sums(self.in_rows, self.num_in)


def row_sums(rows: Tensor, num_rows: int) -> RowSums:
    """``RowSums.of``, compiled on a CPU."""
    return RowSums.of(rows, num_rows)


def submanifold_rulebook(indices: Tensor, shape: Sequence[int], kernel: Kernel) -> Rulebook:
    """The rulebook of a convolution whose output cells are its input cells.

    Args:
        indices: (N, 1 + axes) int32.
        shape: the grid.
        kernel: odd sizes; stride and padding do not matter.
    """
    keys = cell_keys(indices, shape)
    ordered, order = torch.sort(keys)
    last = max(len(keys) - 1, 0)
    identity = kernel.volume // 2
    starts, ends = [], []
    for number, offset in enumerate(kernel.offsets()):
        if number == identity or len(keys) == 0:
            starts.append(order[:0])
            ends.append(order[:0])
            continue
        shift = [(at - size // 2) * step for at, size, step in zip(offset, kernel.size, kernel.dilation)]
        neighbours = indices[:, 1:].long() + torch.tensor(shift, device=indices.device)
        inside = (neighbours >= 0).all(dim=1) & (neighbours < torch.tensor(shape, device=indices.device)).all(dim=1)
        wanted = cell_keys(torch.cat([indices[:, :1].long(), neighbours], dim=1), shape)
        at = torch.searchsorted(ordered, wanted).clamp_(max=last)
        found = torch.nonzero(inside & (ordered[at] == wanted)).flatten()
        starts.append(order[at[found]])
        ends.append(found)
    counts = tuple(len(rows) for rows in starts)
    return Rulebook(torch.cat(starts), torch.cat(ends), counts, len(keys), len(keys), identity)


def strided_rulebook(indices: Tensor, shape: Sequence[int], kernel: Kernel) -> tuple[Rulebook, Tensor]:
    """The rulebook of a convolution that reaches every cell it can, and those cells (M, 1 + axes) int32."""
    out_shape = kernel.output_shape(shape)
    starts, keys = [], []
    for offset in kernel.offsets():
        reached, valid = _reached_cells(indices, kernel, offset, out_shape)
        starts.append(torch.nonzero(valid).flatten())
        keys.append(cell_keys(reached[valid], out_shape))
    counts = tuple(len(rows) for rows in starts)
    out_keys, ends = _number_by_first_place(torch.cat(keys))
    cells = cells_of_keys(out_keys, out_shape)
    return Rulebook(torch.cat(starts), ends, counts, len(indices), len(cells)), cells


def _reached_cells(indices: Tensor, kernel: Kernel, offset: Sequence[int],
                   out_shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Output cells (N, 1 + axes) int64 that the input cells feed at ``offset``, and which of them exist (N,) bool."""
    padding, dilation, stride, limit, place = (
        torch.tensor(values, device=indices.device)
        for values in (kernel.padding, kernel.dilation, kernel.stride, out_shape, offset))
    scaled = indices[:, 1:].long() + padding - place * dilation
    cells = torch.div(scaled, stride, rounding_mode="floor")
    valid = ((scaled % stride == 0) & (cells >= 0) & (cells < limit)).all(dim=1)
    return torch.cat([indices[:, :1].long(), cells], dim=1), valid


def _number_by_first_place(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct keys in the order in which they first appear, and the number of each key."""
    distinct, number = torch.unique(keys, return_inverse=True)
    places = torch.arange(len(keys), device=keys.device)
    first = torch.full_like(distinct, len(keys)).scatter_reduce_(0, number, places, "amin")
    order = torch.argsort(first)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=keys.device)
    return distinct[order], rank[number]


def cell_keys(indices: Tensor, shape: Sequence[int]) -> Tensor:
    """One number (N,) int64 per frame and cell of ``indices`` (N, 1 + axes)."""
    columns = indices.long().unbind(dim=1)
    key = columns[0]
    for cells, column in zip(shape, columns[1:]):
        key = key * cells + column
    return key


def cells_of_keys(keys: Tensor, shape: Sequence[int]) -> Tensor:
    """The inverse of ``cell_keys``: (N, 1 + axes) int32."""
    columns = []
    for cells in reversed(shape):
        columns.append(keys % cells)
        keys = torch.div(keys, cells, rounding_mode="floor")
    return torch.stack([keys, *reversed(columns)], dim=1).int()
