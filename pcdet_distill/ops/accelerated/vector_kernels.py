"""Numba kernels of vector pooling on the CPU: points in a cube, near its cells, and in its cells.

Stacks and their items are those of ``point_kernels``. A cube reaches ``reach`` metres from its
centre along every axis, its surface included. All arithmetic is float32 in the reference's order of
operations; kernels are single-threaded.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from .point_kernels import CHUNK, INFINITE, Point, Queries, Searched, point_at


class CellGrid(NamedTuple):
    """The cells of a cube.

    Attributes:
        sizes: (3,) float32 edges of a cell along x, y, z.
        shape: (3,) int64 cells along x, y, z; z runs fastest, then y.
    """

    sizes: np.ndarray
    shape: np.ndarray


@numba.njit(cache=True)
def _any_in_cube(columns: np.ndarray, place: Point, reach: float) -> bool:
    """Whether one of ``columns`` (3, n) lies in the cube around a place.

    Counts without a branch, so that the compiler can use vector instructions.
    """
    x, y, z = columns[0], columns[1], columns[2]
    hits = 0
    for k in range(x.shape[0]):
        in_x = abs(x[k] - place[0]) <= reach
        in_y = abs(y[k] - place[1]) <= reach
        in_z = abs(z[k] - place[2]) <= reach
        hits += in_x & in_y & in_z
    return hits > 0


@numba.njit(cache=True)
def _cube_members(
    columns: np.ndarray, first: int, end: int, place: Point, reach: float, members: np.ndarray
) -> int:
    """Write the first points in a cube to ``members`` (K,) int64; returns how many.

    Args:
        columns: (3, N) of which ``first`` to ``end`` are searched.
        first: row.
        end: row after the last.
        place: the centre of the cube.
        reach: of the cube.
        members: rows of points; the search stops when it is full.
    """
    limit = members.shape[0]
    count = 0
    for start in range(first, end, CHUNK):
        stop = min(start + CHUNK, end)
        if not _any_in_cube(columns[:, start:stop], place, reach):
            continue
        for k in range(start, stop):
            inside = (
                abs(columns[0, k] - place[0]) <= reach
                and abs(columns[1, k] - place[1]) <= reach
                and abs(columns[2, k] - place[2]) <= reach
            )
            if inside and count < limit:
                members[count] = k
                count += 1
        if count == limit:
            break
    return count


@numba.njit(cache=True)
def cube_pairs(
    points: Searched, centres: Queries, reach: float, limit: int
) -> tuple[np.ndarray, np.ndarray]:
    """All pairs in which a point lies in a centre's cube, ``limit`` points per centre at most.

    Two passes: the first one counts, so that the second one writes into arrays of the right size.

    Returns:
        rows of centres (R,) and of points (R,) int64, by centre.
    """
    members = np.empty(limit, np.int64)
    found = np.zeros(centres.xyz.shape[0], np.int64)
    for item in range(points.starts.shape[0] - 1):
        first = points.starts[item]
        end = points.starts[item + 1]
        for m in range(centres.starts[item], centres.starts[item + 1]):
            place = point_at(centres.xyz, m)
            found[m] = _cube_members(points.columns, first, end, place, reach, members)
    centre_rows = np.empty(found.sum(), np.int64)
    point_rows = np.empty(found.sum(), np.int64)
    start = 0
    for item in range(points.starts.shape[0] - 1):
        first = points.starts[item]
        end = points.starts[item + 1]
        for m in range(centres.starts[item], centres.starts[item + 1]):
            if found[m]:
                stop = start + found[m]
                place = point_at(centres.xyz, m)
                centre_rows[start:stop] = m
                _cube_members(points.columns, first, end, place, reach, point_rows[start:stop])
                start = stop
    return centre_rows, point_rows


@numba.njit(cache=True)
def _three_smallest(
    distances: np.ndarray, rows: np.ndarray, best_rows: np.ndarray, best: np.ndarray
) -> None:
    """Write the three smallest distances and their rows, the first of equal ones.

    Of fewer than three the smallest is repeated.

    Args:
        distances: (n,) float32, n > 0.
        rows: (n,) int64 of the distances.
        best_rows: (3,) int64, written to.
        best: (3,) float32, written to.
    """
    first = second = third = INFINITE
    a = b = c = -1
    for k in range(distances.shape[0]):
        distance = distances[k]
        if distance < third:
            if distance < first:
                first, second, third = distance, first, second
                a, b, c = k, a, b
            elif distance < second:
                second, third = distance, second
                b, c = k, b
            else:
                third = distance
                c = k
    if b < 0:
        b, second = a, first
    if c < 0:
        c, third = a, first
    best_rows[0], best_rows[1], best_rows[2] = rows[a], rows[b], rows[c]
    best[0], best[1], best[2] = first, second, third


@numba.njit(cache=True)
def _distances_from(place: Point, near: np.ndarray, distances: np.ndarray) -> None:
    """Write the squared ``distances`` (n,) of a place from points ``near`` (3, n)."""
    for k in range(distances.shape[0]):
        dx = place[0] - near[0, k]
        dy = place[1] - near[1, k]
        dz = place[2] - near[2, k]
        distances[k] = dx * dx + dy * dy + dz * dz


@numba.njit(cache=True)
def three_nearest_in_cube(
    points: Searched, centres: Queries, offsets: np.ndarray, reach: float, limit: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For every place around a centre, the three nearest of the points in the centre's cube.

    Args:
        points: the stack that is searched.
        centres: M centres of cubes.
        offsets: (G, 3) float32 from a centre to its places.
        reach: of the cube.
        limit: most points of a cube that take part, the first ones.

    Returns:
        rows (M, G, 3) int64 and squared distances (M, G, 3) float32, 0 and infinite for an empty
        cube; and how many points took part (M,) int64.
    """
    num_centres = centres.xyz.shape[0]
    rows = np.zeros((num_centres, offsets.shape[0], 3), np.int64)
    squared = np.full((num_centres, offsets.shape[0], 3), INFINITE, np.float32)
    found = np.zeros(num_centres, np.int64)
    members = np.empty(limit, np.int64)
    near = np.empty((3, limit), np.float32)
    distances = np.empty(limit, np.float32)
    for item in range(points.starts.shape[0] - 1):
        first = points.starts[item]
        end = points.starts[item + 1]
        for m in range(centres.starts[item], centres.starts[item + 1]):
            centre = point_at(centres.xyz, m)
            count = _cube_members(points.columns, first, end, centre, reach, members)
            found[m] = count
            if count == 0:
                continue
            for k in range(count):
                near[:, k] = points.columns[:, members[k]]
            for g in range(offsets.shape[0]):
                dx, dy, dz = point_at(offsets, g)
                place = centre[0] + dx, centre[1] + dy, centre[2] + dz
                _distances_from(place, near, distances[:count])
                _three_smallest(distances[:count], members, rows[m, g], squared[m, g])
    return rows, squared, found


