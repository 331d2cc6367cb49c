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


def cloud(seed: int, *shape: int) -> Tensor:
    """Random coordinates from -4 to 4 metres."""
    coordinates = np.random.default_rng(seed).uniform(-4, 4, shape)
    return torch.from_numpy(coordinates.astype(np.float32))


def squared_distances(points: np.ndarray, place: np.ndarray) -> np.ndarray:
    """(N,) from points (N, 3) to a place (3,), added up in the order of the kernels."""
    x, y, z = ((points - place) ** 2).T
    return x + y + z


# --- furthest points


def winner_of_threads(distances: np.ndarray, threads: int) -> int:
    """The row that the reference's reduction on a GPU takes of the largest distances.

    Each thread has the first best of its rows. Then pairs are compared, and the lower thread wins
    where both are equal.
    """
    best_distance = [-1.0] * threads
    best_row = [0] * threads
    for row, distance in enumerate(distances):
        thread = row % threads
        if distance > best_distance[thread]:
            best_distance[thread] = distance
            best_row[thread] = row
    stride = threads // 2
    while stride:
        for thread in range(stride):
            other = thread + stride
            if best_distance[other] > best_distance[thread]:
                best_distance[thread] = best_distance[other]
                best_row[thread] = best_row[other]
        stride //= 2
    return best_row[0]


def furthest_by_brute_force(points: np.ndarray, count: int, threads: int) -> list[int]:
    """Again and again the point that is furthest from all chosen ones; the first is row 0."""
    to_nearest_chosen = np.full(len(points), 1e10, np.float32)
    chosen = [0]
    while len(chosen) < count:
        to_last = squared_distances(points, points[chosen[-1]])
        to_nearest_chosen = np.minimum(to_nearest_chosen, to_last)
        chosen.append(winner_of_threads(to_nearest_chosen, threads))
    return chosen


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 1000),
    total=st.integers(1, 40),
    count=st.integers(1, 50),
    spread=st.integers(1, 3),
)
def test_furthest_points_by_brute_force(seed: int, total: int, count: int, spread: int) -> None:
    """Coordinates from a small grid, so that many distances are equal and points coincide."""
    rng = np.random.default_rng(seed)
    points = rng.integers(-spread, spread + 1, (2, total, 3)).astype(np.float32)
    threads = 1 << (total.bit_length() - 1)  # the largest power of two that is not above total
    found = ops.furthest_point_sample(torch.from_numpy(points), count)
    for frame, rows in zip(points, found):
        plain = ops.furthest_point_sample_plain(torch.from_numpy(frame), count, threads)
        assert rows.tolist() == furthest_by_brute_force(frame, count, threads)
        assert plain.tolist() == rows.tolist()


def test_furthest_points_of_a_long_cloud() -> None:
    """More points than one chunk of the kernel and than the reference has threads."""
    once = cloud(0, 1, 3000, 3)
    twice = torch.cat([once, once], dim=1)
    found = ops.furthest_point_sample(twice, 300)[0].tolist()
    assert found == furthest_by_brute_force(twice[0].numpy(), 300, 1024)
    assert len(set(found)) == 300


def test_fewer_different_points_than_samples() -> None:
    points = torch.tensor([[[0.0, 0, 0], [2, 0, 0], [2, 0, 0], [0, 0, 0]]])
    assert ops.furthest_point_sample(points, 5).tolist() == [[0, 2, 0, 0, 0]]
    assert ops.furthest_point_sample(points[:, :1], 3).tolist() == [[0, 0, 0]]


def test_stack_of_furthest_points_keeps_items_apart() -> None:
    """Items of 30, of no and of 40 points."""
    points = cloud(1, 70, 3)
    found = ops.stack_furthest_point_sample(points, torch.tensor([30, 0, 40]), 8)
    of_first = furthest_by_brute_force(points[:30].numpy(), 8, 1024)
    of_last = furthest_by_brute_force(points[30:].numpy(), 8, 1024)
    assert found.tolist() == of_first + [30 + row for row in of_last]


@pytest.mark.parametrize("counts", [[1030, 1500], [700, 0, 40, 1024]])
def test_a_stack_and_its_items_alone_choose_the_same_points(counts: list[int]) -> None:
    """On a grid many points are equally far.

    Alone an item has as many threads as the largest power of two up to its points, in a stack 1024.
    Both order equally far points alike, because a thread has two of them at most.
    """
    generator = torch.Generator().manual_seed(0)
    points = torch.randint(0, 4, (sum(counts), 3), generator=generator).float()
    samples = [min(count, 30) for count in counts]
    found = ops.stack_furthest_point_sample(points, counts, samples)
    expected: list[int] = []
    first = 0
    for count, wanted in zip(counts, samples):
        if count:
            alone = ops.furthest_point_sample(points[None, first : first + count], wanted)[0]
            expected += (first + alone).tolist()
        first += count
    assert found.tolist() == expected


