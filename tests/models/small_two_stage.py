"""Two-stage detectors of a few thousand parameters each, on the voxels of small_second."""

from __future__ import annotations

from typing import Any

from easydict import EasyDict
from small_center import center_head_config
from small_point_rcnn import point_head_config, roi_head_config
from small_second import WIDTHS, second_config

LEVELS = ["x_conv1", "x_conv2", "x_conv3", "x_conv4"]
BEV_CHANNELS = 16


def refinement(name: str, **changes: Any) -> EasyDict:
    """ROI_HEAD with the settings that all of them share."""
    shared = roi_head_config()
    kept = {
        key: shared[key] for key in ("CLASS_AGNOSTIC", "NMS_CONFIG", "LOSS_CONFIG", "TARGET_CONFIG")
    }
    config = EasyDict(
        {
            **kept,
            "NAME": name,
            "SHARED_FC": [8, 8],
            "CLS_FC": [8, 8],
            "REG_FC": [8, 8],
            "DP_RATIO": 0.3,
            **changes,
        }
    )
    config.TARGET_CONFIG.CLS_SCORE_TYPE = "roi_iou"
    return config


def second_iou_config() -> EasyDict:
    """MODEL of a SECONDNetIoU."""
    config = second_config()
    config.NAME = "SECONDNetIoU"
    config.ROI_HEAD = refinement(
        "SECONDHead",
        IOU_FC=[8, 8],
        ROI_GRID_POOL={"GRID_SIZE": 3, "IN_CHANNEL": BEV_CHANNELS, "DOWNSAMPLE_RATIO": 8},
    )
    config.ROI_HEAD.LOSS_CONFIG.IOU_LOSS = "BinaryCrossEntropy"
    config.ROI_HEAD.LOSS_CONFIG.LOSS_WEIGHTS.rcnn_iou_weight = 1.0
    return config


def voxel_rcnn_config() -> EasyDict:
    """MODEL of a VoxelRCNN."""
    config = second_config()
    config.NAME = "VoxelRCNN"
    layer = {
        "MLPS": [[8, 8]],
        "QUERY_RANGES": [[4, 4, 4]],
        "POOL_RADIUS": [1.6],
        "NSAMPLE": [4],
        "POOL_METHOD": "max_pool",
    }
    config.ROI_HEAD = refinement(
        "VoxelRCNNHead",
        ROI_GRID_POOL={
            "FEATURES_SOURCE": LEVELS[1:],
            "PRE_MLP": True,
            "GRID_SIZE": 2,
            "POOL_LAYERS": {name: dict(layer) for name in LEVELS[1:]},
        },
    )
    return config


def pv_rcnn_config() -> EasyDict:
    """MODEL of a PVRCNN."""
    config = second_config()
    config.NAME = "PVRCNN"
    levels = {
        name: {
            "DOWNSAMPLE_FACTOR": 2**number,
            "MLPS": [[width, 8], [width, 8]],
            "POOL_RADIUS": [0.8, 2.4],
            "NSAMPLE": [4, 8],
        }
        for number, (name, width) in enumerate(zip(LEVELS, WIDTHS))
    }
    points = {"MLPS": [[4, 4], [4, 4]], "POOL_RADIUS": [0.4, 0.8], "NSAMPLE": [4, 4]}
    config.PFE = EasyDict(
        NAME="VoxelSetAbstraction",
        POINT_SOURCE="raw_points",
        NUM_KEYPOINTS=32,
        NUM_OUTPUT_FEATURES=12,
        SAMPLE_METHOD="FPS",
        FEATURES_SOURCE=["bev", *LEVELS, "raw_points"],
        SA_LAYER={"raw_points": points, **levels},
    )
    config.POINT_HEAD = EasyDict(
        NAME="PointHeadSimple",
        CLS_FC=[8],
        CLASS_AGNOSTIC=True,
        USE_POINT_FEATURES_BEFORE_FUSION=True,
        TARGET_CONFIG={"GT_EXTRA_WIDTH": [0.2, 0.2, 0.2]},
        LOSS_CONFIG={"LOSS_REG": "smooth-l1", "LOSS_WEIGHTS": {"point_cls_weight": 1.0}},
    )
    config.ROI_HEAD = refinement(
        "PVRCNNHead",
        ROI_GRID_POOL={
            "GRID_SIZE": 2,
            "MLPS": [[8, 8], [8, 8]],
            "POOL_RADIUS": [0.8, 1.6],
            "NSAMPLE": [4, 4],
            "POOL_METHOD": "max_pool",
        },
    )
    return config


