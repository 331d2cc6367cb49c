"""Where a ray meets a convex piece: the compiled inner loop of the simulated LiDAR.

A ray is ``origin + t * direction``. All vectors are tuples of three floats in the frame of the
piece. A ray that starts inside a piece counts as a miss: no object stands on the sensor.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numba
import numpy as np

from ..templates.shapes import CYLINDER, ELLIPSOID, POLYTOPE

Vector: TypeAlias = tuple[float, float, float]
PARALLEL = 1e-12  # below this a ray counts as parallel to a face or an axis


class Hit(NamedTuple):
    """How a ray passes through a piece.

    Attributes:
        t_in: where it enters; inf for a miss.
        t_out: where it leaves.
        face: number of the plane through which it enters a polytope, else 0.
        normal: of the surface where it enters, pointing outwards or inwards, of any length.
    """

    t_in: float
    t_out: float
    face: int
    normal: Vector


MISS = Hit(np.inf, np.inf, 0, (0.0, 0.0, 0.0))


@numba.njit(cache=True)
def dot(a: Vector, b: Vector) -> float:
    """Scalar product."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@numba.njit(cache=True)
def subtract(a: Vector, b: Vector) -> Vector:
    """``a - b``."""
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


@numba.njit(cache=True)
def add_scaled(a: Vector, factor: float, b: Vector) -> Vector:
    """``a + factor * b``."""
    return a[0] + factor * b[0], a[1] + factor * b[1], a[2] + factor * b[2]


@numba.njit(cache=True)
def vector_at(params: np.ndarray, start: int) -> Vector:
    """Three numbers of ``params`` from ``start`` on."""
    return params[start], params[start + 1], params[start + 2]


@numba.njit(cache=True)
def hit_polytope(params: np.ndarray, num_planes: int, origin: Vector, direction: Vector) -> Hit:
    """Clip the ray by half spaces (normal, d), each the points p with normal . p <= d."""
    t_in = -np.inf
    t_out = np.inf
    face = 0
    for plane in range(num_planes):
        normal = vector_at(params, 4 * plane)
        gap = params[4 * plane + 3] - dot(normal, origin)
        speed = dot(normal, direction)
        if speed < 0.0:  # the ray comes in through this plane
            t = gap / speed
            if t > t_in:
                t_in = t
                face = plane
        elif speed > 0.0:  # it goes out
            t_out = min(t_out, gap / speed)
        elif gap < 0.0:  # it runs along the plane, outside
            return MISS
    if t_in >= t_out or t_in <= 0.0:
        return MISS
    return Hit(t_in, t_out, face, vector_at(params, 4 * face))


@numba.njit(cache=True)
def hit_ellipsoid(params: np.ndarray, origin: Vector, direction: Vector) -> Hit:
    """Solve |M (origin + t direction - centre)| = 1; M maps the ellipsoid to the unit ball."""
    from_centre = subtract(origin, vector_at(params, 0))
    # a t^2 + 2 b t + c = 0
    a = 0.0
    b = 0.0
    c = -1.0
    for row in range(3):
        m = vector_at(params, 3 + 3 * row)
        speed = dot(m, direction)
        start = dot(m, from_centre)
        a += speed * speed
        b += speed * start
        c += start * start
    discriminant = b * b - a * c
    starts_inside = c <= 0.0
    points_away = b >= 0.0
    if discriminant <= 0.0 or starts_inside or points_away:
        return MISS
    root = np.sqrt(discriminant)
    t_in = (-b - root) / a
    entry = add_scaled(from_centre, t_in, direction)
    # The gradient of |M p|^2 is M' M p, up to a factor.
    normal = (0.0, 0.0, 0.0)
    for row in range(3):
        m = vector_at(params, 3 + 3 * row)
        normal = add_scaled(normal, dot(m, entry), m)
    return Hit(t_in, (-b + root) / a, 0, normal)


@numba.njit(cache=True)
def hit_cylinder(params: np.ndarray, origin: Vector, direction: Vector) -> Hit:
    """Clip the ray by the round side and by the two flat ends."""
    axis = vector_at(params, 3)
    half_length = params[6]
    radius = params[7]
    from_middle = subtract(origin, vector_at(params, 0))
    height = dot(from_middle, axis)
    rise = dot(direction, axis)
    # Parts across the axis: the round side is a circle for them.
    across = add_scaled(from_middle, -height, axis)
    across_speed = add_scaled(direction, -rise, axis)
    # a t^2 + 2 b t + c = 0
    a = dot(across_speed, across_speed)
    b = dot(across_speed, across)
    c = dot(across, across) - radius * radius
    t_in = -np.inf
    t_out = np.inf
    if a > PARALLEL:
        discriminant = b * b - a * c
        if discriminant <= 0.0:
            return MISS
        root = np.sqrt(discriminant)
        t_in = (-b - root) / a
        t_out = (-b + root) / a
    elif c > 0.0:  # along the axis, outside
        return MISS
    enters_by_end = False
    if abs(rise) > PARALLEL:
        first = (-half_length - height) / rise
        last = (half_length - height) / rise
        if first > last:
            first, last = last, first
        enters_by_end = first > t_in
        t_in = max(t_in, first)
        t_out = min(t_out, last)
    elif abs(height) > half_length:
        return MISS
    if t_in >= t_out or t_in <= 0.0:
        return MISS
    normal = axis if enters_by_end else add_scaled(across, t_in, across_speed)
    return Hit(t_in, t_out, 0, normal)


@numba.njit(cache=True)
def hit_piece(
    kind: int, params: np.ndarray, num_planes: int, origin: Vector, direction: Vector
) -> Hit:
    """The same for a piece of any kind."""
    if kind == POLYTOPE:
        return hit_polytope(params, num_planes, origin, direction)
    if kind == ELLIPSOID:
        return hit_ellipsoid(params, origin, direction)
    assert kind == CYLINDER
    return hit_cylinder(params, origin, direction)


@numba.njit(cache=True)
def crosses_box(size: np.ndarray, origin: Vector, direction: Vector, furthest: float) -> bool:
    """Whether the ray meets a template's bounding box before ``furthest``.

    The box is ``size`` long, wide and high, centred in x and y, and stands on z = 0.
    """
    half_length = size[0] / 2
    half_width = size[1] / 2
    t_in, t_out = _clip(0.0, furthest, origin[0], direction[0], -half_length, half_length)
    t_in, t_out = _clip(t_in, t_out, origin[1], direction[1], -half_width, half_width)
    t_in, t_out = _clip(t_in, t_out, origin[2], direction[2], 0.0, size[2])
    return t_in <= t_out


@numba.njit(cache=True)
def _clip(
    t_in: float, t_out: float, start: float, speed: float, low: float, high: float
) -> tuple[float, float]:
    """The part of ``t_in`` to ``t_out`` where ``low <= start + t * speed <= high``."""
    if abs(speed) < PARALLEL:
        return (t_in, t_out) if low <= start <= high else (np.inf, -np.inf)
    first = (low - start) / speed
    last = (high - start) / speed
    return max(t_in, min(first, last)), min(t_out, max(first, last))
