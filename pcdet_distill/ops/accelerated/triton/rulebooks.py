"""Rulebooks of sparse convolution on the device: maps from row to row, by a hash table of cells.

A thread looks at one row and one kernel offset. Submanifold convolutions need no size from the
device, so nothing waits for it. Strided ones need the number of their output rows.
"""

import math
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...pairs import NO_ROW, MappedRulebook
from ...rulebook import Kernel
from . import EXACT
from .hash_table import find_place, first_occurrences, table_of

ROWS = 256  # of a program
Axes = tuple[int, int, int]


@triton.jit
def _reached(cell, offset, STRIDE: tl.constexpr, PADDING: tl.constexpr, DILATION: tl.constexpr):
    """Along one axis: the output coordinate to which a cell adds at an offset, and if it is whole.

    Solves ``in = out * stride - padding + offset * dilation`` for ``out``. Division rounds towards
    zero, so a coordinate below 0 is never divided.
    """
    scaled = cell + PADDING - offset * DILATION
    positive = tl.maximum(scaled, 0)
    return positive // STRIDE, (scaled >= 0) & (positive % STRIDE == 0)


@triton.jit
def _reached_kernel(
    cells,
    keys,
    num_rows,
    depth,
    height,
    width,
    SIZE_Y: tl.constexpr,
    SIZE_X: tl.constexpr,
    STRIDE_Z: tl.constexpr,
    STRIDE_Y: tl.constexpr,
    STRIDE_X: tl.constexpr,
    PADDING_Z: tl.constexpr,
    PADDING_Y: tl.constexpr,
    PADDING_X: tl.constexpr,
    DILATION_Z: tl.constexpr,
    DILATION_Y: tl.constexpr,
    DILATION_X: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Keys (K, N) of the output cells to which each row adds; -1 where there is none."""
    offset = tl.program_id(1)
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    exists = row < num_rows
    frame = tl.load(cells + row * 4, mask=exists, other=0).to(tl.int64)
    cell_z = tl.load(cells + row * 4 + 1, mask=exists, other=0)
    cell_y = tl.load(cells + row * 4 + 2, mask=exists, other=0)
    cell_x = tl.load(cells + row * 4 + 3, mask=exists, other=0)
    z, whole_z = _reached(cell_z, offset // (SIZE_Y * SIZE_X), STRIDE_Z, PADDING_Z, DILATION_Z)
    y, whole_y = _reached(cell_y, offset // SIZE_X % SIZE_Y, STRIDE_Y, PADDING_Y, DILATION_Y)
    x, whole_x = _reached(cell_x, offset % SIZE_X, STRIDE_X, PADDING_X, DILATION_X)
    on_grid = whole_z & whole_y & whole_x & (z < depth) & (y < height) & (x < width)
    key = ((frame * depth + z) * height + y) * width + x
    place = offset.to(tl.int64) * num_rows + row
    tl.store(keys + place, tl.where(on_grid, key, -1), mask=exists)


@triton.jit
def _neighbour_kernel(
    cells,
    cell_keys,
    keys,
    places,
    sources,
    num_rows,
    depth,
    height,
    width,
    SIZE_Z: tl.constexpr,
    SIZE_Y: tl.constexpr,
    SIZE_X: tl.constexpr,
    DILATION_Z: tl.constexpr,
    DILATION_Y: tl.constexpr,
    DILATION_X: tl.constexpr,
    BITS: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Both pairs of two neighbours at once: one at this offset, one at the opposite offset."""
    offset = tl.program_id(1)
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    exists = row < num_rows
    step_z = (offset // (SIZE_Y * SIZE_X) - SIZE_Z // 2) * DILATION_Z
    step_y = (offset // SIZE_X % SIZE_Y - SIZE_Y // 2) * DILATION_Y
    step_x = (offset % SIZE_X - SIZE_X // 2) * DILATION_X
    z = tl.load(cells + row * 4 + 1, mask=exists, other=0) + step_z
    y = tl.load(cells + row * 4 + 2, mask=exists, other=0) + step_y
    x = tl.load(cells + row * 4 + 3, mask=exists, other=0) + step_x
    # The key of a cell beyond the edge is the key of some other cell.
    on_grid = (z >= 0) & (z < depth) & (y >= 0) & (y < height) & (x >= 0) & (x < width)
    own_key = tl.load(cell_keys + row, mask=exists, other=0)
    key = own_key + (step_z.to(tl.int64) * height + step_y) * width + step_x
    neighbour = find_place(keys, places, key, exists & on_grid, BITS)
    opposite = SIZE_Z * SIZE_Y * SIZE_X - 1 - offset
    found = neighbour >= 0
    tl.store(sources + offset.to(tl.int64) * num_rows + row, neighbour.to(tl.int32), mask=found)
    mirrored = sources + opposite.to(tl.int64) * num_rows + neighbour
    tl.store(mirrored, row.to(tl.int32), mask=found)


@triton.jit
def _map_kernel(
    keys,
    is_first,
    numbers,
    sources,
    targets,
    out_cells,
    num_in,
    num_out,
    depth,
    height,
    width,
    ROWS: tl.constexpr,
):
    """Both maps, and the output cells, from the numbers of the reached keys."""
    offset = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    place = offset * num_in + row
    key = tl.load(keys + place, mask=row < num_in, other=-1)
    exists = key >= 0
    number = tl.load(numbers + place, mask=exists, other=0)
    tl.store(targets + place, number.to(tl.int32), mask=exists)
    tl.store(sources + offset * num_out + number, row.to(tl.int32), mask=exists)
    first = exists & (tl.load(is_first + place, mask=exists, other=0) != 0)
    key = tl.maximum(key, 0)
    lines = key // width
    levels = lines // height
    cell = out_cells + number * 4
    tl.store(cell, (levels // depth).to(tl.int32), mask=first)
    tl.store(cell + 1, (levels % depth).to(tl.int32), mask=first)
    tl.store(cell + 2, (lines % height).to(tl.int32), mask=first)
    tl.store(cell + 3, (key % width).to(tl.int32), mask=first)


def submanifold_rulebook(indices: Tensor, shape: Sequence[int], kernel: Kernel) -> MappedRulebook:
    """``rulebook.submanifold_rulebook``."""
    volume = kernel.volume
    middle = volume // 2
    num_rows = len(indices)
    rows = torch.arange(num_rows, dtype=torch.int32, device=indices.device)
    sources = rows.new_full((volume, num_rows), NO_ROW)
    sources[middle] = rows
    if num_rows and middle:
        _find_neighbours(_cells_in_3d(indices), _axes(shape, 1), kernel, sources)
    return MappedRulebook(sources=sources, targets=sources.flip(0), identity=middle)


def _find_neighbours(cells: Tensor, shape: Axes, kernel: Kernel, sources: Tensor) -> None:
    """Write the neighbours of cells (N, 4) into the map ``sources`` (K, N)."""
    num_rows = len(cells)
    cell_keys = _reached_keys(cells, shape, Kernel((1,) * 3, (1,) * 3, (0,) * 3, (1,) * 3))[0]
    table, _ = table_of(cell_keys, num_rows)
    size_z, size_y, size_x = _axes(kernel.size, 1)
    dilation_z, dilation_y, dilation_x = _axes(kernel.dilation, 1)
    # Every pair of the later half is the mirror of one of the first half.
    grid = (triton.cdiv(num_rows, ROWS), kernel.volume // 2)
    _neighbour_kernel[grid](
        cells,
        cell_keys,
        table.keys,
        table.places,
        sources,
        num_rows,
        *shape,
        SIZE_Z=size_z,
        SIZE_Y=size_y,
        SIZE_X=size_x,
        DILATION_Z=dilation_z,
        DILATION_Y=dilation_y,
        DILATION_X=dilation_x,
        BITS=table.bits,
        ROWS=ROWS,
        **EXACT,
    )


def strided_rulebook(
    indices: Tensor, shape: Sequence[int], kernel: Kernel
) -> tuple[MappedRulebook, Tensor]:
    """``rulebook.strided_rulebook``."""
    num_in = len(indices)
    out_shape = _axes(kernel.output_shape(shape), 1)
    keys = _reached_keys(_cells_in_3d(indices), out_shape, kernel)
    first = first_occurrences(keys.flatten(), num_in * _reached_by_one(kernel))
    num_out = int(first.is_first.sum())
    sources = keys.new_full((kernel.volume, num_out), NO_ROW, dtype=torch.int32)
    targets = torch.full_like(keys, NO_ROW, dtype=torch.int32)
    out_cells = sources.new_empty(num_out, 4)
    if num_out:
        _map_kernel[(triton.cdiv(num_in, ROWS), kernel.volume)](
            keys,
            first.is_first.view(torch.int8),
            first.numbers,
            sources,
            targets,
            out_cells,
            num_in,
            num_out,
            *out_shape,
            ROWS=ROWS,
            **EXACT,
        )
    in_2d = len(shape) == 2
    out_cells = out_cells[:, [0, 2, 3]] if in_2d else out_cells
    return MappedRulebook(sources=sources, targets=targets), out_cells


def _reached_by_one(kernel: Kernel) -> int:
    """Output cells that one input cell reaches at most.

    Along an axis every ``stride / gcd(stride, dilation)``-th offset leads to a whole coordinate.
    """
    cells = 1
    for size, stride, dilation in zip(kernel.size, kernel.stride, kernel.dilation):
        step = stride // math.gcd(stride, dilation)
        cells *= -(-size // step)
    return cells


def _reached_keys(cells: Tensor, out_shape: Axes, kernel: Kernel) -> Tensor:
    """Keys (K, N) int64 of the output cells of cells (N, 4); -1 where there is none."""
    num_rows = len(cells)
    keys = torch.empty((kernel.volume, num_rows), dtype=torch.int64, device=cells.device)
    if num_rows == 0:
        return keys
    _, size_y, size_x = _axes(kernel.size, 1)
    stride_z, stride_y, stride_x = _axes(kernel.stride, 1)
    padding_z, padding_y, padding_x = _axes(kernel.padding, 0)
    dilation_z, dilation_y, dilation_x = _axes(kernel.dilation, 1)
    _reached_kernel[(triton.cdiv(num_rows, ROWS), kernel.volume)](
        cells,
        keys,
        num_rows,
        *out_shape,
        SIZE_Y=size_y,
        SIZE_X=size_x,
        STRIDE_Z=stride_z,
        STRIDE_Y=stride_y,
        STRIDE_X=stride_x,
        PADDING_Z=padding_z,
        PADDING_Y=padding_y,
        PADDING_X=padding_x,
        DILATION_Z=dilation_z,
        DILATION_Y=dilation_y,
        DILATION_X=dilation_x,
        ROWS=ROWS,
        **EXACT,
    )
    return keys


def _axes(per_axis: Sequence[int], of_flat_axis: int) -> Axes:
    """Values along z, y, x; those of a 2D grid get ``of_flat_axis`` for z."""
    z, y, x = [of_flat_axis] * (3 - len(per_axis)) + [int(number) for number in per_axis]
    return z, y, x


def _cells_in_3d(indices: Tensor) -> Tensor:
    """(N, 4) int32 frame, z, y, x, contiguous; z is 0 in 2D."""
    if indices.shape[1] == 3:
        frame, y, x = indices.unbind(dim=1)
        indices = torch.stack([frame, torch.zeros_like(frame), y, x], dim=1)
    return indices.int().contiguous()
