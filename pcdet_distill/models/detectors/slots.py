"""The slots of a detector: their order, their yaml blocks, and what each module is constructed with.

The keyword arguments are OpenPCDet's, so that its users' own slot modules drop in: put the class into the slot's table.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from ...config import lookup, required
from ...errors import ConfigError
from ..backbones_2d import BACKBONES_2D
from ..backbones_2d.map_to_bev import MAP_TO_BEV
from ..backbones_3d import BACKBONES_3D
from ..backbones_3d.pfe import PFES
from ..backbones_3d.vfe import VFES
from ..dense_heads import DENSE_HEADS, POINT_HEADS
from ..roi_heads import ROI_HEADS


@dataclasses.dataclass
class ModelInfo:
    """What the slots tell each other while a detector is built; every slot updates what it changes."""

    num_class: int
    class_names: list[str]
    grid_size: Any
    voxel_size: Any
    point_cloud_range: Any
    depth_downsample_factor: Any
    num_rawpoint_features: int
    num_point_features: int
    has_roi_head: bool
    num_bev_features: int | None = None
    num_point_features_before_fusion: int | None = None
    backbone_channels: Any = None

    @classmethod
    def from_dataset(cls, model_cfg: Mapping[str, Any], num_class: int, dataset: Any) -> ModelInfo:
        """What is known before the first slot; ``dataset`` is a dataset or a DataSpec."""
        num_features = dataset.point_feature_encoder.num_point_features
        return cls(
            num_class,
            list(dataset.class_names),
            dataset.grid_size,
            dataset.voxel_size,
            dataset.point_cloud_range,
            getattr(dataset, "depth_downsample_factor", None),
            num_features,
            num_features,
            has_roi_head=bool(model_cfg.get("ROI_HEAD")),
        )

    def classes_of(self, block: Mapping[str, Any]) -> int:
        """Classes that a head tells apart."""
        return 1 if block.get("CLASS_AGNOSTIC") else self.num_class

    def space(self) -> dict[str, Any]:
        """The arguments that most slots take."""
        return {
            "grid_size": self.grid_size,
            "voxel_size": self.voxel_size,
            "point_cloud_range": self.point_cloud_range,
        }


def _vfe_arguments(block: Mapping[str, Any], info: ModelInfo) -> dict[str, Any]:
    return {
        "num_point_features": info.num_rawpoint_features,
        **info.space(),
        "depth_downsample_factor": info.depth_downsample_factor,
    }


def _backbone_3d_arguments(block: Mapping[str, Any], info: ModelInfo) -> dict[str, Any]:
    return {"input_channels": info.num_point_features, **info.space()}


def _map_to_bev_arguments(block: Mapping[str, Any], info: ModelInfo) -> dict[str, Any]:
    return {"grid_size": info.grid_size}


def _pfe_arguments(block: Mapping[str, Any], info: ModelInfo) -> dict[str, Any]:
    return {
        "voxel_size": info.voxel_size,
        "point_cloud_range": info.point_cloud_range,
        "num_bev_features": info.num_bev_features,
        "num_rawpoint_features": info.num_rawpoint_features,
    }


def _backbone_2d_arguments(block: Mapping[str, Any], info: ModelInfo) -> dict[str, Any]:
    return {"input_channels": info.num_bev_features}


def _dense_head_arguments(block: Mapping[str, Any], info: ModelInfo) -> dict[str, Any]:
    if info.has_roi_head and block.get("SEPARATE_MULTIHEAD"):
        raise ConfigError(
            "MODEL.DENSE_HEAD.SEPARATE_MULTIHEAD is true, but a ROI_HEAD expects proposals with scores "
            "of all classes; expected false"
        )
    channels = info.num_bev_features
    if channels is None:
        channels = required(block, "INPUT_FEATURES", "MODEL.DENSE_HEAD")
    return {
        "input_channels": channels,
        "num_class": info.classes_of(block),
        "class_names": info.class_names,
        **info.space(),
        "predict_boxes_when_training": info.has_roi_head,
    }


def _point_head_arguments(block: Mapping[str, Any], info: ModelInfo) -> dict[str, Any]:
    before_fusion = (
        block.get("USE_POINT_FEATURES_BEFORE_FUSION") and info.num_point_features_before_fusion
    )
    return {
        "input_channels": before_fusion or info.num_point_features,
        "num_class": info.classes_of(block),
        "predict_boxes_when_training": info.has_roi_head,
    }


def _roi_head_arguments(block: Mapping[str, Any], info: ModelInfo) -> dict[str, Any]:
    return {
        "input_channels": info.num_point_features,
        "backbone_channels": info.backbone_channels,
        "point_cloud_range": info.point_cloud_range,
        "voxel_size": info.voxel_size,
        "num_class": info.classes_of(block),
    }


@dataclasses.dataclass(frozen=True)
class Slot:
    """One slot: its yaml block, its table, the arguments of its modules, and the attributes others need to know."""

    block: str
    table: dict[str, type[nn.Module]]
    arguments: Callable[[Mapping[str, Any], ModelInfo], dict[str, Any]]
    publishes: tuple[str, ...] = ()

    def build(self, block: Mapping[str, Any], info: ModelInfo) -> nn.Module:
        """The module that the block names; what it publishes is written to ``info``."""
        where = f"MODEL.{self.block}"
        module_class = lookup(self.table, required(block, "NAME", where), f"{where}.NAME")
        module: Any = module_class(model_cfg=block, **self.arguments(block, info))
        if self.block == "VFE":
            info.num_point_features = module.get_output_feature_dim()
        check = getattr(module, "check_input_channels", None)
        if check is not None:
            check(info.num_point_features)
        for name in self.publishes:
            setattr(info, name, getattr(module, name, getattr(info, name)))
        return module


SLOTS: dict[str, Slot] = {
    "vfe": Slot("VFE", VFES, _vfe_arguments),
    "backbone_3d": Slot(
        "BACKBONE_3D",
        BACKBONES_3D,
        _backbone_3d_arguments,
        ("num_point_features", "backbone_channels"),
    ),
    "map_to_bev_module": Slot(
        "MAP_TO_BEV", MAP_TO_BEV, _map_to_bev_arguments, ("num_bev_features",)
    ),
    "pfe": Slot(
        "PFE", PFES, _pfe_arguments, ("num_point_features", "num_point_features_before_fusion")
    ),
    "backbone_2d": Slot("BACKBONE_2D", BACKBONES_2D, _backbone_2d_arguments, ("num_bev_features",)),
    "dense_head": Slot("DENSE_HEAD", DENSE_HEADS, _dense_head_arguments),
    "point_head": Slot("POINT_HEAD", POINT_HEADS, _point_head_arguments),
    "roi_head": Slot("ROI_HEAD", ROI_HEADS, _roi_head_arguments),
}
