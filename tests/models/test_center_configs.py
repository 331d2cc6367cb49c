"""Yaml files of newer detectors: each builds, trains a step and evaluates."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from pcdet_distill.config import load_config
from pcdet_distill.datasets.spec import DataSpec
from pcdet_distill.models import build_network, load_data_to_device
from pcdet_distill.ops.voxels import voxelize

# 128 x 128 cells of 0.05 m, 40 x 40 of 0.16 m, 32 x 32 of 0.2 m: a corner of each config's range.
RANGES = {
    "kitti_models/centerpoint_pillar": [0, -3.2, -3, 6.4, 3.2, 1],
    "kitti_models/centerpoint_voxel": [0, -3.2, -3, 6.4, 3.2, 1],
    "kitti_models/pillarnet": [0, -3.2, -3, 6.4, 3.2, 1],
    "kitti_models/pv_rcnn_plusplus_reproduced_by_community": [0, -3.2, -3, 6.4, 3.2, 1],
    "kitti_models/second_multihead": [0, -3.2, -3, 6.4, 3.2, 1],
    "synthetic/centerpoint_pillar": [0, -3.2, -3, 6.4, 3.2, 1],
}


def make_batch(spec: DataSpec, voxel_settings: dict) -> dict:
    """Two frames of random points and three boxes."""
    random = np.random.RandomState(0)
    limits = spec.point_cloud_range
    parts = {"points": [], "voxels": [], "voxel_coords": [], "voxel_num_points": []}
    for frame in range(2):
        points = random.uniform([*limits[:3], 0], [*limits[3:], 1], (1500, 4)).astype(np.float32)
        voxels, coords, count = voxelize(
            points, limits, spec.voxel_size, voxel_settings["MAX_POINTS_PER_VOXEL"], 4000
        )
        parts["points"].append(np.pad(points, ((0, 0), (1, 0)), constant_values=frame))
        parts["voxels"].append(voxels)
        parts["voxel_coords"].append(np.pad(coords, ((0, 0), (1, 0)), constant_values=frame))
        parts["voxel_num_points"].append(count)
    batch = {key: np.concatenate(value) for key, value in parts.items()}
    boxes = [
        [2, -1, -0.9, 3.9, 1.6, 1.56, 0.3, 1],
        [4, 2, -0.7, 0.8, 0.6, 1.73, 2.0, 2],
        [5, -2, -0.7, 1.76, 0.6, 1.73, -1.0, 3],
    ]
    batch.update(gt_boxes=np.array([boxes, boxes[:1] + [[0] * 8] * 2], np.float32), batch_size=2)
    load_data_to_device(batch, "cpu")
    return batch


@pytest.mark.parametrize("name", RANGES)
def test_builds_trains_and_evaluates(name: str, repo: Path) -> None:
    cfg = load_config(
        repo / "cfgs" / f"{name}.yaml", ["DATA_CONFIG.POINT_CLOUD_RANGE", str(RANGES[name])]
    )
    spec = DataSpec.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES)
    torch.manual_seed(0)
    model = build_network(cfg.MODEL, len(cfg.CLASS_NAMES), spec)
    batch = make_batch(spec, cfg.DATA_CONFIG.DATA_PROCESSOR[-1])
    ret, tb_dict, _ = model.train()(dict(batch))
    ret["loss"].backward()
    assert all(math.isfinite(value) for value in tb_dict.values())
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
    with torch.no_grad():
        predictions, recall = model.eval()(dict(batch))
    assert len(predictions) == 2
    assert recall["gt"] == 4
    for frame in predictions:
        assert all(torch.isfinite(value).all() for value in frame.values())
