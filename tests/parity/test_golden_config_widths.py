"""Widths in cfgs/kitti_models agree with OpenPCDet's state_dicts, without building a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pcdet_distill.config import load_config


def shapes_and_config(golden_file: Path, repo: Path) -> tuple[dict[str, list[int]], Any]:
    manifest = json.loads(golden_file.read_text())
    if "state_dict" not in manifest:
        pytest.skip("not the manifest of a model")
    file = repo / "cfgs" / manifest["config"]
    if not file.exists():
        pytest.skip(f"no config cfgs/{manifest['config']} yet")
    config = load_config(file)
    assert manifest["detector"] == config.MODEL.NAME
    return {key: shape for key, shape, _ in manifest["state_dict"]}, config


def count(shapes: dict[str, list[int]], prefix: str) -> int:
    """Number of numbered children under ``prefix``."""
    return len({key[len(prefix) :].split(".")[0] for key in shapes if key.startswith(prefix)})


def upsampling_shape(filters: int, upsampled: int, stride: float, conv_for_one: Any) -> list[int]:
    """Weights of a level's last convolution: transposed for strides from 1, else a plain one."""
    if stride < 1 or (stride == 1 and conv_for_one):
        kernel = round(1 / stride)
        return [upsampled, filters, kernel, kernel]
    return [filters, upsampled, stride, stride]


@pytest.mark.golden("manifests/*.json")
def test_backbone_2d(golden_file: Path, repo: Path):
    shapes, config = shapes_and_config(golden_file, repo)
    backbone = config.MODEL.get("BACKBONE_2D")
    if backbone is None:
        assert not any(key.startswith("backbone_2d") for key in shapes)
        return
    widths = zip(
        backbone.LAYER_NUMS,
        backbone.NUM_FILTERS,
        backbone.NUM_UPSAMPLE_FILTERS,
        backbone.UPSAMPLE_STRIDES,
    )
    for index, (layers, filters, upsampled, stride) in enumerate(widths):
        block = f"backbone_2d.blocks.{index}."
        convolutions = [
            shape for key, shape in shapes.items() if key.startswith(block) and len(shape) == 4
        ]
        assert len(convolutions) == 1 + layers
        assert all(shape[0] == filters for shape in convolutions)
        expected = upsampling_shape(
            filters, upsampled, stride, backbone.get("USE_CONV_FOR_NO_STRIDE")
        )
        assert shapes[f"backbone_2d.deblocks.{index}.0.weight"] == expected
    assert count(shapes, "backbone_2d.blocks.") == len(backbone.LAYER_NUMS)


@pytest.mark.golden("manifests/*.json")
def test_anchor_head(golden_file: Path, repo: Path):
    shapes, config = shapes_and_config(golden_file, repo)
    head = config.MODEL.get("DENSE_HEAD")
    if head is None or head.NAME != "AnchorHeadSingle":
        return
    anchors = 0
    for entry in head.ANCHOR_GENERATOR_CONFIG:
        anchors += len(entry.anchor_sizes) * len(entry.anchor_rotations)
    width = sum(config.MODEL.BACKBONE_2D.NUM_UPSAMPLE_FILTERS)
    assert shapes["dense_head.conv_cls.weight"] == [anchors * len(config.CLASS_NAMES), width, 1, 1]
    assert shapes["dense_head.conv_box.weight"] == [anchors * 7, width, 1, 1]
    assert shapes["dense_head.conv_dir_cls.weight"] == [anchors * head.NUM_DIR_BINS, width, 1, 1]


@pytest.mark.golden("manifests/*.json")
def test_fully_connected_layers(golden_file: Path, repo: Path):
    shapes, config = shapes_and_config(golden_file, repo)
    expected = {
        "roi_head.shared_fc_layer.": ("ROI_HEAD", "SHARED_FC", 0),
        "roi_head.iou_layers.": ("ROI_HEAD", "IOU_FC", 1),
        "roi_head.cls_layers.": ("ROI_HEAD", "CLS_FC", 1),
        "roi_head.cls_fc_layers.": ("ROI_HEAD", "CLS_FC", 0),
        "roi_head.reg_layers.": ("ROI_HEAD", "REG_FC", 1),
        "roi_head.reg_fc_layers.": ("ROI_HEAD", "REG_FC", 0),
        "point_head.cls_layers.": ("POINT_HEAD", "CLS_FC", 1),
        "point_head.box_layers.": ("POINT_HEAD", "REG_FC", 1),
        "point_head.part_reg_layers.": ("POINT_HEAD", "PART_FC", 1),
    }
    for prefix, (slot, key, outputs) in expected.items():
        matrices = [
            shape for name, shape in shapes.items() if name.startswith(prefix) and len(shape) > 1
        ]
        if matrices:
            hidden = matrices[: len(matrices) - outputs]
            assert [shape[0] for shape in hidden] == config.MODEL[slot][key], prefix


@pytest.mark.golden("manifests/*.json")
def test_grid(golden_file: Path, repo: Path):
    _, config = shapes_and_config(golden_file, repo)
    manifest = json.loads(golden_file.read_text())
    if manifest.get("grid_size") is None:
        pytest.skip("no manifest of a model with voxels")
    data = config.DATA_CONFIG
    size = next(step.VOXEL_SIZE for step in data.DATA_PROCESSOR if "VOXEL_SIZE" in step)
    low = data.POINT_CLOUD_RANGE[:3]
    high = data.POINT_CLOUD_RANGE[3:]
    cells = [round((end - start) / edge) for start, end, edge in zip(low, high, size)]
    assert cells == manifest["grid_size"]
