"""The detectors of cfgs/nuscenes_models on a range of 25.6 m x 25.6 m, and scenes for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from easydict import EasyDict

from pcdet_distill.config import load_config
from pcdet_distill.datasets.spec import DataSpec
from pcdet_distill.models import load_data_to_device
from pcdet_distill.ops.voxels import voxelize

REPO = Path(__file__).parents[2]
# 32 x 32 cells of every head: 4 pillars of 0.2 m, or 8 voxels of 0.1 m.
RANGE = [-12.8, -12.8, -5.0, 12.8, 12.8, 3.0]
# With voxels of 0.075 m.
SMALL_RANGE = [-9.6, -9.6, -5.0, 9.6, 9.6, 3.0]
SIZES_M = [
    [4.6, 2.0, 1.7],
    [6.9, 2.5, 2.8],
    [6.4, 2.8, 3.2],
    [10.5, 2.9, 3.5],
    [12.3, 2.9, 3.9],
    [0.5, 2.5, 1.0],
    [2.1, 0.8, 1.5],
    [1.7, 0.6, 1.3],
    [0.7, 0.7, 1.8],
    [0.4, 0.4, 1.1],
]
GROUND_M = -1.8
MAX_POINTS = 10
MAX_VOXELS = 20000


def nuscenes_config(file: str, *overrides: Any) -> EasyDict:
    """A yaml file of cfgs/, on the small range."""
    limits = SMALL_RANGE if needs_small_range(file) else RANGE
    return load_config(REPO / "cfgs" / file, ["DATA_CONFIG.POINT_CLOUD_RANGE", limits, *overrides])


def needs_small_range(file: str) -> bool:
    """Whether a detector has voxels of 0.075 m: then this range has 32 x 32 cells."""
    return any(word in file for word in ("0075", "voxelnext", "transfusion"))


def voxelnext_config() -> EasyDict:
    """VoxelNeXt with narrow levels."""
    cfg = nuscenes_config(
        "nuscenes_models/cbgs_voxel0075_voxelnext.yaml",
        *("MODEL.DENSE_HEAD.SHARED_CONV_CHANNEL", 16),
        *("MODEL.DENSE_HEAD.INPUT_FEATURES", 16),
    )
    cfg.MODEL.BACKBONE_3D.NUM_FILTERS = [4, 4, 8, 8, 16]
    return cfg


def transfusion_config(*overrides: Any) -> EasyDict:
    """TransFusion-L with narrow layers and few queries."""
    return nuscenes_config(
        "nuscenes_models/transfusion_lidar.yaml",
        *("MODEL.BACKBONE_3D.NUM_FILTERS", [4, 4, 8, 8, 8]),
        *("MODEL.MAP_TO_BEV.NUM_BEV_FEATURES", 16),
        *("MODEL.BACKBONE_2D.NUM_FILTERS", [8, 8]),
        *("MODEL.BACKBONE_2D.NUM_UPSAMPLE_FILTERS", [8, 8]),
        *("MODEL.BACKBONE_2D.LAYER_NUMS", [1, 1]),
        *("MODEL.DENSE_HEAD.HIDDEN_CHANNEL", 16),
        *("MODEL.DENSE_HEAD.FFN_CHANNEL", 32),
        *("MODEL.DENSE_HEAD.NUM_PROPOSALS", 30),
        *("MODEL.DENSE_HEAD.DROPOUT", 0.0),
        *overrides,
    )


def spec_of(cfg: EasyDict) -> DataSpec:
    return DataSpec.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES)


def random_scene(seed: int, reach_m: float = 9.0) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 5) on the ground and in boxes (10, 10), one of every class, with velocities."""
    random = np.random.RandomState(seed)
    boxes = np.zeros((len(SIZES_M), 10), np.float32)
    for label, (row, size) in enumerate(zip(boxes, SIZES_M), start=1):
        centre = [*random.uniform(-reach_m, reach_m, 2), GROUND_M + size[2] / 2]
        row[:] = [*centre, *size, random.uniform(-3, 3), *random.normal(0, 3, 2), label]
    ground = np.full((600, 3), GROUND_M)
    ground[:, :2] = random.uniform(-reach_m, reach_m, (len(ground), 2))
    in_boxes = [row[:3] + random.uniform(-0.4, 0.4, (60, 3)) * row[3:6].min() for row in boxes]
    xyz = np.concatenate([ground, *in_boxes])
    intensity = random.uniform(0, 255, len(xyz))
    age_s = random.choice([0.0, 0.05, 0.1], len(xyz))
    return np.column_stack([xyz, intensity, age_s]).astype(np.float32), boxes


def make_batch(spec: DataSpec, scenes: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """A collated batch of scenes, as tensors; pillars and voxels are grouped too."""
    parts: dict[str, list[np.ndarray]] = {
        "voxels": [],
        "voxel_coords": [],
        "voxel_num_points": [],
        "points": [],
    }
    for frame, (points, _) in enumerate(scenes):
        voxels, coords, num_points = voxelize(
            points, spec.point_cloud_range, spec.voxel_size, MAX_POINTS, MAX_VOXELS
        )
        parts["voxels"].append(voxels)
        parts["voxel_num_points"].append(num_points)
        parts["voxel_coords"].append(np.pad(coords, ((0, 0), (1, 0)), constant_values=frame))
        parts["points"].append(np.pad(points, ((0, 0), (1, 0)), constant_values=frame))
    batch: dict[str, Any] = {key: np.concatenate(value) for key, value in parts.items()}
    batch.update(
        gt_boxes=np.stack([boxes for _, boxes in scenes]),
        batch_size=len(scenes),
        frame_id=np.array([f"{frame:06d}" for frame in range(len(scenes))]),
    )
    load_data_to_device(batch, "cpu")
    return batch
