"""A car that pitches and rolls: the cloud and the boxes are turned about the sensor.

Streets are cast with an upright sensor. The points are turned afterwards, and the camera that cuts
the view is turned the other way, so that the view is that of a tilted camera. KITTI's boxes have a
yaw only: those of a tilted frame stay upright while the objects lean, as in KITTI.

One thing differs from a sensor that is tilted itself: its beams are level with the street.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..sensors.camera import Camera, small_rotation
from ..streams import Streams
from .options import TiltOptions

if TYPE_CHECKING:
    from ..sensors.lidar import Sweep
    from .builder import Scene


def draw_tilt(options: TiltOptions, streams: Streams) -> np.ndarray | None:
    """(3, 3) rotation from the upright to the tilted frame; None for a car that stands upright."""
    if options == TiltOptions():
        return None
    rng = streams.of("tilt")
    roll, pitch = rng.normal(size=2) * [options.roll_deg, options.pitch_deg]
    return small_rotation(np.deg2rad(roll), np.deg2rad(pitch), 0.0)


def tilted_camera(camera: Camera, tilt: np.ndarray | None) -> Camera:
    """A camera that sees of the upright scene what ``camera`` sees of the tilted one."""
    if tilt is None:
        return camera
    rotation = camera.from_lidar[:, :3] @ tilt
    from_lidar = np.column_stack([rotation, camera.from_lidar[:, 3]])
    return replace(camera, from_lidar=from_lidar)


def tilted_sweep(sweep: Sweep, tilt: np.ndarray | None) -> Sweep:
    """A sweep of the upright scene in the frame of the tilted sensor."""
    if tilt is None:
        return sweep
    points = sweep.points.copy()
    points[:, :3] = np.round(points[:, :3].astype(float) @ tilt.T, 3)
    return replace(sweep, points=points)


def tilted_bottoms(scene: Scene) -> np.ndarray:
    """(N, 3) bottom centres of the upright boxes around the objects, in the sensor's frame.

    The centre of a box is turned about the sensor; the box is then as high as before.
    """
    bottoms = scene.instances.poses[:, :3]
    if scene.tilt is None:
        return bottoms
    half_height = scene.instances.sizes_m[:, 2:] * [0.0, 0.0, 0.5]
    return (bottoms + half_height) @ scene.tilt.T - half_height
