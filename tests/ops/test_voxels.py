"""The voxelizer against hand-made numbers and a plain Python loop."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdet_distill.ops.voxels import grid_size_of, voxelize

# Four cells along x, two along y, two along z.
RANGE = [0, 0, 0, 4, 2, 2]
SIZE = [1, 1, 1]


class Voxels(NamedTuple):
    """What ``voxelize`` returns: point slots (M, T, C), cells z, y, x (M, 3), point counts (M,)."""

    points: np.ndarray
    coords: np.ndarray
    counts: np.ndarray

    @property
    def point_numbers(self) -> list[list[float]]:
        """The numbers of the points in each voxel; 0 in an empty slot too."""
        return self.points[:, :, 3].tolist()


def numbered(*places: tuple[float, float, float]) -> np.ndarray:
    """Points with their own number as intensity."""
    rows = [(*place, number) for number, place in enumerate(places)]
    return np.array(rows, dtype=np.float32).reshape(-1, 4)


def voxels_of(points: np.ndarray, max_points: int = 3, max_voxels: int = 9) -> Voxels:
    return Voxels(*voxelize(points, RANGE, SIZE, max_points, max_voxels))


def slow_voxels(
    points: np.ndarray, limits: list[float], size: list[float], max_points: int, max_voxels: int
) -> Voxels:
    """The rule, said with a dictionary: members of a cell in the order of the points."""
    lower = np.float32(limits[:3])
    upper = np.float32(limits[3:])
    size = np.float32(size)
    grid = np.round((upper - lower) / size)
    members_of: dict[tuple, list] = {}
    for point in points:
        cell_xyz = np.floor((point[:3] - lower) / size)
        if (cell_xyz < 0).any() or (cell_xyz >= grid).any():
            continue
        x, y, z = cell_xyz.astype(int).tolist()
        cell = (z, y, x)
        if cell not in members_of and len(members_of) == max_voxels:
            continue
        members_of.setdefault(cell, []).append(point)

    slots = np.zeros((len(members_of), max_points, points.shape[1]), dtype=np.float32)
    counts = np.zeros(len(members_of), dtype=np.int32)
    for row, members in enumerate(members_of.values()):
        counts[row] = min(len(members), max_points)
        for slot in range(counts[row]):
            slots[row, slot] = members[slot]
    coords = np.array(list(members_of), dtype=np.int32).reshape(-1, 3)
    return Voxels(slots, coords, counts)


def test_rows_come_in_the_order_of_first_points() -> None:
    voxels = voxels_of(numbered((2.5, 1.5, 0.5), (0.5, 0.5, 1.5), (2.1, 1.1, 0.1)))
    assert voxels.coords.tolist() == [[0, 1, 2], [1, 0, 0]]
    assert voxels.counts.tolist() == [2, 1]
    assert voxels.point_numbers == [[0, 2, 0], [1, 0, 0]]


def test_types_of_the_results() -> None:
    voxels = voxels_of(numbered((0.5, 0.5, 0.5)))
    assert voxels.points.dtype == np.float32
    assert voxels.coords.dtype == np.int32
    assert voxels.counts.dtype == np.int32


def test_the_lower_border_is_inside() -> None:
    assert voxels_of(numbered((0, 0, 0))).coords.tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("place", [(4, 1, 1), (1, 2, 1), (1, 1, 2), (-1e-6, 1, 1)])
def test_the_upper_border_is_outside(place: tuple[float, float, float]) -> None:
    assert len(voxels_of(numbered(place)).coords) == 0


def test_full_voxel_drops_later_points() -> None:
    place = (0.5, 0.5, 0.5)
    voxels = voxels_of(numbered(place, place, place, place, place), max_points=2)
    assert voxels.counts.tolist() == [2]
    assert voxels.point_numbers == [[0, 1]]


def test_open_voxels_fill_on_after_the_limit() -> None:
    """The third point would need a third voxel; the fourth lies in the first one."""
    points = numbered((0.5, 0.5, 0.5), (1.5, 0.5, 0.5), (2.5, 0.5, 0.5), (0.6, 0.5, 0.5))
    voxels = voxels_of(points, max_voxels=2)
    assert voxels.coords.tolist() == [[0, 0, 0], [0, 0, 1]]
    assert voxels.counts.tolist() == [2, 1]
    assert voxels.point_numbers == [[0, 3, 0], [1, 0, 0]]


def test_nan_and_infinite_points_are_dropped() -> None:
    points = numbered(
        (np.nan, 0.5, 0.5),
        (0.5, np.inf, 0.5),
        (0.5, 0.5, -np.inf),
        (0.5, 0.5, 0.5),
    )
    voxels = voxels_of(points)
    assert voxels.points.shape == (1, 3, 4)
    assert voxels.point_numbers == [[3, 0, 0]]


@pytest.mark.parametrize("points", [np.zeros((0, 4), np.float32), numbered((9, 9, 9))])
def test_nothing_inside(points: np.ndarray) -> None:
    voxels = voxels_of(points, max_points=5)
    assert voxels.points.shape == (0, 5, 4)
    assert voxels.coords.shape == (0, 3)
    assert voxels.counts.shape == (0,)


def test_input_is_left_alone_and_may_be_a_view() -> None:
    wide = np.random.RandomState(0).uniform(0, 2, (50, 8)).astype(np.float32)
    before = wide.copy()
    every_second_column = wide[:, ::2]
    from_view = voxels_of(every_second_column)
    from_copy = voxels_of(every_second_column.copy())
    np.testing.assert_array_equal(wide, before)
    for of_view, of_copy in zip(from_view, from_copy):
        np.testing.assert_array_equal(of_view, of_copy)


def test_grid_size_rounds() -> None:
    pillars = grid_size_of([0, -39.68, -3, 69.12, 39.68, 1], [0.16, 0.16, 4])
    voxels = grid_size_of([0, -40, -3, 70.4, 40, 1], [0.05, 0.05, 0.1])
    assert pillars.tolist() == [432, 496, 1]
    assert voxels.tolist() == [1408, 1600, 40]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    count=st.integers(0, 300),
    max_points=st.integers(1, 6),
    max_voxels=st.integers(1, 40),
)
def test_equals_the_plain_loop(seed: int, count: int, max_points: int, max_voxels: int) -> None:
    """Rounded coordinates, so that points lie on borders of cells."""
    random = np.random.RandomState(seed)
    points = random.uniform(-1, 5, (count, 5)).astype(np.float32).round(1)
    limits = [0, -1, 0, 4, 3, 2]
    size = [0.5, 0.4, 1.0]
    found = voxelize(points, limits, size, max_points, max_voxels)
    expected = slow_voxels(points, limits, size, max_points, max_voxels)
    for found_array, expected_array in zip(found, expected):
        np.testing.assert_array_equal(found_array, expected_array)
