"""Two networks and their parameters as Autoware's lidar_centerpoint node reads them.

The node groups and decorates the points, runs the pillar encoder, scatters the pillars, runs the
rest, and makes boxes of six maps (``autoware_node.py``). Its conventions differ from ours:

* It fixes 32 slots and 32 channels of a pillar, and takes 9, 10 or 11 columns; 11 hold all of ours.
* Its intensities are 0..255.
* ``dim`` is log width, length, height; ours is log length, width, height.
* Its heading turns clockwise from the y axis: ours is ``-heading - 90 degrees``. Of our cosine and
  sine that makes ``rot`` = (-cosine, -sine), which it reads as sine and cosine.
* It always reads a ``vel`` map; without velocities it is zero.
* It has one head for all classes, and keeps the best class of a cell.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ...errors import ConfigError
from ...models import Detector3DTemplate
from ...models.dense_heads.center_head import CenterHead
from ..config import ExportConfig
from ..graph import Graph
from ..slots.backbone_2d import add_backbone_2d
from ..slots.layers import add_sequence
from .pillars import SLOTS, TO_CENTRE, TO_MEAN, add_decorated_encoder, check_encoder, check_map

PROGRAM = "Autoware's lidar_centerpoint"
ENCODER_FILE = "pts_voxel_encoder_centerpoint.onnx"
HEAD_FILE = "pts_backbone_neck_head_centerpoint.onnx"
PARAMETER_FILE = "centerpoint_ml_package.param.yaml"
REMAPPER_FILE = "detection_class_remapper.param.yaml"

POINT_COLUMNS = ("x", "y", "z", "intensity", "timestamp")
COLUMNS = (*POINT_COLUMNS, *TO_MEAN, *TO_CENTRE)
CHANNELS = 32
LARGEST_INTENSITY = 255.0
# The outputs of the second network, in the order of the node's buffers, with their channels.
MAPS = {"heatmap": None, "reg": 2, "height": 1, "dim": 3, "rot": 2, "vel": 2}

# Names of classes by which the node chooses the label of its messages; others become UNKNOWN.
CLASS_NAMES = {
    "car": "CAR",
    "truck": "TRUCK",
    "bus": "BUS",
    "trailer": "TRAILER",
    "bicycle": "BICYCLE",
    "cyclist": "BICYCLE",
    "motorcycle": "MOTORBIKE",
    "pedestrian": "PEDESTRIAN",
}
NUM_LABELS = 8  # of Autoware's messages, UNKNOWN to PEDESTRIAN
FARTHEST_M = 1000.0  # the end of the only distance bin of the score thresholds


@dataclasses.dataclass(frozen=True)
class AutowareNetworks:
    """The two networks and what the node has to know of them.

    Attributes:
        encoder: ``input_features`` (P, 32, 11) to ``pillar_features`` (P, 32).
        bev: ``spatial_features`` (1, 32, ny, nx) to the six maps.
        class_names: of the heatmaps, in order.
        stride: a cell of the maps is so many pillars wide.
        has_velocity: whether ``vel`` is predicted.
    """

    encoder: Graph
    bev: Graph
    class_names: tuple[str, ...]
    stride: int
    has_velocity: bool


def write_networks(
    model: Detector3DTemplate, config: ExportConfig, *, largest_intensity: float
) -> AutowareNetworks:
    """The graphs of a detector in eval mode whose weights are on the CPU.

    Args:
        model: the detector.
        config: of its export in one file.
        largest_intensity: of the points that it learnt from, 1 or 255.

    Raises:
        ConfigError: what the node cannot run, in a sentence.
    """
    head = _check_head(model)
    _check_grid(config)
    nx = config.voxels.grid[0]
    return AutowareNetworks(
        encoder=_write_encoder(model, config, largest_intensity),
        bev=_write_bev(model, head, config),
        class_names=tuple(config.class_names[label - 1] for label in head.head_labels[0]),
        stride=nx // head.feature_map_size[0],
        has_velocity="vel" in head.code_names,
    )


def _write_encoder(
    model: Detector3DTemplate, config: ExportConfig, largest_intensity: float
) -> Graph:
    max_points = config.voxels.max_points
    encoder = check_encoder(
        model,
        features=config.points.features,
        max_points=max_points,
        known_features=POINT_COLUMNS,
        channels=CHANNELS,
        program=PROGRAM,
    )
    assert max_points is not None
    graph = Graph()
    decorated = graph.add_input("input_features", "float32", ("P", SLOTS, len(COLUMNS)))
    pillars = add_decorated_encoder(
        graph,
        encoder,
        decorated=decorated,
        features=config.points.features,
        columns=COLUMNS,
        max_points=max_points,
        channels=CHANNELS,
        scale={"intensity": largest_intensity / LARGEST_INTENSITY},
        name="pillar_features",
    )
    graph.add_output(pillars, "float32", ("P", CHANNELS))
    return graph


def _write_bev(model: Detector3DTemplate, head: CenterHead, config: ExportConfig) -> Graph:
    scatter, backbone = check_map(model, PROGRAM)
    graph = Graph()
    nx, ny = config.voxels.grid[:2]
    features = graph.add_input("spatial_features", "float32", (1, CHANNELS, ny, nx))
    if scatter.num_bev_features < CHANNELS:
        features = graph.add("Slice", features, [0], [scatter.num_bev_features], [1])
    features = add_backbone_2d(graph, backbone, features)
    shared = add_sequence(graph, features, head.shared_conv, "shared_conv")
    ours = {}
    for name, branch in head.heads_list[0].named_children():
        ours[name] = add_sequence(graph, shared, branch, f"branch.{name}")
    if "vel" not in ours:
        ours["vel"] = graph.add("Mul", ours["center"], 0.0)
    length, width, height = graph.add_with_outputs(
        "Split", ours["dim"], [1, 1, 1], names=[""] * 3, axis=1
    )
    graph.add("Identity", ours["hm"], name="heatmap")
    graph.add("Identity", ours["center"], name="reg")
    graph.add("Identity", ours["center_z"], name="height")
    graph.add("Concat", width, length, height, axis=1, name="dim")
    graph.add("Neg", ours["rot"], name="rot")
    graph.add("Identity", ours["vel"], name="vel")
    map_x, map_y = head.feature_map_size
    for name, channels in MAPS.items():
        channels = channels or len(head.head_labels[0])
        graph.add_output(name, "float32", (1, channels, map_y, map_x))
    return graph


def _check_head(model: Detector3DTemplate) -> CenterHead:
    head = model.dense_head
    if type(head) is not CenterHead:
        raise ConfigError(
            f"MODEL.DENSE_HEAD is {type(head).__name__}, but {PROGRAM} reads the maps of a "
            "CenterHead; for AnchorHeadSingle there is --layout cuda_pointpillars"
        )
    if len(head.head_labels) != 1:
        raise ConfigError(
            f"MODEL.DENSE_HEAD.CLASS_NAMES_EACH_HEAD has {len(head.head_labels)} heads, but "
            f"{PROGRAM} reads one for all classes"
        )
    if head.predicts_overlap:
        raise ConfigError(
            f"MODEL.DENSE_HEAD.SEPARATE_HEAD_CFG.HEAD_DICT has a branch iou, but {PROGRAM} does "
            "not correct scores by it"
        )
    return head


def _check_grid(config: ExportConfig) -> None:
    """The node rounds the number of cells down, in float32; ours rounds to the nearest."""
    limits = np.asarray(config.points.range_m, np.float32)
    size = np.asarray(config.voxels.size_m, np.float32)
    cells = ((limits[3:] - limits[:3]) / size).astype(int)
    for axis, ours, theirs in zip("xyz", config.voxels.grid, cells):
        if ours != theirs:
            raise ConfigError(
                f"DATA_CONFIG.POINT_CLOUD_RANGE: {PROGRAM} counts {theirs} pillars along {axis}, "
                f"because it rounds down, but this detector has {ours}; choose a range and a "
                "VOXEL_SIZE that divide without rest in float32"
            )


def node_parameters(config: ExportConfig, networks: AutowareNetworks) -> dict[str, object]:
    """The content of the parameter file.

    The names are those of the bundles of version 4.1. Older nodes read the thresholds of scores and
    headings under ``post_process_params``, and find them there too. A node ignores what it does not
    declare.
    """
    names = autoware_class_names(networks.class_names)
    score = config.post_processing.score_threshold
    model_params = {
        "class_names": names,
        "point_feature_size": len(POINT_COLUMNS),
        "max_voxel_size": config.voxels.max_voxels,
        "point_cloud_range": [float(limit) for limit in config.points.range_m],
        "voxel_size": [float(edge) for edge in config.voxels.size_m],
        "downsample_factor": networks.stride,
        "encoder_in_feature_size": len(COLUMNS),
        "has_variance": False,
        "has_twist": networks.has_velocity,
        "yaw_norm_thresholds": [0.0] * len(names),
        "detection_score_thresholds": {
            "distance_bin_upper_limits": [FARTHEST_M],
            "min_confidence_scores": {name: [score] for name in names},
        },
    }
    parameters = {
        "version": "v4.1",
        "encoder_onnx_path": f"$(var model_path)/{ENCODER_FILE}",
        "encoder_engine_path": f"$(var model_path)/{_engine(ENCODER_FILE)}",
        "head_onnx_path": f"$(var model_path)/{HEAD_FILE}",
        "head_engine_path": f"$(var model_path)/{_engine(HEAD_FILE)}",
        "class_remapper_param_path": REMAPPER_FILE,
        "trt_precision": "fp16",
        "model_params": model_params,
        "post_process_params": {
            "score_thresholds": [score] * len(names),
            "yaw_norm_thresholds": [0.0] * len(names),
        },
    }
    return {"/**": {"ros__parameters": parameters}}


def remapper_parameters() -> dict[str, object]:
    """The content of the file by which the node changes classes by size: it changes none."""
    count = NUM_LABELS * NUM_LABELS
    parameters = {
        "allow_remapping_by_area_matrix": [0] * count,
        "min_area_matrix": [0.0] * count,
        "max_area_matrix": [0.0] * count,
    }
    return {"/**": {"ros__parameters": parameters}}


def autoware_class_names(class_names: Sequence[str]) -> list[str]:
    """The node's names of the classes; one that it does not know keeps its own, in capitals."""
    return [CLASS_NAMES.get(name.lower(), name.upper()) for name in class_names]


def unknown_class_names(class_names: Sequence[str]) -> list[str]:
    """The classes that the node has no label for."""
    return [name for name in class_names if name.lower() not in CLASS_NAMES]


def _engine(onnx_file: str) -> str:
    return onnx_file.removesuffix(".onnx") + ".engine"
