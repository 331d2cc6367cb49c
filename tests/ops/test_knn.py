"""Chunked kNN against sorting all distances."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdet_distill.ops import knn as module
from pcdet_distill.ops.knn import frames_of, knn


def brute_force(queries, points, k):
    """Sorted neighbour sets, one query at a time, in numpy float64."""
    points = np.asarray(points, dtype=np.float64)
    neighbours = []
    for query in np.asarray(queries, dtype=np.float64):
        distances = ((points - query) ** 2).sum(1)
        nearest = np.argsort(distances, kind="stable")[:k]
        neighbours.append(sorted(nearest.tolist()))
    return neighbours


def as_sets(neighbours):
    return [sorted(row) for row in neighbours.tolist()]


@pytest.mark.parametrize("chunk", [1, 700, 1 << 20])
def test_equals_brute_force_for_any_chunk(chunk, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_FLOATS", chunk)
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(201, 5, generator=generator, dtype=torch.float64)
    queries = torch.randn(37, 5, generator=generator, dtype=torch.float64)
    assert as_sets(knn(queries, points, 9)) == brute_force(queries, points, 9)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**16), st.integers(1, 5), st.integers(1, 40), st.integers(1, 12))
def test_frames_never_mix(seed, frames, count, k):
    rng = np.random.RandomState(seed)
    batch = torch.from_numpy(rng.randint(0, frames, count))
    points = torch.from_numpy(rng.randn(count, 3))
    chosen = torch.from_numpy(rng.permutation(count)[: max(1, count // 2)])
    neighbours = knn(points[chosen], points, k, batch[chosen], batch)
    assert neighbours.shape == (len(chosen), k)
    for query, row in zip(chosen.tolist(), neighbours.tolist()):
        in_frame = torch.nonzero(batch == batch[query]).flatten().numpy()
        nearest = brute_force(points[query : query + 1], points[in_frame], k)[0]
        # With fewer points than k these are all of them.
        assert set(row) == set(in_frame[nearest].tolist())


def test_few_points_are_repeated_in_turn():
    points = torch.zeros(3, 2)
    assert knn(points[:1], points, 7).tolist() == [[0, 1, 2, 0, 1, 2, 0]]


def test_far_from_zero_and_half_precision():
    line = torch.arange(64, dtype=torch.float32)[:, None]
    # Far from zero the terms of |q - p|² would cancel.
    assert as_sets(knn(line[10:11] + 1e5, line + 1e5, 3)) == [[9, 10, 11]]
    # 4000² overflows float16.
    assert as_sets(knn(line[40:41].half() * 100, line.half() * 100, 3)) == [[39, 40, 41]]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert as_sets(knn(line[40:41] + 200, line + 200, 3)) == [[39, 40, 41]]


def test_empty_inputs():
    assert knn(torch.zeros(0, 4), torch.zeros(5, 4), 2).shape == (0, 2)
    no_points = torch.zeros(0, 4)
    no_frames = torch.zeros(0)
    assert knn(no_points, no_points, 2, no_frames, no_frames).shape == (0, 2)
    with pytest.raises(ValueError, match="no points"):
        knn(torch.zeros(1, 4), torch.zeros(0, 4), 2)


def test_inputs_are_unchanged_and_carry_no_gradient():
    points = torch.randn(30, 3, requires_grad=True)
    before = points.detach().clone()
    assert not knn(points[:4], points, 3).requires_grad
    assert torch.equal(points, before)


def test_frames_of_any_order():
    frames = frames_of(torch.tensor([2, 0, 2, 0, 5]))
    assert [rows.tolist() for rows in frames] == [[1, 3], [0, 2], [4]]
