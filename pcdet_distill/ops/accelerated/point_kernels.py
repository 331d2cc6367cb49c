"""Numba kernels for points on the CPU: furthest points, balls, three nearest, neighbouring voxels, scattered rows.

Sets of points come stacked: the points of all items one after the other, and ``starts`` (items + 1,) says where each
item begins. Coordinates of large sets are three rows (3, N), so that the inner loops run over contiguous memory: they
walk in chunks that are first looked at as a whole, which the compiler turns into vector instructions, and only chunks
with a hit are searched point by point. All arithmetic is float32 in the reference's order of operations.

Kernels are single-threaded, so the answer does not depend on the number of threads.
"""

from __future__ import annotations

import numba
import numpy as np

CHUNK = 128
FAR_M2 = np.float32(1e10)  # what the reference starts its smallest distances with


@numba.njit(cache=True)
def _approach(points, px, py, pz, nearest):
    """Lower ``nearest`` (n,) to the squared distances of ``points`` (3, n) from one point."""
    x, y, z = points[0], points[1], points[2]
    for k in range(nearest.shape[0]):
        dx, dy, dz = x[k] - px, y[k] - py, z[k] - pz
        distance = dx * dx + dy * dy + dz * dz
        nearest[k] = distance if distance < nearest[k] else nearest[k]


@numba.njit(cache=True)
def furthest_points(points, count):
    """Positions (count,) int64 of the greedy furthest points of (3, N) float32; the first of equal ones wins."""
    total = points.shape[1]
    nearest = np.full(total, FAR_M2, np.float32)
    # Floats that are not negative are ordered like their bits, and the largest integer is found with vectors.
    bits = nearest.view(np.int32)
    chosen = np.zeros(count, np.int64)
    last = 0
    for step in range(1, count):
        px, py, pz = points[0, last], points[1, last], points[2, last]
        best, best_start = np.int32(-1), 0
        for start in range(0, total, CHUNK):
            _approach(points[:, start : start + CHUNK], px, py, pz, nearest[start : start + CHUNK])
            top = np.int32(-1)
            for value in bits[start : start + CHUNK]:
                top = value if value > top else top
            if top > best:
                best, best_start = top, start
        last = best_start
        while bits[last] != best:
            last += 1
        chosen[step] = last
    return chosen


@numba.njit(cache=True)
def _nearer_than(points, px, py, pz, limit):
    """How many of ``points`` (3, n) are nearer to a point than the square root of ``limit``."""
    x, y, z = points[0], points[1], points[2]
    hits = 0
    for k in range(x.shape[0]):
        dx, dy, dz = x[k] - px, y[k] - py, z[k] - pz
        hits += dx * dx + dy * dy + dz * dz < limit
    return hits


@numba.njit(cache=True)
def ball_neighbours(
    points, point_starts, centres, centre_starts, radius_squared, neighbours, found
):
    """The first points (3, N) of its item within each centre's (M, 3) ball.

    Writes rows of ``points`` to ``neighbours`` (M, K) int64, unused slots stay; their number to ``found`` (M,) int64.
    """
    limit = neighbours.shape[1]
    for item in range(point_starts.shape[0] - 1):
        first, end = point_starts[item], point_starts[item + 1]
        for m in range(centre_starts[item], centre_starts[item + 1]):
            px, py, pz = centres[m, 0], centres[m, 1], centres[m, 2]
            count = 0
            for start in range(first, end, CHUNK):
                stop = min(start + CHUNK, end)
                if _nearer_than(points[:, start:stop], px, py, pz, radius_squared) == 0:
                    continue
                for k in range(start, stop):
                    dx, dy, dz = points[0, k] - px, points[1, k] - py, points[2, k] - pz
                    if dx * dx + dy * dy + dz * dz < radius_squared and count < limit:
                        neighbours[m, count] = k
                        count += 1
                if count == limit:
                    break
            found[m] = count


