"""Cubes of points against brute force and the plain versions; few, no and equal points."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pcdet_distill.ops import vector_pool as ops
from pcdet_distill.ops.stacks import Stack

# How many points and how many centres each item of the batch has.
COUNTS = [
    ([50, 300], [20, 0]),
    ([0, 350], [5, 15]),
    ([350], [20]),
    ([3, 1, 0], [2, 9, 4]),
    ([], []),
]
SHAPES = [(3, 3, 3), (2, 2, 2), (1, 2, 4)]


def cloud(seed: int, count: int) -> Tensor:
    """Whole and half metres: distances are equal, and points lie on the surfaces of cubes."""
    half_metres = np.random.default_rng(seed).integers(-8, 9, (count, 3))
    return torch.from_numpy((half_metres / 2).astype(np.float32))


class Batch:
    """Points and centres of several items, stacked.

    Attributes:
        points, centres: (N, 3) and (M, 3).
        point_counts, centre_counts: how many each item has.
        items: (M,) the item of each centre.
    """

    def __init__(self, seed: int, counts: tuple[list[int], list[int]]) -> None:
        self.point_counts, self.centre_counts = counts
        self.points = cloud(seed, sum(self.point_counts))
        self.centres = cloud(seed + 1, sum(self.centre_counts))
        self.items = np.repeat(np.arange(len(self.centre_counts)), self.centre_counts).tolist()

    @property
    def stacks(self) -> tuple[Stack, Stack]:
        """Points and centres for the plain versions."""
        return (
            Stack.of_counts(self.points, self.point_counts),
            Stack.of_counts(self.centres, self.centre_counts),
        )

    def rows_in_cube(self, number: int, reach: float, limit: int) -> list[int]:
        """Rows of the first points of the item in the cube around a centre; limit -1 for all."""
        item = self.items[number]
        first_row = sum(self.point_counts[:item])
        last_row = first_row + self.point_counts[item]
        offsets = self.points[first_row:last_row] - self.centres[number]
        is_near = (offsets.abs() <= np.float32(reach)).all(dim=1)
        rows = (first_row + is_near.nonzero().flatten()).tolist()
        return rows[:limit] if limit > 0 else rows

    def cell_of(self, row: int, number: int, reach: float, shape: tuple[int, ...]) -> int:
        """The cell in which a point lies, of the cube around a centre."""
        offset = self.points[row] - self.centres[number]
        return cell_at(offset.numpy(), reach, shape)


def cell_at(offset: np.ndarray, reach: float, shape: tuple[int, ...]) -> int:
    """The cell of a cube at an offset from its centre; its upper faces are in the last cells."""
    index = []
    for distance, cells in zip(offset, shape):
        cell_size = np.float32(2 * reach / cells)
        from_lower_face = distance + np.float32(reach)
        index.append(min(int(from_lower_face / cell_size), cells - 1))
    x, y, z = index
    return (x * shape[1] + y) * shape[2] + z


def test_offsets_of_cells() -> None:
    """Three cells of 2 m along x, one of 6 m along y, two of 3 m along z; z runs fastest."""
    offsets = ops.cell_offsets(3.0, (3, 1, 2))
    expected = itertools.product((-2.0, 0.0, 2.0), (0.0,), (-1.5, 1.5))
    assert offsets.tolist() == [list(offset) for offset in expected]
    for cell, offset in enumerate(offsets.numpy()):
        assert cell_at(offset, 3.0, (3, 1, 2)) == cell


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 1000),
    counts=st.sampled_from(COUNTS),
    reach=st.sampled_from([0.5, 1.5, 3.0]),
    limit=st.sampled_from([-1, 1, 2, 7]),
)
def test_three_nearest_by_brute_force(seed: int, counts: tuple, reach: float, limit: int) -> None:
    batch = Batch(seed, counts)
    offsets = ops.cell_offsets(1.0, (2, 1, 3))
    centre_counts = torch.tensor(batch.centre_counts)
    distance, rows, found = ops.three_nn_in_cubes(
        batch.points, batch.point_counts, batch.centres, centre_counts, offsets, reach, limit
    )
    for number in range(len(batch.centres)):
        near = batch.rows_in_cube(number, reach, limit)
        assert found[number] == len(near)
        if not near:
            assert (rows[number] == 0).all()
            assert distance[number].isinf().all()
            continue
        for place, offset in enumerate(offsets):
            from_place = batch.points[near] - (batch.centres[number] + offset)
            squares = from_place.square().sum(dim=1).numpy()
            order = np.argsort(squares, kind="stable")[:3].tolist()
            # With fewer than three points the nearest one fills up.
            order += [order[0]] * (3 - len(order))
            assert rows[number, place].tolist() == [near[position] for position in order]
            found_squares = distance[number, place].numpy() ** 2
            np.testing.assert_allclose(found_squares, squares[order], atol=1e-5)

    plain_limit = limit if limit > 0 else ops.MOST_NEIGHBOURS
    plain = ops.three_nn_in_cubes_plain(*batch.stacks, offsets, reach, plain_limit)
    for compiled_values, plain_values in zip((distance, rows, found), plain):
        assert torch.equal(compiled_values, plain_values)


def first_rows_of_cells(
    batch: Batch, number: int, reach: float, shape: tuple, limit: int
) -> list[int]:
    """The first row in each cell of a cube, or -1; no further cells are filled at the limit."""
    num_cells = int(np.prod(shape))
    most = limit if limit > 0 else num_cells
    first_rows = [-1] * num_cells
    num_filled = 0
    for row in batch.rows_in_cube(number, reach, limit=-1):
        cell = batch.cell_of(row, number, reach, shape)
        if first_rows[cell] == -1 and num_filled < most:
            first_rows[cell] = row
            num_filled += 1
    return first_rows


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 1000),
    counts=st.sampled_from(COUNTS),
    shape=st.sampled_from(SHAPES),
    reach=st.sampled_from([0.75, 1.5, 3.25]),
    limit=st.sampled_from([-1, 1, 3, 40]),
)
def test_first_in_cells_by_brute_force(
    seed: int, counts: tuple, shape: tuple, reach: float, limit: int
) -> None:
    batch = Batch(seed, counts)
    rows = ops.first_in_cells(
        batch.points, batch.point_counts, batch.centres, batch.centre_counts, reach, shape, limit
    )
    num_cells = int(np.prod(shape))
    assert rows.shape == (len(batch.centres), num_cells)
    for number in range(len(batch.centres)):
        expected = first_rows_of_cells(batch, number, reach, shape, limit)
        assert rows[number].tolist() == expected
    plain_limit = min(limit, num_cells) if limit > 0 else num_cells
    plain = ops.first_in_cells_plain(*batch.stacks, reach, shape, plain_limit)
    assert torch.equal(rows, plain)


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 1000),
    counts=st.sampled_from(COUNTS),
    shape=st.sampled_from(SHAPES),
    reach=st.sampled_from([0.75, 1.5, 3.25]),
    limit=st.sampled_from([-1, 1, 5]),
)
def test_pairs_and_their_cells_by_brute_force(
    seed: int, counts: tuple, shape: tuple, reach: float, limit: int
) -> None:
    batch = Batch(seed, counts)
    centre_rows, point_rows = ops.cube_pairs(
        batch.points, batch.point_counts, batch.centres, batch.centre_counts, reach, limit
    )
    cells = ops.cells_of_pairs(batch.points, batch.centres, centre_rows, point_rows, reach, shape)
    expected_pairs = []
    expected_cells = []
    for number in range(len(batch.centres)):
        for row in batch.rows_in_cube(number, reach, limit):
            expected_pairs.append((number, row))
            expected_cells.append(batch.cell_of(row, number, reach, shape))
    assert list(zip(centre_rows.tolist(), point_rows.tolist())) == expected_pairs
    assert cells.tolist() == expected_cells

    plain_limit = limit if limit > 0 else len(batch.points)
    plain_centres, plain_points = ops.cube_pairs_plain(*batch.stacks, reach, plain_limit)
    assert torch.equal(centre_rows, plain_centres)
    assert torch.equal(point_rows, plain_points)


def nearest_compiled(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The three nearest points at a centre in the origin."""
    zero = torch.zeros(1, 3)
    return ops.three_nn_in_cubes(points, [len(points)], zero, [1], zero, 1.0)


