"""A simulated HDL-64E: its beams, and the points that come back from a scene.

Angles follow the sensor's manual: 32 upper beams from +2 to -8.33 degrees in steps of 1/3, 32 lower
ones from -8.83 to -24.33 in steps of 1/2. One turn at 10 Hz leaves about 0.18 degrees between two
firings, as in KITTI's files. Only the beams that can end in camera 2's image are cast.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from .camera import Camera
from .ground import Ground
from .materials import ALBEDO, ROUGHNESS, SPECULAR, material_table
from .raycast import Instances, RangeImage, RayTable, cast_instances
from .shapes import Shapes

SENSOR_HEIGHT_M = 1.73
AZIMUTH_STEP_RAD = np.deg2rad(0.18)
# Half the opening that is cast. The view of camera 2 reaches 40.6 degrees to either side.
SECTOR_RAD = np.deg2rad(42.0)
MAX_RANGE_M = 80.0
RANGE_NOISE_M = 0.015

# The sensor amplifies by range, as KITTI's intensities show: ranges in metres, and factors.
GAIN_RANGES_M = (0.0, 8.0, 15.0, 25.0, 40.0, 60.0, 80.0)
GAIN_FACTORS = (0.85, 1.05, 1.45, 0.95, 0.45, 0.22, 0.18)

NO_HIT = -1  # owner of a ray that meets nothing
GROUND_HIT = -2  # owner of a ray that meets the ground


def beam_elevations_rad() -> np.ndarray:
    """(64,) the beams from top to bottom."""
    upper = 2.0 - np.arange(32) / 3.0
    lower = -8.83 - np.arange(32) / 2.0
    return np.deg2rad(np.concatenate([upper, lower]))


def rays_for_camera(camera: Camera, rng: np.random.Generator) -> RayTable:
    """All rays that can end in the camera's image, slightly irregular as in a real sensor."""
    is_standard = camera is Camera.standard()
    is_cast = _is_in_standard_view() if is_standard else _is_in_view(camera)
    elevations = beam_elevations_rad()[: len(is_cast)]
    azimuths = _azimuths_rad() + rng.uniform(0.0, AZIMUTH_STEP_RAD)
    # Rotations in the plane as complex numbers of length 1: a product of two adds their angles.
    beam_offset = np.exp(1j * rng.normal(0.0, np.deg2rad(0.02), len(elevations)))
    firing_offset = rng.normal(0.0, np.deg2rad(0.006), len(azimuths))
    turn = np.exp(1j * (azimuths + firing_offset))
    horizontal = (np.cos(elevations) * beam_offset)[:, None] * turn
    up = np.broadcast_to(np.sin(elevations)[:, None], horizontal.shape)
    directions = np.stack([horizontal.real, horizontal.imag, up], axis=-1)
    return RayTable(elevations, azimuths, directions, is_cast)


def _azimuths_rad() -> np.ndarray:
    """(C,) firing angles from right to left, before the start angle of a turn is added."""
    return np.arange(-SECTOR_RAD, SECTOR_RAD, AZIMUTH_STEP_RAD)


def _is_in_view(camera: Camera) -> np.ndarray:
    """(R, C) bool, rays that can end in the image at some range; R ends with the last that can."""
    azimuth, elevation = np.meshgrid(_azimuths_rad(), beam_elevations_rad())
    horizontal = np.cos(elevation)
    x = horizontal * np.cos(azimuth)
    y = horizontal * np.sin(azimuth)
    directions = np.stack([x, y, np.sin(elevation)], axis=-1).reshape(-1, 3)
    in_view = np.zeros(len(directions), dtype=bool)
    # Sensor and camera are apart, so the view depends on the range.
    for range_m in (3.0, 6.0, 15.0, MAX_RANGE_M):
        in_view |= camera.sees(directions * range_m, margin_px=6.0)
    in_view = in_view.reshape(azimuth.shape)
    beams_in_view = np.flatnonzero(in_view.any(axis=1))
    return in_view[: beams_in_view[-1] + 1]


@functools.lru_cache(maxsize=1)
def _is_in_standard_view() -> np.ndarray:
    return _is_in_view(Camera.standard())


