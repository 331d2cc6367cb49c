"""What other sensors see: beams, mounts, fields of view, irregular patterns, lost pulses."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from pcdet_distill.datasets.synthetic.scenes.builder import Scene
from pcdet_distill.datasets.synthetic.scenes.ground import Ground
from pcdet_distill.datasets.synthetic.sensors.camera import Camera
from pcdet_distill.datasets.synthetic.sensors.lidar import (
    GROUND_HIT,
    Pose,
    Sweep,
    check_returns,
    check_sees,
    mount_pose,
    rays_for_camera,
)
from pcdet_distill.datasets.synthetic.sensors.raycast import Instances, RangeImage, cast_instances
from pcdet_distill.datasets.synthetic.sensors.scan import scan
from pcdet_distill.datasets.synthetic.sensors.sensor_options import (
    MountOptions,
    Sensor,
    make_sensor,
    read_sensor,
)
from pcdet_distill.datasets.synthetic.streams import Streams
from pcdet_distill.datasets.synthetic.templates.library import library
from pcdet_distill.datasets.synthetic.templates.materials import material_table
from pcdet_distill.datasets.synthetic.writer import simulate_frame
from pcdet_distill.errors import ConfigError

CAMERA = Camera.standard()
BEAMS = {"BEAMS": [{"FROM_DEG": 2, "TO_DEG": -14, "COUNT": 33}]}
# SHA-256 of the points of frame 0 with seed 0, as the simulator has always made them.
FIRST_FRAME = "eb14f2a3"


def sensor(**keys: object) -> Sensor:
    return make_sensor("mine", {**BEAMS, **keys}, "mine.yaml")


def scan_flat(chosen: Sensor, things: list[tuple[str, float, float]] | None = None) -> Sweep:
    """What a sensor sees of a flat ground with some objects (name, x, y)."""
    things = things or []
    ground = Ground(half_width_m=100.0)
    templates = [library().index[name] for name, _, _ in things]
    poses = [(x, y, -1.73, 0.0) for _, x, y in things]
    instances = Instances(
        template=np.array(templates, dtype=np.int64),
        poses=np.array(poses).reshape(-1, 4),
        sizes_m=library().shapes.sizes_m[templates].reshape(-1, 3),
        shade=np.ones(len(things)),
        counted=np.ones(len(things), dtype=bool),
    )
    scene = Scene(ground, instances, ["Car"] * len(things), moves=np.zeros(len(things), bool))
    return scan(scene, chosen, CAMERA, np.random.default_rng(0))


def angles_deg(points: np.ndarray, pose: Pose) -> tuple[np.ndarray, np.ndarray]:
    """Azimuth and elevation (N,) of points in the frame of a sensor's beams."""
    local = (points[:, :3].astype(float) - pose.origin_m) @ pose.rotation
    azimuth = np.arctan2(local[:, 1], local[:, 0])
    elevation = np.arctan2(local[:, 2], np.hypot(local[:, 0], local[:, 1]))
    return np.rad2deg(azimuth), np.rad2deg(elevation)


def test_the_default_frames_have_not_changed() -> None:
    sweep = simulate_frame(0, 0)[1]
    assert hashlib.sha256(sweep.points.tobytes()).hexdigest()[:8] == FIRST_FRAME


@pytest.mark.parametrize("name", ["hdl64e", "vlp16", "lidar32"])
def test_points_lie_on_the_beams(name: str) -> None:
    chosen = read_sensor(name)
    points = scan_flat(chosen, [("van", 15.0, 3.0), ("wall", 30.0, 0.0)]).points
    _, elevation = angles_deg(points, Pose())
    distance_m = np.linalg.norm(points[:, :3], axis=1)
    to_beams = np.abs(elevation[:, None] - np.array(chosen.elevations_deg)).min(axis=1)
    # Coordinates are rounded to a millimetre, so near points are less exact in angle.
    assert (to_beams < np.rad2deg(0.002 / distance_m)).all()
    assert len(points) > 500


