"""Choosing and grouping points against brute force and plain versions; gradients, edge cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pcdet_distill.ops import point_sampling as ops
from pcdet_distill.ops.rows import add_rows, first_true
from pcdet_distill.ops.stacks import Stack


def cloud(seed: int, *shape: int, scale: float = 4.0) -> Tensor:
    return torch.from_numpy(
        np.random.default_rng(seed).uniform(-scale, scale, shape).astype(np.float32)
    )


def thread_tree_winner(distances: np.ndarray, threads: int) -> int:
    """The reference's reduction: each thread has its first best, then pairs; the lower one wins."""
    best = [(-1.0, 0)] * threads
    for row, distance in enumerate(distances):
        if distance > best[row % threads][0]:
            best[row % threads] = (distance, row)
    stride = threads // 2
    while stride:
        for thread in range(stride):
            if best[thread + stride][0] > best[thread][0]:
                best[thread] = best[thread + stride]
        stride //= 2
    return best[0][1]


def furthest_by_brute_force(points: np.ndarray, count: int, threads: int) -> list[int]:
    nearest = np.full(len(points), 1e10, np.float32)
    chosen = [0]
    while len(chosen) < count:
        square = (points - points[chosen[-1]]) ** 2
        nearest = np.minimum(nearest, square[:, 0] + square[:, 1] + square[:, 2])
        chosen.append(thread_tree_winner(nearest, threads))
    return chosen


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 1000), st.integers(1, 40), st.integers(1, 50), st.integers(1, 3))
def test_furthest_points_by_brute_force(seed: int, total: int, count: int, spread: int) -> None:
    """Coordinates from a small grid, so that many distances are equal and points coincide."""
    points = (
        np.random.default_rng(seed).integers(-spread, spread + 1, (2, total, 3)).astype(np.float32)
    )
    threads = 1 << (total.bit_length() - 1)
    got = ops.furthest_point_sample(torch.from_numpy(points), count)
    assert got.tolist() == [furthest_by_brute_force(frame, count, threads) for frame in points]
    for frame, rows in zip(points, got):
        plain = ops.furthest_point_sample_plain(torch.from_numpy(frame), count, threads)
        assert plain.tolist() == rows.tolist()


def test_furthest_points_of_a_long_cloud() -> None:
    """More points than one chunk of the kernel and than the reference has threads."""
    points = torch.cat([cloud(0, 1, 3000, 3)] * 2, dim=1)
    got = ops.furthest_point_sample(points, 300)[0].tolist()
    assert got == furthest_by_brute_force(points[0].numpy(), 300, 1024)
    assert len(set(got)) == 300


def test_fewer_different_points_than_samples() -> None:
    points = torch.tensor([[[0.0, 0, 0], [2, 0, 0], [2, 0, 0], [0, 0, 0]]])
    assert ops.furthest_point_sample(points, 5).tolist() == [[0, 2, 0, 0, 0]]
    assert ops.furthest_point_sample(points[:, :1], 3).tolist() == [[0, 0, 0]]


def test_stack_of_furthest_points_keeps_items_apart() -> None:
    points = cloud(1, 70, 3)
    got = ops.stack_furthest_point_sample(points, torch.tensor([30, 0, 40]), 8)
    expected = furthest_by_brute_force(points[:30].numpy(), 8, 1024) + [
        30 + row for row in furthest_by_brute_force(points[30:].numpy(), 8, 1024)
    ]
    assert got.tolist() == expected
    assert ops.stack_furthest_point_sample(points[:0], [0, 0], [3, 4]).shape == (0,)


def ball_by_brute_force(
    radius: float, slots: int, points: np.ndarray, centre: np.ndarray
) -> list[int]:
    square = (points - centre) ** 2
    hits = np.flatnonzero(square[:, 0] + square[:, 1] + square[:, 2] < np.float32(radius) ** 2)[
        :slots
    ].tolist()
    return hits + [hits[0] if hits else 0] * (slots - len(hits))


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 1000),
    st.integers(1, 300),
    st.integers(0, 20),
    st.integers(1, 9),
    st.floats(0.2, 8),
)
def test_balls_by_brute_force(
    seed: int, total: int, centres: int, slots: int, radius: float
) -> None:
    points = cloud(seed, 2, total, 3)
    places = cloud(seed + 1, 2, centres, 3)
    rows, found = ops.ball_query(radius, slots, points, places)
    assert rows.shape == (2, centres, slots)
    assert found.shape == (2, centres)
    for frame in range(2):
        for place in range(centres):
            expected = ball_by_brute_force(
                radius, slots, points[frame].numpy(), places[frame, place].numpy()
            )
            assert rows[frame, place].tolist() == expected
            if found[frame, place]:
                assert found[frame, place] == len(dict.fromkeys(expected))
            else:
                assert expected == [0] * slots


def test_points_on_the_surface_are_outside_a_ball() -> None:
    points = torch.tensor([[[0.0, 0, 0], [3, 0, 0], [0, 4, 0]]])
    assert ops.ball_query(3.0, 4, points, torch.zeros(1, 1, 3))[0].tolist() == [[[0, 0, 0, 0]]]
    assert ops.ball_query(4.5, 4, points, torch.zeros(1, 1, 3))[0].tolist() == [[[0, 1, 2, 0]]]
    assert ops.ball_query(1.0, 2, points, torch.full((1, 1, 3), 9.0))[1].tolist() == [[0]]


