"""DataSpec: what a network is built from, read from the config without touching any data file.

A dataset has the same attributes, so ``build_network`` takes either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..config import built_from, required
from ..errors import ConfigError
from ..ops.voxels import grid_size_of
from ..types import ConfigDict
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
        point_cloud_range: (6,) float32, minimum of x, y, z, then maximum, in metres.
        voxel_size: edge lengths along x, y, z in metres; None when the points stay points.
        grid_size: (3,) int64 voxels along x, y, z; None when the points stay points.
        point_feature_encoder: chooses the columns of the points; knows their number.
        depth_downsample_factor: always None; camera models are not part of this package.
    """

    class_names: list[str]
    point_cloud_range: np.ndarray
    voxel_size: list[float] | None
    grid_size: np.ndarray | None
    point_feature_encoder: PointFeatureEncoder
    depth_downsample_factor: None = None

    @classmethod
    def from_config(cls, dataset_cfg: ConfigDict, class_names: Sequence[str]) -> DataSpec:
        """The spec that a DATA_CONFIG block describes."""
        limits = required(dataset_cfg, "POINT_CLOUD_RANGE", "DATA_CONFIG")
        limits = np.array(limits, dtype=np.float32)
        if limits.shape != (6,) or not (limits[3:] > limits[:3]).all():
            raise ConfigError(
                f"DATA_CONFIG.POINT_CLOUD_RANGE: {limits.tolist()} is not x, y, z minimum, "
                "then maximum"
            )
        with built_from("DATA_CONFIG.DATA_PROCESSOR"):
            voxel_size = _voxel_size(dataset_cfg)
        encoding = required(dataset_cfg, "POINT_FEATURE_ENCODING", "DATA_CONFIG")
        return cls(
            class_names=list(class_names),
            point_cloud_range=limits,
            voxel_size=voxel_size,
            grid_size=None if voxel_size is None else grid_size_of(limits, voxel_size),
            point_feature_encoder=PointFeatureEncoder(encoding),
        )


def _voxel_size(dataset_cfg: ConfigDict) -> list[float] | None:
    """VOXEL_SIZE of the processing step that makes voxels, None when there is no such step."""
    for step in required(dataset_cfg, "DATA_PROCESSOR", "DATA_CONFIG"):
        if step["NAME"] not in VOXEL_STEPS:
            continue
        where = f"DATA_CONFIG.DATA_PROCESSOR.{step['NAME']}"
        size = required(step, "VOXEL_SIZE", where)
        if len(size) != 3 or min(size) <= 0:
            raise ConfigError(f"{where}.VOXEL_SIZE: {size} is not three lengths")
        return list(size)
    return None
