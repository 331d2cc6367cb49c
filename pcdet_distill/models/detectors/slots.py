"""The slots of a detector: their order, their yaml blocks, and how each module is constructed.

The keyword arguments are OpenPCDet's, so that slot modules written for it fit in: put the class
into the slot's table.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias, cast

import numpy as np
from torch import nn

from ...config import lookup, required
from ...errors import ConfigError
from ...types import ConfigDict
from ..backbones_2d import BACKBONES_2D
from ..backbones_2d.map_to_bev import MAP_TO_BEV
from ..backbones_3d import BACKBONES_3D
from ..backbones_3d.pfe import PFES
from ..backbones_3d.vfe import VFES
from ..dense_heads import DENSE_HEADS, POINT_HEADS
from ..roi_heads import ROI_HEADS

Numbers: TypeAlias = Sequence[float] | np.ndarray
Arguments: TypeAlias = dict[str, object]


class PointFeatures(Protocol):
    """What a detector needs to know of the point features."""

    @property
    def num_point_features(self) -> int:
        """Number of values of a point."""


class DetectorData(Protocol):
    """What a detector is built from: a dataset, or a DataSpec where none is at hand.

    It may also have ``depth_downsample_factor``, which OpenPCDet's camera models read.
    """

    @property
    def class_names(self) -> Sequence[str]:
        """Label 1 is the first of them."""

    @property
    def point_cloud_range(self) -> np.ndarray:
        """(6,) metres; x, y, z minimum, then maximum."""

    @property
    def voxel_size(self) -> Numbers | None:
        """Metres along x, y, z; None when the points stay points."""

    @property
    def grid_size(self) -> np.ndarray | None:
        """(3,) voxels along x, y, z; None when the points stay points."""

    @property
    def point_feature_encoder(self) -> PointFeatures:
        """Chooses the features of the points."""


class VoxelEncoder(Protocol):
    """What every VFE offers."""

    def get_output_feature_dim(self) -> int:
        """Channels of the voxels that leave it."""


@dataclasses.dataclass
class ModelInfo:
    """What the slots have to know of each other while a detector is built.

    Every slot updates what it changes, as ``model_info_dict`` in OpenPCDet.

    Attributes:
        num_class: number of classes.
        class_names: label 1 is the first of them.
        grid_size: voxels along x, y, z.
        voxel_size: metres.
        point_cloud_range: metres; x, y, z minimum, then maximum.
        depth_downsample_factor: of camera models.
        num_rawpoint_features: values of a point as the data has them.
        num_point_features: channels of voxels or points after the last slot.
        has_roi_head: whether there is a second stage.
        num_bev_features: channels of the bird's eye view after the last slot.
        num_point_features_before_fusion: channels that the ``pfe`` gathers before it fuses them.
        backbone_channels: channels of each level of the 3D backbone.
    """

    num_class: int
    class_names: list[str]
    grid_size: np.ndarray | None
    voxel_size: Numbers | None
    point_cloud_range: np.ndarray
    depth_downsample_factor: int | None
    num_rawpoint_features: int
    num_point_features: int
    has_roi_head: bool
    num_bev_features: int | None = None
    num_point_features_before_fusion: int | None = None
    backbone_channels: Mapping[str, int] | None = None

    @classmethod
    def from_dataset(
        cls, model_cfg: ConfigDict, num_class: int, dataset: DetectorData
    ) -> ModelInfo:
        """What is known before the first slot."""
        num_features = dataset.point_feature_encoder.num_point_features
        return cls(
            num_class=num_class,
            class_names=list(dataset.class_names),
            grid_size=dataset.grid_size,
            voxel_size=dataset.voxel_size,
            point_cloud_range=dataset.point_cloud_range,
            depth_downsample_factor=getattr(dataset, "depth_downsample_factor", None),
            num_rawpoint_features=num_features,
            num_point_features=num_features,
            has_roi_head=bool(model_cfg.get("ROI_HEAD")),
        )

    def classes_of(self, block: ConfigDict) -> int:
        """Number of classes that the head of a block predicts."""
        return 1 if block.get("CLASS_AGNOSTIC") else self.num_class

    def space(self) -> Arguments:
        """The arguments that most slots take."""
        return {
            "grid_size": self.grid_size,
            "voxel_size": self.voxel_size,
            "point_cloud_range": self.point_cloud_range,
        }


def _vfe_arguments(block: ConfigDict, info: ModelInfo) -> Arguments:
    return {
        "num_point_features": info.num_rawpoint_features,
        **info.space(),
        "depth_downsample_factor": info.depth_downsample_factor,
    }


def _backbone_3d_arguments(block: ConfigDict, info: ModelInfo) -> Arguments:
    return {"input_channels": info.num_point_features, **info.space()}


def _map_to_bev_arguments(block: ConfigDict, info: ModelInfo) -> Arguments:
    return {"grid_size": info.grid_size}


def _pfe_arguments(block: ConfigDict, info: ModelInfo) -> Arguments:
    return {
        "voxel_size": info.voxel_size,
        "point_cloud_range": info.point_cloud_range,
        "num_bev_features": info.num_bev_features,
        "num_rawpoint_features": info.num_rawpoint_features,
    }


def _backbone_2d_arguments(block: ConfigDict, info: ModelInfo) -> Arguments:
    return {"input_channels": info.num_bev_features}


def _dense_head_arguments(block: ConfigDict, info: ModelInfo) -> Arguments:
    if info.has_roi_head and block.get("SEPARATE_MULTIHEAD"):
        raise ConfigError(
            "MODEL.DENSE_HEAD.SEPARATE_MULTIHEAD is true, but a ROI_HEAD expects proposals with "
            "scores of all classes; expected false"
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


def _point_head_arguments(block: ConfigDict, info: ModelInfo) -> Arguments:
    channels = info.num_point_features
    if block.get("USE_POINT_FEATURES_BEFORE_FUSION"):
        channels = info.num_point_features_before_fusion or channels
    return {
        "input_channels": channels,
        "num_class": info.classes_of(block),
        "predict_boxes_when_training": info.has_roi_head,
    }


def _roi_head_arguments(block: ConfigDict, info: ModelInfo) -> Arguments:
    return {
        "input_channels": info.num_point_features,
        "backbone_channels": info.backbone_channels,
        "point_cloud_range": info.point_cloud_range,
        "voxel_size": info.voxel_size,
        "num_class": info.classes_of(block),
    }


@dataclasses.dataclass(frozen=True)
class Slot:
    """One slot of a detector.

    Attributes:
        block: key of its block in MODEL.
        table: classes by NAME.
        arguments: makes the keyword arguments of its modules.
        publishes: attributes of the module that later slots need; they replace those of the
            ``ModelInfo`` with the same name.
    """

    block: str
    table: dict[str, type[nn.Module]]
    arguments: Callable[[ConfigDict, ModelInfo], Arguments]
    publishes: tuple[str, ...] = ()

    def build(self, block: ConfigDict, info: ModelInfo) -> nn.Module:
        """Build the module that the block names, and update ``info``."""
        where = f"MODEL.{self.block}"
        module_class = lookup(self.table, required(block, "NAME", where), f"{where}.NAME")
        module = module_class(model_cfg=block, **self.arguments(block, info))
        if self.block == "VFE":
            info.num_point_features = cast(VoxelEncoder, module).get_output_feature_dim()
        check_input = getattr(module, "check_input_channels", None)
        if check_input is not None:
            check_input(info.num_point_features)
        for name in self.publishes:
            if hasattr(module, name):
                setattr(info, name, getattr(module, name))
        return module


SLOTS: dict[str, Slot] = {
    "vfe": Slot("VFE", VFES, _vfe_arguments),
    "backbone_3d": Slot(
        "BACKBONE_3D",
        BACKBONES_3D,
        _backbone_3d_arguments,
        publishes=("num_point_features", "backbone_channels"),
    ),
    "map_to_bev_module": Slot(
        "MAP_TO_BEV", MAP_TO_BEV, _map_to_bev_arguments, publishes=("num_bev_features",)
    ),
    "pfe": Slot(
        "PFE",
        PFES,
        _pfe_arguments,
        publishes=("num_point_features", "num_point_features_before_fusion"),
    ),
    "backbone_2d": Slot(
        "BACKBONE_2D", BACKBONES_2D, _backbone_2d_arguments, publishes=("num_bev_features",)
    ),
    "dense_head": Slot("DENSE_HEAD", DENSE_HEADS, _dense_head_arguments),
    "point_head": Slot("POINT_HEAD", POINT_HEADS, _point_head_arguments),
    "roi_head": Slot("ROI_HEAD", ROI_HEADS, _roi_head_arguments),
}
