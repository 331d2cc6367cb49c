"""Several sweeps: where the car and the traffic were some sweeps ago.

The scene is drawn for the last sweep, whose frame all points are written in. Before it the car
drove an arc at constant speed, and each moving road user went straight along its yaw. So the points
of what stands fall on each other, and those of what moves trail behind it, as in nuScenes' data.
Nothing moves during a sweep.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..scenes.builder import VEHICLES, Scene
from ..scenes.ground import Ground
from .lidar import Pose

STANDING_SHARE = 0.1  # of the scenes: the car waits
SPEEDS_M_S = (3.0, 14.0)  # of the car, in the others
TURN_SPREAD_RAD_S = 0.04
# Mean and standard deviation of speeds in metres per second, and their limits.
VEHICLE_SPEED = (9.0, 3.0, 0.0, 16.0)
CYCLIST_SPEED = (4.5, 1.2, 1.0, 9.0)
PEDESTRIAN_SPEED = (1.3, 0.3, 0.4, 2.5)
STANDING_PEDESTRIANS = 0.25
SAME_WAY_RAD = 0.5  # a vehicle whose yaw differs less from the car's drives in its direction
SAME_WAY_SPREAD_M_S = 1.0


@dataclass(frozen=True)
class Motion:
    """Who moves how fast.

    Attributes:
        speed_m_s: of the car.
        turn_rad_s: of the car, to the left.
        object_speeds_m_s: (N,) of the objects, along their yaw.
    """

    speed_m_s: float
    turn_rad_s: float
    object_speeds_m_s: np.ndarray


def draw_motion(scene: Scene, rng: np.random.Generator) -> Motion:
    """Random speeds for the car and everything that moves."""
    is_standing = rng.random() < STANDING_SHARE
    speed = 0.0 if is_standing else float(rng.uniform(*SPEEDS_M_S))
    turn = 0.0 if is_standing else float(rng.normal(0.0, TURN_SPREAD_RAD_S))
    speeds = np.zeros(len(scene.labels))
    for index, label in enumerate(scene.labels):
        if scene.moves[index]:
            yaw = scene.instances.poses[index, 3]
            speeds[index] = _draw_speed(str(label), yaw, speed, rng)
    return Motion(speed, turn, speeds)


def _draw_speed(label: str, yaw: float, car_speed: float, rng: np.random.Generator) -> float:
    """The speed of one road user."""
    if label in VEHICLES:
        # What drives ahead of the car keeps its distance.
        goes_along = np.cos(yaw) > np.cos(SAME_WAY_RAD)
        if goes_along:
            return max(car_speed + rng.normal(0.0, SAME_WAY_SPREAD_M_S), 0.0)
        return _clipped_normal(VEHICLE_SPEED, rng)
    if label == "Cyclist":
        return _clipped_normal(CYCLIST_SPEED, rng)
    stands = rng.random() < STANDING_PEDESTRIANS
    return 0.0 if stands else _clipped_normal(PEDESTRIAN_SPEED, rng)


def _clipped_normal(
    parameters: tuple[float, float, float, float], rng: np.random.Generator
) -> float:
    mean, spread, lowest, highest = parameters
    return float(np.clip(rng.normal(mean, spread), lowest, highest))


def car_pose_before(motion: Motion, ground: Ground, seconds: float) -> Pose:
    """The motion from the car's frame some seconds ago to its frame now."""
    angle = -motion.turn_rad_s * seconds
    # The way along an arc: its chord has half the angle of the turn, and sinc of it as length.
    chord_m = -motion.speed_m_s * seconds * np.sinc(angle / 2 / np.pi)
    x = chord_m * np.cos(angle / 2)
    y = chord_m * np.sin(angle / 2)
    # The sensor keeps its height above the street.
    height_there_m = ground.seen_from(np.array([x, y, 0.0])).sensor_height_m
    z = ground.sensor_height_m - height_there_m
    rotation = np.array(
        [
            [np.cos(angle), -np.sin(angle), 0.0],
            [np.sin(angle), np.cos(angle), 0.0],
            [0.0, 0.0, 1.0],
        ]
    )
    return Pose(np.array([x, y, z]), rotation)


def scene_before(scene: Scene, motion: Motion, seconds: float) -> Scene:
    """The scene some seconds ago, in the car's frame of now."""
    poses = scene.instances.poses.copy()
    is_moving = motion.object_speeds_m_s > 0.0
    way_m = motion.object_speeds_m_s[is_moving] * seconds
    x, y, _, yaw = poses[is_moving].T
    earlier_x = x - way_m * np.cos(yaw)
    earlier_y = y - way_m * np.sin(yaw)
    rise_m = scene.ground.height(earlier_x, earlier_y) - scene.ground.height(x, y)
    poses[is_moving, 0] = earlier_x
    poses[is_moving, 1] = earlier_y
    poses[is_moving, 2] += rise_m
    return replace(scene, instances=scene.instances._replace(poses=poses))
