"""Cubes of points against brute force and the plain versions; few, no and equal points."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pcdet_distill.ops import vector_pool as ops
from pcdet_distill.ops.stacks import Stack

COUNTS = [
    ([50, 300], [20, 0]),
    ([0, 350], [5, 15]),
    ([350], [20]),
    ([3, 1, 0], [2, 9, 4]),
    ([], []),
]
SHAPES = [(3, 3, 3), (2, 2, 2), (1, 2, 4)]


def cloud(seed: int, count: int, scale: float = 4.0) -> Tensor:
    """Whole and half metres: distances are equal, and points lie on the surfaces of cubes."""
    random = np.random.default_rng(seed)
    return torch.from_numpy(
        (random.integers(-2 * scale, 2 * scale + 1, (count, 3)) / 2).astype(np.float32)
    )


def starts(counts: list[int]) -> list[int]:
    return [0, *np.cumsum(counts).tolist()]


def items(counts: list[int]) -> list[int]:
    rows: list[int] = []
    for item, count in enumerate(counts):
        rows += [item] * count
    return rows


def in_cube(points: np.ndarray, centre: np.ndarray, reach: float, limit: int) -> list[int]:
    """Rows of the first points in a cube."""
    rows = [
        row for row, point in enumerate(points) if all(abs(point - centre) <= np.float32(reach))
    ]
    return rows[:limit] if limit > 0 else rows


def cell_of(point: np.ndarray, centre: np.ndarray, reach: float, shape: tuple[int, ...]) -> int:
    along = [
        min(int((offset + np.float32(reach)) / np.float32(2 * reach / cells)), cells - 1)
        for offset, cells in zip(point - centre, shape)
    ]
    return (along[0] * shape[1] + along[1]) * shape[2] + along[2]


def test_offsets_of_cells() -> None:
    offsets = ops.cell_offsets(3.0, (3, 1, 2))
    expected = list(itertools.product((-2.0, 0.0, 2.0), (0.0,), (-1.5, 1.5)))
    assert offsets.tolist() == [list(offset) for offset in expected]
    assert all(
        cell_of(offset.numpy(), np.zeros(3), 3.0, (3, 1, 2)) == cell
        for cell, offset in enumerate(offsets)
    )


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 1000),
    st.sampled_from(COUNTS),
    st.sampled_from([0.5, 1.5, 3.0]),
    st.sampled_from([-1, 1, 2, 7]),
)
def test_three_nearest_by_brute_force(seed: int, counts: tuple, reach: float, limit: int) -> None:
    points = cloud(seed, sum(counts[0]))
    centres = cloud(seed + 1, sum(counts[1]))
    offsets = ops.cell_offsets(1.0, (2, 1, 3))
    distance, rows, found = ops.three_nn_in_cubes(
        points, counts[0], centres, torch.tensor(counts[1]), offsets, reach, limit
    )
    first = starts(counts[0])
    for centre, item in enumerate(items(counts[1])):
        own = points[first[item] : first[item + 1]].numpy()
        near = in_cube(own, centres[centre].numpy(), reach, limit)
        assert found[centre] == len(near)
        for place, offset in enumerate(offsets):
            if not near:
                assert rows[centre, place].tolist() == [0] * 3
                assert distance[centre, place].isinf().all()
                continue
            square = ((own[near] - (centres[centre] + offset).numpy()) ** 2).sum(axis=1)
            order = np.argsort(square, kind="stable")[:3].tolist()
            order += [order[0]] * (3 - len(order))
            assert rows[centre, place].tolist() == [near[row] + first[item] for row in order]
            np.testing.assert_allclose(
                distance[centre, place].numpy() ** 2, square[order], atol=1e-5
            )
    plain = ops.three_nn_in_cubes_plain(
        Stack.of_counts(points, counts[0]),
        Stack.of_counts(centres, counts[1]),
        offsets,
        reach,
        limit if limit > 0 else ops.MOST_NEIGHBOURS,
    )
    assert all(torch.equal(one, other) for one, other in zip((distance, rows, found), plain))


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 1000),
    st.sampled_from(COUNTS),
    st.sampled_from(SHAPES),
    st.sampled_from([0.75, 1.5, 3.25]),
    st.sampled_from([-1, 1, 3, 40]),
)
def test_first_in_cells_by_brute_force(
    seed: int, counts: tuple, shape: tuple, reach: float, limit: int
) -> None:
    points = cloud(seed, sum(counts[0]))
    centres = cloud(seed + 1, sum(counts[1]))
    rows = ops.first_in_cells(points, counts[0], centres, counts[1], reach, shape, limit)
    first = starts(counts[0])
    cells = int(np.prod(shape))
    assert rows.shape == (len(centres), cells)
    for centre, item in enumerate(items(counts[1])):
        own = points[first[item] : first[item + 1]].numpy()
        expected = [-1] * cells
        for row in in_cube(own, centres[centre].numpy(), reach, -1):
            cell = cell_of(own[row], centres[centre].numpy(), reach, shape)
            filled = sum(entry >= 0 for entry in expected)
            if expected[cell] < 0 and (limit < 1 or filled < limit):
                expected[cell] = row + first[item]
        assert rows[centre].tolist() == expected
    plain = ops.first_in_cells_plain(
        Stack.of_counts(points, counts[0]),
        Stack.of_counts(centres, counts[1]),
        reach,
        shape,
        min(limit, cells) if limit > 0 else cells,
    )
    assert torch.equal(rows, plain)


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 1000),
    st.sampled_from(COUNTS),
    st.sampled_from(SHAPES),
    st.sampled_from([0.75, 1.5, 3.25]),
    st.sampled_from([-1, 1, 5]),
)
def test_pairs_and_their_cells_by_brute_force(
    seed: int, counts: tuple, shape: tuple, reach: float, limit: int
) -> None:
    points = cloud(seed, sum(counts[0]))
    centres = cloud(seed + 1, sum(counts[1]))
    centre, point = ops.cube_pairs(points, counts[0], centres, counts[1], reach, limit)
    first = starts(counts[0])
    expected = []
    for number, item in enumerate(items(counts[1])):
        of_item = points[first[item] : first[item + 1]].numpy()
        near = in_cube(of_item, centres[number].numpy(), reach, limit)
        expected += [(number, row + first[item]) for row in near]
    assert list(zip(centre.tolist(), point.tolist())) == expected
    cells = ops.cells_of_pairs(points, centres, centre, point, reach, shape)
    assert cells.tolist() == [
        cell_of(points[row].numpy(), centres[number].numpy(), reach, shape)
        for number, row in expected
    ]
    plain = ops.cube_pairs_plain(
        Stack.of_counts(points, counts[0]),
        Stack.of_counts(centres, counts[1]),
        reach,
        limit if limit > 0 else len(points),
    )
    assert torch.equal(centre, plain[0])
    assert torch.equal(point, plain[1])


def test_interpolation_is_limited_to_the_first_points() -> None:
    """A point after the first thousand is ignored, however near it is."""
    points = torch.cat([torch.full((ops.MOST_NEIGHBOURS, 3), 0.5), torch.zeros(1, 3)])
    for order, expected in ((points, 0.5), (points.flip(0), 0.0)):
        for query in (
            ops.three_nn_in_cubes(
                order, [len(order)], torch.zeros(1, 3), [1], torch.zeros(1, 3), 1.0
            ),
            ops.three_nn_in_cubes_plain(
                Stack.of_counts(order, [len(order)]),
                Stack.of_counts(torch.zeros(1, 3), [1]),
                torch.zeros(1, 3),
                1.0,
                ops.MOST_NEIGHBOURS,
            ),
        ):
            assert query[2].tolist() == [ops.MOST_NEIGHBOURS]
            assert order[query[1][0, 0, 0], 0] == expected


@pytest.mark.parametrize(
    "query",
    [
        lambda *sets: ops.three_nn_in_cubes(*sets, ops.cell_offsets(1.0, (2, 2, 2)), 1.0),
        lambda *sets: ops.first_in_cells(*sets, 1.0, (2, 2, 2)),
        lambda *sets: ops.cube_pairs(*sets, 1.0),
    ],
)
def test_inputs_are_unchanged(query) -> None:
    points = cloud(6, 50)
    centres = cloud(7, 5)
    before = points.clone(), centres.clone()
    query(points, [50], centres, [5])
    assert torch.equal(points, before[0])
    assert torch.equal(centres, before[1])
