"""Casts rays into a scene: the compiled loop over objects, and what a ray does in each material.

Everything random about a ray is a hash of (seed, ray, piece). So the result does not depend on the
order in which objects are visited.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from ..templates.materials import DENSITY, INTERIOR, OPACITY
from ..templates.shapes import Shapes
from .intersect import Hit, Vector, crosses_box, dot, hit_piece

WINDOW_MARGIN_RAD = 0.004  # more than the uneven spacing of the rays
TURN_MARGIN_RAD = 0.01  # more than a window's edge bends between two of its points below
TURN_STEPS = 16  # points along an edge of a window that is turned
STEEP_RAD = 1.4  # a window that reaches so far up or down is not turned: all rays are tried
SALT_PER_OBJECT = 1000  # more than the pieces of all templates


class Instances(NamedTuple):
    """The objects of a scene, in the sensor's frame.

    Attributes:
        template: (N,) row in the table of templates.
        poses: (N, 4) x, y, z of the bottom centre in metres, and yaw in radians.
        sizes_m: (N, 3) length, width, height.
        shade: (N,) a factor on every albedo.
        counted: (N,) bool, whether rays are counted that would meet the object if it stood alone.
    """

    template: np.ndarray
    poses: np.ndarray
    sizes_m: np.ndarray
    shade: np.ndarray
    counted: np.ndarray


class RangeImage(NamedTuple):
    """What each ray of a grid (R, C) meets first.

    Attributes:
        range_m: (R, C) inf for nothing.
        cosine: (R, C) of the angle of incidence.
        material: (R, C) row in the table of materials.
        owner: (R, C) number of the object, or GROUND_HIT, or NO_HIT.
    """

    range_m: np.ndarray
    cosine: np.ndarray
    material: np.ndarray
    owner: np.ndarray


class LocalRay(NamedTuple):
    """One ray in the frame of a template.

    Attributes:
        origin: of the ray.
        direction: of the ray; not of length 1, as the frame is stretched.
        scale: by which the frame is stretched along x, y, z.
        seed: of the sweep.
        number: of the ray in the grid.
        salt: differs between objects.
    """

    origin: Vector
    direction: Vector
    scale: Vector
    seed: int
    number: int
    salt: int


class RayTable(NamedTuple):
    """The rays of a sweep, in R rings of C azimuths.

    Attributes:
        elevations_rad: (R,) falling.
        azimuths_rad: (C,) rising.
        directions: (R, C, 3) unit vectors in the frame of the scene.
        is_cast: (R, C) bool, whether the ray is needed at all.
        to_sensor: (3, 3) turns the scene into the frame of elevations and azimuths.
        is_turned: whether ``to_sensor`` is not the identity.
        margin_rad: more than a ray differs from its elevation and azimuth.
    """

    elevations_rad: np.ndarray
    azimuths_rad: np.ndarray
    directions: np.ndarray
    is_cast: np.ndarray
    to_sensor: np.ndarray
    is_turned: bool
    margin_rad: float


class Bounds(NamedTuple):
    """A box in azimuth and elevation; the azimuths may lie beyond half a turn."""

    right: float
    left: float
    bottom: float
    top: float


@numba.njit(cache=True)
def uniform_hash(seed: int, ray: int, salt: int) -> float:
    """A number in (0, 1) that depends on its arguments alone (the splitmix64 generator)."""
    z = np.uint64(seed) + np.uint64(ray) * np.uint64(0x9E3779B97F4A7C15)
    z += np.uint64(salt) * np.uint64(0xD1B54A32D192ED03)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return (np.float64(z >> np.uint64(11)) + 0.5) / 9007199254740992.0


@numba.njit(cache=True)
def _stop_in_piece(
    hit: Hit, cosine: float, surface: np.ndarray, chance: float
) -> tuple[float, float]:
    """Where a ray ends in a piece, (t, cosine of incidence); t is inf when it passes through.

    ``chance`` in (0, 1) decides: between leaves, on a surface, or behind a window.
    """
    if surface[DENSITY] > 0.0:
        # Leaves: free paths in a cloud are exponentially distributed.
        t = hit.t_in - np.log(chance) / surface[DENSITY]
        return (t, 0.4 + 0.6 * chance) if t < hit.t_out else (np.inf, 0.0)
    if chance < surface[OPACITY]:
        return hit.t_in, cosine
    # The ray is let in. The rest of ``chance`` serves again, stretched to (0, 1).
    rest = (chance - surface[OPACITY]) / (1.0 - surface[OPACITY])
    if rest < surface[INTERIOR]:
        return hit.t_in + (hit.t_out - hit.t_in) * rest / surface[INTERIOR], 0.5
    return np.inf, 0.0


@numba.njit(cache=True)
def _bounds(pose: np.ndarray, size: np.ndarray) -> Bounds:
    """The azimuths and elevations at which an upright box can be met."""
    cos = np.cos(pose[3])
    sin = np.sin(pose[3])
    centre = np.arctan2(pose[1], pose[0])
    # Azimuths of the corners, relative to the centre so that they do not wrap.
    left = 0.0
    right = 0.0
    far = 0.0
    for forward in (-0.5, 0.5):
        for sideways in (-0.5, 0.5):
            x = pose[0] + cos * forward * size[0] - sin * sideways * size[1]
            y = pose[1] + sin * forward * size[0] + cos * sideways * size[1]
            turn = np.arctan2(y, x) - centre
            turn -= 2.0 * np.pi * np.round(turn / (2.0 * np.pi))
            left = max(left, turn)
            right = min(right, turn)
            far = max(far, np.hypot(x, y))
    # Distance of the footprint's nearest point: the sensor in the box's frame.
    local_x = cos * pose[0] + sin * pose[1]
    local_y = cos * pose[1] - sin * pose[0]
    beyond_x = max(abs(local_x) - size[0] / 2, 0.0)
    beyond_y = max(abs(local_y) - size[1] / 2, 0.0)
    near = np.hypot(beyond_x, beyond_y)
    # A face above the sensor appears highest where it is near, one below where it is far.
    low = pose[2]
    high = pose[2] + size[2]
    top = np.arctan2(high, near if high > 0.0 else far)
    bottom = np.arctan2(low, far if low > 0.0 else near)
    return Bounds(centre + right, centre + left, bottom, top)


@numba.njit(cache=True)
def _turned(bounds: Bounds, to_sensor: np.ndarray, middle: float) -> Bounds:
    """Bounds of the scene as bounds of a turned sensor, whose azimuths surround ``middle``.

    Points on a lattice of the box are turned one by one; a margin covers what lies between them.
    """
    if bounds.top > STEEP_RAD or bounds.bottom < -STEEP_RAD:
        return Bounds(-np.inf, np.inf, -np.inf, np.inf)
    right = np.inf
    left = -np.inf
    bottom = np.inf
    top = -np.inf
    for column in range(TURN_STEPS + 1):
        azimuth = bounds.right + (bounds.left - bounds.right) * column / TURN_STEPS
        for row in range(TURN_STEPS // 4 + 1):
            share = row / (TURN_STEPS // 4)
            elevation = bounds.bottom + (bounds.top - bounds.bottom) * share
            x = np.cos(elevation) * np.cos(azimuth)
            y = np.cos(elevation) * np.sin(azimuth)
            z = np.sin(elevation)
            ahead = to_sensor[0, 0] * x + to_sensor[0, 1] * y + to_sensor[0, 2] * z
            sideways = to_sensor[1, 0] * x + to_sensor[1, 1] * y + to_sensor[1, 2] * z
            up = to_sensor[2, 0] * x + to_sensor[2, 1] * y + to_sensor[2, 2] * z
            turn = np.arctan2(sideways, ahead) - middle
            turn -= 2.0 * np.pi * np.round(turn / (2.0 * np.pi))
            right = min(right, middle + turn)
            left = max(left, middle + turn)
            angle = np.arctan2(up, np.hypot(ahead, sideways))
            bottom = min(bottom, angle)
            top = max(top, angle)
    return Bounds(
        right - TURN_MARGIN_RAD,
        left + TURN_MARGIN_RAD,
        bottom - TURN_MARGIN_RAD,
        top + TURN_MARGIN_RAD,
    )


@numba.njit(cache=True)
def _grid_window(pose: np.ndarray, size: np.ndarray, rays: RayTable) -> tuple[int, int, int, int]:
    """Rows row0 : row1 and columns col0 : col1 of the grid that can meet an upright box."""
    bounds = _bounds(pose, size)
    azimuths = rays.azimuths_rad
    if rays.is_turned:
        middle = (azimuths[0] + azimuths[-1]) / 2
        bounds = _turned(bounds, rays.to_sensor, middle)
    margin = rays.margin_rad
    falling = -rays.elevations_rad
    col0 = int(np.searchsorted(azimuths, bounds.right - margin))
    col1 = int(np.searchsorted(azimuths, bounds.left + margin))
    row0 = int(np.searchsorted(falling, -bounds.top - margin))
    row1 = int(np.searchsorted(falling, -bounds.bottom + margin))
    return row0, row1, col0, col1


@numba.njit(cache=True)
def _to_template_frame(vector: np.ndarray, cos: float, sin: float, scale: Vector) -> Vector:
    """A vector of the sensor's frame, turned by the yaw and stretched into a template's frame."""
    x = cos * vector[0] + sin * vector[1]
    y = cos * vector[1] - sin * vector[0]
    return x / scale[0], y / scale[1], vector[2] / scale[2]


@numba.njit(cache=True)
def _nearest_stop(
    shapes: Shapes, template: int, surfaces: np.ndarray, ray: LocalRay
) -> tuple[float, float, int]:
    """Where a ray stops first in a template: (t, cosine, material); t is inf for nowhere."""
    nearest = np.inf
    nearest_cosine = 0.0
    nearest_material = 0
    for piece in range(shapes.starts[template], shapes.starts[template + 1]):
        kind = shapes.kinds[piece]
        params = shapes.params[piece]
        hit = hit_piece(kind, params, shapes.num_planes[piece], ray.origin, ray.direction)
        if hit.t_in >= nearest:
            continue
        # Back in the sensor's frame the normal is divided by the stretch, and the direction times
        # it: their product stays. Only the normal's length has to be taken there.
        nx = hit.normal[0] / ray.scale[0]
        ny = hit.normal[1] / ray.scale[1]
        nz = hit.normal[2] / ray.scale[2]
        length = np.sqrt(nx**2 + ny**2 + nz**2)
        cosine = min(abs(dot(hit.normal, ray.direction)) / length, 1.0)
        material = shapes.materials[piece, hit.face]
        chance = uniform_hash(ray.seed, ray.number, ray.salt + piece)
        t, cosine = _stop_in_piece(hit, cosine, surfaces[material], chance)
        if t < nearest:
            nearest = t
            nearest_cosine = cosine
            nearest_material = material
    return nearest, nearest_cosine, nearest_material


@numba.njit(cache=True)
def cast_instances(
    rays: RayTable,
    shapes: Shapes,
    instances: Instances,
    surfaces: np.ndarray,
    seed: int,
    image: RangeImage,
) -> np.ndarray:
    """Write every object into the range image where it is nearer than what is there already.

    Returns (N,) how many rays would end on each object if it stood alone; exact for counted
    objects.
    """
    num_objects = len(instances.template)
    columns = rays.directions.shape[1]
    alone = np.zeros(num_objects, dtype=np.int64)
    for index in range(num_objects):
        pose = instances.poses[index]
        size = instances.sizes_m[index]
        template = instances.template[index]
        cos = np.cos(pose[3])
        sin = np.sin(pose[3])
        own_size = shapes.sizes_m[template]
        scale = (size[0] / own_size[0], size[1] / own_size[1], size[2] / own_size[2])
        # Rays are moved into the frame of the template, not the template to the ray. The map is
        # affine, so t, and with it the range, stays the same.
        x, y, z = _to_template_frame(pose, cos, sin, scale)
        origin = (-x, -y, -z)
        row0, row1, col0, col1 = _grid_window(pose, size, rays)
        for row in range(row0, row1):
            for column in range(col0, col1):
                if not rays.is_cast[row, column]:
                    continue
                direction = _to_template_frame(rays.directions[row, column], cos, sin, scale)
                furthest = np.inf if instances.counted[index] else image.range_m[row, column]
                if not crosses_box(own_size, origin, direction, furthest):
                    continue
                number = row * columns + column
                ray = LocalRay(origin, direction, scale, seed, number, SALT_PER_OBJECT * index)
                t, cosine, material = _nearest_stop(shapes, template, surfaces, ray)
                if t == np.inf:
                    continue
                alone[index] += 1
                if t < image.range_m[row, column]:
                    image.range_m[row, column] = t
                    image.cosine[row, column] = cosine
                    image.material[row, column] = material
                    image.owner[row, column] = index
    return alone
