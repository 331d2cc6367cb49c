"""Numba kernels for the cubes of vector pooling on the CPU: who lies in a cube, near its sub-cells, in its cells.

Points come stacked as in ``point_kernels``: three rows (3, N), and ``starts`` (items + 1,) where each item begins. A
cube reaches ``reach`` metres from its centre along every axis, its surface included. All arithmetic is float32 in the
reference's order of operations; kernels are single-threaded.
"""

from __future__ import annotations

import numba
import numpy as np

from .point_kernels import CHUNK


@numba.njit(cache=True)
def _count_in_cube(points, px, py, pz, reach):
    """How many of ``points`` (3, n) lie in the cube around a place; a loop that the compiler turns into vectors."""
    x, y, z = points[0], points[1], points[2]
    hits = 0
    for k in range(x.shape[0]):
        hits += (abs(x[k] - px) <= reach) & (abs(y[k] - py) <= reach) & (abs(z[k] - pz) <= reach)
    return hits


@numba.njit(cache=True)
def _cube_members(points, first, end, px, py, pz, reach, members):
    """Write the first points of ``first`` to ``end`` in a cube to ``members`` (limit,) int64; returns how many."""
    limit = members.shape[0]
    count = 0
    for start in range(first, end, CHUNK):
        stop = min(start + CHUNK, end)
        if _count_in_cube(points[:, start:stop], px, py, pz, reach) == 0:
            continue
        for k in range(start, stop):
            inside = (
                abs(points[0, k] - px) <= reach
                and abs(points[1, k] - py) <= reach
                and abs(points[2, k] - pz) <= reach
            )
            if inside and count < limit:
                members[count] = k
                count += 1
        if count == limit:
            break
    return count


@numba.njit(cache=True)
def cube_pairs(points, point_starts, centres, centre_starts, reach, limit):
    """Centres (R,) and points (R,) int64 of all pairs in which the point lies in the centre's cube, by centre.

    A centre (M, 3) takes the first ``limit`` points (3, N) of its item.
    """
    members = np.empty(limit, np.int64)
    found = np.zeros(centres.shape[0], np.int64)
    for item in range(point_starts.shape[0] - 1):
        for m in range(centre_starts[item], centre_starts[item + 1]):
            found[m] = _cube_members(
                points,
                point_starts[item],
                point_starts[item + 1],
                centres[m, 0],
                centres[m, 1],
                centres[m, 2],
                reach,
                members,
            )
    total = found.sum()
    centre, point = np.empty(total, np.int64), np.empty(total, np.int64)
    at = 0
    for item in range(point_starts.shape[0] - 1):
        for m in range(centre_starts[item], centre_starts[item + 1]):
            if found[m]:
                stop = at + found[m]
                centre[at:stop] = m
                _cube_members(
                    points,
                    point_starts[item],
                    point_starts[item + 1],
                    centres[m, 0],
                    centres[m, 1],
                    centres[m, 2],
                    reach,
                    point[at:stop],
                )
                at = stop
    return centre, point


@numba.njit(cache=True)
def _three_smallest(distances, rows, best_rows, best):
    """The three smallest of ``distances`` (n,), the first of equal ones; fewer than three repeat the smallest."""
    first = second = third = np.float32(np.inf)
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
def three_nearest_in_cube(
    points, point_starts, centres, centre_starts, offsets, reach, limit, rows, squared, found
):
    """For every place of a centre, the three nearest of the first ``limit`` points in the centre's cube.

    Args:
        offsets: (G, 3) float32 from a centre (M, 3) to its places.
        rows, squared: (M, G, 3) int64 and float32, written to where the cube is not empty.
        found: (M,) int64, written to: points in the cube.
    """
    members = np.empty(limit, np.int64)
    near = np.empty((3, limit), np.float32)
    distances = np.empty(limit, np.float32)
    for item in range(point_starts.shape[0] - 1):
        for m in range(centre_starts[item], centre_starts[item + 1]):
            px, py, pz = centres[m, 0], centres[m, 1], centres[m, 2]
            count = _cube_members(
                points, point_starts[item], point_starts[item + 1], px, py, pz, reach, members
            )
            found[m] = count
            if count == 0:
                continue
            for k in range(count):
                row = members[k]
                near[0, k], near[1, k], near[2, k] = points[0, row], points[1, row], points[2, row]
            for place in range(offsets.shape[0]):
                x, y, z = px + offsets[place, 0], py + offsets[place, 1], pz + offsets[place, 2]
                for k in range(count):
                    dx, dy, dz = x - near[0, k], y - near[1, k], z - near[2, k]
                    distances[k] = dx * dx + dy * dy + dz * dz
                _three_smallest(distances[:count], members, rows[m, place], squared[m, place])


@numba.njit(cache=True)
def _cell_along(offset, reach, size, cells):
    """Which of ``cells`` along one axis an offset from the centre falls into."""
    return min(max(int(np.floor((offset + reach) / size)), 0), cells - 1)


@numba.njit(cache=True)
def first_in_cells(points, point_starts, centres, centre_starts, reach, sizes, shape, limit, rows):
    """The first point in every cell of each centre's cube, until ``limit`` cells are filled.

    Args:
        sizes, shape: (3,) float32 edges of a cell and (3,) int64 cells along x, y, z.
        rows: (M, cells) int64, written to where a cell is filled; z runs fastest, then y.
    """
    members = np.empty(points.shape[1], np.int64)
    for item in range(point_starts.shape[0] - 1):
        for m in range(centre_starts[item], centre_starts[item + 1]):
            px, py, pz = centres[m, 0], centres[m, 1], centres[m, 2]
            count = _cube_members(
                points, point_starts[item], point_starts[item + 1], px, py, pz, reach, members
            )
            filled = 0
            for k in members[:count]:
                cell = _cell_along(points[0, k] - px, reach, sizes[0], shape[0])
                cell = cell * shape[1] + _cell_along(points[1, k] - py, reach, sizes[1], shape[1])
                cell = cell * shape[2] + _cell_along(points[2, k] - pz, reach, sizes[2], shape[2])
                if rows[m, cell] < 0 and filled < limit:
                    rows[m, cell] = k
                    filled += 1
