"""A simulated LiDAR: its rays, and the points that come back from a scene.

The standard sensor is an HDL-64E, by the angles of its manual: 32 upper beams from +2 to -8.33
degrees in steps of 1/3, 32 lower ones from -8.83 to -24.33 in steps of 1/2. One turn at 10 Hz
leaves about 0.18 degrees between two firings, as in KITTI's files. Other sensors are yaml files
(``sensor_options.py``). Only the rays that can end in camera 2's image are cast.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import numpy as np

from ....errors import ConfigError
from ..scenes.ground import Ground
from ..templates.materials import ALBEDO, ROUGHNESS, SPECULAR, material_table
from ..templates.shapes import Shapes
from .camera import Camera
from .raycast import WINDOW_MARGIN_RAD, Instances, RangeImage, RayTable, cast_instances
from .sensor_options import MountOptions, Sensor, SensorOptions, standard_sensor

# Half the opening that is cast. The view of camera 2 reaches 40.6 degrees to either side.
SECTOR_RAD = np.deg2rad(42.0)
VIEW_RANGES_M = (3.0, 6.0, 15.0)  # where rays are tested for the camera's view, and at their end
BEAM_NOISE_RAD = np.deg2rad(0.02)
FIRING_NOISE_RAD = np.deg2rad(0.006)

WALL_M = 5.0  # from the sensor; every MAX_RANGE_M reaches it
LEAST_RETURNED = 0.01  # share of the pulses on the wall that come back to a sensor that sees

NO_HIT = -1  # owner of a ray that meets nothing
GROUND_HIT = -2  # owner of a ray that meets the ground


def _no_shift() -> np.ndarray:
    return np.zeros(3)


def _no_turn() -> np.ndarray:
    return np.eye(3)


@dataclass(frozen=True)
class Pose:
    """A rigid motion from one frame to another: rotate, then shift.

    Attributes:
        origin_m: (3,) where the first frame's origin lies in the second.
        rotation: (3, 3).
    """

    origin_m: np.ndarray = field(default_factory=_no_shift)
    rotation: np.ndarray = field(default_factory=_no_turn)

    def after(self, first: Pose) -> Pose:
        """The motion that does ``first``, then this one."""
        origin_m = self.rotation @ first.origin_m + self.origin_m
        return Pose(origin_m, self.rotation @ first.rotation)

    def equals(self, other: Pose) -> bool:
        """Whether both are the same motion, to the last bit."""
        same_origin = np.array_equal(self.origin_m, other.origin_m)
        return same_origin and np.array_equal(self.rotation, other.rotation)

    @property
    def is_turned(self) -> bool:
        """Whether it rotates at all."""
        return not np.array_equal(self.rotation, np.eye(3))

    @property
    def is_shifted(self) -> bool:
        """Whether it shifts at all."""
        return bool(np.any(self.origin_m))


def mount_pose(mount: MountOptions) -> Pose:
    """From the frame of a sensor's beams to that of the points: roll, then pitch, then yaw."""
    roll, pitch, yaw = np.deg2rad([mount.roll_deg, mount.pitch_deg, mount.yaw_deg])
    about_x = np.array(
        [
            [1.0, 0.0, 0.0],
            [0.0, np.cos(roll), -np.sin(roll)],
            [0.0, np.sin(roll), np.cos(roll)],
        ]
    )
    about_y = np.array(
        [
            [np.cos(pitch), 0.0, np.sin(pitch)],
            [0.0, 1.0, 0.0],
            [-np.sin(pitch), 0.0, np.cos(pitch)],
        ]
    )
    about_z = np.array(
        [
            [np.cos(yaw), -np.sin(yaw), 0.0],
            [np.sin(yaw), np.cos(yaw), 0.0],
            [0.0, 0.0, 1.0],
        ]
    )
    origin_m = np.array([mount.x_m, mount.y_m, mount.z_m])
    return Pose(origin_m, about_z @ about_y @ about_x)


