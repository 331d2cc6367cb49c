"""A SECOND of a few thousand parameters for the scenes of small_model: 64 x 64 x 40 voxels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from easydict import EasyDict
from small_model import CLASS_NAMES, data_config, make_batch, model_config

from pcdet_distill.datasets.spec import DataSpec
from pcdet_distill.models import Detector3DTemplate, build_network

SMALL_VOXELS = [0.25, 0.25, 0.1]
WIDTHS = [4, 6, 8, 8, 12]


def second_spec() -> DataSpec:
    return DataSpec.from_config(data_config(SMALL_VOXELS), CLASS_NAMES)


def second_config(backbone: str = "VoxelBackBone8x") -> EasyDict:
    """MODEL."""
    config = model_config()
    config.NAME = "SECONDNet"
    config.VFE = EasyDict(NAME="MeanVFE")
    config.BACKBONE_3D = EasyDict(NAME=backbone, NUM_FILTERS=list(WIDTHS))
    config.MAP_TO_BEV = EasyDict(NAME="HeightCompression", NUM_BEV_FEATURES=2 * WIDTHS[-1])
    config.BACKBONE_2D.LAYER_STRIDES = [1, 2]
    for anchors in config.DENSE_HEAD.ANCHOR_GENERATOR_CONFIG:
        anchors["feature_map_stride"] = 8
    return config


def small_second(config: EasyDict | None = None, seed: int = 0) -> Detector3DTemplate:
    """A freshly initialised detector."""
    torch.manual_seed(seed)
    return build_network(config or second_config(), len(CLASS_NAMES), second_spec())


def second_batch(scenes: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """A collated batch of scenes, as tensors."""
    return make_batch(scenes, SMALL_VOXELS)
