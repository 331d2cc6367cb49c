"""A PointPillar of a few thousand parameters on a 16 m x 16 m range, and scenes for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from easydict import EasyDict

from pcdet_distill.datasets.spec import DataSpec
from pcdet_distill.models import Detector3DTemplate, build_network, load_data_to_device
from pcdet_distill.ops.voxels import voxelize

CLASS_NAMES = ["Car", "Pedestrian", "Cyclist"]
SIZES = {"Car": [3.9, 1.6, 1.56], "Pedestrian": [0.8, 0.6, 1.73], "Cyclist": [1.76, 0.6, 1.73]}
RANGE = [0, -8, -3, 16, 8, 1]
VOXEL_SIZE = [0.5, 0.5, 4]
MAX_POINTS = 8


def data_config(voxel_size: list[float] = VOXEL_SIZE) -> EasyDict:
    """The part of DATA_CONFIG that a model reads: 32 x 32 pillars, unless voxels are smaller."""
    features = ["x", "y", "z", "intensity"]
    return EasyDict(
        POINT_CLOUD_RANGE=RANGE,
        POINT_FEATURE_ENCODING={
            "encoding_type": "absolute_coordinates_encoding",
            "used_feature_list": features,
            "src_feature_list": features,
        },
        DATA_PROCESSOR=[
            {
                "NAME": "transform_points_to_voxels",
                "VOXEL_SIZE": voxel_size,
                "MAX_POINTS_PER_VOXEL": MAX_POINTS,
                "MAX_NUMBER_OF_VOXELS": {"train": 1000, "test": 1000},
            }
        ],
    )


def anchor_config(name: str) -> dict[str, Any]:
    """Anchors of one class on every second pillar."""
    matched, unmatched = (0.6, 0.45) if name == "Car" else (0.5, 0.35)
    return {
        "class_name": name,
        "anchor_sizes": [SIZES[name]],
        "anchor_rotations": [0, 1.57],
        "anchor_bottom_heights": [-1.7],
        "align_center": False,
        "feature_map_stride": 2,
        "matched_threshold": matched,
        "unmatched_threshold": unmatched,
    }


def head_config() -> EasyDict:
    """DENSE_HEAD."""
    return EasyDict(
        NAME="AnchorHeadSingle",
        CLASS_AGNOSTIC=False,
        USE_DIRECTION_CLASSIFIER=True,
        DIR_OFFSET=0.78539,
        DIR_LIMIT_OFFSET=0.0,
        NUM_DIR_BINS=2,
        ANCHOR_GENERATOR_CONFIG=[anchor_config(name) for name in CLASS_NAMES],
        TARGET_ASSIGNER_CONFIG={
            "NAME": "AxisAlignedTargetAssigner",
            "POS_FRACTION": -1.0,
            "SAMPLE_SIZE": 512,
            "NORM_BY_NUM_EXAMPLES": False,
            "MATCH_HEIGHT": False,
            "BOX_CODER": "ResidualCoder",
        },
        LOSS_CONFIG={
            "LOSS_WEIGHTS": {
                "cls_weight": 1.0,
                "loc_weight": 2.0,
                "dir_weight": 0.2,
                "code_weights": [1.0] * 7,
            }
        },
    )


def model_config(width: int = 8) -> EasyDict:
    """MODEL."""
    return EasyDict(
        NAME="PointPillar",
        VFE={
            "NAME": "PillarVFE",
            "WITH_DISTANCE": False,
            "USE_ABSLOTE_XYZ": True,
            "USE_NORM": True,
            "NUM_FILTERS": [width],
        },
        MAP_TO_BEV={"NAME": "PointPillarScatter", "NUM_BEV_FEATURES": width},
        BACKBONE_2D={
            "NAME": "BaseBEVBackbone",
            "LAYER_NUMS": [1, 1],
            "LAYER_STRIDES": [2, 2],
            "NUM_FILTERS": [width, 2 * width],
            "UPSAMPLE_STRIDES": [1, 2],
            "NUM_UPSAMPLE_FILTERS": [width, width],
        },
        DENSE_HEAD=head_config(),
        POST_PROCESSING={
            "RECALL_THRESH_LIST": [0.3, 0.5, 0.7],
            "SCORE_THRESH": 0.1,
            "OUTPUT_RAW_SCORE": False,
            "EVAL_METRIC": "kitti",
            "NMS_CONFIG": {
                "MULTI_CLASSES_NMS": False,
                "NMS_TYPE": "nms_gpu",
                "NMS_THRESH": 0.01,
                "NMS_PRE_MAXSIZE": 4096,
                "NMS_POST_MAXSIZE": 500,
            },
        },
    )


def small_spec() -> DataSpec:
    return DataSpec.from_config(data_config(), CLASS_NAMES)


def small_model(config: EasyDict | None = None, seed: int = 0) -> Detector3DTemplate:
    """A freshly initialised detector."""
    torch.manual_seed(seed)
    return build_network(config or model_config(), len(CLASS_NAMES), small_spec())


def random_scene(seed: int, num_boxes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 4) on the ground and around boxes (G, 8)."""
    random = np.random.RandomState(seed)
    boxes = np.zeros((num_boxes, 8), np.float32)
    for row, label in zip(boxes, random.randint(1, 4, num_boxes)):
        row[:] = [
            random.uniform(3, 13),
            random.uniform(-6, 6),
            -0.9,
            *SIZES[CLASS_NAMES[label - 1]],
            random.uniform(-3, 3),
            label,
        ]
    ground = np.column_stack(
        [random.uniform(0, 16, 300), random.uniform(-8, 8, 300), np.full(300, -1.7)]
    )
    on_boxes = [row[:3] + random.uniform(-0.5, 0.5, (60, 3)) * row[3:6] for row in boxes]
    xyz = np.concatenate([ground, *on_boxes])
    return np.column_stack([xyz, random.uniform(0, 1, len(xyz))]).astype(np.float32), boxes


def make_batch(
    scenes: list[tuple[np.ndarray, np.ndarray]], voxel_size: list[float] = VOXEL_SIZE
) -> dict[str, Any]:
    """A collated batch of scenes, as tensors."""
    most_boxes = max([len(rows) for _, rows in scenes] + [1])
    boxes = np.zeros((len(scenes), most_boxes, 8), np.float32)
    parts: dict[str, list[np.ndarray]] = {
        "voxels": [],
        "voxel_coords": [],
        "voxel_num_points": [],
        "points": [],
    }
    for frame, (points, rows) in enumerate(scenes):
        boxes[frame, : len(rows)] = rows
        voxels, coords, num_points = voxelize(points, RANGE, voxel_size, MAX_POINTS, 1000)
        parts["voxels"].append(voxels)
        parts["voxel_num_points"].append(num_points)
        parts["voxel_coords"].append(np.pad(coords, ((0, 0), (1, 0)), constant_values=frame))
        parts["points"].append(np.pad(points, ((0, 0), (1, 0)), constant_values=frame))
    batch: dict[str, Any] = {key: np.concatenate(value) for key, value in parts.items()}
    batch.update(
        gt_boxes=boxes,
        batch_size=len(scenes),
        frame_id=np.array([f"{frame:06d}" for frame in range(len(scenes))]),
    )
    load_data_to_device(batch, "cpu")
    return batch
