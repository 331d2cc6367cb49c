"""Simulated data: ray-cast streets, written as a KITTI folder or as a version of nuScenes.

templates       the objects, as shapes of convex pieces
scenes          a random street with its road users, and what makes it hard
sensors         LiDARs and the camera: which points come back
writer          a KITTI folder: ``labels`` with the faults of an ``annotator``, ``png`` images
nuscenes        drives as the tables of nuScenes
parts, pool     by several commands, in several processes
streams         random numbers of a frame, one stream for each reason
"""

from .nuscenes.writer import create_synthetic_nuscenes
from .scenes.options import SceneOptions, read_scenes
from .writer import create_synthetic_kitti

__all__ = [
    "SceneOptions",
    "create_synthetic_kitti",
    "create_synthetic_nuscenes",
    "read_scenes",
]
