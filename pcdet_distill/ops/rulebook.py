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
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .accelerated import rulebook_kernels


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

    def from_middle(self, offset: Sequence[int]) -> list[int]:
        """How many cells ``offset`` lies from the middle of the kernel."""
        return [(at - size // 2) * step for at, size, step in zip(offset, self.size, self.dilation)]

    def output_shape(self, shape: Sequence[int]) -> list[int]:
        """Cells of the output's grid along every axis."""
        axes = zip(shape, self.size, self.stride, self.padding, self.dilation)
        return [
            (cells + 2 * padding - dilation * (size - 1) - 1) // stride + 1
            for cells, size, stride, padding, dilation in axes
        ]


class OffsetPairs(NamedTuple):
    """The pairs of one kernel offset: its number, the rows that are read (P_k,) and the rows that are added to."""

    number: int
    start: Tensor
    end: Tensor


@dataclasses.dataclass(frozen=True)
class Rulebook:
    """Pairs of rows of a convolution with K kernel offsets. At one offset no row occurs twice on either side.

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
    def pairs(self) -> list[OffsetPairs]:
        """The pairs of every offset that has some."""
        split = zip(self.in_rows.split(self.counts), self.out_rows.split(self.counts))
        return [
            OffsetPairs(number, in_rows, out_rows)
            for number, (in_rows, out_rows) in enumerate(split)
            if len(in_rows)
        ]

    @cached_property
    def reversed_pairs(self) -> list[OffsetPairs]:
        """``pairs``, walked from output rows to input rows."""
        return [OffsetPairs(number, out_rows, in_rows) for number, in_rows, out_rows in self.pairs]


@dataclasses.dataclass(frozen=True)
class ConvolutionRecord:
    """What a convolution leaves in ``indice_dict`` under its ``indice_key``.

    Attributes:
        kernel: its geometry.
        rulebook: its pairs of rows.
        in_indices: (N, 1 + axes) int32, the cells it reads.
        in_shape: the grid of those cells.
        out_indices: (M, 1 + axes) int32, the cells it writes.
        out_shape: the grid of those cells.
    """

    kernel: Kernel
    rulebook: Rulebook
    in_indices: Tensor
    in_shape: list[int]
    out_indices: Tensor
    out_shape: list[int]


def submanifold_rulebook(indices: Tensor, shape: Sequence[int], kernel: Kernel) -> Rulebook:
    """The rulebook of a convolution whose output cells are its input cells.

    Args:
        indices: (N, 1 + axes) int32.
        shape: the grid.
        kernel: odd sizes; stride and padding do not matter.
    """
    if indices.device.type == "cpu":
        return _submanifold_compiled(indices, shape, kernel)
    return submanifold_rulebook_plain(indices, shape, kernel)


def submanifold_rulebook_plain(indices: Tensor, shape: Sequence[int], kernel: Kernel) -> Rulebook:
    """``submanifold_rulebook`` by sorting and searching."""
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
        neighbours = indices[:, 1:].long() + torch.tensor(
            kernel.from_middle(offset), device=indices.device
        )
        inside = (neighbours >= 0).all(dim=1) & (
            neighbours < torch.tensor(shape, device=indices.device)
        ).all(dim=1)
        wanted = cell_keys(torch.cat([indices[:, :1].long(), neighbours], dim=1), shape)
        at = torch.searchsorted(ordered, wanted).clamp_(max=last)
        found = torch.nonzero(inside & (ordered[at] == wanted)).flatten()
        starts.append(order[at[found]])
        ends.append(found)
    counts = tuple(len(rows) for rows in starts)
    return Rulebook(torch.cat(starts), torch.cat(ends), counts, len(keys), len(keys), identity)


def strided_rulebook(
    indices: Tensor, shape: Sequence[int], kernel: Kernel
) -> tuple[Rulebook, Tensor]:
    """The rulebook of a convolution that reaches every cell it can, and those cells (M, 1 + axes) int32."""
    if indices.device.type == "cpu":
        return _strided_compiled(indices, shape, kernel)
    return strided_rulebook_plain(indices, shape, kernel)


def strided_rulebook_plain(
    indices: Tensor, shape: Sequence[int], kernel: Kernel
) -> tuple[Rulebook, Tensor]:
    """``strided_rulebook`` by sorting and searching."""
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


def _reached_cells(
    indices: Tensor, kernel: Kernel, offset: Sequence[int], out_shape: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Output cells (N, 1 + axes) int64 that the input cells feed at ``offset``, and which of them exist (N,) bool."""
    padding, dilation, stride, limit, place = (
        torch.tensor(values, device=indices.device)
        for values in (kernel.padding, kernel.dilation, kernel.stride, out_shape, offset)
    )
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
    """One number (...) int64 per frame and cell of ``indices`` (..., 1 + axes): frame, z, y, x."""
    columns = indices.long().unbind(dim=-1)
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


def _submanifold_compiled(indices: Tensor, shape: Sequence[int], kernel: Kernel) -> Rulebook:
    """``submanifold_rulebook`` by hashing."""
    identity = kernel.volume // 2
    shifts = np.array(
        [_three(kernel.from_middle(offset), 0) for offset in kernel.offsets()[:identity]], np.int64
    )
    in_rows, out_rows, counts = rulebook_kernels.submanifold_pairs(
        _four_columns(indices), np.array(_three(shape, 1), np.int64), shifts.reshape(-1, 3)
    )
    all_counts = (*counts[:identity].tolist(), 0, *counts[identity:].tolist())
    return Rulebook(
        torch.from_numpy(in_rows),
        torch.from_numpy(out_rows),
        all_counts,
        len(indices),
        len(indices),
        identity,
    )


def _strided_compiled(
    indices: Tensor, shape: Sequence[int], kernel: Kernel
) -> tuple[Rulebook, Tensor]:
    """``strided_rulebook`` by hashing."""
    out_shape = kernel.output_shape(shape)
    axes = zip(shape, kernel.size, kernel.stride, kernel.padding, kernel.dilation, out_shape)
    reach_z, reach_y, reach_x = _three([_reach(*axis) for axis in axes], np.zeros((1, 1), np.int32))
    in_rows, out_rows, counts, cells = rulebook_kernels.strided_pairs(
        _four_columns(indices), reach_z, reach_y, reach_x, np.array(_three(out_shape, 1), np.int64)
    )
    out_cells = torch.from_numpy(cells if len(shape) == 3 else np.delete(cells, 1, axis=1))
    rulebook = Rulebook(
        torch.from_numpy(in_rows),
        torch.from_numpy(out_rows),
        tuple(counts.tolist()),
        len(indices),
        len(cells),
    )
    return rulebook, out_cells


def _reach(
    extent: int, size: int, stride: int, padding: int, dilation: int, out_extent: int
) -> np.ndarray:
    """(size, extent) int32: the output coordinate that an input coordinate feeds at each offset, or -1."""
    scaled = np.arange(extent) + padding - dilation * np.arange(size)[:, None]
    reached = scaled // stride
    exists = (scaled % stride == 0) & (reached >= 0) & (reached < out_extent)
    return np.where(exists, reached, -1).astype(np.int32)


def _three(per_axis: Sequence[Any], in_plane: Any) -> list[Any]:
    """Values along z, y, x; those of a 2D grid get ``in_plane`` for z."""
    return [in_plane] * (3 - len(per_axis)) + list(per_axis)


def _four_columns(indices: Tensor) -> np.ndarray:
    """(N, 4) int32 frame, z, y, x; z is 0 in 2D."""
    cells = indices.numpy()
    return np.ascontiguousarray(
        cells if cells.shape[1] == 4 else np.insert(cells, 1, 0, axis=1), dtype=np.int32
    )
