"""Furthest point sampling: one program an item, one reduction a sample.

The sampling is sequential: each sample depends on the one before. So a program is as wide as the
hardware allows, and all its threads meet once a sample. Small items keep their coordinates and
distances in registers; of larger ones they pass through the caches in tiles.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...stacks import Stack, stack_starts, starts_on
from . import EXACT
from .common import squared_distance

MAX_IN_REGISTERS = 8192  # points: 8 a thread, four numbers each
TILE = 4096
MAX_WARPS = 32
FAR_M2 = 1e10  # what the reference starts its smallest distances with


@triton.jit
def _reversed_bits(value, BITS: tl.constexpr):
    """``value`` with its lowest bits in the opposite order."""
    result = value * 0
    for bit in tl.static_range(BITS):
        result = result * 2 + ((value >> bit) & 1)
    return result


@triton.jit
def _winner(best, row, count, BITS: tl.constexpr):
    """The row of the largest distance; see ``tie_order`` for which of equal ones wins.

    Distances are not negative, and the bits of such floats have their order. So distance and place
    in the tie order fit into one 64-bit number, and one reduction finds the winner.

    Args:
        best: (T,) float32, the largest distance of each lane; -1 without a point.
        row: (T,) int32, the row that has it.
        count: points of the item.
        BITS: of the number of threads in the reference.
    """
    threads: tl.constexpr = 1 << BITS
    rows_of_thread = (count + threads - 1) // threads
    order = _reversed_bits(row % threads, BITS) * rows_of_thread + row // threads
    distance = best.to(tl.int32, bitcast=True).to(tl.int64)
    top = tl.max((distance << 32) - order, axis=0)
    first = ((0 - top) & 0xFFFFFFFF).to(tl.int32)
    thread = _reversed_bits(first // rows_of_thread, BITS)
    return (first % rows_of_thread) * threads + thread


@triton.jit
def _in_registers(columns, starts, out_starts, chosen, total, BITS: tl.constexpr, T: tl.constexpr):
    """Furthest points of an item that has at most ``T`` points."""
    item = tl.program_id(0)
    first = tl.load(starts + item)
    count = (tl.load(starts + item + 1) - first).to(tl.int32)
    row = tl.arange(0, T)
    inside = row < count
    x = tl.load(columns + first + row, mask=inside, other=0.0)
    y = tl.load(columns + total + first + row, mask=inside, other=0.0)
    z = tl.load(columns + 2 * total + first + row, mask=inside, other=0.0)
    nearest = tl.where(inside, 1e10, -1.0)
    last = count * 0
    for place in range(tl.load(out_starts + item), tl.load(out_starts + item + 1)):
        tl.store(chosen + place, first + last)
        at = columns + first + last
        distance = squared_distance(
            x, y, z, tl.load(at), tl.load(at + total), tl.load(at + 2 * total)
        )
        nearest = tl.where(distance < nearest, distance, nearest)
        last = _winner(nearest, row, count, BITS)


@triton.jit
def _in_tiles(
    columns, starts, out_starts, nearest, chosen, total, BITS: tl.constexpr, T: tl.constexpr
):
    """Furthest points of an item of any size; ``nearest`` (N,) is memory for its distances."""
    item = tl.program_id(0)
    first = tl.load(starts + item)
    count = (tl.load(starts + item + 1) - first).to(tl.int32)
    lane = tl.arange(0, T)
    last = count * 0
    for place in range(tl.load(out_starts + item), tl.load(out_starts + item + 1)):
        tl.store(chosen + place, first + last)
        at = columns + first + last
        last_x = tl.load(at)
        last_y = tl.load(at + total)
        last_z = tl.load(at + 2 * total)
        # A lane sees rows that one thread of the reference sees. The first of equal ones stays.
        best = tl.full([T], -1.0, tl.float32)
        best_row = lane
        for start in range(0, count, T):
            row = start + lane
            inside = row < count
            here = columns + first + row
            x = tl.load(here, mask=inside, other=0.0)
            y = tl.load(here + total, mask=inside, other=0.0)
            z = tl.load(here + 2 * total, mask=inside, other=0.0)
            distance = squared_distance(x, y, z, last_x, last_y, last_z)
            before = tl.load(nearest + first + row, mask=inside, other=-1.0)
            after = tl.where(distance < before, distance, before)
            tl.store(nearest + first + row, after, mask=inside)
            better = after > best
            best = tl.where(better, after, best)
            best_row = tl.where(better, row, best_row)
        last = _winner(best, best_row, count, BITS)


def furthest_points(points: Stack, samples: Sequence[int], threads: int) -> Tensor:
    """Stacked rows (sum of samples,) int64 of the greedily furthest points of each item.

    Args:
        points: B items, those without points give no row.
        samples: (B,) rows wanted of each.
        threads: of the reference, a power of two: decides among equally far points.
    """
    sizes = points.sizes
    wanted = [int(number) if size else 0 for number, size in zip(samples, sizes)]
    out_starts = stack_starts(wanted)
    chosen = torch.zeros(out_starts[-1], dtype=torch.int64, device=points.xyz.device)
    if out_starts[-1] == 0:
        return chosen
    columns = points.xyz.T.contiguous()
    starts = points.device_starts()
    ends = starts_on(chosen.device, out_starts)
    block = max(triton.next_power_of_2(max(sizes)), threads)
    bits = threads.bit_length() - 1
    grid = (points.num_items,)
    if block <= MAX_IN_REGISTERS:
        _in_registers[grid](
            columns, starts, ends, chosen, len(points), BITS=bits, T=block, **_width(block)
        )
        return chosen
    nearest = columns.new_full((len(points),), FAR_M2)
    tile = max(TILE, threads)
    _in_tiles[grid](
        columns, starts, ends, nearest, chosen, len(points), BITS=bits, T=tile, **_width(tile)
    )
    return chosen


def _width(block: int) -> dict[str, int | bool]:
    """Launch options: one thread a lane, as far as a program may have threads."""
    return {"num_warps": min(MAX_WARPS, max(1, block // 32)), **EXACT}
