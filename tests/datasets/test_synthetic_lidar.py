"""The simulated sweep: beam angles, ground, occlusion, porosity and the sensor's order."""

from __future__ import annotations

import numpy as np
import pytest

from pcdet_distill.datasets.synthetic.camera import Camera
from pcdet_distill.datasets.synthetic.ground import Ground
from pcdet_distill.datasets.synthetic.library import library
from pcdet_distill.datasets.synthetic.lidar import (
    GROUND_HIT,
    Instances,
    RayGrid,
    Sweep,
    beam_elevations_rad,
    cast,
)

FLAT = Ground(half_width_m=100.0)


Thing = tuple[str, float, float, tuple[float, float, float]]


def sweep(things: list[Thing], ground: Ground = FLAT, seed: int = 3) -> Sweep:
    """Cast into a scene of (name, x, y, size) that stand on the ground with yaw 0."""
    rng, camera = np.random.default_rng(seed), Camera.standard()
    poses = [(x, y, float(ground.height(x, y)), 0.0) for _, x, y, _ in things]
    instances = Instances(
        np.array([library().index[name] for name, *_ in things], dtype=np.int64),
        np.array(poses).reshape(-1, 4),
        np.array([size for *_, size in things], dtype=float).reshape(-1, 3),
        np.ones(len(things)),
        np.ones(len(things), dtype=bool),
    )
    return cast(RayGrid.for_camera(camera, rng), library().shapes, instances, ground, camera, rng)


def test_beams_are_the_hdl_64e_ones():
    degrees = np.rad2deg(beam_elevations_rad())
    assert len(degrees) == 64 and (np.diff(degrees) < 0).all()
    np.testing.assert_allclose(
        degrees[[0, 3, 31, 32, 34, 63]], [2.0, 1.0, -8.3333, -8.83, -9.83, -24.33], atol=1e-3
    )


def test_grid_covers_the_camera_and_little_more():
    grid = RayGrid.for_camera(Camera.standard(), np.random.default_rng(0))
    assert np.rad2deg(np.diff(grid.azimuths_rad)) == pytest.approx(0.18)
    np.testing.assert_allclose(np.linalg.norm(grid.directions, axis=-1), 1.0)
    np.testing.assert_allclose(np.arcsin(grid.directions[:, 0, 2]), grid.elevations_rad, atol=1e-12)
    ends = (grid.directions * 20.0)[~grid.seen]
    assert not Camera.standard().sees(ends).any()
    assert 42 <= len(grid.elevations_rad) <= 50


def test_flat_ground_lies_where_the_beams_meet_it():
    result = sweep([])
    points = result.points.astype(float)
    assert (result.owner == GROUND_HIT).all()
    assert np.abs(points[:, 2] + 1.73).max() < 0.1 and points[:, 2].mean() == pytest.approx(
        -1.73, abs=0.002
    )
    elevation = np.arctan2(points[:, 2], np.hypot(points[:, 0], points[:, 1]))
    nearest_beam = np.abs(elevation[:, None] - beam_elevations_rad()).min(axis=1)
    assert np.rad2deg(nearest_beam).max() < 0.01
    assert Camera.standard().sees(points[:, :3]).all()
    assert np.linalg.norm(points[:, :3], axis=1).max() <= 80.1


def test_tilted_and_bent_ground_solves_its_equation():
    ground = Ground(slope=(0.01, -0.02), bend_per_m=(3e-4, -2e-4), half_width_m=100.0)
    grid = RayGrid.for_camera(Camera.standard(), np.random.default_rng(0))
    range_m, cosine, _ = ground.cast(grid.directions, 80.0)
    hit = np.isfinite(range_m)
    point = grid.directions[hit] * range_m[hit][:, None]
    np.testing.assert_allclose(ground.height(point[:, 0], point[:, 1]), point[:, 2], atol=1e-9)
    assert hit.any() and (cosine[hit] <= 1.0).all() and (cosine[hit] > 0).all()


