"""Chunked kNN against sorting all distances."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pcdet_distill.ops import knn as module
from pcdet_distill.ops.knn import knn


def nearest_by_sorting(query: Tensor, points: Tensor, k: int) -> set[int]:
    """The rows of the k nearest points of one query, in numpy float64."""
    offsets = points.double().numpy() - query.double().numpy()
    squared_distances = (offsets**2).sum(axis=1)
    order = np.argsort(squared_distances, kind="stable")
    return set(order[:k].tolist())


@pytest.mark.parametrize("chunk", [1, 700, 1 << 20])
def test_equals_brute_force_for_any_chunk(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK_FLOATS", chunk)
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(201, 5, generator=generator, dtype=torch.float64)
    queries = torch.randn(37, 5, generator=generator, dtype=torch.float64)
    for query, row in zip(queries, knn(queries, points, 9).tolist()):
        assert len(row) == 9
        assert set(row) == nearest_by_sorting(query, points, 9)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    frames=st.integers(1, 5),
    count=st.integers(1, 40),
    k=st.integers(1, 12),
)
def test_frames_never_mix(seed: int, frames: int, count: int, k: int) -> None:
    rng = np.random.RandomState(seed)
    frame = torch.from_numpy(rng.randint(0, frames, count))
    points = torch.from_numpy(rng.randn(count, 3))
    num_queries = max(1, count // 2)
    queries = torch.from_numpy(rng.permutation(count)[:num_queries])
    neighbours = knn(points[queries], points, k, frame[queries], frame)
    assert neighbours.shape == (num_queries, k)
    for query, row in zip(queries.tolist(), neighbours.tolist()):
        in_frame = torch.nonzero(frame == frame[query]).flatten()
        # With fewer points than k these are all of them.
        nearest = nearest_by_sorting(points[query], points[in_frame], k)
        assert set(row) == set(in_frame[list(nearest)].tolist())


def test_few_points_are_repeated_in_turn() -> None:
    points = torch.zeros(3, 2)
    assert knn(points[:1], points, 7).tolist() == [[0, 1, 2, 0, 1, 2, 0]]


LINE = torch.arange(64, dtype=torch.float32)[:, None]


def neighbours_on_line(number: int, line: Tensor) -> list[int]:
    """The three points nearest to a point of a line."""
    (row,) = knn(line[number : number + 1], line, 3).tolist()
    return sorted(row)


def test_points_far_from_zero() -> None:
    """There the terms of |q - p|^2 would cancel."""
    assert neighbours_on_line(10, LINE + 1e5) == [9, 10, 11]


def test_half_precision() -> None:
    """4000^2 overflows float16."""
    assert neighbours_on_line(40, LINE.half() * 100) == [39, 40, 41]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert neighbours_on_line(40, LINE + 200) == [39, 40, 41]


def test_no_queries() -> None:
    assert knn(torch.zeros(0, 4), torch.zeros(5, 4), 2).shape == (0, 2)
    no_points = torch.zeros(0, 4)
    no_frames = torch.zeros(0)
    assert knn(no_points, no_points, 2, no_frames, no_frames).shape == (0, 2)


def test_a_query_without_points_is_an_error() -> None:
    with pytest.raises(ValueError, match="no points"):
        knn(torch.zeros(1, 4), torch.zeros(0, 4), 2)


def test_inputs_are_unchanged_and_carry_no_gradient() -> None:
    points = torch.randn(30, 3, requires_grad=True)
    before = points.detach().clone()
    assert not knn(points[:4], points, 3).requires_grad
    assert torch.equal(points, before)