@dataclass(frozen=True)
class Sweep:
    """The returns of one turn in the sensor's order.

    Attributes:
        points: (N, 4) float32 x, y, z, intensity.
        owner: (N,) number of the object, or GROUND_HIT.
        alone: (M,) rays that would end on each object if it stood alone, for counted objects.
        visible: (M,) rays that end on each object.
    """

    points: np.ndarray
    owner: np.ndarray
    alone: np.ndarray
    visible: np.ndarray


def cast(
    rays: RayTable,
    shapes: Shapes,
    instances: Instances,
    *,
    ground: Ground,
    camera: Camera,
    rng: np.random.Generator,
) -> Sweep:
    """Cast every ray into the scene and turn what comes back into points.

    Args:
        rays: from ``rays_for_camera``.
        shapes: the templates of the objects.
        instances: the objects.
        ground: the ground.
        camera: points outside its image are left out.
        rng: noise of the sensor.
    """
    seed = int(rng.integers(1 << 62))
    range_m, cosine, material = ground.cast(rays.directions, MAX_RANGE_M)
    owner = np.where(np.isfinite(range_m), GROUND_HIT, NO_HIT).astype(np.int64)
    image = RangeImage(range_m, cosine, material, owner)
    alone = cast_instances(rays, shapes, instances, material_table(), seed, image)
    owner[~rays.is_cast] = NO_HIT
    visible = np.bincount(owner[owner >= 0], minlength=len(alone))
    points, owner_of_point = _returns(rays, image, instances.shade, rng)
    is_in_image = camera.sees(points[:, :3])
    return Sweep(points[is_in_image], owner_of_point[is_in_image], alone, visible)


def _returns(
    rays: RayTable, image: RangeImage, shade: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 4) and owners (N,): with noise and intensity, without the pulses that are lost."""
    order = _sensor_order(rays, image.owner)
    range_m = image.range_m.ravel()[order]
    cosine = image.cosine.ravel()[order]
    owner = image.owner.ravel()[order]
    surface = material_table()[image.material.ravel()[order]]
    # The ground, owner -2, has no shade: index -1 is the 1 that is appended.
    shade_of_ray = np.append(shade, 1.0)[np.maximum(owner, -1)]
    albedo = surface[:, ALBEDO] * shade_of_ray

    # A weak pulse is often lost, and so is one that polished surfaces mirror away.
    strength = albedo * (0.25 + 0.75 * cosine) / (1.0 + (range_m / 25.0) ** 2)
    grazing = (1.0 - cosine) ** 3
    probability = (1.0 - np.exp(-110.0 * strength)) * (1.0 - surface[:, SPECULAR] * grazing)
    is_returned = (rng.random(len(order)) < probability) & (range_m < MAX_RANGE_M)

    sigma_m = np.hypot(RANGE_NOISE_M, surface[:, ROUGHNESS] * np.sqrt(cosine))
    noise_m = rng.normal(0.0, 1.0, len(order)) * sigma_m
    xyz = rays.directions.reshape(-1, 3)[order] * (range_m + noise_m)[:, None]

    intensity = albedo * (0.6 + 0.4 * cosine) * np.interp(range_m, GAIN_RANGES_M, GAIN_FACTORS)
    intensity *= np.exp(rng.normal(0.0, 0.18, len(order)))
    # In KITTI many dull returns have intensity zero, the more the further away.
    is_zero = (rng.random(len(order)) < 0.06 + 0.004 * range_m) & (albedo < 0.9)
    intensity[is_zero] = 0.0
    rounded_intensity = np.round(np.clip(intensity, 0.0, 0.99), 2)
    points = np.column_stack([np.round(xyz, 3), rounded_intensity]).astype(np.float32)
    return points[is_returned], owner[is_returned]


def _sensor_order(rays: RayTable, owner: np.ndarray) -> np.ndarray:
    """Rays (K,) that hit something, in KITTI's order.

    Ring after ring, each from straight ahead to the left, then from the right end to straight
    ahead.
    """
    straight_ahead = int(np.searchsorted(rays.azimuths_rad, 0.0))
    numbers = np.arange(owner.size).reshape(owner.shape)
    order = np.roll(numbers, -straight_ahead, axis=1).ravel()
    return order[owner.ravel()[order] != NO_HIT]