def vector_pool_config(
    reach_m: float, kind: str = "local_interpolation", **changes: Any
) -> dict[str, Any]:
    """A block of vector pooling in two cubes."""
    group = {"NUM_LOCAL_VOXEL": [2, 2, 2], "NEIGHBOR_NSAMPLE": -1, "POST_MLPS": [4, 4]}
    return {
        "NAME": "VectorPoolAggregationModuleMSG",
        "NUM_GROUPS": 2,
        "LOCAL_AGGREGATION_TYPE": kind,
        "NUM_CHANNELS_OF_LOCAL_AGGREGATION": 3,
        "MSG_POST_MLPS": [8],
        "GROUP_CFG_0": {**group, "MAX_NEIGHBOR_DISTANCE": reach_m},
        "GROUP_CFG_1": {
            **group,
            "NUM_LOCAL_VOXEL": [3, 3, 1],
            "MAX_NEIGHBOR_DISTANCE": 2 * reach_m,
        },
        **changes,
    }


def pv_rcnn_plusplus_config() -> EasyDict:
    """MODEL of a PVRCNNPlusPlus."""
    config = pv_rcnn_config()
    config.NAME = "PVRCNNPlusPlus"
    config.DENSE_HEAD = center_head_config(stride=8)
    config.DENSE_HEAD.POST_PROCESSING.update(SCORE_THRESH=0.01)
    config.DENSE_HEAD.POST_PROCESSING.NMS_CONFIG.update(NMS_THRESH=0.7, NMS_POST_MAXSIZE=24)
    near = {"FILTER_NEIGHBOR_WITH_ROI": True, "RADIUS_OF_NEIGHBOR_WITH_ROI": 4.0}
    levels = {
        LEVELS[number]: vector_pool_config(
            1.2,
            INPUT_CHANNELS=WIDTHS[number],
            DOWNSAMPLE_FACTOR=2**number,
            NUM_REDUCED_CHANNELS=4,
            **near,
        )
        for number in (2, 3)
    }
    config.PFE = EasyDict(
        NAME="VoxelSetAbstraction",
        POINT_SOURCE="raw_points",
        NUM_KEYPOINTS=48,
        NUM_OUTPUT_FEATURES=12,
        SAMPLE_METHOD="SPC",
        SPC_SAMPLING={"NUM_SECTORS": 6, "SAMPLE_RADIUS_WITH_ROI": 1.6},
        FEATURES_SOURCE=["bev", "x_conv3", "x_conv4", "raw_points"],
        SA_LAYER={"raw_points": vector_pool_config(0.4, NUM_REDUCED_CHANNELS=1, **near), **levels},
    )
    config.ROI_HEAD.ROI_GRID_POOL = EasyDict(
        vector_pool_config(0.8, "voxel_random_choice", GRID_SIZE=2, NUM_REDUCED_CHANNELS=6)
    )
    return config


def part_a2_config() -> EasyDict:
    """MODEL of a PartA2Net."""
    config = second_config("UNetV2")
    config.NAME = "PartA2Net"
    del config.BACKBONE_3D["NUM_FILTERS"]
    config.MAP_TO_BEV.NUM_BEV_FEATURES = 256
    config.POINT_HEAD = point_head_config(
        NAME="PointIntraPartOffsetHead", CLASS_AGNOSTIC=True, CLS_FC=[], PART_FC=[]
    )
    del config.POINT_HEAD["REG_FC"], config.POINT_HEAD.TARGET_CONFIG["BOX_CODER"]
    config.ROI_HEAD = refinement(
        "PartA2FCHead",
        SEG_MASK_SCORE_THRESH=0.3,
        ROI_AWARE_POOL={"POOL_SIZE": 4, "NUM_FEATURES": 8, "MAX_POINTS_PER_VOXEL": 16},
    )
    return config


def part_a2_free_config() -> EasyDict:
    """MODEL of the anchor-free Part-A2: a PointRCNN on voxels."""
    config = part_a2_config()
    config.NAME = "PointRCNN"
    for slot in ("MAP_TO_BEV", "BACKBONE_2D", "DENSE_HEAD"):
        del config[slot]
    config.BACKBONE_3D.RETURN_ENCODED_TENSOR = False
    config.POINT_HEAD = point_head_config(NAME="PointIntraPartOffsetHead", PART_FC=[8])
    config.ROI_HEAD.DISABLE_PART = True
    config.ROI_HEAD.SEG_MASK_SCORE_THRESH = 0.0
    return config


TWO_STAGE_CONFIGS = {
    "SECONDNetIoU": second_iou_config,
    "PVRCNN": pv_rcnn_config,
    "PVRCNNPlusPlus": pv_rcnn_plusplus_config,
    "VoxelRCNN": voxel_rcnn_config,
    "PartA2Net": part_a2_config,
    "PartA2, anchor-free": part_a2_free_config,
}