def test_furthest_points_of_an_empty_stack() -> None:
    no_points = torch.zeros(0, 3)
    assert ops.stack_furthest_point_sample(no_points, [0, 0], [3, 4]).shape == (0,)


# --- balls


def ball_by_brute_force(
    radius: float, slots: int, points: np.ndarray, centre: np.ndarray
) -> list[int]:
    """The first rows inside the ball; the first of them fills up the slots, and 0 an empty ball."""
    is_inside = squared_distances(points, centre) < np.float32(radius) ** 2
    hits = np.flatnonzero(is_inside)[:slots].tolist()
    filler = hits[0] if hits else 0
    return hits + [filler] * (slots - len(hits))


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 1000),
    total=st.integers(1, 300),
    num_centres=st.integers(0, 20),
    slots=st.integers(1, 9),
    radius=st.floats(0.2, 8),
)
def test_balls_by_brute_force(
    seed: int, total: int, num_centres: int, slots: int, radius: float
) -> None:
    points = cloud(seed, 2, total, 3)
    centres = cloud(seed + 1, 2, num_centres, 3)
    rows, found = ops.ball_query(radius, slots, points, centres)
    assert rows.shape == (2, num_centres, slots)
    assert found.shape == (2, num_centres)
    for frame in range(2):
        for number in range(num_centres):
            place = centres[frame, number].numpy()
            expected = ball_by_brute_force(radius, slots, points[frame].numpy(), place)
            assert rows[frame, number].tolist() == expected
            if found[frame, number]:
                assert found[frame, number] == len(set(expected))
            else:
                assert expected == [0] * slots


@pytest.mark.parametrize(
    "radius, expected_rows, expected_found",
    [
        (3.0, [0, 0, 0, 0], 1),
        (4.5, [0, 1, 2, 0], 3),
    ],
)
def test_points_on_the_surface_are_outside_a_ball(
    radius: float, expected_rows: list[int], expected_found: int
) -> None:
    """Points at 0, 3 and 4 metres from the centre."""
    points = torch.tensor([[[0.0, 0, 0], [3, 0, 0], [0, 4, 0]]])
    rows, found = ops.ball_query(radius, 4, points, torch.zeros(1, 1, 3))
    assert rows.tolist() == [[expected_rows]]
    assert found.tolist() == [[expected_found]]


def test_an_empty_ball_finds_nothing() -> None:
    far_away = torch.full((1, 1, 3), 9.0)
    _, found = ops.ball_query(1.0, 2, torch.zeros(1, 3, 3), far_away)
    assert found.tolist() == [[0]]


@pytest.mark.parametrize(
    "counts, centre_counts",
    [
        ([50, 300], [20, 0]),
        ([0, 350], [5, 15]),
        ([350], [20]),
        ([], []),
    ],
)
def test_stack_balls_equal_the_plain_version(counts: list[int], centre_counts: list[int]) -> None:
    points = cloud(2, sum(counts), 3)
    centres = cloud(3, sum(centre_counts), 3)
    centre_counts_int32 = torch.tensor(centre_counts, dtype=torch.int32)
    rows, found = ops.stack_ball_query(1.5, 6, points, counts, centres, centre_counts_int32)

    point_stack = Stack.of_counts(points, counts)
    centre_stack = Stack.of_counts(centres, centre_counts)
    plain_rows, plain_found = ops.ball_query_plain(1.5 * 1.5, 6, point_stack, centre_stack)
    assert torch.equal(rows, plain_rows)
    assert torch.equal(found, plain_found)

    item_of_centre = np.repeat(np.arange(len(counts)), centre_counts)
    last_rows = np.cumsum(counts)
    for item, of_centre, num_found in zip(item_of_centre, rows, found):
        if num_found:
            assert of_centre.min() >= last_rows[item] - counts[item]
            assert of_centre.max() < last_rows[item]


