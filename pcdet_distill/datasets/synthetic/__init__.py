"""Simulated KITTI: a ray-cast street, written as KITTI's own folders and files. Nothing after it knows."""

from .writer import create_synthetic_kitti

__all__ = ["create_synthetic_kitti"]
