"""Simulated KITTI: ray-cast streets, written as an ordinary KITTI folder."""

from .writer import create_synthetic_kitti

__all__ = ["create_synthetic_kitti"]
