"""Simulated KITTI: ray-cast streets, written as an ordinary KITTI folder."""

from .options import SceneOptions, read_scenes
from .writer import create_synthetic_kitti

__all__ = ["SceneOptions", "create_synthetic_kitti", "read_scenes"]
