"""The simulated sweep: beam angles, ground, occlusion, porosity and the order of the points."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from pcdet_distill.datasets.synthetic.scenes.ground import Ground
from pcdet_distill.datasets.synthetic.sensors.camera import Camera
from pcdet_distill.datasets.synthetic.sensors.lidar import (
    GROUND_HIT,
    Sweep,
    cast,
    rays_for_camera,
)
from pcdet_distill.datasets.synthetic.sensors.raycast import Instances
from pcdet_distill.datasets.synthetic.sensors.sensor_options import standard_sensor
from pcdet_distill.datasets.synthetic.templates.library import library

FLAT = Ground(half_width_m=100.0)
CAR_SIZE_M = (4.0, 1.6, 1.5)


class Thing(NamedTuple):
    """An object that stands on the ground with yaw 0."""

    name: str
    x: float
    y: float
    size_m: tuple[float, float, float]


def sweep(things: list[Thing], ground: Ground = FLAT, seed: int = 3) -> Sweep:
    """Cast all rays into a scene."""
    rng = np.random.default_rng(seed)
    camera = Camera.standard()
    poses = []
    for thing in things:
        poses.append((thing.x, thing.y, float(ground.height(thing.x, thing.y)), 0.0))
    templates = [library().index[thing.name] for thing in things]
    instances = Instances(
        template=np.array(templates, dtype=np.int64),
        poses=np.array(poses).reshape(-1, 4),
        sizes_m=np.array([thing.size_m for thing in things], dtype=float).reshape(-1, 3),
        shade=np.ones(len(things)),
        counted=np.ones(len(things), dtype=bool),
    )
    rays = rays_for_camera(camera, rng)
    return cast(rays, library().shapes, instances, ground=ground, camera=camera, rng=rng)


def elevation_of(points: np.ndarray) -> np.ndarray:
    return np.arctan2(points[:, 2], np.hypot(points[:, 0], points[:, 1]))


def test_beams_are_those_of_the_hdl_64e() -> None:
    degrees = np.rad2deg(standard_sensor().elevations_rad)
    assert len(degrees) == 64
    assert (np.diff(degrees) < 0).all()
    upper, lower = degrees[:32], degrees[32:]
    np.testing.assert_allclose(upper[[0, 3, 31]], [2.0, 1.0, -8.3333], atol=1e-3)
    np.testing.assert_allclose(lower[[0, 2, 31]], [-8.83, -9.83, -24.33], atol=1e-3)


def test_rays_cover_the_camera_and_little_more() -> None:
    rays = rays_for_camera(Camera.standard(), np.random.default_rng(0))
    assert np.rad2deg(np.diff(rays.azimuths_rad)) == pytest.approx(0.18)
    np.testing.assert_allclose(np.linalg.norm(rays.directions, axis=-1), 1.0)
    elevations = np.arcsin(rays.directions[:, 0, 2])
    np.testing.assert_allclose(elevations, rays.elevations_rad, atol=1e-12)
    ends_of_others = (rays.directions * 20.0)[~rays.is_cast]
    assert not Camera.standard().sees(ends_of_others).any()
    assert 42 <= len(rays.elevations_rad) <= 50


def test_flat_ground_lies_where_the_beams_meet_it() -> None:
    result = sweep([])
    points = result.points.astype(float)
    assert (result.owner == GROUND_HIT).all()
    assert np.abs(points[:, 2] + 1.73).max() < 0.1
    assert points[:, 2].mean() == pytest.approx(-1.73, abs=0.002)
    to_every_beam = np.abs(elevation_of(points)[:, None] - standard_sensor().elevations_rad)
    to_nearest_beam = to_every_beam.min(axis=1)
    assert np.rad2deg(to_nearest_beam).max() < 0.01
    assert Camera.standard().sees(points[:, :3]).all()
    assert np.linalg.norm(points[:, :3], axis=1).max() <= 80.1


def test_tilted_and_bent_ground_solves_its_equation() -> None:
    ground = Ground(slope=(0.01, -0.02), bend_per_m=(3e-4, -2e-4), half_width_m=100.0)
    rays = rays_for_camera(Camera.standard(), np.random.default_rng(0))
    range_m, cosine, _ = ground.cast(rays.directions, 80.0)
    is_hit = np.isfinite(range_m)
    points = rays.directions[is_hit] * range_m[is_hit][:, None]
    heights = ground.height(points[:, 0], points[:, 1])
    np.testing.assert_allclose(heights, points[:, 2], atol=1e-9)
    assert is_hit.any()
    assert (cosine[is_hit] <= 1.0).all()
    assert (cosine[is_hit] > 0).all()


def test_the_pavement_is_a_kerb_higher_and_the_kerb_has_a_face() -> None:
    ground = Ground(half_width_m=4.0, kerb_m=0.15)
    points = sweep([], ground).points.astype(float)
    from_middle = np.abs(points[:, 1])
    on_street = from_middle < 3.9
    on_pavement = from_middle > 4.1
    assert points[on_street, 2].mean() == pytest.approx(-1.73, abs=0.005)
    assert points[on_pavement, 2].mean() == pytest.approx(-1.58, abs=0.005)
    kerb_heights = points[~on_street & ~on_pavement, 2]
    assert ((kerb_heights > -1.69) & (kerb_heights < -1.62)).sum() > 10


def test_a_wall_hides_what_is_behind_it() -> None:
    wall = Thing("wall", 10.0, 0.0, (0.3, 30.0, 6.0))
    car = Thing("saloon", 18.0, 0.0, CAR_SIZE_M)
    hidden = sweep([car, wall])
    free = sweep([car])
    assert hidden.visible[0] == 0
    assert (hidden.owner != 0).all()
    assert hidden.alone[0] == free.visible[0] > 100
    wall_points = hidden.points[hidden.owner == 1]
    assert wall_points[:, 0].mean() == pytest.approx(9.85, abs=0.01)
    assert (hidden.points[:, 0] < 10.2).all()


def test_half_a_wall_hides_half_a_car() -> None:
    wall = Thing("wall", 10.0, 10.0, (0.3, 20.0, 6.0))
    car = Thing("van", 18.0, 0.0, (4.5, 1.9, 2.2))
    result = sweep([wall, car])
    assert result.visible[1] / result.alone[1] == pytest.approx(0.5, abs=0.06)


def test_the_order_of_instances_changes_only_their_random_numbers() -> None:
    things = [
        Thing("saloon", 15.0, 2.0, CAR_SIZE_M),
        Thing("wall", 30.0, 0.0, (0.3, 30.0, 3.0)),
        Thing("pedestrian1", 9.0, -2.0, (0.5, 0.6, 1.7)),
    ]
    forwards = sweep(things)
    backwards = sweep(things[::-1])
    np.testing.assert_array_equal(forwards.alone[1], backwards.alone[1])  # the wall is solid
    assert abs(len(forwards.points) - len(backwards.points)) < 60  # windows let other rays pass


def test_leaves_and_windows_let_rays_through() -> None:
    bush = Thing("bush", 12.0, 0.0, (3.0, 3.0, 2.5))
    wall = Thing("wall", 20.0, 0.0, (0.3, 30.0, 6.0))
    result = sweep([bush, wall])
    leaves = result.points[result.owner == 0]
    assert len(leaves) > 200
    assert np.ptp(leaves[:, 0]) > 1.5  # returns from within, not from a surface
    wall_points = result.points[result.owner == 1]
    is_behind_bush = np.abs(wall_points[:, 1] / wall_points[:, 0]) < 0.05
    assert is_behind_bush.sum() > 20


def test_points_come_ring_by_ring_from_straight_ahead_to_the_left() -> None:
    points = sweep([]).points.astype(float)
    azimuth = np.arctan2(points[:, 1], points[:, 0])
    assert abs(azimuth[0]) < np.deg2rad(0.6)
    crosses_straight_ahead = (azimuth[:-1] < 0) & (azimuth[1:] >= 0)
    ring_starts = np.flatnonzero(crosses_straight_ahead) + 1
    rings = np.split(elevation_of(points), ring_starts)
    assert 25 < len(rings) < 50
    medians = [np.median(ring) for ring in rings if len(ring) > 30]
    assert (np.diff(medians) < 0).all()


def test_intensity_and_coordinates_are_rounded_as_in_kitti() -> None:
    points = sweep([Thing("saloon", 12.0, 0.0, CAR_SIZE_M)]).points
    assert points.dtype == np.float32
    intensity = points[:, 3].astype(float)
    assert (intensity >= 0).all()
    assert (intensity < 0.995).all()
    assert (intensity == 0).any()
    np.testing.assert_allclose(intensity * 100, np.round(intensity * 100), atol=1e-4)
    millimetres = points[:, :3].astype(float) * 1e3
    np.testing.assert_allclose(points[:, :3] * 1e3, np.round(millimetres), atol=5e-3)


def test_far_surfaces_lose_returns() -> None:
    def share_returned(x: float) -> float:
        result = sweep([Thing("saloon", x, 0.0, CAR_SIZE_M)])
        num_returns = (result.owner == 0).sum()
        return num_returns / result.visible[0]

    assert share_returned(10.0) > 0.9
    assert share_returned(65.0) < 0.9
