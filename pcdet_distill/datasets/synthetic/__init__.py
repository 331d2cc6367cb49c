"""Simulated data: ray-cast streets, written as a KITTI folder or as a version of nuScenes.

Objects, as shapes of convex pieces:

shapes            the pieces; ``materials`` what they do with a laser pulse
road_users        templates with a label; ``more_road_users`` further ones
street            templates without a label; ``lookalike_shapes`` those that look like a road user
library           all templates by name

Scenes:

scenes            a random street; ``options`` how hard it is, ``styles`` what kind of street
builder           puts objects into a street: ``traffic``, ``roadside``, ``company``, ``lookalikes``
ground            the ground with its kerbs
families          other shapes of the same class; ``surfaces`` black cars; ``tilt`` a pitching one

Sensors:

sensor_options    yaml files of sensors
lidar             the rays of a sensor, and the points that come back
raycast           rays into a scene; ``intersect`` meets the pieces, ``weather`` disturbs pulses
scan              the sweeps of a frame; ``ego_motion`` where the car was
camera            the camera, and the calibration; ``png`` a stand-in for its image

Files:

writer            a KITTI folder; ``labels`` its labels, ``annotator`` their faults
nuscenes          drives as the tables of nuScenes
parts, pool       by several commands, in several processes
streams           random numbers of a frame, one stream for each reason
"""

from .nuscenes.writer import create_synthetic_nuscenes
from .options import SceneOptions, read_scenes
from .writer import create_synthetic_kitti

__all__ = [
    "SceneOptions",
    "create_synthetic_kitti",
    "create_synthetic_nuscenes",
    "read_scenes",
]
