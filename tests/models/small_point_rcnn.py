"""A PointRCNN of a few thousand parameters, and batches of points for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from easydict import EasyDict
from small_model import CLASS_NAMES, RANGE, random_scene

from pcdet_distill.datasets.spec import DataSpec
from pcdet_distill.models import Detector3DTemplate, build_network, load_data_to_device

NUM_POINTS = 256
MEAN_SIZES = [[3.9, 1.6, 1.56], [0.8, 0.6, 1.73], [1.76, 0.6, 1.73]]


def point_spec() -> DataSpec:
    """The part of DATA_CONFIG that a model reads: points, no voxels."""
    features = ["x", "y", "z", "intensity"]
    return DataSpec.from_config(
        EasyDict(
            POINT_CLOUD_RANGE=RANGE,
            POINT_FEATURE_ENCODING={
                "encoding_type": "absolute_coordinates_encoding",
                "used_feature_list": features,
                "src_feature_list": features,
            },
            DATA_PROCESSOR=[
                {"NAME": "sample_points", "NUM_POINTS": {"train": NUM_POINTS, "test": NUM_POINTS}}
            ],
        ),
        CLASS_NAMES,
    )


def point_head_config(**changes: Any) -> EasyDict:
    """POINT_HEAD."""
    return EasyDict(
        {
            "NAME": "PointHeadBox",
            "CLS_FC": [8],
            "REG_FC": [8],
            "CLASS_AGNOSTIC": False,
            "TARGET_CONFIG": {
                "GT_EXTRA_WIDTH": [0.2, 0.2, 0.2],
                "BOX_CODER": "PointResidualCoder",
                "BOX_CODER_CONFIG": {"use_mean_size": True, "mean_size": MEAN_SIZES},
            },
            "LOSS_CONFIG": {
                "LOSS_REG": "WeightedSmoothL1Loss",
                "LOSS_WEIGHTS": {
                    "point_cls_weight": 1.0,
                    "point_box_weight": 1.0,
                    "point_part_weight": 1.0,
                    "code_weights": [1.0] * 8,
                },
            },
            **changes,
        }
    )


def roi_head_config() -> EasyDict:
    """ROI_HEAD."""
    nms = {
        "NMS_TYPE": "nms_gpu",
        "MULTI_CLASSES_NMS": False,
        "NMS_PRE_MAXSIZE": 200,
        "NMS_POST_MAXSIZE": 24,
        "NMS_THRESH": 0.8,
    }
    return EasyDict(
        NAME="PointRCNNHead",
        CLASS_AGNOSTIC=True,
        ROI_POINT_POOL={
            "POOL_EXTRA_WIDTH": [0.0, 0.0, 0.0],
            "NUM_SAMPLED_POINTS": 32,
            "DEPTH_NORMALIZER": 70.0,
        },
        XYZ_UP_LAYER=[8, 8],
        CLS_FC=[8, 8],
        REG_FC=[8, 8],
        DP_RATIO=0.0,
        USE_BN=False,
        SA_CONFIG={
            "NPOINTS": [8, -1],
            "RADIUS": [0.4, 100],
            "NSAMPLE": [4, 4],
            "MLPS": [[8, 8], [8, 16]],
        },
        NMS_CONFIG={"TRAIN": nms, "TEST": nms},
        TARGET_CONFIG={
            "BOX_CODER": "ResidualCoder",
            "ROI_PER_IMAGE": 8,
            "FG_RATIO": 0.5,
            "SAMPLE_ROI_BY_EACH_CLASS": True,
            "CLS_SCORE_TYPE": "cls",
            "CLS_FG_THRESH": 0.6,
            "CLS_BG_THRESH": 0.45,
            "CLS_BG_THRESH_LO": 0.1,
            "HARD_BG_RATIO": 0.8,
            "REG_FG_THRESH": 0.55,
        },
        LOSS_CONFIG={
            "CLS_LOSS": "BinaryCrossEntropy",
            "REG_LOSS": "smooth-l1",
            "CORNER_LOSS_REGULARIZATION": True,
            "LOSS_WEIGHTS": {
                "rcnn_cls_weight": 1.0,
                "rcnn_reg_weight": 1.0,
                "rcnn_corner_weight": 1.0,
                "code_weights": [1.0] * 7,
            },
        },
    )


def point_rcnn_config() -> EasyDict:
    """MODEL."""
    return EasyDict(
        NAME="PointRCNN",
        BACKBONE_3D={
            "NAME": "PointNet2MSG",
            "SA_CONFIG": {
                "NPOINTS": [64, 16],
                "RADIUS": [[0.5, 1.0], [1.0, 2.0]],
                "NSAMPLE": [[4, 8], [4, 8]],
                "MLPS": [[[8, 8], [8, 8]], [[8, 16], [8, 16]]],
            },
            "FP_MLPS": [[16, 16], [16, 16]],
        },
        POINT_HEAD=point_head_config(),
        ROI_HEAD=roi_head_config(),
        POST_PROCESSING={
            "RECALL_THRESH_LIST": [0.3, 0.5, 0.7],
            "SCORE_THRESH": 0.1,
            "OUTPUT_RAW_SCORE": False,
            "EVAL_METRIC": "kitti",
            "NMS_CONFIG": {
                "MULTI_CLASSES_NMS": False,
                "NMS_TYPE": "nms_gpu",
                "NMS_THRESH": 0.1,
                "NMS_PRE_MAXSIZE": 4096,
                "NMS_POST_MAXSIZE": 500,
            },
        },
    )


def point_rcnn_iou_config() -> EasyDict:
    """MODEL of a PointRCNN whose second stage learns each box's IoU."""
    config = point_rcnn_config()
    config.ROI_HEAD.TARGET_CONFIG.update(
        CLS_SCORE_TYPE="roi_iou", CLS_FG_THRESH=0.7, CLS_BG_THRESH=0.25
    )
    return config


def small_point_rcnn(config: EasyDict | None = None, seed: int = 0) -> Detector3DTemplate:
    """A freshly initialised detector."""
    torch.manual_seed(seed)
    return build_network(config or point_rcnn_config(), len(CLASS_NAMES), point_spec())


def point_batch(
    frames: list[tuple[np.ndarray, np.ndarray]], num_points: int | None = NUM_POINTS
) -> dict[str, Any]:
    """A collated batch, as tensors.

    Args:
        frames: points (N, 4) and boxes (G, 8) of each frame.
        num_points: repeat and cut the points of a frame to this number; None keeps them.
    """
    most_boxes = max([len(rows) for _, rows in frames] + [1])
    boxes = np.zeros((len(frames), most_boxes, 8), np.float32)
    parts = []
    for frame, (points, rows) in enumerate(frames):
        boxes[frame, : len(rows)] = rows
        if num_points is not None:
            points = points[np.random.RandomState(0).permutation(len(points))]
            points = (
                np.resize(points, (num_points, 4))
                if len(points)
                else np.zeros((num_points, 4), np.float32)
            )
        parts.append(np.pad(points, ((0, 0), (1, 0)), constant_values=frame))
    batch = {
        "points": np.concatenate(parts),
        "gt_boxes": boxes,
        "batch_size": len(frames),
        "frame_id": np.array([f"{frame:06d}" for frame in range(len(frames))]),
    }
    load_data_to_device(batch, "cpu")
    return batch


def two_scenes() -> list[tuple[np.ndarray, np.ndarray]]:
    return [random_scene(0), random_scene(1, num_boxes=2)]
