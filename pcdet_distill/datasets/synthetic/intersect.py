"""Where a ray meets a convex piece: the compiled inner loop of the simulated LiDAR.

A ray is ``origin + t * direction``; every function answers (t_in, t_out, surface, normal x, y, z) with t_in = inf for a
miss. Normals belong to the frame the ray is given in. Rays that start inside a piece are reported as misses: nothing
stands on the sensor.
"""

from __future__ import annotations

import numba
import numpy as np

from .shapes import CYLINDER, ELLIPSOID, POLYTOPE

_MISS = (np.inf, np.inf, 0, 0.0, 0.0, 0.0)


@numba.njit(cache=True)
def hit_polytope(params, count, ox, oy, oz, dx, dy, dz):
    """Clip the ray by ``count`` half spaces (nx, ny, nz, d)."""
    t_in, t_out, surface = -np.inf, np.inf, 0
    for plane in range(count):
        nx, ny, nz = params[4 * plane], params[4 * plane + 1], params[4 * plane + 2]
        gap = params[4 * plane + 3] - (nx * ox + ny * oy + nz * oz)
        speed = nx * dx + ny * dy + nz * dz
        if speed < 0.0:
            t = gap / speed
            if t > t_in:
                t_in, surface = t, plane
        elif speed > 0.0:
            t_out = min(t_out, gap / speed)
        elif gap < 0.0:
            return _MISS
    if t_in >= t_out or t_in <= 0.0:
        return _MISS
    return (
        t_in,
        t_out,
        surface,
        params[4 * surface],
        params[4 * surface + 1],
        params[4 * surface + 2],
    )


@numba.njit(cache=True)
def hit_ellipsoid(params, ox, oy, oz, dx, dy, dz):
    """Solve |M (origin + t direction - centre)| = 1."""
    px, py, pz = ox - params[0], oy - params[1], oz - params[2]
    a = b = 0.0
    c = -1.0
    for row in range(3):
        m0, m1, m2 = params[3 + 3 * row], params[4 + 3 * row], params[5 + 3 * row]
        along = m0 * dx + m1 * dy + m2 * dz
        start = m0 * px + m1 * py + m2 * pz
        a += along * along
        b += along * start
        c += start * start
    root = b * b - a * c
    if root <= 0.0 or c <= 0.0 or b >= 0.0:
        return _MISS
    root = np.sqrt(root)
    t_in, t_out = (-b - root) / a, (-b + root) / a
    qx, qy, qz = px + t_in * dx, py + t_in * dy, pz + t_in * dz
    nx = ny = nz = 0.0
    for row in range(3):
        m0, m1, m2 = params[3 + 3 * row], params[4 + 3 * row], params[5 + 3 * row]
        value = m0 * qx + m1 * qy + m2 * qz
        nx, ny, nz = nx + m0 * value, ny + m1 * value, nz + m2 * value
    return t_in, t_out, 0, nx, ny, nz


@numba.njit(cache=True)
def hit_cylinder(params, ox, oy, oz, dx, dy, dz):
    """Clip the ray by the round side and by the two flat ends."""
    px, py, pz = ox - params[0], oy - params[1], oz - params[2]
    ax, ay, az, half, radius = params[3], params[4], params[5], params[6], params[7]
    height, rise = px * ax + py * ay + pz * az, dx * ax + dy * ay + dz * az
    qx, qy, qz = px - height * ax, py - height * ay, pz - height * az
    ux, uy, uz = dx - rise * ax, dy - rise * ay, dz - rise * az
    a, b = ux * ux + uy * uy + uz * uz, ux * qx + uy * qy + uz * qz
    c = qx * qx + qy * qy + qz * qz - radius * radius
    t_in, t_out = -np.inf, np.inf
    if a > 1e-12:
        root = b * b - a * c
        if root <= 0.0:
            return _MISS
        root = np.sqrt(root)
        t_in, t_out = (-b - root) / a, (-b + root) / a
    elif c > 0.0:
        return _MISS
    on_end = False
    if abs(rise) > 1e-12:
        first, last = (-half - height) / rise, (half - height) / rise
        if first > last:
            first, last = last, first
        on_end = first > t_in
        t_in, t_out = max(t_in, first), min(t_out, last)
    elif abs(height) > half:
        return _MISS
    if t_in >= t_out or t_in <= 0.0:
        return _MISS
    if on_end:
        return t_in, t_out, 0, ax, ay, az
    return t_in, t_out, 0, qx + t_in * ux, qy + t_in * uy, qz + t_in * uz


@numba.njit(cache=True)
def hit_piece(kind, params, count, ox, oy, oz, dx, dy, dz):
    """The same for a piece of any kind."""
    if kind == POLYTOPE:
        return hit_polytope(params, count, ox, oy, oz, dx, dy, dz)
    if kind == ELLIPSOID:
        return hit_ellipsoid(params, ox, oy, oz, dx, dy, dz)
    assert kind == CYLINDER
    return hit_cylinder(params, ox, oy, oz, dx, dy, dz)


@numba.njit(cache=True)
def crosses_box(half_x, half_y, height, ox, oy, oz, dx, dy, dz, furthest):
    """Whether the ray meets the box |x| <= half_x, |y| <= half_y, 0 <= z <= height before ``furthest``."""
    t_in, t_out = 0.0, furthest
    for low, high, o, d in (
        (-half_x, half_x, ox, dx),
        (-half_y, half_y, oy, dy),
        (0.0, height, oz, dz),
    ):
        if abs(d) < 1e-12:
            if o < low or o > high:
                return False
        else:
            first, last = (low - o) / d, (high - o) / d
            t_in, t_out = max(t_in, min(first, last)), min(t_out, max(first, last))
    return t_in <= t_out