def nearest_plain(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    zero = torch.zeros(1, 3)
    point_stack = Stack.of_counts(points, [len(points)])
    centre_stack = Stack.of_counts(zero, [1])
    return ops.three_nn_in_cubes_plain(point_stack, centre_stack, zero, 1.0, ops.MOST_NEIGHBOURS)


@pytest.mark.parametrize("query", [nearest_compiled, nearest_plain])
@pytest.mark.parametrize("nearest_comes_first", [True, False])
def test_interpolation_is_limited_to_the_first_points(
    query: Callable, nearest_comes_first: bool
) -> None:
    """A point after the first thousand is ignored, however near it is."""
    nearest = torch.zeros(1, 3)
    others = torch.full((ops.MOST_NEIGHBOURS, 3), 0.5)
    points = torch.cat([nearest, others] if nearest_comes_first else [others, nearest])
    _, rows, found = query(points)
    assert found.tolist() == [ops.MOST_NEIGHBOURS]
    best_row = rows[0, 0, 0]
    assert points[best_row, 0] == (0.0 if nearest_comes_first else 0.5)


@pytest.mark.parametrize(
    "query",
    [
        lambda *sets: ops.three_nn_in_cubes(*sets, ops.cell_offsets(1.0, (2, 2, 2)), 1.0),
        lambda *sets: ops.first_in_cells(*sets, 1.0, (2, 2, 2)),
        lambda *sets: ops.cube_pairs(*sets, 1.0),
    ],
)
def test_inputs_are_unchanged(query: Callable) -> None:
    points = cloud(6, 50)
    centres = cloud(7, 5)
    points_before = points.clone()
    centres_before = centres.clone()
    query(points, [50], centres, [5])
    assert torch.equal(points, points_before)
    assert torch.equal(centres, centres_before)