def test_a_mount_moves_the_rays_and_not_the_scene() -> None:
    mount = {"X_M": 1.5, "Y_M": -0.4, "Z_M": -0.8, "YAW_DEG": 12, "PITCH_DEG": 4, "ROLL_DEG": -6}
    chosen = sensor(MOUNT=mount, RANGE_NOISE_M=0)
    sweep = scan_flat(chosen, [("wall", 20.0, 0.0)])
    pose = mount_pose(chosen.options.mount)
    _, elevation = angles_deg(sweep.points, pose)
    to_beams = np.abs(elevation[:, None] - np.array(chosen.elevations_deg)).min(axis=1)
    assert np.percentile(to_beams, 99) < 0.05
    ground_points = sweep.points[sweep.owner == GROUND_HIT]
    assert len(ground_points) > 500
    assert ground_points[:, 2].mean() == pytest.approx(-1.73, abs=0.005)
    wall_front = sweep.points[sweep.owner == 0, 0]
    assert np.median(wall_front) == pytest.approx(19.5, abs=0.02)


def test_roll_pitch_and_yaw_have_the_signs_of_the_docs() -> None:
    forward, left = np.array([1.0, 0, 0]), np.array([0, 1.0, 0])
    assert (mount_pose(MountOptions(yaw_deg=90)).rotation @ forward)[1] == pytest.approx(1)
    assert (mount_pose(MountOptions(pitch_deg=30)).rotation @ forward)[2] == pytest.approx(-0.5)
    assert (mount_pose(MountOptions(roll_deg=30)).rotation @ left)[2] == pytest.approx(0.5)


@pytest.mark.parametrize(
    "mount", [{"YAW_DEG": 175}, {"YAW_DEG": -60, "PITCH_DEG": 8}, {"ROLL_DEG": 20, "Y_M": 1.0}]
)
def test_no_ray_of_a_turned_sensor_is_left_out(mount: dict[str, float]) -> None:
    """The windows of the grid find every hit that trying all rays finds."""
    chosen = sensor(MOUNT=mount)
    pose = mount_pose(chosen.options.mount)
    scene, _ = simulate_frame(1, 2)
    shifted = scene.instances.poses - np.append(pose.origin_m, 0.0)
    instances = scene.instances._replace(poses=shifted)
    rays = rays_for_camera(CAMERA, np.random.default_rng(0), chosen, pose)
    counts = []
    for margin_rad in (rays.margin_rad, 10.0):
        image = RangeImage(
            np.full(rays.is_cast.shape, np.inf),
            np.zeros(rays.is_cast.shape),
            np.zeros(rays.is_cast.shape, dtype=np.int64),
            np.full(rays.is_cast.shape, -1, dtype=np.int64),
        )
        wider = rays._replace(margin_rad=margin_rad)
        cast_instances(wider, library().shapes, instances, material_table(), 5, image)
        counts.append(image.owner)
    np.testing.assert_array_equal(counts[0], counts[1])
    assert (counts[0] >= 0).sum() > 1000


def test_the_field_of_view_cuts() -> None:
    full = scan_flat(sensor())
    narrow = scan_flat(sensor(AZIMUTH_FROM_DEG=-10, AZIMUTH_TO_DEG=25))
    azimuth, _ = angles_deg(narrow.points, Pose())
    assert azimuth.min() == pytest.approx(-10, abs=0.3)
    assert azimuth.max() == pytest.approx(25, abs=0.3)
    assert len(narrow.points) < len(full.points)
    # A sensor turned to the left, whose field of view is on its right, looks ahead.
    turned = scan_flat(sensor(AZIMUTH_FROM_DEG=-180, AZIMUTH_TO_DEG=-150, MOUNT={"YAW_DEG": 160}))
    azimuth, _ = angles_deg(turned.points, Pose())
    assert azimuth.min() == pytest.approx(-20, abs=0.3)
    assert azimuth.max() == pytest.approx(10, abs=0.3)


