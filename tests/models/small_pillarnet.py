"""A PillarNet of a few thousand parameters for the scenes of small_model."""

from __future__ import annotations

from easydict import EasyDict
from small_center import center_head_config
from small_model import head_config, model_config

WIDTHS = [4, 6, 8, 10, 12]


def neck_config(**changes) -> EasyDict:
    """BACKBONE_2D."""
    return EasyDict(
        {
            "NAME": "BaseBEVBackboneV1",
            "LAYER_NUMS": [1, 2],
            "LAYER_STRIDES": [1, 2],
            "NUM_FILTERS": [10, 12],
            "UPSAMPLE_STRIDES": [1, 2],
            "NUM_UPSAMPLE_FILTERS": [7, 3],
            **changes,
        }
    )


def pillarnet_config(
    backbone: str = "PillarBackBone8x", head: str = "AnchorHeadSingle"
) -> EasyDict:
    """MODEL."""
    config = model_config()
    config.NAME = "PillarNet"
    config.VFE = {
        "NAME": "DynamicPillarVFESimple2D",
        "WITH_DISTANCE": False,
        "USE_ABSLOTE_XYZ": True,
        "USE_CLUSTER_XYZ": False,
        "USE_NORM": True,
        "NUM_FILTERS": [4],
    }
    config.BACKBONE_3D = {"NAME": backbone, "NUM_FILTERS": WIDTHS}
    del config["MAP_TO_BEV"]
    config.BACKBONE_2D = neck_config()
    config.DENSE_HEAD = center_head_config(stride=8) if head == "CenterHead" else head_config()
    for entry in config.DENSE_HEAD.get("ANCHOR_GENERATOR_CONFIG", []):
        entry["feature_map_stride"] = 8
    return config
