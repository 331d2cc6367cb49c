"""A CenterPoint of a few thousand parameters, on the pillars or voxels of small_model."""

from __future__ import annotations

from easydict import EasyDict
from small_model import CLASS_NAMES, RANGE, model_config
from small_second import second_config


def center_head_config(groups: list[list[str]] | None = None, stride: int = 2) -> EasyDict:
    """DENSE_HEAD with a cell for ``stride`` pillars.

    Args:
        groups: classes of each head; None for one head with all classes.
        stride: edge of a cell in pillars.
    """
    branches = {"center": 2, "center_z": 1, "dim": 3, "rot": 2}
    return EasyDict(
        NAME="CenterHead",
        CLASS_AGNOSTIC=False,
        CLASS_NAMES_EACH_HEAD=groups or [CLASS_NAMES],
        SHARED_CONV_CHANNEL=8,
        USE_BIAS_BEFORE_NORM=True,
        NUM_HM_CONV=2,
        SEPARATE_HEAD_CFG={
            "HEAD_ORDER": list(branches),
            "HEAD_DICT": {
                name: {"out_channels": channels, "num_conv": 2}
                for name, channels in branches.items()
            },
        },
        TARGET_ASSIGNER_CONFIG={
            "FEATURE_MAP_STRIDE": stride,
            "NUM_MAX_OBJS": 20,
            "GAUSSIAN_OVERLAP": 0.1,
            "MIN_RADIUS": 2,
        },
        LOSS_CONFIG={
            "LOSS_WEIGHTS": {"cls_weight": 1.0, "loc_weight": 2.0, "code_weights": [1.0] * 8}
        },
        POST_PROCESSING={
            "SCORE_THRESH": 0.1,
            "POST_CENTER_LIMIT_RANGE": RANGE,
            "MAX_OBJ_PER_SAMPLE": 50,
            "NMS_CONFIG": {
                "NMS_TYPE": "nms_gpu",
                "NMS_THRESH": 0.1,
                "NMS_PRE_MAXSIZE": 100,
                "NMS_POST_MAXSIZE": 30,
            },
        },
    )


def center_config(groups: list[list[str]] | None = None) -> EasyDict:
    """MODEL."""
    config = model_config()
    config.NAME = "CenterPoint"
    config.DENSE_HEAD = center_head_config(groups)
    del config.POST_PROCESSING["NMS_CONFIG"]
    return config


def voxel_config(backbone: str = "VoxelBackBone8x") -> EasyDict:
    """MODEL on small_second's voxels."""
    config = second_config(backbone)
    config.NAME = "CenterPoint"
    config.DENSE_HEAD = center_head_config(stride=8)
    del config.POST_PROCESSING["NMS_CONFIG"]
    return config
