"""The k nearest rows of features to each query, without a matrix of all distances in memory.

A program keeps the k best of a few queries while it passes over tiles of points. A tile is sorted,
and the best of two sorted lists of k are found at once: the larger of each element of the one and
the element at the other end of the other. What is sorted are whole numbers. Their upper half orders
like the distance, their lower half is the row, so that of equally near points the lower row wins.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import EXACT

QUERIES = 16  # of a program
CHANNELS = 32  # of a product
MIN_TILE = 32
LAST_ROW = tl.constexpr(2**31 - 1)
NOTHING = tl.constexpr(1 - 2**63)  # below the key of any point


@triton.jit
def _distance_ranks(
    queries,
    points,
    norms,
    query,
    row,
    num_queries,
    num_points,
    num_channels,
    CHANNELS: tl.constexpr,
):
    """``|p|^2 - 2 q.p`` of queries (Q,) and points (T,)."""
    products = tl.zeros([query.shape[0], row.shape[0]], tl.float32)
    for first in range(0, num_channels, CHANNELS):
        channel = first + tl.arange(0, CHANNELS)
        exists = channel < num_channels
        left = tl.load(
            queries + query[:, None] * num_channels + channel[None, :],
            mask=(query < num_queries)[:, None] & exists[None, :],
            other=0.0,
        )
        right = tl.load(
            points + row[None, :] * num_channels + channel[:, None],
            mask=(row < num_points)[None, :] & exists[:, None],
            other=0.0,
        )
        products = tl.dot(left, right, acc=products, input_precision="ieee")
    norm = tl.load(norms + row, mask=row < num_points, other=0.0)
    return norm[None, :] - 2.0 * products


@triton.jit
def _keys(rank, row):
    """One int64 for each rank (Q, T) and row (T,): the nearer, and the lower row, the larger."""
    bits = rank.to(tl.int32, bitcast=True)
    ordered = tl.where(bits < 0, bits ^ LAST_ROW, bits).to(tl.int64)
    return (-ordered << 32) | (row ^ LAST_ROW)[None, :]


@triton.jit
def _nearest_kernel(
    queries,
    points,
    norms,
    rows,
    num_queries,
    num_points,
    num_channels,
    k,
    QUERIES: tl.constexpr,
    TILE: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    query = tl.program_id(0).to(tl.int64) * QUERIES + tl.arange(0, QUERIES)
    best = tl.full([QUERIES, TILE], NOTHING, tl.int64)  # ascending
    for start in range(0, num_points, TILE):
        row = start + tl.arange(0, TILE).to(tl.int64)
        rank = _distance_ranks(
            queries, points, norms, query, row, num_queries, num_points, num_channels, CHANNELS
        )
        key = tl.where((row < num_points)[None, :], _keys(rank, row), NOTHING)
        key = tl.sort(key, descending=True)
        best = tl.bitonic_merge(tl.maximum(best, key))
    place = TILE - 1 - tl.arange(0, TILE)
    wanted = (query < num_queries)[:, None] & (place < k)[None, :]
    row = (best & LAST_ROW) ^ LAST_ROW
    tl.store(rows + query[:, None] * k + place[None, :], row, mask=wanted)


def nearest_rows(queries: Tensor, points: Tensor, k: int) -> Tensor:
    """Rows (M, k) int64 of the points (N, C) nearest to each query (M, C), the nearest first.

    Args:
        queries: float32.
        points: float32, more than k of them.
        k: as many keys of a few queries are held at once.
    """
    num_queries, num_channels = queries.shape
    rows = torch.empty((num_queries, k), dtype=torch.int64, device=queries.device)
    if rows.numel() == 0:
        return rows
    tile = max(MIN_TILE, triton.next_power_of_2(k))
    _nearest_kernel[(triton.cdiv(num_queries, QUERIES),)](
        queries.contiguous(),
        points.contiguous(),
        points.square().sum(dim=1),
        rows,
        num_queries,
        len(points),
        num_channels,
        k,
        QUERIES=QUERIES,
        TILE=tile,
        CHANNELS=CHANNELS,
        num_warps=8 if tile > 128 else 4,
        **EXACT,
    )
    return rows