# --- interpolation


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), total=st.integers(1, 20), num_known=st.integers(0, 300))
def test_three_nearest_by_brute_force(seed: int, total: int, num_known: int) -> None:
    """Whole coordinates, so that distances are equal: the lower row wins."""
    rng = np.random.default_rng(seed)
    points = torch.from_numpy(rng.integers(-3, 4, (2, total, 3)).astype(np.float32))
    known = torch.from_numpy(rng.integers(-3, 4, (2, num_known, 3)).astype(np.float32))
    distance, rows = ops.three_nn(points, known)

    offsets = points[:, :, None] - known[:, None]
    sorted_squares, order = offsets.square().sum(dim=-1).sort(dim=2, stable=True)
    kept = min(3, num_known)
    assert torch.equal(rows[..., :kept], order[..., :3])
    assert torch.equal(distance[..., :kept], sorted_squares[..., :3].sqrt())
    # With fewer than three known points the other places are at infinity.
    assert torch.isinf(distance[..., kept:]).all()
    assert (rows[..., kept:] == 0).all()

    plain_squares, plain_rows = ops.three_nn_plain(Stack.of_batch(points), Stack.of_batch(known))
    assert torch.equal(plain_squares.sqrt().view(distance.shape), distance)
    first_rows_of_frames = torch.tensor([0, num_known]).view(2, 1, 1)
    assert torch.equal(plain_rows.view(rows.shape) - first_rows_of_frames, rows)


def test_interpolation_by_hand() -> None:
    """Known points at 1, 2 and 4 metres: weights 1, 1/2 and 1/4, or 4, 2 and 1 sevenths."""
    features = torch.tensor([[[0.0], [10.0], [40.0]]])
    points = torch.zeros(1, 1, 3)
    known = torch.tensor([[[1.0, 0, 0], [2, 0, 0], [4, 0, 0]]])
    distance, rows = ops.three_nn(points, known)
    weights = ops.interpolation_weights(distance)
    torch.testing.assert_close(weights, torch.tensor([[[4 / 7, 2 / 7, 1 / 7]]]))
    carried = ops.three_interpolate(features, rows, weights)
    expected = (4 * 0 + 2 * 10 + 1 * 40) / 7
    torch.testing.assert_close(carried, torch.tensor([[[expected]]]))


def test_one_known_point_gives_all_features() -> None:
    points = cloud(4, 2, 5, 3)
    known = cloud(5, 2, 1, 3)
    features = torch.tensor([[[1.0]], [[2.0]]])
    distance, rows = ops.three_nn(points, known)
    weights = ops.interpolation_weights(distance)
    carried = ops.three_interpolate(features, rows, weights)
    assert carried.squeeze(-1).tolist() == [[1.0] * 5, [2.0] * 5]


def test_gradient_of_grouping() -> None:
    features = torch.randn(2, 6, 3, dtype=torch.float64, requires_grad=True)
    rows = torch.randint(6, (2, 4, 5), generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(lambda x: ops.group_points(x, rows), features)


def test_gradients_of_interpolation() -> None:
    features = torch.randn(2, 6, 3, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(2, 4, 3, dtype=torch.float64, requires_grad=True)
    rows = torch.randint(6, (2, 4, 3), generator=torch.Generator().manual_seed(0))

    def interpolate(features: Tensor, weights: Tensor) -> Tensor:
        return ops.three_interpolate(features, rows, weights)

    assert torch.autograd.gradcheck(interpolate, (features, weights))


# --- rows


def test_grouping_stays_in_its_frame() -> None:
    features_of_first = [[0.0, 1], [2, 3], [4, 5]]
    features_of_second = [[6.0, 7], [8, 9], [10, 11]]
    features = torch.tensor([features_of_first, features_of_second])
    rows = torch.tensor([[[0, 2]], [[0, 2]]])
    grouped = ops.group_points(features, rows)
    assert grouped.tolist() == [[[[0, 1], [4, 5]]], [[[6, 7], [10, 11]]]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_rows_are_added_up(dtype: torch.dtype) -> None:
    source = torch.tensor([[1, 2], [3, 4], [5, 6]], dtype=dtype)
    target_rows = torch.tensor([2, 0, 2])
    added = add_rows(source, target_rows, 4)
    assert added.dtype == dtype
    assert added.tolist() == [[3, 4], [0, 0], [6, 8], [0, 0]]


def test_first_true_values() -> None:
    mask = torch.tensor([[0, 1, 1, 0, 1], [0, 0, 0, 0, 0], [0, 0, 0, 1, 0]], dtype=torch.bool)
    columns, found = first_true(mask, 2)
    assert columns.tolist() == [[1, 2], [0, 0], [3, 3]]
    assert found.tolist() == [2, 0, 1]


def test_inputs_are_unchanged() -> None:
    points = cloud(6, 1, 50, 3)
    centres = cloud(7, 1, 5, 3)
    points_before = points.clone()
    centres_before = centres.clone()
    ops.furthest_point_sample(points, 9)
    ops.ball_query(1.0, 4, points, centres)
    ops.three_nn(points, centres)
    assert torch.equal(points, points_before)
    assert torch.equal(centres, centres_before)
