"""The voxelizer against hand-made numbers and a plain Python loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdet_distill.ops.voxels import grid_size_of, voxelize

RANGE = [0, 0, 0, 4, 2, 2]
SIZE = [1, 1, 1]


def points_of(*xyz: tuple[float, float, float]) -> np.ndarray:
    """Points with their own number as intensity."""
    return np.array(
        [(*point, number) for number, point in enumerate(xyz)], dtype=np.float32
    ).reshape(-1, 4)


def slow_voxels(points: np.ndarray, limits, size, max_points: int, max_voxels: int):
    """The rule, said in dictionaries."""
    lower, size = np.float32(limits[:3]), np.float32(size)
    grid = np.round((np.float32(limits[3:]) - lower) / size)
    rows: dict[tuple, list] = {}
    for point in points:
        cell = np.floor((point[:3] - lower) / size)
        if not ((cell >= 0) & (cell < grid)).all():
            continue
        key = tuple(int(value) for value in cell[::-1])
        if key in rows or len(rows) < max_voxels:
            rows.setdefault(key, []).append(point)
    voxels = np.zeros((len(rows), max_points, points.shape[1]), dtype=np.float32)
    for row, members in enumerate(rows.values()):
        for slot, point in enumerate(members[:max_points]):
            voxels[row, slot] = point
    counts = [min(len(members), max_points) for members in rows.values()]
    return (
        voxels,
        np.array(list(rows), dtype=np.int32).reshape(-1, 3),
        np.array(counts, dtype=np.int32),
    )


def test_rows_come_in_the_order_of_first_points() -> None:
    points = points_of((2.5, 1.5, 0.5), (0.5, 0.5, 1.5), (2.1, 1.1, 0.1))
    voxels, coords, num_points = voxelize(points, RANGE, SIZE, 3, 9)
    assert coords.tolist() == [[0, 1, 2], [1, 0, 0]]
    assert num_points.tolist() == [2, 1]
    assert voxels[:, :, 3].tolist() == [[0, 2, 0], [1, 0, 0]]
    assert (voxels.dtype, coords.dtype, num_points.dtype) == (np.float32, np.int32, np.int32)


def test_lower_border_is_inside_and_upper_outside() -> None:
    _, coords, _ = voxelize(
        points_of((0, 0, 0), (4, 1, 1), (1, 2, 1), (1, 1, 2), (-1e-6, 1, 1)), RANGE, SIZE, 2, 9
    )
    assert coords.tolist() == [[0, 0, 0]]


def test_full_voxel_drops_later_points() -> None:
    voxels, _, num_points = voxelize(points_of(*[(0.5, 0.5, 0.5)] * 5), RANGE, SIZE, 2, 9)
    assert num_points.tolist() == [2]
    assert voxels[0, :, 3].tolist() == [0, 1]


def test_open_voxels_fill_on_after_the_limit() -> None:
    points = points_of((0.5, 0.5, 0.5), (1.5, 0.5, 0.5), (2.5, 0.5, 0.5), (0.6, 0.5, 0.5))
    voxels, coords, num_points = voxelize(points, RANGE, SIZE, 3, 2)
    assert coords.tolist() == [[0, 0, 0], [0, 0, 1]]
    assert num_points.tolist() == [2, 1]
    assert voxels[0, :2, 3].tolist() == [0, 3]


def test_nan_and_infinite_points_are_dropped() -> None:
    points = points_of((np.nan, 0.5, 0.5), (0.5, np.inf, 0.5), (0.5, 0.5, -np.inf), (0.5, 0.5, 0.5))
    voxels, _, _ = voxelize(points, RANGE, SIZE, 3, 9)
    assert voxels.shape == (1, 3, 4)
    assert voxels[0, 0, 3] == 3


@pytest.mark.parametrize("points", [np.zeros((0, 4), np.float32), points_of((9, 9, 9))])
def test_nothing_inside(points: np.ndarray) -> None:
    voxels, coords, num_points = voxelize(points, RANGE, SIZE, 5, 9)
    assert (voxels.shape, coords.shape, num_points.shape) == ((0, 5, 4), (0, 3), (0,))


def test_input_is_left_alone_and_may_be_a_view() -> None:
    wide = np.random.RandomState(0).uniform(0, 2, (50, 8)).astype(np.float32)
    before = wide.copy()
    from_view = voxelize(wide[:, ::2], RANGE, SIZE, 4, 9)
    from_copy = voxelize(wide[:, ::2].copy(), RANGE, SIZE, 4, 9)
    np.testing.assert_array_equal(wide, before)
    for one, other in zip(from_view, from_copy):
        np.testing.assert_array_equal(one, other)


def test_grid_size_rounds() -> None:
    assert grid_size_of([0, -39.68, -3, 69.12, 39.68, 1], [0.16, 0.16, 4]).tolist() == [432, 496, 1]
    assert grid_size_of([0, -40, -3, 70.4, 40, 1], [0.05, 0.05, 0.1]).tolist() == [1408, 1600, 40]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    count=st.integers(0, 300),
    max_points=st.integers(1, 6),
    max_voxels=st.integers(1, 40),
)
def test_equals_the_plain_loop(seed: int, count: int, max_points: int, max_voxels: int) -> None:
    random = np.random.RandomState(seed)
    points = random.uniform(-1, 5, (count, 5)).astype(np.float32).round(1)
    limits = [0, -1, 0, 4, 3, 2]
    size = [0.5, 0.4, 1.0]
    ours = voxelize(points, limits, size, max_points, max_voxels)
    slow = slow_voxels(points, limits, size, max_points, max_voxels)
    for one, other in zip(ours, slow):
        np.testing.assert_array_equal(one, other)
