"""Streets and turns of the simulated nuScenes: nothing collides, the LiDAR sees all around."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from pcdet_distill.datasets.synthetic.nuscenes.actors import Actor, EgoDrive, Occupied, footprint
from pcdet_distill.datasets.synthetic.nuscenes.drive import instances_at, sweep_times
from pcdet_distill.datasets.synthetic.nuscenes.kinds import ATTRIBUTES, CATEGORIES, KINDS
from pcdet_distill.datasets.synthetic.nuscenes.street import StreetPlan, draw_street
from pcdet_distill.datasets.synthetic.nuscenes.turn import scan_turn
from pcdet_distill.datasets.synthetic.scenes.ground import Ground
from pcdet_distill.datasets.synthetic.sensors.raycast import Instances
from pcdet_distill.datasets.synthetic.sensors.sensor_options import make_sensor, read_sensor
from pcdet_distill.datasets.synthetic.streams import Streams
from pcdet_distill.datasets.synthetic.templates.library import library
from pcdet_distill.evaluation.nuscenes import CATEGORY_CLASS, DETECTION_NAMES

SECONDS = 4.0


@pytest.fixture(scope="module")
def streets() -> list[StreetPlan]:
    return [draw_street(Streams(0, number), SECONDS) for number in range(8)]


def test_every_class_appears(streets: list[StreetPlan]) -> None:
    counts: Counter[str] = Counter()
    for plan in streets:
        counts.update(CATEGORY_CLASS.get(actor.category, "-") for actor in plan.actors)
    for name in DETECTION_NAMES:
        assert counts[name] >= 3, counts


def test_kinds_use_nuscenes_words() -> None:
    for kind in KINDS.values():
        assert kind.category in CATEGORIES
        assert {kind.moving, kind.standing} - {""} <= set(ATTRIBUTES)
        assert set(kind.templates) <= set(library().index)


def test_nothing_collides_between_the_compared_times(streets: list[StreetPlan]) -> None:
    """At five times as many times as the street was drawn for, centres stay half a width apart."""
    times = np.arange(0.0, SECONDS, 0.1)
    for plan in streets:
        places = np.array([actor.places(times) for actor in plan.actors])
        half_widths = np.array([min(actor.size_m[:2]) / 2 for actor in plan.actors])
        for first in range(len(places)):
            distance = np.linalg.norm(places[first + 1 :] - places[first], axis=-1)
            needed = half_widths[first + 1 :, None] + half_widths[first]
            assert (distance > 0.95 * needed).all()


def test_traffic_of_a_lane_has_one_speed(streets: list[StreetPlan]) -> None:
    for plan in streets:
        ahead = [a for a in plan.actors if a.attribute == "vehicle.moving" and a.y_m < 0]
        assert {actor.speed_m_s for actor in ahead} <= {plan.ego.speed_m_s}


def test_a_place_is_taken_only_while_somebody_is_there() -> None:
    occupied = Occupied.during(4.0)
    times = occupied.times_s
    passing = np.stack([10.0 * times - 20.0, np.zeros_like(times)], axis=-1)
    occupied.add(*footprint(passing, np.zeros(len(times)), (4.0, 2.0, 1.5)))
    still = footprint(np.zeros((len(times), 2)), np.zeros(len(times)), (0.5, 0.5, 1.7))
    aside = footprint(np.full((len(times), 2), 3.0), np.zeros(len(times)), (0.5, 0.5, 1.7))
    assert not occupied.is_free(*still)
    assert occupied.is_free(*aside)


def test_the_weaving_vehicle_looks_where_it_goes() -> None:
    ego = EgoDrive(speed_m_s=8.0, lane_y_m=-2.0, weave_m=0.4, weave_rad_s=0.8)
    times = np.linspace(0.0, 8.0, 8001)
    x, y, yaw = ego.poses(times).T
    way = np.arctan2(np.gradient(y), np.gradient(x))
    np.testing.assert_allclose(way[1:-1], yaw[1:-1], atol=1e-5)
    assert np.all(EgoDrive(0.0, -2.0, weave_m=0.4).poses(times) == [0.0, -2.0, 0.0])


def test_times_of_sweeps() -> None:
    times = sweep_times(key_frames=2, sweeps=3, rate_hz=20.0)
    assert [sweep.time_s for sweep in times] == pytest.approx([-0.1, -0.05, 0.0, 0.4, 0.45, 0.5])
    assert [sweep.is_key_frame for sweep in times] == [False, False, True] * 2
    assert [sweep.key_frame for sweep in times] == [0, 0, 0, 1, 1, 1]


FLAT = Ground(sensor_height_m=0.0, half_width_m=100.0)


def posts(places: list[tuple[float, float]], yaw: float = 0.0) -> Instances:
    """Metal posts of two metres height."""
    count = len(places)
    poses = np.zeros((count, 4))
    poses[:, :2] = places
    poses[:, 3] = yaw
    return Instances(
        template=np.full(count, library().index["wall"]),
        poses=poses,
        sizes_m=np.tile([1.0, 1.0, 3.0], (count, 1)),
        shade=np.ones(count),
        counted=np.ones(count, dtype=bool),
    )


@pytest.mark.parametrize("ego_yaw", [0.0, 1.0, np.pi, -2.5])
def test_objects_on_all_sides_are_hit_where_they_are(ego_yaw: float) -> None:
    """Eight blocks around the vehicle, also where the two halves of the turn meet."""
    angles = np.arange(8) * np.pi / 4
    ego = np.array([20.0, 5.0, ego_yaw])
    places = [(20 + 12 * np.cos(a), 5 + 12 * np.sin(a)) for a in angles]
    sensor = read_sensor("lidar32")
    turn = scan_turn(FLAT, posts(places), ego, sensor, np.random.default_rng(0))
    assert (turn.num_points > 60).all()
    assert (turn.visible == turn.alone).all()
    points = in_street(turn.points, ego)
    high = points[points[:, 2] > 0.1]
    offsets = np.abs(high[:, None, :2] - np.array(places)[None])
    nearest = offsets.max(axis=2).min(axis=1)
    assert (nearest < 0.6).all()
    assert len(high) > 300


def in_street(points: np.ndarray, ego: np.ndarray) -> np.ndarray:
    """Points of LIDAR_TOP, whose y axis looks ahead, in the street."""
    x, y, yaw = ego
    ahead = points[:, 1] + 0.94
    left = -points[:, 0]
    return np.column_stack(
        [
            x + np.cos(yaw) * ahead - np.sin(yaw) * left,
            y + np.sin(yaw) * ahead + np.cos(yaw) * left,
            points[:, 2] + 1.84,
        ]
    )


def test_ground_rings_and_intensity() -> None:
    """On a plane each ring is a circle; the lowest beam has number 0."""
    sensor = read_sensor("lidar32")
    turn = scan_turn(FLAT, posts([(30.0, 0.0)]), np.zeros(3), sensor, np.random.default_rng(0))
    rings = turn.points[:, 4].astype(int)
    ground = turn.points[:, 2] < -1.7
    radius = np.hypot(turn.points[:, 0], turn.points[:, 1])
    for ring in range(12):
        expected = 1.84 / np.tan(-sensor.elevations_rad[31 - ring])
        assert np.median(radius[ground & (rings == ring)]) == pytest.approx(expected, rel=0.02)
    angles = np.arctan2(turn.points[rings == 3, 1], turn.points[rings == 3, 0])
    gaps = np.diff(np.sort(angles))
    assert gaps.max() < np.deg2rad(3.0)  # no gap where the halves of the turn meet
    intensity = turn.points[:, 3]
    assert intensity.min() >= 0 and 5 < intensity.max() <= 255
    assert np.array_equal(intensity, np.round(intensity))


def test_a_sensor_that_sees_a_part_of_the_circle() -> None:
    block = {
        "BEAMS": [{"FROM_DEG": 0, "TO_DEG": -20, "COUNT": 8}],
        "AZIMUTH_FROM_DEG": -120,
        "AZIMUTH_TO_DEG": 60,
    }
    sensor = make_sensor("part", block, "part")
    turn = scan_turn(FLAT, posts([(30.0, 0.0)]), np.zeros(3), sensor, np.random.default_rng(0))
    # Ahead is y of the LiDAR: its azimuth is turned by a quarter.
    angles = np.rad2deg(np.arctan2(-turn.points[:, 0], turn.points[:, 1]))
    assert -120.5 < angles.min() < -118
    assert 58 < angles.max() < 60.5


def test_a_bent_ground_can_only_turn_where_it_is_bent_alike() -> None:
    ground = Ground(slope=(0.02, -0.01), bend_per_m=(1e-4, 1e-4), heading_rad=0.3, offset_m=1.0)
    turned = ground.turned(0.7)
    x, y = 12.0, -5.0
    cos, sin = np.cos(0.7), np.sin(0.7)
    here = (cos * x + sin * y, cos * y - sin * x)
    assert turned.height(*here) == pytest.approx(ground.height(x, y))
    assert turned.sensor_to_street(*here) == pytest.approx(ground.sensor_to_street(x, y))
    with pytest.raises(ValueError, match="cannot be turned"):
        Ground(bend_per_m=(1e-4, 0.0)).turned(0.1)


def test_moving_objects_keep_to_the_ground(streets: list[StreetPlan]) -> None:
    plan = streets[0]
    _, poses = instances_at(plan, 2.0)
    height = plan.ground.height(poses[:, 0], poses[:, 1])
    np.testing.assert_allclose(poses[:, 2], height)
    moving = [row for row, actor in enumerate(plan.actors) if actor.speed_m_s > 0]
    start = instances_at(plan, 0.0)[1]
    way = np.linalg.norm(poses[moving, :2] - start[moving, :2], axis=1)
    speeds = [plan.actors[row].speed_m_s for row in moving]
    np.testing.assert_allclose(way, 2.0 * np.array(speeds))


def test_actors_know_their_category() -> None:
    actor = Actor("van", 0, (5.0, 2.0, 2.0), 1.0, 0.0, 0.0, 0.0, 0.0, "vehicle.parked")
    assert actor.category == "vehicle.car"
