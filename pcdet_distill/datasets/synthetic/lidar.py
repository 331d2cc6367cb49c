"""A simulated HDL-64E: its beams, and what comes back when they are cast into a scene.

Angles follow the sensor's manual: 32 upper beams from +2 to -8.33 degrees in steps of 1/3, 32 lower ones from -8.83 to
-24.33 in steps of 1/2. One turn at 10 Hz leaves about 0.18 degrees between two firings, as in KITTI's files. Only the
beams that camera 2 can see are cast. Everything random about a ray is a hash of (seed, ray, piece), so that the result
does not depend on the order in which objects are visited.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numba
import numpy as np

from .camera import Camera
from .ground import Ground
from .intersect import crosses_box, hit_piece
from .materials import ALBEDO, DENSITY, INTERIOR, OPACITY, ROUGHNESS, SPECULAR, material_table
from .shapes import Template

SENSOR_HEIGHT_M = 1.73
AZIMUTH_STEP_RAD = np.deg2rad(0.18)
SECTOR_RAD = np.deg2rad(
    42.0
)  # half the opening that is cast; camera 2 sees 40.6 degrees to either side
MAX_RANGE_M = 80.0
RANGE_NOISE_M = 0.015
# the sensor's own amplification, range in metres and factor, as KITTI's intensities show it
GAIN_BY_RANGE = (
    (0.0, 8.0, 15.0, 25.0, 40.0, 60.0, 80.0),
    (0.85, 1.05, 1.45, 0.95, 0.45, 0.22, 0.18),
)
NO_HIT = -1
GROUND_HIT = -2


def beam_elevations_rad() -> np.ndarray:
    """The 64 beams from top to bottom, ``(64,)``."""
    upper = 2.0 - np.arange(32) / 3.0
    lower = -8.83 - np.arange(32) / 2.0
    return np.deg2rad(np.concatenate([upper, lower]))


@dataclass(frozen=True)
class RayGrid:
    """Rays of one sweep: elevations ``(R,)``, azimuths ``(C,)`` rising, directions ``(R, C, 3)``, seen ``(R, C)``."""

    elevations_rad: np.ndarray
    azimuths_rad: np.ndarray
    directions: np.ndarray
    seen: np.ndarray

    @staticmethod
    def for_camera(camera: Camera, rng: np.random.Generator) -> RayGrid:
        """Every ray that can end inside the camera's image, with the small unevenness of a turning sensor."""
        seen = _seen_by_standard_camera() if camera is Camera.standard() else _seen_by(camera)
        elevations = beam_elevations_rad()[: len(seen)]
        azimuths = _azimuths_rad() + rng.uniform(0.0, AZIMUTH_STEP_RAD)
        beam = np.exp(1j * rng.normal(0.0, np.deg2rad(0.02), len(elevations)))
        turn = np.exp(1j * (azimuths + rng.normal(0.0, np.deg2rad(0.006), len(azimuths))))
        level = (np.cos(elevations) * beam)[:, None] * turn
        up = np.broadcast_to(np.sin(elevations)[:, None], level.shape)
        return RayGrid(elevations, azimuths, np.stack([level.real, level.imag, up], axis=-1), seen)


def _azimuths_rad() -> np.ndarray:
    return np.arange(-SECTOR_RAD, SECTOR_RAD, AZIMUTH_STEP_RAD)


def _seen_by(camera: Camera) -> np.ndarray:
    """Rays ``(R, C)`` that can end in the image at some range, down to the last beam that does."""
    angle, elevation = np.meshgrid(_azimuths_rad(), beam_elevations_rad())
    level = np.cos(elevation)
    directions = np.stack(
        [level * np.cos(angle), level * np.sin(angle), np.sin(elevation)], axis=-1
    ).reshape(-1, 3)
    seen = np.zeros(len(directions), dtype=bool)
    for range_m in (3.0, 6.0, 15.0, MAX_RANGE_M):
        seen |= camera.sees(directions * range_m, margin_px=6.0)
    seen = seen.reshape(angle.shape)
    return seen[: np.flatnonzero(seen.any(axis=1))[-1] + 1]


@functools.lru_cache(maxsize=1)
def _seen_by_standard_camera() -> np.ndarray:
    return _seen_by(Camera.standard())


@dataclass(frozen=True)
class Shapes:
    """All templates of a scene in one table: ``starts[k] : starts[k + 1]`` are the pieces of template k."""

    kinds: np.ndarray
    counts: np.ndarray
    params: np.ndarray
    materials: np.ndarray
    starts: np.ndarray
    sizes_m: np.ndarray

    @staticmethod
    def pack(templates: list[Template]) -> Shapes:
        """Concatenate the pieces of ``templates``."""
        starts = np.cumsum([0] + [len(template.kinds) for template in templates])
        names = ("kinds", "counts", "params", "materials")
        joined = {
            name: np.concatenate([getattr(template, name) for template in templates])
            for name in names
        }
        return Shapes(
            **joined, starts=starts, sizes_m=np.stack([template.size_m for template in templates])
        )


