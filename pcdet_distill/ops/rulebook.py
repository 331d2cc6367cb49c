"""Rulebooks: which input rows a sparse convolution adds to which output rows, under which weights.

At an offset of the kernel (z, y, x; x runs fastest) an output cell ``out`` reads the input cell
``in = out * stride - padding + offset * dilation``. A rulebook lists these pairs of rows, offset by
offset (Graham et al., CVPR 2018). It depends on the active cells only, so that all convolutions of
one ``indice_key`` share it.

The plain versions here sort keys and search in them. The compiled versions for a CPU, in
``accelerated.rulebook_kernels``, and Triton's for CUDA use a hash table. All list the same pairs in
the same order, and number output cells in the order in which they are first met: offset by offset,
row by row.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from .accelerated import rulebook_kernels
from .constants import constant
from .dispatch import Operator
from .occurrences import first_occurrences_plain
from .pairs import AnyRulebook, Rulebook

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Kernel:
    """Geometry of a convolution; all tuples follow the grid's axes (z, y, x; in 2D y, x)."""

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
        ranges = [range(size) for size in self.size]
        return list(itertools.product(*ranges))

    def from_middle(self, offset: Sequence[int]) -> list[int]:
        """Cells between the kernel's middle and ``offset``, along every axis."""
        steps = zip(offset, self.size, self.dilation)
        return [(index - size // 2) * dilation for index, size, dilation in steps]

    def output_shape(self, shape: Sequence[int]) -> list[int]:
        """Cells of the output's grid along every axis, as ``nn.Conv3d`` computes them."""
        axes = zip(shape, self.size, self.stride, self.padding, self.dilation)
        out_shape = []
        for cells, size, stride, padding, dilation in axes:
            covered = dilation * (size - 1) + 1
            out_shape.append((cells + 2 * padding - covered) // stride + 1)
        return out_shape


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
    rulebook: AnyRulebook
    in_indices: Tensor
    in_shape: list[int]
    out_indices: Tensor
    out_shape: list[int]


def cell_keys(indices: Tensor, shape: Sequence[int]) -> Tensor:
    """One number (...) int64 per frame and cell of ``indices`` (..., 1 + axes): frame, z, y, x."""
    columns = indices.long().unbind(dim=-1)
    key = columns[0]
    for cells, column in zip(shape, columns[1:]):
        key = key * cells + column
    return key


def cells_of_keys(keys: Tensor, shape: Sequence[int]) -> Tensor:
    """The inverse of ``cell_keys``: (N,) int64 -> (N, 1 + axes) int32."""
    columns = []
    for cells in reversed(shape):
        columns.append(keys % cells)
        keys = torch.div(keys, cells, rounding_mode="floor")
    frame = keys
    return torch.stack([frame, *reversed(columns)], dim=1).int()


def submanifold_rulebook(indices: Tensor, shape: Sequence[int], kernel: Kernel) -> AnyRulebook:
    """The rulebook of a convolution whose output cells are its input cells.

    Args:
        indices: (N, 1 + axes) int32.
        shape: the grid.
        kernel: odd sizes; stride and padding do not matter.
    """
    return SUBMANIFOLD_RULEBOOK.on(indices.device)(indices, shape, kernel)


def submanifold_rulebook_plain(
    indices: Tensor, shape: Sequence[int], kernel: Kernel
) -> AnyRulebook:
    """``submanifold_rulebook`` by sorted keys: a neighbour is active when its key is among them."""
    keys = cell_keys(indices, shape)
    sorted_keys, order = torch.sort(keys)
    middle = kernel.volume // 2
    no_rows = order[:0]
    in_rows = []
    out_rows = []
    for number, offset in enumerate(kernel.offsets()):
        if number == middle or len(keys) == 0:
            in_rows.append(no_rows)
            out_rows.append(no_rows)
            continue
        neighbours, inside = _shifted_cells(indices, shape, kernel.from_middle(offset))
        wanted = cell_keys(neighbours, shape)
        position = torch.searchsorted(sorted_keys, wanted).clamp_(max=len(keys) - 1)
        active = inside & (sorted_keys[position] == wanted)
        found = torch.nonzero(active).flatten()
        in_rows.append(order[position[found]])
        out_rows.append(found)
    return Rulebook(
        in_rows=torch.cat(in_rows),
        out_rows=torch.cat(out_rows),
        counts=tuple(len(rows) for rows in in_rows),
        num_in=len(keys),
        num_out=len(keys),
        identity=middle,
    )


def _shifted_cells(
    indices: Tensor, shape: Sequence[int], shift: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Cells (N, 1 + axes) int64 at ``shift`` from each cell, and which lie on the grid (N,) bool.

    The mask is needed: the key of a cell beyond the edge is the key of some other cell.
    """
    frames = indices[:, :1].long()
    cells = indices[:, 1:].long() + constant(shift, indices.device)
    limits = constant(shape, indices.device)
    inside = (cells >= 0).all(dim=1) & (cells < limits).all(dim=1)
    return torch.cat([frames, cells], dim=1), inside


def strided_rulebook(
    indices: Tensor, shape: Sequence[int], kernel: Kernel
) -> tuple[AnyRulebook, Tensor]:
    """The rulebook of a convolution that writes every cell it reaches, and those cells.

    Args:
        indices: (N, 1 + axes) int32.
        shape: the grid of the input.
        kernel: any geometry.

    Returns:
        the rulebook, and the output cells (M, 1 + axes) int32.
    """
    return STRIDED_RULEBOOK.on(indices.device)(indices, shape, kernel)


def strided_rulebook_plain(
    indices: Tensor, shape: Sequence[int], kernel: Kernel
) -> tuple[AnyRulebook, Tensor]:
    """``strided_rulebook`` by sorted keys of the output cells."""
    out_shape = kernel.output_shape(shape)
    in_rows = []
    keys = []
    for offset in kernel.offsets():
        reached, valid = _reached_cells(indices, kernel, offset, out_shape)
        in_rows.append(torch.nonzero(valid).flatten())
        keys.append(cell_keys(reached[valid], out_shape))
    pair_keys = torch.cat(keys)
    first = first_occurrences_plain(pair_keys, len(pair_keys))
    out_cells = cells_of_keys(pair_keys[first.is_first], out_shape)
    rulebook = Rulebook(
        in_rows=torch.cat(in_rows),
        out_rows=first.numbers,
        counts=tuple(len(rows) for rows in in_rows),
        num_in=len(indices),
        num_out=len(out_cells),
    )
    return rulebook, out_cells


def _reached_cells(
    indices: Tensor, kernel: Kernel, offset: Sequence[int], out_shape: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Output cells to which the input cells add at ``offset``.

    Solves ``in = out * stride - padding + offset * dilation`` for ``out``.

    Returns:
        cells (N, 1 + axes) int64, and which of them exist (N,) bool.
    """
    device = indices.device
    stride = constant(kernel.stride, device)
    padding = constant(kernel.padding, device)
    shift = constant(offset, device) * constant(kernel.dilation, device)
    limits = constant(out_shape, device)
    scaled = indices[:, 1:].long() + padding - shift
    cells = torch.div(scaled, stride, rounding_mode="floor")
    on_stride = scaled % stride == 0
    on_grid = (cells >= 0) & (cells < limits)
    frames = indices[:, :1].long()
    return torch.cat([frames, cells], dim=1), (on_stride & on_grid).all(dim=1)


def _submanifold_compiled(indices: Tensor, shape: Sequence[int], kernel: Kernel) -> AnyRulebook:
    """``submanifold_rulebook`` by hashing."""
    middle = kernel.volume // 2
    shifts = []
    for offset in kernel.offsets()[:middle]:
        shifts.append(_along_three_axes(kernel.from_middle(offset), 0))
    in_rows, out_rows, counts = rulebook_kernels.submanifold_pairs(
        _cells_in_3d(indices),
        np.array(_along_three_axes(shape, 1), np.int64),
        np.array(shifts, np.int64).reshape(-1, 3),
    )
    before = counts[:middle].tolist()
    after = counts[middle:].tolist()
    return Rulebook(
        in_rows=torch.from_numpy(in_rows),
        out_rows=torch.from_numpy(out_rows),
        counts=(*before, 0, *after),
        num_in=len(indices),
        num_out=len(indices),
        identity=middle,
    )


def _strided_compiled(
    indices: Tensor, shape: Sequence[int], kernel: Kernel
) -> tuple[AnyRulebook, Tensor]:
    """``strided_rulebook`` by hashing."""
    out_shape = kernel.output_shape(shape)
    axes = zip(shape, kernel.size, kernel.stride, kernel.padding, kernel.dilation, out_shape)
    reach = [_reach_along_axis(*axis) for axis in axes]
    only_zero = np.zeros((1, 1), np.int32)
    in_rows, out_rows, counts, cells = rulebook_kernels.strided_pairs(
        _cells_in_3d(indices),
        rulebook_kernels.Reach(*_along_three_axes(reach, only_zero)),
        np.array(_along_three_axes(out_shape, 1), np.int64),
    )
    rulebook = Rulebook(
        in_rows=torch.from_numpy(in_rows),
        out_rows=torch.from_numpy(out_rows),
        counts=tuple(counts.tolist()),
        num_in=len(indices),
        num_out=len(cells),
    )
    in_2d = len(shape) == 2
    out_cells = np.delete(cells, 1, axis=1) if in_2d else cells
    return rulebook, torch.from_numpy(out_cells)


def _reach_along_axis(
    cells: int, size: int, stride: int, padding: int, dilation: int, out_cells: int
) -> np.ndarray:
    """(size, cells) int32: at each offset the output coordinate to which an input one adds, or -1.

    ``_reached_cells`` along one axis, for all of its coordinates.
    """
    offsets = np.arange(size)[:, None]
    scaled = np.arange(cells) + padding - dilation * offsets
    reached = scaled // stride
    exists = (scaled % stride == 0) & (reached >= 0) & (reached < out_cells)
    return np.where(exists, reached, -1).astype(np.int32)


def _along_three_axes(per_axis: Sequence[T], of_flat_axis: T) -> list[T]:
    """Values along z, y, x; those of a 2D grid get ``of_flat_axis`` for z."""
    missing = 3 - len(per_axis)
    return [of_flat_axis] * missing + list(per_axis)


def _cells_in_3d(indices: Tensor) -> np.ndarray:
    """(N, 4) int32 frame, z, y, x; z is 0 in 2D."""
    cells = indices.numpy()
    if cells.shape[1] == 3:
        cells = np.insert(cells, 1, 0, axis=1)
    return np.ascontiguousarray(cells, dtype=np.int32)


SUBMANIFOLD_RULEBOOK = Operator(
    "rulebooks of submanifold convolutions",
    plain=submanifold_rulebook_plain,
    numba=_submanifold_compiled,
    triton="rulebooks:submanifold_rulebook",
)
STRIDED_RULEBOOK = Operator(
    "rulebooks of strided convolutions",
    plain=strided_rulebook_plain,
    numba=_strided_compiled,
    triton="rulebooks:strided_rulebook",
)
