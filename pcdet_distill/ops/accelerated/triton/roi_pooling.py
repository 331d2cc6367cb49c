"""The largest feature in each cell of a grid, for RoI-aware pooling.

The members of a cell follow each other. A program looks at a block of cells and channels, member by
member; most cells are empty and cost two numbers.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import EXACT

MAX_CHANNELS = 64  # of a block
BLOCK = 1024  # numbers of a block


@triton.jit
def _argmax_kernel(
    features,
    members,
    starts,
    winners,
    num_cells,
    num_channels,
    CELLS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    cell = tl.program_id(0).to(tl.int64) * CELLS + tl.arange(0, CELLS)[:, None]
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    is_cell = cell < num_cells
    is_channel = channel < num_channels
    start = tl.load(starts + cell, mask=is_cell, other=0)
    size = tl.load(starts + cell + 1, mask=is_cell, other=0) - start
    longest = tl.max(tl.max(size, axis=1), axis=0)
    best = tl.full([CELLS, CHANNELS], float("-inf"), features.dtype.element_ty)
    winner = tl.full([CELLS, CHANNELS], -1, tl.int64)
    for number in range(0, longest):
        exists = number < size
        row = tl.load(members + start + number, mask=exists, other=0)
        value = tl.load(
            features + row * num_channels + channel, mask=exists & is_channel, other=0.0
        )
        # The first of equal ones stays.
        better = exists & ((value > best) | (winner < 0))
        best = tl.where(better, value, best)
        winner = tl.where(better, row, winner)
    tl.store(winners + cell * num_channels + channel, winner, mask=is_cell & is_channel)


def cell_argmax(features: Tensor, cell: Tensor, point: Tensor, num_cells: int) -> Tensor:
    """Row (num_cells, C) int64 of the first of the largest features (N, C) in each cell.

    -1 where a cell has no member.

    Args:
        features: (N, C).
        cell: (P,) int64 in ascending order.
        point: (P,) int64 row of the member that lies in that cell.
        num_cells: cells of all boxes.
    """
    num_channels = features.shape[1]
    shape = (num_cells, num_channels)
    winners = torch.empty(shape, dtype=torch.int64, device=features.device)
    if winners.numel() == 0:
        return winners
    starts = torch.searchsorted(cell, torch.arange(num_cells + 1, device=cell.device))
    channels = min(MAX_CHANNELS, triton.next_power_of_2(num_channels))
    cells = BLOCK // channels
    grid = (triton.cdiv(num_cells, cells), triton.cdiv(num_channels, channels))
    _argmax_kernel[grid](
        features.detach().contiguous(),
        point.contiguous(),
        starts,
        winners,
        num_cells,
        num_channels,
        CELLS=cells,
        CHANNELS=channels,
        **EXACT,
    )
    return winners
