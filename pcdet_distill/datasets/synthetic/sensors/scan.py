"""What a sensor sees of a scene: its last sweep, and the sweeps before it."""

from __future__ import annotations

import numpy as np

from ..scenes.builder import Scene
from ..scenes.options import SceneOptions
from ..scenes.surfaces import polish
from ..scenes.tilt import tilted_camera, tilted_sweep
from ..streams import Streams
from ..templates.library import library
from .camera import Camera
from .ego_motion import Motion, car_pose_before, scene_before
from .lidar import Pose, Sweep, cast, mount_pose, rays_for_camera
from .sensor_options import Sensor
from .weather import add_weather


def scan(
    scene: Scene,
    sensor: Sensor,
    camera: Camera,
    rng: np.random.Generator,
    car_pose: Pose | None = None,
) -> Sweep:
    """What a sensor sees of a scene in clear air, in the frame of a car that stands upright.

    Args:
        scene: the scene.
        sensor: the sensor.
        camera: points outside its image are left out.
        rng: noise of the sensor.
        car_pose: from the car's frame to that of the scene; None where they are the same.
    """
    pose = mount_pose(sensor.options.mount)
    if car_pose is not None:
        pose = car_pose.after(pose)
    rays = rays_for_camera(camera, rng, sensor, pose)
    return cast(
        rays,
        library().shapes,
        scene.instances,
        ground=scene.ground,
        camera=tilted_camera(camera, scene.tilt),
        rng=rng,
        options=sensor.options,
        origin_m=pose.origin_m if pose.is_shifted else None,
    )


def disturbed(sweep: Sweep, scene: Scene, scenes: SceneOptions, streams: Streams) -> Sweep:
    """A sweep with polished cars and weather, in the frame of the tilted car."""
    sweep = polish(sweep, scene.labels, scenes.surfaces, streams)
    sweep = add_weather(sweep, scenes.weather, streams)
    return tilted_sweep(sweep, scene.tilt)


def earlier_sweeps(
    scene: Scene,
    motion: Motion,
    sensor: Sensor,
    *,
    count: int,
    scenes: SceneOptions,
    streams: Streams,
) -> np.ndarray:
    """(N, 5) float32 x, y, z, intensity, age in seconds of the sweeps before the last one.

    All are in the frame of the last sweep and cut to its camera's view, the newest first.
    """
    camera = Camera.standard()
    clouds = [np.zeros((0, 5), dtype=np.float32)]
    for number in range(1, count + 1):
        age_s = number / sensor.options.rate_hz
        rng = streams.of(f"{sensor.name} sweep", number)
        earlier = scene_before(scene, motion, age_s)
        car_pose = car_pose_before(motion, scene.ground, age_s)
        sweep = disturbed(scan(earlier, sensor, camera, rng, car_pose), earlier, scenes, streams)
        ages = np.full((len(sweep.points), 1), age_s, dtype=np.float32)
        clouds.append(np.concatenate([sweep.points, ages], axis=1))
    return np.concatenate(clouds)
