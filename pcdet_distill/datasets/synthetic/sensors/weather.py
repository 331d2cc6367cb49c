"""Rain, dust and failing beams: what happens to a pulse between the sensor and the scene.

All of it acts on the points of a sweep, after the ray casting. A pulse that meets a drop or a grain
comes back from there: its point moves towards the sensor along its ray, and no longer belongs to
the object behind.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..scenes.options import WeatherOptions
from ..streams import Streams
from .lidar import Sweep

IN_THE_AIR = -3  # owner of a point on a drop or a grain
# Rain: in the heaviest, one pulse of twelve meets a drop, and a third is lost on 40 m.
HEAVIEST_DROPS = 0.08
MEAN_DROP_RANGE_M = 5.0
HEAVIEST_LOSS_PER_M = 0.01
# Dust: a ball of grains over the street.
DUST_FORWARD_M = (6.0, 30.0)
DUST_SIDEWAYS_M = (-6.0, 6.0)
DUST_RADIUS_M = (0.7, 2.5)
DUST_HEIGHT_M = -1.0  # of its middle, below the sensor
DUST_STOPS = (0.1, 0.5)  # range of the probability that a pulse through the middle ends in it
FAINT = 0.06  # largest intensity of drops and grains
BEAM_HALF_WIDTH_RAD = np.deg2rad(0.15)


def add_weather(sweep: Sweep, options: WeatherOptions, streams: Streams) -> Sweep:
    """The sweep in the weather of its frame."""
    sweep = _with_dust(sweep, options.dust, streams.of("dust"))
    sweep = _with_rain(sweep, options.rain, streams.of("rain"))
    return _without_beams(sweep, options.dropped_beams, streams.of("beams"))


def _with_rain(sweep: Sweep, share: float, rng: np.random.Generator) -> Sweep:
    """Returns are lost with the distance, and some pulses end on a drop near the sensor."""
    if rng.random() >= share:
        return sweep
    strength = rng.uniform(0.2, 1.0)
    range_m = _ranges_m(sweep)
    count = len(range_m)
    is_lost = rng.random(count) > np.exp(-HEAVIEST_LOSS_PER_M * strength * range_m)
    drop_range_m = rng.exponential(MEAN_DROP_RANGE_M, count) + 1.0
    meets_drop = rng.random(count) < HEAVIEST_DROPS * strength
    is_drop = meets_drop & (drop_range_m < range_m)
    faint = rng.uniform(0.0, FAINT, count)
    wet = _with_near_points(sweep, is_drop, drop_range_m, faint)
    return kept_points(wet, is_drop | ~is_lost)


def _with_dust(sweep: Sweep, share: float, rng: np.random.Generator) -> Sweep:
    """Pulses end in a ball of grains, the more the longer their way through it."""
    if rng.random() >= share:
        return sweep
    middle = np.array([rng.uniform(*DUST_FORWARD_M), rng.uniform(*DUST_SIDEWAYS_M), DUST_HEIGHT_M])
    radius_m = rng.uniform(*DUST_RADIUS_M)
    stops = rng.uniform(*DUST_STOPS)
    range_m = _ranges_m(sweep)
    directions = sweep.points[:, :3] / range_m[:, None]
    along_m = directions @ middle
    distance2 = middle @ middle - along_m**2  # of the ray from the middle
    half_way_m = np.sqrt(np.clip(radius_m**2 - distance2, 0.0, None))
    dust_range_m = along_m + half_way_m * rng.uniform(-1.0, 1.0, len(range_m))
    is_stopped = rng.random(len(range_m)) < stops * half_way_m / radius_m
    in_dust = is_stopped & (dust_range_m > 0.0) & (dust_range_m < range_m)
    faint = rng.uniform(0.0, FAINT, len(range_m))
    return _with_near_points(sweep, in_dust, dust_range_m, faint)


def _without_beams(sweep: Sweep, mean_count: float, rng: np.random.Generator) -> Sweep:
    """Some beams return nothing. They are chosen among the elevations that have points."""
    count = rng.poisson(mean_count)
    if count == 0 or len(sweep.points) == 0:
        return sweep
    horizontal_m = np.hypot(sweep.points[:, 0], sweep.points[:, 1])
    elevation = np.arctan2(sweep.points[:, 2], horizontal_m)
    is_kept = np.ones(len(elevation), dtype=bool)
    for chosen in rng.choice(elevation, count):
        is_kept &= np.abs(elevation - chosen) > BEAM_HALF_WIDTH_RAD
    return kept_points(sweep, is_kept)


def kept_points(sweep: Sweep, is_kept: np.ndarray) -> Sweep:
    """The sweep with the points (N,) that are kept."""
    return replace(sweep, points=sweep.points[is_kept], owner=sweep.owner[is_kept])


def _ranges_m(sweep: Sweep) -> np.ndarray:
    """(N,) distance of each point from the sensor."""
    return np.linalg.norm(sweep.points[:, :3].astype(float), axis=1)


def _with_near_points(
    sweep: Sweep, is_near: np.ndarray, range_m: np.ndarray, intensity: np.ndarray
) -> Sweep:
    """The sweep with some points moved along their rays to another range."""
    points = sweep.points.copy()
    owner = sweep.owner.copy()
    factor = range_m[is_near] / _ranges_m(sweep)[is_near]
    points[is_near, :3] = np.round(points[is_near, :3] * factor[:, None], 3)
    points[is_near, 3] = np.round(intensity[is_near], 2)
    owner[is_near] = IN_THE_AIR
    return replace(sweep, points=points, owner=owner)