def rays_for_camera(
    camera: Camera, rng: np.random.Generator, sensor: Sensor | None = None, pose: Pose | None = None
) -> RayTable:
    """All rays that can end in the camera's image, slightly irregular as in a real sensor.

    Args:
        camera: the camera.
        rng: draws the irregularities.
        sensor: the standard one by default.
        pose: from the frame of the beams to that of the points; by default the sensor's mount.
    """
    sensor = standard_sensor() if sensor is None else sensor
    pose = mount_pose(sensor.options.mount) if pose is None else pose
    azimuths = _azimuths_rad(sensor, pose)
    is_cast = _is_in_view(camera, sensor, pose, azimuths)
    elevations = sensor.elevations_rad[: len(is_cast)]
    azimuths = azimuths + rng.uniform(0.0, np.deg2rad(sensor.azimuth_step_deg))
    directions = _directions(sensor, elevations, azimuths, rng)
    if pose.is_turned:
        directions = directions @ pose.rotation.T
    return RayTable(
        elevations_rad=elevations,
        azimuths_rad=azimuths,
        directions=np.ascontiguousarray(directions),
        is_cast=_without_dead_beams(is_cast, sensor.options, rng),
        to_sensor=np.ascontiguousarray(pose.rotation.T),
        is_turned=pose.is_turned,
        margin_rad=WINDOW_MARGIN_RAD + _stray_rad(sensor).max(),
    )


def rays_all_around(sensor: Sensor, rng: np.random.Generator) -> list[tuple[float, RayTable]]:
    """A full turn in two halves: the azimuth that each is centred on, and its rays.

    The azimuths of a half are relative to its centre, so that no object is cut in two where they
    jump from half a turn to minus half a turn. Directions are relative to it too. Azimuth 0 is
    straight ahead; a sensor's place on the car is left to the caller.
    """
    count = max(2, round(np.pi / np.deg2rad(sensor.azimuth_step_deg)))
    step = np.pi / count
    azimuths = -np.pi / 2 + step * (np.arange(count) + rng.uniform())
    elevations = sensor.elevations_rad
    everywhere = np.ones((len(elevations), count), dtype=bool)
    is_cast = _without_dead_beams(everywhere, sensor.options, rng)
    margin = WINDOW_MARGIN_RAD + _stray_rad(sensor).max()
    start, end = np.deg2rad([sensor.options.azimuth_from_deg, sensor.options.azimuth_to_deg])
    halves = []
    for centre in (0.0, np.pi):
        turned = (azimuths + centre - start) % (2 * np.pi) + start
        table = RayTable(
            elevations_rad=elevations,
            azimuths_rad=azimuths,
            directions=np.ascontiguousarray(_directions(sensor, elevations, azimuths, rng)),
            is_cast=is_cast & (turned <= end),
            to_sensor=np.eye(3),
            is_turned=False,
            margin_rad=margin,
        )
        halves.append((centre, table))
    return halves