@dataclass(frozen=True)
class Instances:
    """What stands in a scene, in the sensor's frame.

    template ``(N,)``; poses ``(N, 4)`` x, y, z of the bottom centre and yaw; sizes_m ``(N, 3)`` length, width, height;
    shade ``(N,)``, a factor on every albedo; counted ``(N,)`` bool, whether hidden rays matter (see ``Sweep.alone``).
    """

    template: np.ndarray
    poses: np.ndarray
    sizes_m: np.ndarray
    shade: np.ndarray
    counted: np.ndarray


@dataclass(frozen=True)
class Sweep:
    """Returns of one turn in the sensor's order.

    points ``(N, 4)`` float32 x, y, z, intensity; owner ``(N,)`` instance index or GROUND_HIT. Per instance ``(M,)``:
    visible, the rays that end on it; alone, those that would if nothing stood before it (for counted instances).
    """

    points: np.ndarray
    owner: np.ndarray
    alone: np.ndarray
    visible: np.ndarray


def cast(
    grid: RayGrid,
    shapes: Shapes,
    instances: Instances,
    ground: Ground,
    camera: Camera,
    rng: np.random.Generator,
) -> Sweep:
    """Cast every ray into the scene and turn what comes back into points."""
    seed = int(rng.integers(1 << 62))
    range_m, cosine, material = ground.cast(grid.directions, MAX_RANGE_M)
    owner = np.where(np.isfinite(range_m), GROUND_HIT, NO_HIT).astype(np.int64)
    alone = np.zeros(len(instances.template), dtype=np.int64)
    _cast_instances(
        grid.directions,
        grid.seen,
        grid.azimuths_rad,
        grid.elevations_rad,
        (
            shapes.kinds,
            shapes.counts,
            shapes.params,
            shapes.materials,
            shapes.starts,
            shapes.sizes_m,
        ),
        (instances.template, instances.poses, instances.sizes_m, instances.counted),
        material_table(),
        seed,
        (range_m, cosine, material, owner),
        alone,
    )
    owner[~grid.seen] = NO_HIT
    visible = np.bincount(owner[owner >= 0], minlength=len(alone))
    points, owner = _returns(grid, range_m, cosine, material, owner, instances.shade, rng)
    inside = camera.sees(points[:, :3])
    return Sweep(points[inside], owner[inside], alone, visible)


