"""A CenterPoint of a few thousand parameters, on pillars or on voxels, for the scenes of small_model."""
from __future__ import annotations

from typing import Any

import numpy as np
import torch
from easydict import EasyDict
from small_model import CLASS_NAMES, RANGE, data_config, make_batch, model_config

from pcdet_distill.datasets.spec import DataSpec
from pcdet_distill.models import Detector3DTemplate, build_network
from pcdet_distill.ops.voxels import voxelize

FINE_VOXEL_SIZE = [0.25, 0.25, 0.1]


def center_head_config(groups: list[list[str]] | None = None) -> EasyDict:
    """DENSE_HEAD on every second pillar; all classes in one head unless ``groups`` tells others."""
    branches = {"center": 2, "center_z": 1, "dim": 3, "rot": 2}
    return EasyDict(
        NAME="CenterHead", CLASS_AGNOSTIC=False, CLASS_NAMES_EACH_HEAD=groups or [CLASS_NAMES], SHARED_CONV_CHANNEL=8,
        USE_BIAS_BEFORE_NORM=True, NUM_HM_CONV=2,
        SEPARATE_HEAD_CFG={"HEAD_ORDER": list(branches), "HEAD_DICT": {
            name: {"out_channels": channels, "num_conv": 2} for name, channels in branches.items()}},
        TARGET_ASSIGNER_CONFIG={"FEATURE_MAP_STRIDE": 2, "NUM_MAX_OBJS": 20, "GAUSSIAN_OVERLAP": 0.1, "MIN_RADIUS": 2},
        LOSS_CONFIG={"LOSS_WEIGHTS": {"cls_weight": 1.0, "loc_weight": 2.0, "code_weights": [1.0] * 8}},
        POST_PROCESSING={"SCORE_THRESH": 0.1, "POST_CENTER_LIMIT_RANGE": RANGE, "MAX_OBJ_PER_SAMPLE": 50,
                         "NMS_CONFIG": {"NMS_TYPE": "nms_gpu", "NMS_THRESH": 0.1, "NMS_PRE_MAXSIZE": 100,
                                        "NMS_POST_MAXSIZE": 30}})


def center_config(groups: list[list[str]] | None = None) -> EasyDict:
    """MODEL."""
    config = model_config()
    config.NAME = "CenterPoint"
    config.DENSE_HEAD = center_head_config(groups)
    del config.POST_PROCESSING["NMS_CONFIG"]
    return config


def voxel_config(groups: list[list[str]] | None = None) -> EasyDict:
    """MODEL on voxels, for ``voxel_spec``."""
    config = center_config(groups)
    config.VFE = {"NAME": "MeanVFE"}
    config.BACKBONE_3D = {"NAME": "VoxelBackBone8x", "NUM_FILTERS": [4, 4, 8, 8, 8]}
    config.MAP_TO_BEV = {"NAME": "HeightCompression", "NUM_BEV_FEATURES": 16}
    config.BACKBONE_2D.LAYER_STRIDES = [1, 2]
    config.DENSE_HEAD.TARGET_ASSIGNER_CONFIG.FEATURE_MAP_STRIDE = 8
    return config


def voxel_spec() -> DataSpec:
    """64 x 64 x 40 voxels on small_model's range."""
    config = data_config()
    config.DATA_PROCESSOR[0]["VOXEL_SIZE"] = FINE_VOXEL_SIZE
    return DataSpec.from_config(config, CLASS_NAMES)


def voxel_model(config: EasyDict | None = None) -> Detector3DTemplate:
    """A freshly initialised detector on voxels."""
    torch.manual_seed(0)
    return build_network(config or voxel_config(), len(CLASS_NAMES), voxel_spec())


def make_voxel_batch(scenes: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """small_model's batch of the same scenes with the voxels of ``voxel_spec``."""
    batch = make_batch(scenes)
    parts = [voxelize(points, RANGE, FINE_VOXEL_SIZE, 5, 2000) for points, _ in scenes]
    coords = [np.pad(coords, ((0, 0), (1, 0)), constant_values=frame) for frame, (_, coords, _) in enumerate(parts)]
    batch["voxels"] = torch.from_numpy(np.concatenate([voxels for voxels, _, _ in parts]))
    batch["voxel_coords"] = torch.from_numpy(np.concatenate(coords)).float()
    batch["voxel_num_points"] = torch.from_numpy(np.concatenate([count for _, _, count in parts])).float()
    return batch