def _directions(
    sensor: Sensor, elevations: np.ndarray, azimuths: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """(R, C, 3) unit vectors in the frame of the beams."""
    # Rotations in the plane as complex numbers of length 1: a product of two adds their angles.
    beam_offset = np.exp(1j * rng.normal(0.0, BEAM_NOISE_RAD, len(elevations)))
    firing_offset = rng.normal(0.0, FIRING_NOISE_RAD, len(azimuths))
    turn = np.exp(1j * (azimuths + firing_offset))
    up_angle = elevations[:, None]
    if sensor.options.irregularity:
        strays = rng.uniform(-1.0, 1.0, (2, len(elevations), len(azimuths)))
        reach_up, reach_sideways = _stray_rad(sensor)
        up_angle = up_angle + reach_up * strays[0]
        turn = turn * np.exp(1j * reach_sideways * strays[1])
    horizontal = (np.cos(up_angle) * beam_offset[:, None]) * turn
    up = np.broadcast_to(np.sin(up_angle), horizontal.shape)
    return np.stack([horizontal.real, horizontal.imag, up], axis=-1)


def _stray_rad(sensor: Sensor) -> np.ndarray:
    """(2,) how far a pulse strays up and sideways: at most half a cell of the raster."""
    between_beams = np.abs(np.diff(sensor.elevations_rad))
    cell_height = between_beams.min() if len(between_beams) else 0.0
    cell = np.array([cell_height, np.deg2rad(sensor.azimuth_step_deg)])
    return sensor.options.irregularity * cell / 2


def _without_dead_beams(
    is_cast: np.ndarray, options: SensorOptions, rng: np.random.Generator
) -> np.ndarray:
    """``is_cast`` (R, C) without the beams that fail during this sweep."""
    if not options.beam_dropout:
        return is_cast
    is_alive = rng.random(len(is_cast)) >= options.beam_dropout
    return is_cast & is_alive[:, None]


def _azimuths_rad(sensor: Sensor, pose: Pose) -> np.ndarray:
    """(C,) firing angles from right to left, before the start angle of a turn is added.

    Of a full turn only the sector of the camera is kept.
    """
    yaw = np.arctan2(pose.rotation[1, 0], pose.rotation[0, 0])
    # A tilted sensor sees the sector turned by at most twice its tilt, for beams up to 60 degrees.
    tilt = np.arccos(np.clip(pose.rotation[2, 2], -1.0, 1.0))
    reach = SECTOR_RAD + 2.0 * tilt
    start, end = np.deg2rad([sensor.options.azimuth_from_deg, sensor.options.azimuth_to_deg])
    if end - start >= 2 * np.pi - 1e-9:
        start, end = -reach - yaw, reach - yaw
    # A field of view may meet the sector a whole turn further.
    overlaps = []
    for turns in (0.0, 2 * np.pi, -2 * np.pi):
        first = max(start, -reach - yaw + turns)
        last = min(end, reach - yaw + turns)
        overlaps.append((last - first, first, last))
    _, first, last = max(overlaps, key=lambda overlap: overlap[0])
    return np.arange(first, last, np.deg2rad(sensor.azimuth_step_deg))


def _is_in_view(camera: Camera, sensor: Sensor, pose: Pose, azimuths: np.ndarray) -> np.ndarray:
    """(R, C) bool, rays that can end in the image at some range; R ends with the last that can."""
    mounted = mount_pose(sensor.options.mount)
    if camera is Camera.standard() and pose.equals(mounted):
        return _is_in_standard_view(sensor)
    return _find_rays_in_view(camera, sensor, pose, azimuths)


@functools.lru_cache(maxsize=8)
def _is_in_standard_view(sensor: Sensor) -> np.ndarray:
    """The same for a sensor in its mount, which is asked for in every frame."""
    pose = mount_pose(sensor.options.mount)
    return _find_rays_in_view(Camera.standard(), sensor, pose, _azimuths_rad(sensor, pose))


def _find_rays_in_view(
    camera: Camera, sensor: Sensor, pose: Pose, azimuths: np.ndarray
) -> np.ndarray:
    azimuth, elevation = np.meshgrid(azimuths, sensor.elevations_rad)
    horizontal = np.cos(elevation)
    x = horizontal * np.cos(azimuth)
    y = horizontal * np.sin(azimuth)
    directions = np.stack([x, y, np.sin(elevation)], axis=-1).reshape(-1, 3)
    if pose.is_turned:
        directions = directions @ pose.rotation.T
    in_view = np.zeros(len(directions), dtype=bool)
    # Sensor and camera are apart, so the view depends on the range.
    max_range_m = sensor.options.max_range_m
    for range_m in (*VIEW_RANGES_M, max_range_m):
        if range_m <= max_range_m:
            in_view |= camera.sees(directions * range_m + pose.origin_m, margin_px=6.0)
    in_view = in_view.reshape(azimuth.shape)
    beams_in_view = np.flatnonzero(in_view.any(axis=1))
    return in_view[: beams_in_view[-1] + 1] if len(beams_in_view) else in_view[:0]


def check_sees(sensor: Sensor, camera: Camera) -> None:
    """Refuse a sensor without a ray that can end in the camera's image."""
    pose = mount_pose(sensor.options.mount)
    azimuths = _azimuths_rad(sensor, pose)
    if not _is_in_view(camera, sensor, pose, azimuths).any():
        raise ConfigError(
            f"--sensor: {sensor.name} sees nothing: none of its rays can end in the image of "
            "camera 2, which looks forward, 40 degrees to either side and 14 up and down; change "
            "its beams, AZIMUTH_FROM_DEG and AZIMUTH_TO_DEG, MOUNT or MAX_RANGE_M"
        )


def check_returns(sensor: Sensor) -> None:
    """Refuse a sensor that loses nearly all of its pulses."""
    share = _returned_share(sensor.options)
    if share < LEAST_RETURNED:
        raise ConfigError(
            f"--sensor: {sensor.name} sees nothing: {100 * share:.2g} % of its pulses come back "
            f"from a white wall {WALL_M:g} m away; expected {100 * LEAST_RETURNED:g} % or more, by "
            "a larger SENSITIVITY (110 by default) or a smaller DROPOUT or BEAM_DROPOUT"
        )


def _returned_share(options: SensorOptions) -> float:
    """Share of the pulses on a white wall at WALL_M that come back."""
    measured = float(_measured_share(options, np.ones(1), np.full(1, WALL_M))[0])
    return measured * (1.0 - options.dropout) * (1.0 - options.beam_dropout)


def _measured_share(
    options: SensorOptions, reflected: np.ndarray, range_m: np.ndarray
) -> np.ndarray:
    """Share of the pulses that come back strongly enough to be measured.

    Args:
        options: of the sensor.
        reflected: what the surface throws back; 1 for a white wall.
        range_m: to the surface.
    """
    strength = reflected / (1.0 + (range_m / 25.0) ** 2)
    return 1.0 - np.exp(-options.sensitivity * strength)


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
    camera: Camera | None,
    rng: np.random.Generator,
    options: SensorOptions | None = None,
    origin_m: np.ndarray | None = None,
) -> Sweep:
    """Cast every ray into the scene and turn what comes back into points.

    Args:
        rays: from ``rays_for_camera``.
        shapes: the templates of the objects.
        instances: the objects.
        ground: the ground.
        camera: points outside its image are left out; None keeps all.
        rng: noise of the sensor.
        options: of the sensor; the standard one by default.
        origin_m: (3,) where the rays start; the origin by default.
    """
    options = standard_sensor().options if options is None else options
    if origin_m is not None:
        ground = ground.seen_from(origin_m)
        instances = instances._replace(poses=instances.poses - np.append(origin_m, 0.0))
    seed = int(rng.integers(1 << 62))
    range_m, cosine, material = ground.cast(rays.directions, options.max_range_m)
    owner = np.where(np.isfinite(range_m), GROUND_HIT, NO_HIT).astype(np.int64)
    image = RangeImage(range_m, cosine, material, owner)
    alone = cast_instances(rays, shapes, instances, material_table(), seed, image)
    owner[~rays.is_cast] = NO_HIT
    visible = np.bincount(owner[owner >= 0], minlength=len(alone))
    points, owner_of_point = _returns(
        rays, image, shade=instances.shade, options=options, origin_m=origin_m, rng=rng
    )
    if camera is None:
        return Sweep(points, owner_of_point, alone, visible)
    is_in_image = camera.sees(points[:, :3])
    return Sweep(points[is_in_image], owner_of_point[is_in_image], alone, visible)