@numba.njit(cache=True)
def _cell_along(offset: float, reach: float, size: float, cells: int) -> int:
    """Which of ``cells`` along one axis an offset from the centre falls into."""
    return min(max(int(np.floor((offset + reach) / size)), 0), cells - 1)


@numba.njit(cache=True)
def first_in_cells(
    points: Searched, centres: Queries, reach: float, grid: CellGrid, limit: int
) -> np.ndarray:
    """The first point in every cell of each centre's cube, until ``limit`` cells are filled.

    Returns:
        (M, cells) int64, -1 for an empty cell.
    """
    columns = points.columns
    sizes, shape = grid.sizes, grid.shape
    rows = np.full((centres.xyz.shape[0], shape[0] * shape[1] * shape[2]), -1, np.int64)
    members = np.empty(columns.shape[1], np.int64)
    for item in range(points.starts.shape[0] - 1):
        first = points.starts[item]
        end = points.starts[item + 1]
        for m in range(centres.starts[item], centres.starts[item + 1]):
            centre = point_at(centres.xyz, m)
            count = _cube_members(columns, first, end, centre, reach, members)
            filled = 0
            for k in members[:count]:
                x = _cell_along(columns[0, k] - centre[0], reach, sizes[0], shape[0])
                y = _cell_along(columns[1, k] - centre[1], reach, sizes[1], shape[1])
                z = _cell_along(columns[2, k] - centre[2], reach, sizes[2], shape[2])
                cell = (x * shape[1] + y) * shape[2] + z
                if rows[m, cell] < 0 and filled < limit:
                    rows[m, cell] = k
                    filled += 1
    return rows
