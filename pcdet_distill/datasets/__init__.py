"""Data: what a model must know of it (spec), KITTI, and the loader that feeds either training or evaluation."""
from .spec import DataSpec

__all__ = ["DataSpec"]