def _returns(
    rays: RayTable,
    image: RangeImage,
    *,
    shade: np.ndarray,
    options: SensorOptions,
    origin_m: np.ndarray | None,
    rng: np.random.Generator,
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
    is_measured = _measured_share(options, albedo * (0.25 + 0.75 * cosine), range_m)
    grazing = (1.0 - cosine) ** 3
    probability = is_measured * (1.0 - surface[:, SPECULAR] * grazing)
    is_returned = (rng.random(len(order)) < probability) & (range_m < options.max_range_m)

    sigma_m = np.hypot(options.range_noise_m, surface[:, ROUGHNESS] * np.sqrt(cosine))
    noise_m = rng.normal(0.0, 1.0, len(order)) * sigma_m
    xyz = rays.directions.reshape(-1, 3)[order] * (range_m + noise_m)[:, None]
    if origin_m is not None:
        xyz += origin_m

    gain = np.interp(range_m, options.gain_ranges_m, options.gain_factors)
    intensity = albedo * (0.6 + 0.4 * cosine) * gain
    intensity *= np.exp(rng.normal(0.0, 0.18, len(order)))
    # In KITTI many dull returns have intensity zero, the more the further away.
    is_zero = (rng.random(len(order)) < 0.06 + 0.004 * range_m) & (albedo < 0.9)
    intensity[is_zero] = 0.0
    rounded_intensity = np.round(np.clip(intensity, 0.0, 0.99), 2)
    points = np.column_stack([np.round(xyz, 3), rounded_intensity]).astype(np.float32)
    if options.dropout:
        is_returned &= rng.random(len(order)) >= options.dropout
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