def test_pavement_is_a_kerb_higher_and_the_kerb_has_a_face():
    ground = Ground(half_width_m=4.0, kerb_m=0.15)
    points = sweep([], ground).points.astype(float)
    street, pavement = np.abs(points[:, 1]) < 3.9, np.abs(points[:, 1]) > 4.1
    assert points[street, 2].mean() == pytest.approx(-1.73, abs=0.005)
    assert points[pavement, 2].mean() == pytest.approx(-1.58, abs=0.005)
    face = ~street & ~pavement
    assert ((points[face, 2] > -1.69) & (points[face, 2] < -1.62)).sum() > 10


def test_nothing_is_seen_behind_a_wall():
    wall, car = ("wall", 10.0, 0.0, (0.3, 30.0, 6.0)), ("saloon", 18.0, 0.0, (4.0, 1.6, 1.5))
    hidden, free = sweep([car, wall]), sweep([car])
    assert hidden.visible[0] == 0 and (hidden.owner != 0).all()
    assert hidden.alone[0] == free.visible[0] > 100
    assert hidden.points[hidden.owner == 1, 0].mean() == pytest.approx(9.85, abs=0.01)
    assert (hidden.points[:, 0] < 10.2).all()


def test_half_a_wall_hides_half_a_car():
    car = ("van", 18.0, 0.0, (4.5, 1.9, 2.2))
    half = sweep([("wall", 10.0, 10.0, (0.3, 20.0, 6.0)), car])
    assert half.visible[1] / half.alone[1] == pytest.approx(0.5, abs=0.06)


def test_order_of_instances_changes_nothing_but_their_numbers():
    things = [
        ("saloon", 15.0, 2.0, (4.0, 1.6, 1.5)),
        ("wall", 30.0, 0.0, (0.3, 30.0, 3.0)),
        ("pedestrian1", 9.0, -2.0, (0.5, 0.6, 1.7)),
    ]
    solid, turned = sweep(things), sweep(things[::-1])
    np.testing.assert_array_equal(solid.alone[1], turned.alone[1])
    assert abs(len(solid.points) - len(turned.points)) < 60  # windows are dealt anew


def test_leaves_let_rays_through_and_windows_some():
    bush, wall = ("bush", 12.0, 0.0, (3.0, 3.0, 2.5)), ("wall", 20.0, 0.0, (0.3, 30.0, 6.0))
    result = sweep([bush, wall])
    leaves = result.points[result.owner == 0]
    assert len(leaves) > 200 and np.ptp(leaves[:, 0]) > 1.5  # returns from within, not from a skin
    shadow = result.points[result.owner == 1]
    behind = np.abs(shadow[:, 1] / shadow[:, 0]) < 0.05
    assert behind.sum() > 20


def test_points_come_ring_by_ring_from_straight_ahead_to_the_left():
    points = sweep([]).points.astype(float)
    azimuth = np.arctan2(points[:, 1], points[:, 0])
    assert abs(azimuth[0]) < np.deg2rad(0.6)
    starts = np.flatnonzero((azimuth[:-1] < 0) & (azimuth[1:] >= 0)) + 1
    elevation = np.arctan2(points[:, 2], np.hypot(points[:, 0], points[:, 1]))
    rings = np.split(elevation, starts)
    assert 25 < len(rings) < 50
    assert (np.diff([np.median(ring) for ring in rings if len(ring) > 30]) < 0).all()


def test_intensity_and_coordinates_are_rounded_as_in_kitti():
    points = sweep([("saloon", 12.0, 0.0, (4.0, 1.6, 1.5))]).points
    assert points.dtype == np.float32
    intensity = points[:, 3].astype(float)
    assert (intensity >= 0).all() and (intensity < 0.995).all() and (intensity == 0).any()
    np.testing.assert_allclose(intensity * 100, np.round(intensity * 100), atol=1e-4)
    np.testing.assert_allclose(
        points[:, :3] * 1e3, np.round(points[:, :3].astype(float) * 1e3), atol=5e-3
    )


def test_far_and_grazing_surfaces_lose_returns():
    near, far = (sweep([("saloon", x, 0.0, (4.0, 1.6, 1.5))]) for x in (10.0, 65.0))
    rate = [(result.owner == 0).sum() / result.visible[0] for result in (near, far)]
    assert rate[0] > 0.9 > rate[1]
