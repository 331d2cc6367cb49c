"""Earlier sweeps: what stands stays in place, what moves trails behind, ages are exact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pcdet_distill.datasets.synthetic import create_synthetic_kitti
from pcdet_distill.datasets.synthetic.scenes.builder import Scene
from pcdet_distill.datasets.synthetic.scenes.ground import Ground
from pcdet_distill.datasets.synthetic.scenes.options import EASY
from pcdet_distill.datasets.synthetic.sensors.camera import Camera
from pcdet_distill.datasets.synthetic.sensors.ego_motion import (
    Motion,
    car_pose_before,
    draw_motion,
    scene_before,
)
from pcdet_distill.datasets.synthetic.sensors.raycast import Instances
from pcdet_distill.datasets.synthetic.sensors.scan import earlier_sweeps, scan
from pcdet_distill.datasets.synthetic.sensors.sensor_options import (
    Sensor,
    make_sensor,
    standard_sensor,
)
from pcdet_distill.datasets.synthetic.streams import Streams
from pcdet_distill.datasets.synthetic.templates.library import library
from pcdet_distill.datasets.synthetic.writer import simulate_frame
from pcdet_distill.errors import ConfigError, DataError

FLAT = Ground(half_width_m=100.0)
WALL_SIZE_M = (0.3, 30.0, 6.0)


def scene_of(things: list[tuple[str, tuple[float, float, float], tuple[float, ...]]]) -> Scene:
    """A flat scene of things (template, (x, y, yaw), size)."""
    instances = Instances(
        template=np.array([library().index[name] for name, _, _ in things], dtype=np.int64),
        poses=np.array([(x, y, -1.73, yaw) for _, (x, y, yaw), _ in things]),
        sizes_m=np.array([size for _, _, size in things], dtype=float),
        shade=np.ones(len(things)),
        counted=np.ones(len(things), dtype=bool),
    )
    return Scene(FLAT, instances, ["Car"] * len(things), moves=np.zeros(len(things), bool))


def earlier(scene: Scene, motion: Motion, sensor: Sensor, count: int) -> np.ndarray:
    """(N, 5) points of the sweeps before the last one."""
    return earlier_sweeps(scene, motion, sensor, count=count, scenes=EASY, streams=Streams(0, 0))


def test_the_car_drove_an_arc() -> None:
    """Compared with many small steps of a car that turns as it goes."""
    motion = Motion(speed_m_s=12.0, turn_rad_s=0.3, object_speeds_m_s=np.zeros(0))
    x, y, yaw = 0.0, 0.0, 0.0
    steps = 20_000
    for _ in range(steps):
        yaw -= 0.3 * 0.4 / steps
        x -= 12.0 * np.cos(yaw) * 0.4 / steps
        y -= 12.0 * np.sin(yaw) * 0.4 / steps
    pose = car_pose_before(motion, FLAT, 0.4)
    np.testing.assert_allclose(pose.origin_m, [x, y, 0.0], atol=1e-3)
    assert np.arctan2(pose.rotation[1, 0], pose.rotation[0, 0]) == pytest.approx(yaw)
    straight = Motion(12.0, 0.0, np.zeros(0))
    np.testing.assert_allclose(car_pose_before(straight, FLAT, 0.5).origin_m, [-6.0, 0.0, 0.0])


def test_the_sensor_keeps_its_height_above_a_slope() -> None:
    slope = Ground(slope=(0.05, 0.0), half_width_m=100.0)
    motion = Motion(10.0, 0.0, np.zeros(0))
    np.testing.assert_allclose(car_pose_before(motion, slope, 1.0).origin_m, [-10.0, 0.0, -0.5])


def test_what_stands_stays_in_place_while_the_car_moves() -> None:
    scene = scene_of([("wall", (25.0, 0.0, 0.0), WALL_SIZE_M)])
    motion = Motion(12.0, 0.2, np.zeros(1))
    sensor = standard_sensor()
    rng = np.random.default_rng(0)
    last = scan(scene, sensor, Camera.standard(), rng).points
    before = earlier(scene, motion, sensor, 3)
    # 0.3 s ago the sensor was 3.6 m further back, and its points still lie on the same wall.
    for points in (last, before):
        on_wall = points[points[:, 2] > -1.0]
        assert len(on_wall) > 1000
        assert np.median(on_wall[:, 0]) == pytest.approx(24.85, abs=0.02)
        ground_points = points[(points[:, 2] < -1.0) & (points[:, 0] < 20.0)]
        assert ground_points[:, 2].mean() == pytest.approx(-1.73, abs=0.01)
    assert Camera.standard().sees(before[:, :3]).all()
    # Not the same rays again: the ground is met elsewhere.
    common = {tuple(row) for row in before[:, :3]} & {tuple(row) for row in last[:, :3]}
    assert len(common) < 0.001 * len(last)


def test_what_moves_trails_behind() -> None:
    scene = scene_of([("van", (30.0, 0.0, np.pi), (5.0, 2.0, 2.2))])
    motion = Motion(0.0, 0.0, np.array([10.0]))
    before = earlier(scene, motion, standard_sensor(), 2)
    for age_s in (0.1, 0.2):
        points = before[np.isclose(before[:, 4], age_s)]
        front_m = np.percentile(points[points[:, 2] > -1.2, 0], 5)
        # It comes towards the car at 10 m/s, so it was further away.
        assert front_m == pytest.approx(27.5 + 10.0 * age_s, abs=0.25)


def test_ages_follow_the_rate_and_the_newest_comes_first() -> None:
    scene = scene_of([("wall", (25.0, 0.0, 0.0), WALL_SIZE_M)])
    fast = make_sensor("fast", {"ELEVATIONS_DEG": [-2, -3, -6], "RATE_HZ": 20}, "fast.yaml")
    motion = Motion(5.0, 0.0, np.zeros(1))
    points = earlier(scene, motion, fast, 4)
    assert points.dtype == np.float32
    ages = points[:, 4]
    np.testing.assert_allclose(np.unique(ages), [0.05, 0.1, 0.15, 0.2], atol=1e-6)
    assert (np.diff(ages) >= 0).all()


def test_road_users_move_along_their_yaw_on_the_ground() -> None:
    scene, _ = simulate_frame(0, 4)
    motion = draw_motion(scene, np.random.default_rng(0))
    before = scene_before(scene, motion, 0.5)
    shift = scene.instances.poses - before.instances.poses
    yaw = scene.instances.poses[:, 3]
    along = shift[:, 0] * np.cos(yaw) + shift[:, 1] * np.sin(yaw)
    np.testing.assert_allclose(along, motion.object_speeds_m_s * 0.5, atol=1e-9)
    np.testing.assert_array_equal(shift[~scene.moves], 0.0)
    moving = before.instances.poses[scene.moves]
    on_ground = scene.ground.height(moving[:, 0], moving[:, 1])
    np.testing.assert_allclose(moving[:, 2], on_ground, atol=1e-9)
    assert scene.moves.any()


def test_speeds_are_those_of_a_town() -> None:
    speeds: dict[str, list[float]] = {"Car": [], "Pedestrian": [], "Cyclist": []}
    cars = []
    for frame in range(40):
        scene, _ = simulate_frame(0, frame)
        motion = draw_motion(scene, np.random.default_rng(frame))
        cars.append(motion.speed_m_s)
        for label, moves, speed in zip(scene.labels, scene.moves, motion.object_speeds_m_s):
            if moves and label in speeds:
                speeds[label].append(speed)
            if not moves:
                assert speed == 0.0
    assert min(cars) == 0.0 and 3.0 < np.mean(cars) < 14.0 and max(cars) <= 14.0
    assert 4.0 < np.mean(speeds["Car"]) < 12.0
    assert 0.7 < np.mean(speeds["Pedestrian"]) < 1.3
    assert 4.0 < np.mean(speeds["Cyclist"]) < 5.0


def test_a_folder_of_sweeps(tmp_path: Path) -> None:
    plain = create_synthetic_kitti(tmp_path / "plain", 2, 0, progress=False)
    sensors = ["hdl64e", "vlp16"]
    root = create_synthetic_kitti(tmp_path / "sim", 2, 0, sensors=sensors, sweeps=3, progress=False)
    for name in ("velodyne/000001.bin", "label_2/000001.txt"):
        assert (root / "training" / name).read_bytes() == (plain / "training" / name).read_bytes()
    for folder in ("velodyne_sweeps", "velodyne_vlp16_sweeps"):
        file = root / "training" / folder / "000001.bin"
        points = np.fromfile(file, dtype=np.float32).reshape(-1, 5)
        np.testing.assert_allclose(np.unique(points[:, 4]), [0.1, 0.2], atol=1e-6)
    create_synthetic_kitti(plain, 2, 0, sweeps=2, progress=False)
    with pytest.raises(DataError, match="sweeps 2 instead of 3"):
        create_synthetic_kitti(plain, 2, 0, sweeps=3, progress=False)
    with pytest.raises(ConfigError, match="sweeps: 0 requested, expected 1 to 20"):
        create_synthetic_kitti(tmp_path / "none", 2, 0, sweeps=0)
