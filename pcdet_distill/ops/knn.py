"""Exact k nearest neighbours by squared Euclidean distance, never across frames; any device.

Points are ranked by ``|p|² - 2 q·p``: the omitted ``|q|²`` is the same for all points of a query.
So a chunk of queries costs one matrix product and one selection. On CUDA a kernel does both, tile
by tile, so that no distances are written to memory. Distances are computed in at least float32 and
around the mean of the points. Without the two, half precision features and features far from zero
would give wrong neighbours.
"""

from __future__ import annotations

from math import isqrt

import torch
from torch import Tensor

from .dispatch import Operator
from .frames import frames_of
from .precision import at_least_float32

# Distances held at once: few enough for a CPU's cache, enough to keep a GPU busy.
CHUNK_FLOATS = 1 << 20
MOST_COMPILED = 256  # neighbours that a kernel on CUDA keeps for each query


@torch.no_grad()
def knn(
    queries: Tensor,
    points: Tensor,
    k: int,
    query_batch: Tensor | None = None,
    point_batch: Tensor | None = None,
) -> Tensor:
    """Row numbers of the k points nearest to each query, in any order.

    Args:
        queries: (M, C).
        points: (N, C).
        k: neighbours per query. Where a frame has only n < k points, each query gets all of them,
            repeated in turn.
        query_batch: (M,) frame of each query; None when all belong to one frame.
        point_batch: (N,) frame of each point.

    Returns:
        (M, k) int64.
    """
    queries = at_least_float32(queries.detach())
    points = at_least_float32(points.detach())
    if query_batch is None or point_batch is None:
        return _knn_one_frame(queries, points, k)
    neighbours = torch.empty(len(queries), k, dtype=torch.long, device=queries.device)
    for query_rows in frames_of(query_batch):
        frame = query_batch[query_rows[0]]
        point_rows = torch.nonzero(point_batch == frame).flatten()
        nearest = _knn_one_frame(queries[query_rows], points[point_rows], k)
        neighbours[query_rows] = point_rows[nearest]
    return neighbours


def _knn_one_frame(queries: Tensor, points: Tensor, k: int) -> Tensor:
    """``knn`` inside one frame: (M, k)."""
    count = len(points)
    if len(queries) == 0:
        return torch.empty(0, k, dtype=torch.long, device=queries.device)
    if count == 0:
        raise ValueError("knn: a frame with queries has no points")
    if count <= k:
        in_turn = torch.arange(k, device=queries.device).remainder(count)
        return in_turn.expand(len(queries), k)
    mean = points.mean(dim=0)
    is_compiled = queries.dtype == points.dtype == torch.float32 and k <= MOST_COMPILED
    form = NEAREST_ROWS.on(points.device) if is_compiled else nearest_rows_plain
    return form(queries - mean, points - mean, k)


def nearest_rows_plain(queries: Tensor, points: Tensor, k: int) -> Tensor:
    """Rows (M, k) of the nearest of points (N, C), k < N, to queries (M, C), in any order.

    Args:
        queries: around the mean of the points.
        points: likewise.
        k: neighbours per query.
    """
    # [-2 q, 1] . [p, |p|²]: with the norm as one more channel, one product gives the whole rank.
    norms = points.square().sum(dim=1, keepdim=True)
    columns = torch.cat([points, norms], dim=1).t()
    rows = torch.cat([queries * -2, torch.ones_like(queries[:, :1])], dim=1)
    rows_per_chunk = max(1, CHUNK_FLOATS // len(points))
    with torch.autocast(queries.device.type, enabled=False):
        nearest = [_smallest(chunk @ columns, k) for chunk in rows.split(rows_per_chunk)]
    return torch.cat(nearest)


NEAREST_ROWS = Operator(
    "nearest neighbours in feature space",
    plain=nearest_rows_plain,
    triton="nearest_rows:nearest_rows",
)


def _smallest(distances: Tensor, k: int) -> Tensor:
    """Columns (M, k) int64 of the k smallest entries in each row of ``distances`` (M, N).

    On a CPU the selection has two steps, which is about twice as fast as one over all columns. The
    columns are divided into groups. The k smallest entries lie in the k groups with the smallest
    minima. So only the members of these groups are searched.
    """
    columns = distances.shape[1]
    # With n columns and m members per group, the two steps select from n / m and k m entries. Their
    # sum is smallest for m = sqrt(n / k).
    members = isqrt(columns // k)
    if distances.device.type != "cpu" or members < 2:
        return _topk_smallest(distances, k)
    # Column c belongs to group c % groups. The few columns beyond the last full round belong to no
    # group and are always searched.
    groups = columns // members
    grouped = groups * members
    minima = distances[:, :grouped].view(-1, members, groups).amin(dim=1)
    best_groups = _topk_smallest(minima, k)
    first_of_round = torch.arange(0, grouped, groups)
    in_groups = (best_groups[:, None] + first_of_round[:, None]).flatten(1)
    beyond = torch.arange(grouped, columns).expand(len(in_groups), -1)
    candidates = torch.cat([in_groups, beyond], dim=1)
    chosen = _topk_smallest(distances.gather(1, candidates), k)
    return candidates.gather(1, chosen)


def _topk_smallest(values: Tensor, k: int) -> Tensor:
    """Columns (M, k) of the k smallest values (M, N) of each row, in any order."""
    return values.topk(k, dim=1, largest=False, sorted=False)[1]
