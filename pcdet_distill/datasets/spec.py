"""What a model must know of its data, without touching any file: enough to build a network.

A dataset exposes the same attributes, so ``build_network`` takes either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..config import required
from ..errors import ConfigError
from ..ops.voxels import grid_size_of
from .processor.point_feature_encoder import PointFeatureEncoder

VOXEL_STEPS = (
    "transform_points_to_voxels",
    "transform_points_to_voxels_placeholder",
    "calculate_grid_size",
)


@dataclass
class DataSpec:
    """Range, voxels and features of the points a model will see.

    Attributes:
        class_names: label 1 is the first of them.
        point_cloud_range: (6,) float32, x, y, z minimum then maximum in metres.
        voxel_size: edge lengths along x, y, z in metres; None when the points stay points.
        grid_size: (3,) int64 voxels along x, y, z; None when the points stay points.
        point_feature_encoder: tells how many numbers a point has.
        depth_downsample_factor: always None; camera models are not part of this package.
    """

    class_names: list[str]
    point_cloud_range: np.ndarray
    voxel_size: list[float] | None
    grid_size: np.ndarray | None
    point_feature_encoder: PointFeatureEncoder
    depth_downsample_factor: None = None

    @classmethod
    def from_config(cls, dataset_cfg: Mapping[str, Any], class_names: Sequence[str]) -> DataSpec:
        """The spec that a DATA_CONFIG block describes."""
        limits = np.array(
            required(dataset_cfg, "POINT_CLOUD_RANGE", "DATA_CONFIG"), dtype=np.float32
        )
        if limits.shape != (6,) or not (limits[3:] > limits[:3]).all():
            raise ConfigError(
                f"DATA_CONFIG.POINT_CLOUD_RANGE: {limits.tolist()} is not x, y, z minimum, then maximum"
            )
        voxel_size = _voxel_size(dataset_cfg)
        encoder = PointFeatureEncoder(
            required(dataset_cfg, "POINT_FEATURE_ENCODING", "DATA_CONFIG")
        )
        grid = None if voxel_size is None else grid_size_of(limits, voxel_size)
        return cls(list(class_names), limits, voxel_size, grid, encoder)


def _voxel_size(dataset_cfg: Mapping[str, Any]) -> list[float] | None:
    """VOXEL_SIZE of the processing step that makes voxels, None when there is no such step."""
    for step in required(dataset_cfg, "DATA_PROCESSOR", "DATA_CONFIG"):
        if step["NAME"] in VOXEL_STEPS:
            size = required(step, "VOXEL_SIZE", f"DATA_CONFIG.DATA_PROCESSOR.{step['NAME']}")
            if len(size) != 3 or min(size) <= 0:
                raise ConfigError(
                    f"DATA_CONFIG.DATA_PROCESSOR.{step['NAME']}.VOXEL_SIZE: {size} is not three lengths"
                )
            return list(size)
    return None
