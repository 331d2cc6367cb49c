"""Numba kernels for points on the CPU: furthest points, neighbours, sums and maxima of rows.

Sets of points are stacks: the points of all items one after the other, with the row at which each
item begins. A set that is searched has its coordinates as three rows (3, N), so that the inner
loops run over contiguous memory. The loops walk through it in chunks. A first pass over a chunk
finds out whether it has a hit at all; the compiler turns it into vector instructions. Only a chunk
with a hit is searched point by point.

All arithmetic is float32 in the reference's order of operations. Kernels are single-threaded, so
the result does not depend on the number of threads.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

CHUNK = 128
FAR_M2 = np.float32(1e10)  # what the reference starts its smallest distances with
INFINITE = np.float32(np.inf)

Point = tuple[float, float, float]


class Searched(NamedTuple):
    """A stack that is searched.

    Attributes:
        columns: (3, N) float32 x, y, z.
        starts: (items + 1,) int64.
    """

    columns: np.ndarray
    starts: np.ndarray


class Queries(NamedTuple):
    """A stack of places whose neighbours are wanted.

    Attributes:
        xyz: (M, 3) float32.
        starts: (items + 1,) int64.
    """

    xyz: np.ndarray
    starts: np.ndarray


@numba.njit(cache=True)
def point_at(points: np.ndarray, row: int) -> Point:
    """Coordinates of one of ``points`` (M, 3)."""
    return points[row, 0], points[row, 1], points[row, 2]


@numba.njit(cache=True)
def _approach(columns: np.ndarray, place: Point, nearest: np.ndarray) -> None:
    """Lower ``nearest`` (n,) to the squared distances of ``columns`` (3, n) from one place."""
    x, y, z = columns[0], columns[1], columns[2]
    for k in range(nearest.shape[0]):
        dx = x[k] - place[0]
        dy = y[k] - place[1]
        dz = z[k] - place[2]
        distance = dx * dx + dy * dy + dz * dz
        nearest[k] = distance if distance < nearest[k] else nearest[k]


@numba.njit(cache=True)
def furthest_points(columns: np.ndarray, count: int) -> np.ndarray:
    """Positions (count,) int64 of the greedily furthest points of ``columns`` (3, N) float32.

    Each step takes the point whose nearest chosen point is furthest away; the first of equal ones
    wins. The first point is position 0.
    """
    total = columns.shape[1]
    nearest = np.full(total, FAR_M2, np.float32)
    # Floats that are not negative have the order of their bits, and a maximum of integers is
    # vectorised, while one of floats is not because of NaN.
    bits = nearest.view(np.int32)
    chosen = np.zeros(count, np.int64)
    last = 0
    for step in range(1, count):
        place = columns[0, last], columns[1, last], columns[2, last]
        best = np.int32(-1)
        best_start = 0
        for start in range(0, total, CHUNK):
            stop = start + CHUNK
            _approach(columns[:, start:stop], place, nearest[start:stop])
            top = np.int32(-1)
            for value in bits[start:stop]:
                top = value if value > top else top
            if top > best:
                best = top
                best_start = start
        last = best_start
        while bits[last] != best:
            last += 1
        chosen[step] = last
    return chosen


@numba.njit(cache=True)
def _any_nearer(columns: np.ndarray, place: Point, limit: np.float32) -> bool:
    """Whether one of ``columns`` (3, n) has a squared distance from the place below ``limit``.

    Counts without a branch, which is faster than stopping at the first hit.
    """
    x, y, z = columns[0], columns[1], columns[2]
    hits = 0
    for k in range(x.shape[0]):
        dx = x[k] - place[0]
        dy = y[k] - place[1]
        dz = z[k] - place[2]
        hits += dx * dx + dy * dy + dz * dz < limit
    return hits > 0


@numba.njit(cache=True)
def _ball_members(
    columns: np.ndarray,
    first: int,
    end: int,
    place: Point,
    radius_squared: np.float32,
    members: np.ndarray,
) -> int:
    """Write the first points in a ball to ``members`` (K,) int64; returns how many.

    Args:
        columns: (3, N) of which ``first`` to ``end`` are searched.
        first: row.
        end: row after the last.
        place: the centre of the ball.
        radius_squared: points at this squared distance are outside.
        members: rows of points; the search stops when it is full.
    """
    limit = members.shape[0]
    count = 0
    for start in range(first, end, CHUNK):
        stop = min(start + CHUNK, end)
        if not _any_nearer(columns[:, start:stop], place, radius_squared):
            continue
        for k in range(start, stop):
            dx = columns[0, k] - place[0]
            dy = columns[1, k] - place[1]
            dz = columns[2, k] - place[2]
            if dx * dx + dy * dy + dz * dz < radius_squared and count < limit:
                members[count] = k
                count += 1
        if count == limit:
            break
    return count


@numba.njit(cache=True)
def ball_neighbours(
    points: Searched, centres: Queries, radius_squared: np.float32, limit: int
) -> tuple[np.ndarray, np.ndarray]:
    """The first points of its item in each centre's ball.

    Returns:
        rows (M, limit) int64 of ``points``, unused places 0; how many were found (M,) int64.
    """
    num_centres = centres.xyz.shape[0]
    rows = np.zeros((num_centres, limit), np.int64)
    found = np.zeros(num_centres, np.int64)
    for item in range(points.starts.shape[0] - 1):
        first = points.starts[item]
        end = points.starts[item + 1]
        for m in range(centres.starts[item], centres.starts[item + 1]):
            place = point_at(centres.xyz, m)
            found[m] = _ball_members(points.columns, first, end, place, radius_squared, rows[m])
    return rows, found


@numba.njit(cache=True)
def _three_nearest_to(
    columns: np.ndarray, first: int, end: int, place: Point, rows: np.ndarray, squared: np.ndarray
) -> None:
    """Write the three nearest to a place; a row that no point takes stays as it is.

    Args:
        columns: (3, N) of which ``first`` to ``end`` are searched.
        first: row.
        end: row after the last.
        place: the query.
        rows: (3,) int64, written to.
        squared: (3,) float32 distances, written to.
    """
    best = second = third = INFINITE
    for start in range(first, end, CHUNK):
        stop = min(start + CHUNK, end)
        if not _any_nearer(columns[:, start:stop], place, third):
            continue
        for k in range(start, stop):
            dx = place[0] - columns[0, k]
            dy = place[1] - columns[1, k]
            dz = place[2] - columns[2, k]
            distance = dx * dx + dy * dy + dz * dz
            if distance < best:
                best, second, third = distance, best, second
                rows[0], rows[1], rows[2] = k, rows[0], rows[1]
            elif distance < second:
                second, third = distance, second
                rows[1], rows[2] = k, rows[1]
            elif distance < third:
                third = distance
                rows[2] = k
    squared[0], squared[1], squared[2] = best, second, third


@numba.njit(cache=True)
def three_nearest(points: Queries, known: Searched) -> tuple[np.ndarray, np.ndarray]:
    """The three nearest of ``known`` of its item to each point; the first of equal ones wins.

    Returns:
        rows (N, 3) int64 of ``known``, squared distances (N, 3) float32. Where an item has fewer
        than three, the rest is its first row at infinite distance.
    """
    num_points = points.xyz.shape[0]
    rows = np.zeros((num_points, 3), np.int64)
    squared = np.empty((num_points, 3), np.float32)
    for item in range(points.starts.shape[0] - 1):
        first = known.starts[item]
        end = known.starts[item + 1]
        for n in range(points.starts[item], points.starts[item + 1]):
            rows[n] = first
            place = point_at(points.xyz, n)
            _three_nearest_to(known.columns, first, end, place, rows[n], squared[n])
    return rows, squared


class VoxelLines(NamedTuple):
    """Voxels sorted by line (frame, z, y) and, along it, by x.

    Attributes:
        starts: (B * Z * Y + 1,) int64, where each line begins.
        x: (N,) int64 x index of every voxel, sorted.
        rows: (N,) int64 row of every voxel, sorted.
        centres: (N, 3) float32, by row.
        shape: (3,) int64 Z, Y, X.
    """

    starts: np.ndarray
    x: np.ndarray
    rows: np.ndarray
    centres: np.ndarray
    shape: np.ndarray


@numba.njit(cache=True)
def _line_members(
    voxels: VoxelLines,
    line: int,
    x_range: tuple[int, int],
    place: Point,
    radius_squared: np.float32,
    members: np.ndarray,
    count: int,
) -> int:
    """Add the voxels of one line within a ball to the first ``count`` members; returns the count.

    Args:
        voxels: all voxels.
        line: which line along x.
        x_range: first and last x index.
        place: the centre of the ball.
        radius_squared: voxels at this squared distance are inside.
        members: (K,) int64 rows of voxels.
        count: members so far.
    """
    start = voxels.starts[line]
    stop = voxels.starts[line + 1]
    index = start + np.searchsorted(voxels.x[start:stop], x_range[0])
    while index < stop and voxels.x[index] <= x_range[1] and count < members.shape[0]:
        row = voxels.rows[index]
        dx = voxels.centres[row, 0] - place[0]
        dy = voxels.centres[row, 1] - place[1]
        dz = voxels.centres[row, 2] - place[2]
        if dx * dx + dy * dy + dz * dz <= radius_squared:
            members[count] = row
            count += 1
        index += 1
    return count


@numba.njit(cache=True)
def voxel_neighbours(
    voxels: VoxelLines,
    centres: np.ndarray,
    cells: np.ndarray,
    reach: np.ndarray,
    radius_squared: np.float32,
    limit: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The first voxels in a ball around each place, its surface included, by ascending z, y, x.

    Args:
        voxels: the voxels, sorted.
        centres: (M, 3) float32 places.
        cells: (M, 4) int64 frame, z, y, x of the places.
        reach: (3,) int64 cells to search on either side along z, y, x.
        radius_squared: of the ball.
        limit: voxels per place.

    Returns:
        rows (M, limit) int64, unused places 0; how many were found (M,) int64.
    """
    depth, height = voxels.shape[0], voxels.shape[1]
    neighbours = np.zeros((centres.shape[0], limit), np.int64)
    found = np.zeros(centres.shape[0], np.int64)
    for m in range(centres.shape[0]):
        frame, z, y, x = cells[m, 0], cells[m, 1], cells[m, 2], cells[m, 3]
        place = point_at(centres, m)
        x_range = x - reach[2], x + reach[2]
        count = 0
        for line_z in range(max(z - reach[0], 0), min(z + reach[0], depth - 1) + 1):
            for line_y in range(max(y - reach[1], 0), min(y + reach[1], height - 1) + 1):
                line = (frame * depth + line_z) * height + line_y
                count = _line_members(
                    voxels, line, x_range, place, radius_squared, neighbours[m], count
                )
        found[m] = count
    return neighbours, found


@numba.njit(cache=True)
def add_rows(rows: np.ndarray, source: np.ndarray, target: np.ndarray) -> None:
    """``target[rows[r]] += source[r]``, in the order of r.

    Args:
        rows: (R,) int64.
        source: (R, C).
        target: (N, C), changed in place.
    """
    for r in range(rows.shape[0]):
        out = target[rows[r]]
        row = source[r]
        for c in range(row.shape[0]):
            out[c] += row[c]


@numba.njit(cache=True)
def segment_argmax(rows: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Row (M, C) int64 of the first of the largest values in each run and channel.

    Args:
        rows: (R, C).
        ends: (M,) int64, the row after each run; no run is empty.
    """
    maxima = np.empty((ends.shape[0], rows.shape[1]), np.int64)
    start = 0
    for m in range(ends.shape[0]):
        best = rows[start].copy()
        best_row = maxima[m]
        best_row[:] = start
        for r in range(start + 1, ends[m]):
            row = rows[r]
            for c in range(row.shape[0]):
                if row[c] > best[c]:
                    best[c] = row[c]
                    best_row[c] = r
        start = ends[m]
    return maxima
