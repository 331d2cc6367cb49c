"""Simulated data: ray-cast streets, written as a KITTI folder or as a version of nuScenes."""

from .nuscenes.writer import create_synthetic_nuscenes
from .options import SceneOptions, read_scenes
from .writer import create_synthetic_kitti

__all__ = [
    "SceneOptions",
    "create_synthetic_kitti",
    "create_synthetic_nuscenes",
    "read_scenes",
]
