"""Small detectors of every kind that can be exported, with weights that find boxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import small_nuscenes
import torch
from easydict import EasyDict
from small_center import center_config, voxel_config
from small_model import CLASS_NAMES, data_config, model_config, random_scene
from small_multi_head import make_multi, multi_model_config, multi_second_config
from small_pillarnet import pillarnet_config
from small_second import SMALL_VOXELS, second_config
from torch import nn

from pcdet_distill.checkpoint import save_checkpoint
from pcdet_distill.inference import CloudProcessing, Detector
from pcdet_distill.models import build_network
from pcdet_distill.types import BatchDict

Points = Callable[[int], np.ndarray]


def point_pillars() -> EasyDict:
    return model_config()


def two_encoder_layers() -> EasyDict:
    """Two layers, a distance, and no x, y, z of their own."""
    config = model_config()
    config.VFE.update(NUM_FILTERS=[16, 8], WITH_DISTANCE=True, USE_ABSLOTE_XYZ=False)
    return config


def without_norm() -> EasyDict:
    config = model_config()
    config.VFE.USE_NORM = False
    return config


def one_level() -> EasyDict:
    """A backbone whose only level is not joined, with a common upsampling at its end."""
    config = model_config()
    config.BACKBONE_2D.update(
        LAYER_NUMS=[1],
        LAYER_STRIDES=[4],
        NUM_FILTERS=[8],
        UPSAMPLE_STRIDES=[1, 2],
        NUM_UPSAMPLE_FILTERS=[8, 8],
    )
    return config


def downsampled_level() -> EasyDict:
    """A first level that is brought to the others by a strided convolution."""
    config = model_config()
    config.BACKBONE_2D.UPSAMPLE_STRIDES = [0.5, 1]
    for entry in config.DENSE_HEAD.ANCHOR_GENERATOR_CONFIG:
        entry["feature_map_stride"] = 4
    return config


def without_directions() -> EasyDict:
    config = model_config()
    config.DENSE_HEAD.USE_DIRECTION_CLASSIFIER = False
    return config


def by_class() -> EasyDict:
    """An NMS for every class."""
    config = model_config()
    config.POST_PROCESSING.NMS_CONFIG.MULTI_CLASSES_NMS = True
    return config


def heads_of_all_classes() -> EasyDict:
    """Several heads that each predict all classes."""
    config = model_config()
    make_multi(config.DENSE_HEAD, SEPARATE_MULTIHEAD=False)
    return config


def heads_in_one_nms() -> EasyDict:
    """Several heads, whose boxes suppress each other."""
    config = multi_model_config()
    config.POST_PROCESSING.NMS_CONFIG.MULTI_CLASSES_NMS = False
    return config


def two_center_heads() -> EasyDict:
    """Two heads with scores corrected by overlaps, and circle NMS."""
    config = center_config([["Car"], ["Pedestrian", "Cyclist"]])
    head = config.DENSE_HEAD
    head.SEPARATE_HEAD_CFG.HEAD_DICT["iou"] = {"out_channels": 1, "num_conv": 2}
    head.POST_PROCESSING.update(USE_IOU_TO_RECTIFY_SCORE=True, IOU_RECTIFIER=[0.5, 0.7, 0.3])
    head.POST_PROCESSING.NMS_CONFIG.update(NMS_TYPE="circle_nms", NMS_THRESH=[1.0, 0.5])
    return config


def center_by_class() -> EasyDict:
    """An NMS for every class of a centre head."""
    config = center_config()
    config.DENSE_HEAD.POST_PROCESSING.NMS_CONFIG = EasyDict(
        NMS_TYPE="class_specific_nms",
        NMS_THRESH=[0.1, 0.2, 0.3],
        NMS_PRE_MAXSIZE=[40, 30, 20],
        NMS_POST_MAXSIZE=[20, 10, 5],
    )
    return config


def dynamic_pillars() -> EasyDict:
    """PointPillars whose pillars have no limit, with two encoder layers."""
    config = model_config()
    config.VFE = EasyDict(config.VFE, NAME="DynPillarVFE", NUM_FILTERS=[16, 8], WITH_DISTANCE=True)
    return config


PILLARS = {
    "point_pillars": point_pillars,
    "two_encoder_layers": two_encoder_layers,
    "without_norm": without_norm,
    "one_level": one_level,
    "downsampled_level": downsampled_level,
    "without_directions": without_directions,
    "by_class": by_class,
    "multi_head": multi_model_config,
    "heads_of_all_classes": heads_of_all_classes,
    "heads_in_one_nms": heads_in_one_nms,
    "center": center_config,
    "two_center_heads": two_center_heads,
    "center_by_class": center_by_class,
    "dynamic_pillars": dynamic_pillars,
}
DENSE_PARTS = {
    "second": second_config,
    "second_multi_head": multi_second_config,
    "center_voxel": voxel_config,
    "pillarnet": pillarnet_config,
    "pillarnet_center": lambda: pillarnet_config(head="CenterHead"),
}
NUSCENES = {
    "pp_multihead": "nuscenes_models/cbgs_pp_multihead.yaml",
    "pp_multihead_4x": "nuscenes_distill/pp_multihead_4x.yaml",
    "dyn_pp_centerpoint_4x": "nuscenes_distill/dyn_pp_centerpoint_4x.yaml",
}


def small_detector(kind: str, seed: int = 0) -> tuple[Detector, Points]:
    """A detector, and what makes a cloud for it of a seed."""
    if kind in NUSCENES:
        cfg = small_nuscenes.nuscenes_config(NUSCENES[kind])
        return make_detector(cfg, seed), lambda scene: small_nuscenes.random_scene(scene)[0]
    voxel_size = [0.5, 0.5, 4]
    if kind in ("second", "second_multi_head", "center_voxel"):
        voxel_size = SMALL_VOXELS
    if kind.startswith("pillarnet"):
        voxel_size = [0.25, 0.25, 4]
    config = {**PILLARS, **DENSE_PARTS}[kind]()
    data = data_config(voxel_size)
    if kind == "dynamic_pillars" or kind.startswith("pillarnet"):
        data.DATA_PROCESSOR[0].NAME = "transform_points_to_voxels_placeholder"
    cfg = EasyDict(
        CONFIG_FILE=f"{kind}.yaml", CLASS_NAMES=CLASS_NAMES, DATA_CONFIG=data, MODEL=config
    )
    return make_detector(cfg, seed), lambda scene: random_scene(scene)[0]


def make_detector(cfg: EasyDict, seed: int = 0) -> Detector:
    """The detector of a config with random weights that differ in every place."""
    dataset = CloudProcessing(cfg.DATA_CONFIG, cfg.CLASS_NAMES, tell=lambda message: None)
    torch.manual_seed(seed)
    model = build_network(cfg.MODEL, len(cfg.CLASS_NAMES), dataset)
    enliven(model)
    return Detector(cfg, model.eval(), dataset, torch.device("cpu"))


def enliven(model: nn.Module) -> None:
    """Statistics of batch norms as after a training, and predictions that say something.

    A head starts with equal predictions everywhere, which would hide many errors.
    """
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    for name, parameter in model.dense_head.named_parameters():
        if name.endswith("bias") and parameter.dim() == 1:
            nn.init.normal_(parameter, std=0.3)
        if "conv_box" in name and parameter.dim() == 4:
            nn.init.normal_(parameter, std=0.1)
        if "conv_cls" in name and parameter.dim() == 4:
            nn.init.normal_(parameter, std=0.3)


def batches(detector: Detector, points: Points, seeds: Sequence[int]) -> list[BatchDict]:
    """A batch of one frame for each seed."""
    return [detector.batch(points(seed)) for seed in seeds]


def save(detector: Detector, path: Path) -> Path:
    """The checkpoint of a detector."""
    save_checkpoint({"model_state": detector.model.state_dict()}, path)
    return path