@numba.njit(cache=True)
def three_nearest(points, point_starts, known, known_starts, rows, squared):
    """The three nearest of ``known`` (3, M) of its item to each of ``points`` (N, 3); the first of equal ones wins.

    Writes ``rows`` (N, 3) int64 of ``known`` and ``squared`` (N, 3) float32 distances; where an item knows fewer than
    three, what was in ``rows`` stays, at infinite distance.
    """
    infinite = np.float32(np.inf)
    for item in range(point_starts.shape[0] - 1):
        first, end = known_starts[item], known_starts[item + 1]
        for n in range(point_starts[item], point_starts[item + 1]):
            px, py, pz = points[n, 0], points[n, 1], points[n, 2]
            best, second, third = infinite, infinite, infinite
            for start in range(first, end, CHUNK):
                stop = min(start + CHUNK, end)
                if _nearer_than(known[:, start:stop], px, py, pz, third) == 0:
                    continue
                for k in range(start, stop):
                    dx, dy, dz = px - known[0, k], py - known[1, k], pz - known[2, k]
                    distance = dx * dx + dy * dy + dz * dz
                    if distance < best:
                        best, second, third = distance, best, second
                        rows[n, 0], rows[n, 1], rows[n, 2] = k, rows[n, 0], rows[n, 1]
                    elif distance < second:
                        second, third = distance, second
                        rows[n, 1], rows[n, 2] = k, rows[n, 1]
                    elif distance < third:
                        third = distance
                        rows[n, 2] = k
            squared[n, 0], squared[n, 1], squared[n, 2] = best, second, third


@numba.njit(cache=True)
def voxel_neighbours(
    row_starts,
    voxels_x,
    voxel_rows,
    voxels,
    shape,
    centres,
    cells,
    reach,
    radius_squared,
    neighbours,
    found,
):
    """The first voxels around each cell, in ascending z, y, x, whose centres lie within a ball (its surface included).

    Args:
        row_starts: (B * Z * Y + 1,) where each line of voxels along x begins in ``voxels_x``.
        voxels_x, voxel_rows: (N,) x index and row of every voxel, ordered by line and x.
        voxels: (N, 3) float32 centres.
        shape: (3,) Z, Y, X.
        centres, cells: (M, 3) float32 positions and (M, 4) int64 frame, z, y, x of the queries.
        reach: (3,) how many cells to look along z, y, x.
        neighbours, found: (M, K) and (M,) int64, written to.
    """
    depth, height = shape[0], shape[1]
    limit = neighbours.shape[1]
    for m in range(centres.shape[0]):
        frame, z, y, x = cells[m, 0], cells[m, 1], cells[m, 2], cells[m, 3]
        count = 0
        for line_z in range(max(z - reach[0], 0), min(z + reach[0], depth - 1) + 1):
            for line_y in range(max(y - reach[1], 0), min(y + reach[1], height - 1) + 1):
                line = (frame * depth + line_z) * height + line_y
                start, stop = row_starts[line], row_starts[line + 1]
                at = start + np.searchsorted(voxels_x[start:stop], x - reach[2])
                while at < stop and voxels_x[at] <= x + reach[2] and count < limit:
                    row = voxel_rows[at]
                    dx, dy, dz = (
                        voxels[row, 0] - centres[m, 0],
                        voxels[row, 1] - centres[m, 1],
                        voxels[row, 2] - centres[m, 2],
                    )
                    if dx * dx + dy * dy + dz * dz <= radius_squared:
                        neighbours[m, count] = row
                        count += 1
                    at += 1
        found[m] = count


@numba.njit(cache=True)
def add_rows(rows, source, target):
    """``target[rows[r]] += source[r]`` for rows (R,) int64, source (R, C), target (N, C), in the order of r."""
    for r in range(rows.shape[0]):
        out, row = target[rows[r]], source[r]
        for c in range(row.shape[0]):
            out[c] += row[c]


@numba.njit(cache=True)
def segment_argmax(rows, ends):
    """Where (M, C) int64 the first of the largest values of each run of rows (R, C) stands; runs end at ends (M,)."""
    at = np.empty((ends.shape[0], rows.shape[1]), np.int64)
    start = 0
    for m in range(ends.shape[0]):
        best, where = rows[start].copy(), at[m]
        where[:] = start
        for r in range(start + 1, ends[m]):
            row = rows[r]
            for c in range(row.shape[0]):
                if row[c] > best[c]:
                    best[c] = row[c]
                    where[c] = r
        start = ends[m]
    return at
