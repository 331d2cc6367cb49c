"""One full turn of nuScenes' LiDAR from the roof of the vehicle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..scenes.ground import Ground
from ..sensors.lidar import cast, rays_all_around
from ..sensors.raycast import Instances
from ..sensors.sensor_options import Sensor
from ..templates.library import library

# nuScenes' LIDAR_TOP on the vehicle; its x axis looks to the right and its y axis ahead.
SENSOR_TRANSLATION_M = (0.94, 0.0, 1.84)
SENSOR_YAW_RAD = -np.pi / 2
INTENSITY_SCALE = 255.0  # the simulator's intensities are 0 to 1, nuScenes' 0 to 255


@dataclass(frozen=True)
class Turn:
    """What comes back from one turn.

    Attributes:
        points: (N, 5) float32 x, y, z in the LiDAR's frame, intensity 0 to 255, ring from below.
        num_points: (M,) returns of each object.
        alone: (M,) rays that would end on each counted object if it stood alone.
        visible: (M,) rays that end on it.
    """

    points: np.ndarray
    num_points: np.ndarray
    alone: np.ndarray
    visible: np.ndarray


def sensor_place(ego_pose: np.ndarray, ground: Ground) -> np.ndarray:
    """x, y, z (3,) of the LiDAR in the street, for a vehicle at x, y, yaw (3,)."""
    x, y, yaw = ego_pose
    ahead, left, up = SENSOR_TRANSLATION_M
    return np.array(
        [
            x + np.cos(yaw) * ahead - np.sin(yaw) * left,
            y + np.sin(yaw) * ahead + np.cos(yaw) * left,
            float(ground.height(x, y)) + up,
        ]
    )


def scan_turn(
    ground: Ground,
    instances: Instances,
    ego_pose: np.ndarray,
    sensor: Sensor,
    rng: np.random.Generator,
) -> Turn:
    """Cast a full turn. Nothing moves during it.

    Args:
        ground: in street coordinates.
        instances: all objects, in street coordinates.
        ego_pose: x, y, yaw (3,) of the vehicle.
        sensor: its beams.
        rng: noise of the sensor.
    """
    place = sensor_place(ego_pose, ground)
    ground_here = ground.seen_from(place)
    clouds = []
    num_points = np.zeros(len(instances.template), dtype=np.int64)
    alone = np.zeros_like(num_points)
    visible = np.zeros_like(num_points)
    for centre, rays in rays_all_around(sensor, rng):
        # The scene is turned into the frame of each half of the turn, and the points back.
        yaw = float(ego_pose[2]) + centre
        sweep = cast(
            rays,
            library().shapes,
            _seen_from(instances, place, yaw),
            ground=ground_here.turned(yaw),
            camera=None,
            rng=rng,
            options=sensor.options,
        )
        clouds.append(_in_sensor_frame(sweep.points, centre, sensor))
        owners = sweep.owner[sweep.owner >= 0]
        num_points += np.bincount(owners, minlength=len(num_points))
        alone += sweep.alone
        visible += sweep.visible
    return Turn(np.concatenate(clouds), num_points, alone, visible)


def _seen_from(instances: Instances, place: np.ndarray, yaw: float) -> Instances:
    """Objects in a frame at ``place`` that is turned by ``yaw``."""
    poses = instances.poses.copy()
    x, y, z = (poses[:, :3] - place).T
    poses[:, 0] = np.cos(yaw) * x + np.sin(yaw) * y
    poses[:, 1] = np.cos(yaw) * y - np.sin(yaw) * x
    poses[:, 2] = z
    poses[:, 3] -= yaw
    return instances._replace(poses=poses)


def _in_sensor_frame(points: np.ndarray, centre: float, sensor: Sensor) -> np.ndarray:
    """Points (N, 5) of the frame of half a turn in that of LIDAR_TOP."""
    angle = centre - SENSOR_YAW_RAD
    cos, sin = np.cos(angle), np.sin(angle)
    x, y, z = points[:, :3].astype(float).T
    cloud = np.zeros((len(points), 5), dtype=np.float32)
    cloud[:, 0] = cos * x - sin * y
    cloud[:, 1] = sin * x + cos * y
    cloud[:, 2] = z
    cloud[:, 3] = np.round(points[:, 3] * INTENSITY_SCALE)
    cloud[:, 4] = _rings(np.arctan2(z, np.hypot(x, y)), sensor)
    return cloud


def _rings(elevations_rad: np.ndarray, sensor: Sensor) -> np.ndarray:
    """Number of the beam (N,), the lowest one 0: a noisy range does not change the elevation."""
    rising = sensor.elevations_rad[::-1]
    between = (rising[1:] + rising[:-1]) / 2
    return np.searchsorted(between, elevations_rad)
