"""The files of other projects' programs give the checkpoint's boxes on these programs' roads."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import yaml
from layout_detectors import (
    CENTERPOINT,
    POINTPILLAR,
    assert_same_boxes,
    crowded_cloud,
    export_of,
    make_detector,
    small_config,
)

from pcdet_distill.checkpoint import save_checkpoint
from pcdet_distill.datasets.spec import DataSpec
from pcdet_distill.errors import ConfigError
from pcdet_distill.export.layouts import write_layout
from pcdet_distill.inference import load_detector
from pcdet_distill.models import build_network

LAYOUT_OF = {CENTERPOINT: "autoware", POINTPILLAR: "cuda_pointpillars"}


@pytest.mark.parametrize("max_points", [20, 32])
@pytest.mark.parametrize("name", [CENTERPOINT, POINTPILLAR])
def test_the_other_program_finds_the_boxes_of_the_checkpoint(
    tmp_path, name: str, max_points: int
) -> None:
    detector, path = make_detector(small_config(name, max_points), tmp_path)
    files = write_layout(LAYOUT_OF[name], detector, export_of(detector, path).config)
    num_boxes = 0
    for seed in range(4):
        points = crowded_cloud(seed)
        expected = detector(points)
        assert_same_boxes(files.program(points), expected)
        num_boxes += len(expected)
    assert num_boxes > 20


def test_two_pfn_layers_and_no_own_xyz(tmp_path) -> None:
    cfg = small_config(CENTERPOINT)
    cfg.MODEL.VFE.NUM_FILTERS = [16, 24]
    cfg.MODEL.VFE.USE_ABSLOTE_XYZ = False
    cfg.MODEL.MAP_TO_BEV.NUM_BEV_FEATURES = 24
    detector, path = make_detector(cfg, tmp_path)
    files = write_layout("autoware", detector, export_of(detector, path).config)
    points = crowded_cloud(5)
    assert len(detector(points)) > 3
    assert_same_boxes(files.program(points), detector(points))


def test_a_frame_without_points_in_range_has_what_an_empty_map_gives(tmp_path) -> None:
    detector, path = make_detector(small_config(POINTPILLAR), tmp_path)
    files = write_layout("cuda_pointpillars", detector, export_of(detector, path).config)
    outside = np.array([[-50, 0, 0, 0]], np.float32)
    assert np.isfinite(files.program(outside).boxes).all()


def test_autoware_names_shapes_and_parameters(tmp_path) -> None:
    detector, path = make_detector(small_config(CENTERPOINT), tmp_path)
    files = write_layout("autoware", detector, export_of(detector, path).config)
    encoder = onnx.load_from_string(files.contents["pts_voxel_encoder_centerpoint.onnx"])
    bev = onnx.load_from_string(files.contents["pts_backbone_neck_head_centerpoint.onnx"])
    assert _shapes(encoder.graph.input) == {"input_features": ["P", 32, 11]}
    assert _shapes(encoder.graph.output) == {"pillar_features": ["P", 32]}
    assert _shapes(bev.graph.input) == {"spatial_features": [1, 32, 64, 64]}
    # The node binds buffers by the order of the outputs.
    assert list(_shapes(bev.graph.output).items()) == [
        ("heatmap", [1, 3, 32, 32]),
        ("reg", [1, 2, 32, 32]),
        ("height", [1, 1, 32, 32]),
        ("dim", [1, 3, 32, 32]),
        ("rot", [1, 2, 32, 32]),
        ("vel", [1, 2, 32, 32]),
    ]
    content = yaml.safe_load(files.contents["centerpoint_ml_package.param.yaml"])
    parameters = content["/**"]["ros__parameters"]["model_params"]
    assert parameters["class_names"] == ["CAR", "PEDESTRIAN", "BICYCLE"]
    assert parameters["point_feature_size"] == 5
    assert parameters["encoder_in_feature_size"] == 11
    assert parameters["downsample_factor"] == 2
    assert parameters["voxel_size"] == [0.2, 0.2, 4.0]
    assert parameters["has_twist"] is False
    thresholds = parameters["detection_score_thresholds"]["min_confidence_scores"]
    assert thresholds == {"CAR": [0.1], "PEDESTRIAN": [0.1], "BICYCLE": [0.1]}
    remapper = yaml.safe_load(files.contents["detection_class_remapper.param.yaml"])
    assert len(remapper["/**"]["ros__parameters"]["min_area_matrix"]) == 64


def test_cuda_pointpillars_names_shapes_and_parameters(tmp_path) -> None:
    detector, path = make_detector(small_config(POINTPILLAR), tmp_path)
    files = write_layout("cuda_pointpillars", detector, export_of(detector, path).config)
    plain = onnx.load_from_string(files.contents["pointpillar.onnx"])
    plugin = onnx.load_from_string(files.contents["pointpillar_plugin.onnx"])
    for network in (plain, plugin):
        assert list(_shapes(network.graph.input).items()) == [
            ("voxels", [900, 32, 10]),
            ("voxel_idxs", [900, 4]),
            ("voxel_num", [1]),
        ]
        assert list(_shapes(network.graph.output).items()) == [
            ("cls_preds", [1, 32, 32, 18]),
            ("box_preds", [1, 32, 32, 42]),
            ("dir_cls_preds", [1, 32, 32, 12]),
        ]
    kinds = [node.op_type for node in plugin.graph.node]
    assert "ScatterND" not in kinds
    (scatter,) = [node for node in plugin.graph.node if node.op_type == "PPScatterPlugin"]
    assert list(scatter.input) == ["pillar_features", "voxel_idxs", "voxel_num"]
    assert list(scatter.attribute[0].ints) == [64, 64]
    assert scatter.attribute[0].name == "dense_shape"
    parameters = json.loads(files.contents["pointpillar_parameters.json"])
    post_process = parameters["PostProcessParameter"]
    assert post_process["num_anchors"] == 6
    assert post_process["feature_size"] == [32, 32]
    assert post_process["anchors"][1] == [3.9, 1.6, 1.56, 1.57]
    assert post_process["anchor_bottom_heights"] == [-1.78, -1.78, -1.78]
    assert parameters["VoxelizationParameter"]["grid_size"] == [64, 64, 1]


def _shapes(values) -> dict[str, list[int | str]]:
    shapes = {}
    for value in values:
        sizes = value.type.tensor_type.shape.dim
        shapes[value.name] = [size.dim_param or size.dim_value for size in sizes]
    return shapes


def _wider_pillars(cfg) -> None:
    cfg.MODEL.VFE.NUM_FILTERS = [48]
    cfg.MODEL.MAP_TO_BEV.NUM_BEV_FEATURES = 48


def _two_heads(cfg) -> None:
    cfg.MODEL.DENSE_HEAD.CLASS_NAMES_EACH_HEAD = [["Car"], ["Pedestrian", "Cyclist"]]


def _more_points(cfg) -> None:
    for step in cfg.DATA_CONFIG.DATA_PROCESSOR:
        if step.NAME == "transform_points_to_voxels":
            step.MAX_POINTS_PER_VOXEL = 40


def _distance(cfg) -> None:
    cfg.MODEL.VFE.WITH_DISTANCE = True


def _unknown_feature(cfg) -> None:
    names = ["x", "y", "z", "elongation"]
    cfg.DATA_CONFIG.POINT_FEATURE_ENCODING.used_feature_list = names
    cfg.DATA_CONFIG.POINT_FEATURE_ENCODING.src_feature_list = names


def _rounded_grid(cfg) -> None:
    cfg.DATA_CONFIG.POINT_CLOUD_RANGE = [0, -6.4, -3, 12.75, 6.4, 1]


def _one_rotation(cfg) -> None:
    for entry in cfg.MODEL.DENSE_HEAD.ANCHOR_GENERATOR_CONFIG:
        entry.anchor_rotations = [0]


def _centred_anchors(cfg) -> None:
    for entry in cfg.MODEL.DENSE_HEAD.ANCHOR_GENERATOR_CONFIG:
        entry.align_center = True


def _no_directions(cfg) -> None:
    cfg.MODEL.DENSE_HEAD.USE_DIRECTION_CLASSIFIER = False


REFUSED = [
    (CENTERPOINT, "autoware", _wider_pillars, "48, but .* 32 channels"),
    (CENTERPOINT, "autoware", _two_heads, "CLASS_NAMES_EACH_HEAD has 2 heads"),
    (CENTERPOINT, "autoware", _more_points, "MAX_POINTS_PER_VOXEL is 40"),
    (CENTERPOINT, "autoware", _distance, "WITH_DISTANCE is true"),
    (CENTERPOINT, "autoware", _unknown_feature, "knows no 'elongation'"),
    (CENTERPOINT, "autoware", _rounded_grid, "counts 63 pillars along x"),
    (CENTERPOINT, "cuda_pointpillars", None, "CenterHead, but .* --layout autoware"),
    (POINTPILLAR, "autoware", None, "AnchorHeadSingle, but .* --layout cuda_pointpillars"),
    (POINTPILLAR, "cuda_pointpillars", _one_rotation, "1 sizes, 1 rotations"),
    (POINTPILLAR, "cuda_pointpillars", _centred_anchors, "align_center is true"),
    (POINTPILLAR, "cuda_pointpillars", _no_directions, "a direction of 2 bins"),
    (POINTPILLAR, "cuda_pointpillar", None, "cuda_pointpillars"),
]


@pytest.mark.parametrize(("name", "layout", "change", "message"), REFUSED)
def test_what_a_program_cannot_run_is_refused_in_a_sentence(
    tmp_path, name: str, layout: str, change, message: str
) -> None:
    cfg = small_config(name)
    if change is not None:
        change(cfg)
    spec = DataSpec.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES)
    model = build_network(cfg.MODEL, len(cfg.CLASS_NAMES), spec)
    save_checkpoint({"model_state": model.state_dict()}, tmp_path / "model.pth")
    detector = load_detector(cfg, tmp_path / "model.pth", device="cpu")
    config = export_of(detector, tmp_path / "model.pth").config
    with pytest.raises(ConfigError, match=message):
        write_layout(layout, detector, config)
