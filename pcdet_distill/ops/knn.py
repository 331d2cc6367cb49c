"""Exact k nearest neighbours by squared Euclidean distance, in chunks of queries, never across frames; any device.

Rank is by |p|^2 - 2 q.p (|q|^2 is the same for all points of a query): one matrix product per chunk and a
selection. Distances are computed in at least float32 and around the points' mean, so that half precision features and
features far from zero still give the right neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isqrt

import torch
from torch import Tensor

CHUNK_FLOATS = (
    1 << 20
)  # distances held at once; small enough for a CPU's cache, large enough to keep a GPU busy


def frames_of(batch_index: Tensor) -> Iterator[Tensor]:
    """Row numbers (n,) of each frame that has rows, for a ``batch_index`` (N,) in any order."""
    for frame, count in enumerate(torch.bincount(batch_index.long()).tolist()):
        if count:
            yield torch.nonzero(batch_index == frame).flatten()


@torch.no_grad()
def knn(
    queries: Tensor,
    points: Tensor,
    k: int,
    query_batch: Tensor | None = None,
    point_batch: Tensor | None = None,
) -> Tensor:
    """Row numbers (M, k) of the k points nearest to each query; the order inside a row is free.

    Args:
        queries: (M, C).
        points: (N, C).
        k: neighbours per query. Where a frame has only n < k points, each query gets all of them, repeated in turn.
        query_batch: (M,) frame of each query; None when all belong to one frame.
        point_batch: (N,) frame of each point.
    """
    queries, points = _comparable(queries), _comparable(points)
    if query_batch is None or point_batch is None:
        return _knn_one_frame(queries, points, k)
    neighbours = torch.empty(len(queries), k, dtype=torch.long, device=queries.device)
    for frame_queries in frames_of(query_batch):
        frame_points = torch.nonzero(point_batch == query_batch[frame_queries[0]]).flatten()
        found = _knn_one_frame(queries[frame_queries], points[frame_points], k)
        neighbours[frame_queries] = frame_points[found]
    return neighbours


def _comparable(features: Tensor) -> Tensor:
    """Detached and in a type whose products can be ranked."""
    features = features.detach()
    return features.float() if features.dtype in (torch.float16, torch.bfloat16) else features


def _knn_one_frame(queries: Tensor, points: Tensor, k: int) -> Tensor:
    """``knn`` inside one frame, (M, k)."""
    count = len(points)
    if len(queries) == 0:
        return torch.empty(0, k, dtype=torch.long, device=queries.device)
    if count == 0:
        raise ValueError("knn: a frame with queries has no points")
    if count <= k:
        return torch.arange(k, device=queries.device).remainder(count).expand(len(queries), k)
    centre = points.mean(dim=0)
    points = points - centre
    # [-2 q, 1] . [p, |p|^2]: the norm rides along as one more channel
    points = torch.cat([points, points.square().sum(dim=1, keepdim=True)], dim=1).t()
    queries = torch.cat([(queries - centre) * -2, torch.ones_like(queries[:, :1])], dim=1)
    rows = max(1, CHUNK_FLOATS // count)
    with torch.autocast(queries.device.type, enabled=False):
        return torch.cat([_smallest(chunk @ points, k) for chunk in queries.split(rows)])


def _smallest(distances: Tensor, k: int) -> Tensor:
    """Columns (M, k) of the k smallest entries in each row of ``distances`` (M, N).

    On a CPU in two steps, about twice as fast as one selection from all: the k smallest entries stand in the k groups
    of columns that have the smallest minima, so it is enough to look into these.
    """
    columns = distances.shape[1]
    members = isqrt(columns // k)  # of a group; this number leaves the least to select from
    if distances.device.type != "cpu" or members < 2:
        return distances.topk(k, dim=1, largest=False, sorted=False)[1]
    groups = columns // members
    grouped = (
        groups * members
    )  # column c belongs to group c % groups; the few columns beyond are looked at as well
    minima = distances[:, :grouped].view(-1, members, groups).amin(dim=1)
    best = minima.topk(k, dim=1, largest=False, sorted=False)[1]
    candidates = (best[:, None] + torch.arange(0, grouped, groups)[:, None]).flatten(1)
    beyond = torch.arange(grouped, columns).expand(len(candidates), -1)
    candidates = torch.cat([candidates, beyond], dim=1)
    found = distances.gather(1, candidates).topk(k, dim=1, largest=False, sorted=False)[1]
    return candidates.gather(1, found)