def _returns(
    grid: RayGrid,
    range_m: np.ndarray,
    cosine: np.ndarray,
    material: np.ndarray,
    owner: np.ndarray,
    shade: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Noise, lost returns and intensity; ring after ring, each from straight ahead to the left, then from the right."""
    middle = int(np.searchsorted(grid.azimuths_rad, 0.0))
    order = np.roll(np.arange(owner.size).reshape(owner.shape), -middle, axis=1).ravel()
    order = order[owner.ravel()[order] != NO_HIT]
    range_m, cosine, owner = range_m.ravel()[order], cosine.ravel()[order], owner.ravel()[order]
    surface = material_table()[material.ravel()[order]]
    albedo = (
        surface[:, ALBEDO] * np.append(shade, 1.0)[np.maximum(owner, -1)]
    )  # the ground has no shade of its own
    strength = albedo * (0.25 + 0.75 * cosine) / (1.0 + (range_m / 25.0) ** 2)
    arrives = (1.0 - np.exp(-110.0 * strength)) * (1.0 - surface[:, SPECULAR] * (1.0 - cosine) ** 3)
    kept = (rng.random(len(order)) < arrives) & (range_m < MAX_RANGE_M)
    noise = rng.normal(0.0, 1.0, len(order)) * np.hypot(
        RANGE_NOISE_M, surface[:, ROUGHNESS] * np.sqrt(cosine)
    )
    xyz = grid.directions.reshape(-1, 3)[order] * (range_m + noise)[:, None]
    glow = albedo * (0.6 + 0.4 * cosine) * np.interp(range_m, *GAIN_BY_RANGE)
    glow *= np.exp(rng.normal(0.0, 0.18, len(order)))
    glow[(rng.random(len(order)) < 0.06 + 0.004 * range_m) & (albedo < 0.9)] = 0.0
    points = np.column_stack([np.round(xyz, 3), np.round(np.clip(glow, 0.0, 0.99), 2)]).astype(
        np.float32
    )
    return points[kept], owner[kept]


@numba.njit(cache=True)
def _uniform(seed, ray, salt):
    """A number in (0, 1) that depends on nothing but its arguments (splitmix64)."""
    z = np.uint64(seed) + np.uint64(ray) * np.uint64(0x9E3779B97F4A7C15)
    z += np.uint64(salt) * np.uint64(0xD1B54A32D192ED03)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return (np.float64(z >> np.uint64(11)) + 0.5) / 9007199254740992.0


@numba.njit(cache=True)
def _stop(t_in, t_out, cosine, surface, seed, ray, salt):
    """Where the ray ends in a piece: on its surface, between leaves, behind a window, nowhere (inf); and the cosine."""
    chance = _uniform(seed, ray, salt)
    if surface[DENSITY] > 0.0:
        t = t_in - np.log(chance) / surface[DENSITY]
        return (t, 0.4 + 0.6 * chance) if t < t_out else (np.inf, 0.0)
    if chance < surface[OPACITY]:
        return t_in, cosine
    share = (chance - surface[OPACITY]) / (1.0 - surface[OPACITY])
    if share < surface[INTERIOR]:
        return t_in + (t_out - t_in) * share / surface[INTERIOR], 0.5
    return np.inf, 0.0


@numba.njit(cache=True)
def _window(pose, size, azimuths, elevations):
    """Rows and columns of the grid that can meet an upright box: (row0, row1, col0, col1), ends excluded."""
    cos, sin = np.cos(pose[3]), np.sin(pose[3])
    centre = np.arctan2(pose[1], pose[0])
    left, right, far = 0.0, 0.0, 0.0
    for sx in (-0.5, 0.5):
        for sy in (-0.5, 0.5):
            x = pose[0] + cos * sx * size[0] - sin * sy * size[1]
            y = pose[1] + sin * sx * size[0] + cos * sy * size[1]
            turn = np.arctan2(y, x) - centre
            turn -= 2.0 * np.pi * np.round(turn / (2.0 * np.pi))
            left, right, far = max(left, turn), min(right, turn), max(far, np.hypot(x, y))
    local_x, local_y = cos * pose[0] + sin * pose[1], cos * pose[1] - sin * pose[0]
    near = np.hypot(max(abs(local_x) - size[0] / 2, 0.0), max(abs(local_y) - size[1] / 2, 0.0))
    low, high = pose[2], pose[2] + size[2]
    top = np.arctan2(high, near if high > 0.0 else far)
    bottom = np.arctan2(low, far if low > 0.0 else near)
    slack = 0.004
    col0 = np.searchsorted(azimuths, centre + right - slack)
    col1 = np.searchsorted(azimuths, centre + left + slack)
    row0 = np.searchsorted(-elevations, -top - slack)
    row1 = np.searchsorted(-elevations, -bottom + slack)
    return row0, row1, col0, col1


@numba.njit(cache=True)
def _nearest_piece(pieces, first, last, ray_local, table, seed, ray, salt):
    """The first stop of a ray among the pieces ``first : last``: (t, cosine, material)."""
    kinds, counts, params, materials = pieces
    ox, oy, oz, dx, dy, dz, sx, sy, sz = ray_local
    best, best_cosine, best_material = np.inf, 0.0, 0
    for piece in range(first, last):
        t_in, t_out, face, nx, ny, nz = hit_piece(
            kinds[piece], params[piece], counts[piece], ox, oy, oz, dx, dy, dz
        )
        if t_in >= best:
            continue
        normal = np.sqrt((nx / sx) ** 2 + (ny / sy) ** 2 + (nz / sz) ** 2)
        cosine = min(abs(nx * dx + ny * dy + nz * dz) / normal, 1.0)
        material = materials[piece, face]
        t, cosine = _stop(t_in, t_out, cosine, table[material], seed, ray, salt + piece)
        if t < best:
            best, best_cosine, best_material = t, cosine, material
    return best, best_cosine, best_material


@numba.njit(cache=True)
def _cast_instances(
    directions, seen, azimuths, elevations, shapes, instances, table, seed, image, alone
):
    """Write every instance into the range image wherever it is nearer than what is there."""
    kinds, counts, params, materials, starts, template_sizes = shapes
    templates, poses, sizes, counted = instances
    range_m, cosines, surfaces, owner = image
    columns = directions.shape[1]
    for index in range(len(templates)):
        pose, size, template = poses[index], sizes[index], templates[index]
        reference = template_sizes[template]
        sx, sy, sz = size[0] / reference[0], size[1] / reference[1], size[2] / reference[2]
        cos, sin = np.cos(pose[3]), np.sin(pose[3])
        ox, oy, oz = (
            -(cos * pose[0] + sin * pose[1]) / sx,
            -(cos * pose[1] - sin * pose[0]) / sy,
            -pose[2] / sz,
        )
        row0, row1, col0, col1 = _window(pose, size, azimuths, elevations)
        for row in range(row0, row1):
            for column in range(col0, col1):
                if not seen[row, column]:
                    continue
                x, y, z = (
                    directions[row, column, 0],
                    directions[row, column, 1],
                    directions[row, column, 2],
                )
                dx, dy, dz = (cos * x + sin * y) / sx, (cos * y - sin * x) / sy, z / sz
                furthest = np.inf if counted[index] else range_m[row, column]
                if not crosses_box(
                    reference[0] / 2,
                    reference[1] / 2,
                    reference[2],
                    ox,
                    oy,
                    oz,
                    dx,
                    dy,
                    dz,
                    furthest,
                ):
                    continue
                t, cosine, material = _nearest_piece(
                    (kinds, counts, params, materials),
                    starts[template],
                    starts[template + 1],
                    (ox, oy, oz, dx, dy, dz, sx, sy, sz),
                    table,
                    seed,
                    row * columns + column,
                    1000 * index,
                )
                if t == np.inf:
                    continue
                alone[index] += 1
                if t < range_m[row, column]:
                    range_m[row, column], cosines[row, column] = t, cosine
                    surfaces[row, column], owner[row, column] = material, index