@pytest.mark.parametrize(
    "counts, centre_counts", [([50, 300], [20, 0]), ([0, 350], [5, 15]), ([350], [20]), ([], [])]
)
def test_stack_balls_equal_the_plain_version(counts: list[int], centre_counts: list[int]) -> None:
    points = cloud(2, sum(counts), 3)
    centres = cloud(3, sum(centre_counts), 3)
    got = ops.stack_ball_query(
        1.5, 6, points, counts, centres, torch.tensor(centre_counts, dtype=torch.int32)
    )
    plain = ops.ball_query_plain(
        1.5 * 1.5, 6, Stack.of_counts(points, counts), Stack.of_counts(centres, centre_counts)
    )
    assert all(torch.equal(one, other) for one, other in zip(got, plain))
    item = np.repeat(np.arange(len(counts)), centre_counts)
    first = np.array([0, *np.cumsum(counts)], np.int64)
    for centre, (rows, found) in enumerate(zip(*got)):
        if found:
            assert (rows >= first[item[centre]]).all()
            assert (rows < first[item[centre] + 1]).all()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.integers(1, 20), st.integers(0, 300))
def test_three_nearest_by_brute_force(seed: int, total: int, known: int) -> None:
    """Whole coordinates, so that distances are equal: the lower row wins."""
    rng = np.random.default_rng(seed)
    points, others = (
        torch.from_numpy(rng.integers(-3, 4, (2, count, 3)).astype(np.float32))
        for count in (total, known)
    )
    distance, rows = ops.three_nn(points, others)
    square = (points[:, :, None] - others[:, None]).square().sum(-1)
    expected, order = square.sort(dim=2, stable=True)
    kept = min(3, known)
    assert torch.equal(rows[..., :kept], order[..., :3])
    assert torch.equal(distance[..., :kept], expected[..., :3].sqrt())
    assert torch.isinf(distance[..., kept:]).all()
    assert (rows[..., kept:] == 0).all()
    plain, plain_rows = ops.three_nn_plain(Stack.of_batch(points), Stack.of_batch(others))
    assert torch.equal(plain.sqrt().view(distance.shape), distance)
    assert torch.equal(plain_rows.view(rows.shape) - known * torch.arange(2).view(-1, 1, 1), rows)


def test_interpolation_by_hand() -> None:
    features = torch.tensor([[[0.0], [10.0], [40.0]]])
    points = torch.zeros(1, 1, 3)
    known = torch.tensor([[[1.0, 0, 0], [2, 0, 0], [4, 0, 0]]])
    distance, rows = ops.three_nn(points, known)
    weights = ops.interpolation_weights(distance)
    torch.testing.assert_close(weights, torch.tensor([[[4.0, 2.0, 1.0]]]) / 7)
    torch.testing.assert_close(
        ops.three_interpolate(features, rows, weights), torch.tensor([[[60.0 / 7]]])
    )


def test_one_known_point_gives_all_features() -> None:
    distance, rows = ops.three_nn(cloud(4, 2, 5, 3), cloud(5, 2, 1, 3))
    carried = ops.three_interpolate(
        torch.tensor([[[1.0]], [[2.0]]]), rows, ops.interpolation_weights(distance)
    )
    assert carried.squeeze(-1).tolist() == [[1.0] * 5, [2.0] * 5]


def test_gradients() -> None:
    features = torch.randn(2, 6, 3, dtype=torch.float64, requires_grad=True)
    rows = torch.randint(6, (2, 4, 5), generator=torch.Generator().manual_seed(0))
    weights = torch.rand(2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: ops.group_points(x, rows), features)
    assert torch.autograd.gradcheck(
        lambda x, w: ops.three_interpolate(x, rows[..., :3], w), (features, weights)
    )


def test_grouping_stays_in_its_frame() -> None:
    features = torch.arange(12.0).view(2, 3, 2)
    grouped = ops.group_points(features, torch.tensor([[[0, 2]], [[0, 2]]]))
    assert grouped.tolist() == [[[[0, 1], [4, 5]]], [[[6, 7], [10, 11]]]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_rows_are_added_up(dtype: torch.dtype) -> None:
    source = torch.tensor([[1, 2], [3, 4], [5, 6]], dtype=dtype)
    got = add_rows(source, torch.tensor([2, 0, 2]), 4)
    assert got.dtype == dtype
    assert got.tolist() == [[3, 4], [0, 0], [6, 8], [0, 0]]


def test_first_true_values() -> None:
    mask = torch.tensor([[0, 1, 1, 0, 1], [0, 0, 0, 0, 0], [0, 0, 0, 1, 0]], dtype=torch.bool)
    columns, found = first_true(mask, 2)
    assert columns.tolist() == [[1, 2], [0, 0], [3, 3]]
    assert found.tolist() == [2, 0, 1]


def test_inputs_are_unchanged() -> None:
    points = cloud(6, 1, 50, 3)
    centres = cloud(7, 1, 5, 3)
    before = points.clone(), centres.clone()
    ops.furthest_point_sample(points, 9)
    ops.ball_query(1.0, 4, points, centres)
    ops.three_nn(points, centres)
    assert torch.equal(points, before[0])
    assert torch.equal(centres, before[1])