def test_an_irregular_pattern_fills_its_cells_and_does_not_repeat() -> None:
    raster = sensor(IRREGULARITY=0)
    scattered = sensor(IRREGULARITY=1.0)
    spacing = 0.5
    _, on_lines = angles_deg(scan_flat(raster).points, Pose())
    _, between = angles_deg(scan_flat(scattered).points, Pose())
    to_line = np.abs(between[:, None] - np.array(raster.elevations_deg)).min(axis=1)
    # Evenly spread over half a cell to either side.
    assert to_line.mean() == pytest.approx(spacing / 4, abs=0.01)
    assert to_line.max() <= spacing / 2 + 0.01
    at_line = np.abs(on_lines[:, None] - np.array(raster.elevations_deg)).min(axis=1)
    assert at_line.max() < 0.02


def test_each_key_of_the_receiver_does_what_it_says() -> None:
    things = [("wall", 40.0, 0.0)]
    plain = scan_flat(sensor(), things)
    near = scan_flat(sensor(MAX_RANGE_M=20), things)
    assert np.linalg.norm(near.points[:, :3], axis=1).max() < 20.2
    deaf = scan_flat(sensor(SENSITIVITY=5), things)
    assert len(deaf.points) < 0.6 * len(plain.points)
    lossy = scan_flat(sensor(DROPOUT=0.3), things)
    assert len(lossy.points) / len(plain.points) == pytest.approx(0.7, abs=0.03)
    noisy = scan_flat(sensor(RANGE_NOISE_M=0.2), things)
    spread = [np.std(sweep.points[sweep.owner == 0, 0]) for sweep in (plain, noisy)]
    assert spread[1] > 0.15 > 0.1 > spread[0]
    loud = scan_flat(sensor(GAIN_RANGES_M=[0], GAIN_FACTORS=[2]), things)
    assert loud.points[:, 3].mean() > 1.5 * plain.points[:, 3].mean()
    dead = scan_flat(sensor(BEAM_DROPOUT=0.5), things)
    beams = [
        len(np.unique(np.round(angles_deg(sweep.points, Pose())[1] * 2))) for sweep in (plain, dead)
    ]
    assert 0.25 < beams[1] / beams[0] < 0.75


@pytest.mark.parametrize(
    "keys",
    [
        {"AZIMUTH_FROM_DEG": 60, "AZIMUTH_TO_DEG": 120},
        {"BEAMS": [{"FROM_DEG": 60, "TO_DEG": 30, "COUNT": 8}]},
        {"AZIMUTH_FROM_DEG": -60, "AZIMUTH_TO_DEG": 60, "MOUNT": {"YAW_DEG": 180}},
    ],
)
def test_a_sensor_that_sees_nothing_is_one_sentence(keys: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="mine sees nothing: none of its rays can end in"):
        check_sees(sensor(**keys), CAMERA)


@pytest.mark.parametrize("keys", [{"SENSITIVITY": 1e-4}, {"DROPOUT": 1}, {"BEAM_DROPOUT": 0.995}])
def test_a_sensor_that_loses_its_pulses_is_one_sentence(keys: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="mine sees nothing: .* come back from a white wall"):
        check_returns(sensor(**keys))


def test_a_sensor_that_is_nearly_deaf_is_accepted_and_has_points() -> None:
    """The limit follows the same rule as the points."""
    faint = sensor(SENSITIVITY=0.02)
    check_returns(faint)
    assert len(scan_flat(faint).points) > 0


def test_further_sensors_do_not_depend_on_each_other() -> None:
    random = [Streams(0, 1).of(name) for name in ("vlp16", "lidar32", "vlp16")]
    numbers = [generator.random() for generator in random]
    assert numbers[0] == numbers[2] != numbers[1]


def test_ground_seen_from_elsewhere_is_the_same_ground() -> None:
    ground = Ground(
        slope=(0.02, -0.01),
        bend_per_m=(3e-4, -2e-4),
        heading_rad=0.3,
        offset_m=-1.5,
        cross_u_m=12.0,
        half_width_m=3.0,
    )
    origin_m = np.array([2.0, -1.0, 0.4])
    moved = ground.seen_from(origin_m)
    x, y = np.meshgrid(np.linspace(-20, 40, 61), np.linspace(-15, 15, 31))
    expected = ground.height(x + 2.0, y - 1.0) - 0.4
    np.testing.assert_allclose(moved.height(x, y), expected, atol=1e-9)
