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
from pcdet_distill.types import BatchDict

NAMES = [
    "kitti_models/centerpoint_pillar",
    "kitti_models/centerpoint_voxel",
    "kitti_models/pillarnet",
    "kitti_models/pv_rcnn_plusplus_reproduced_by_community",
    "kitti_models/second_multihead",
    "synthetic/centerpoint_pillar",
]
# A corner of each config's range: 128 x 128 cells of 0.05 m, 40 x 40 of 0.16 m, 32 x 32 of 0.2 m.
RANGE_M = [0, -3.2, -3, 6.4, 3.2, 1]
CAR = [2, -1, -0.9, 3.9, 1.6, 1.56, 0.3, 1]
PEDESTRIAN = [4, 2, -0.7, 0.8, 0.6, 1.73, 2.0, 2]
CYCLIST = [5, -2, -0.7, 1.76, 0.6, 1.73, -1.0, 3]
PADDING = [0] * 8


def with_frame(rows: np.ndarray, frame: int) -> np.ndarray:
    """Rows with the number of their frame in front."""
    return np.pad(rows, ((0, 0), (1, 0)), constant_values=frame)


def make_batch(spec: DataSpec, points_per_voxel: int) -> BatchDict:
    """Two frames of random points and four boxes."""
    random = np.random.RandomState(0)
    low = [*RANGE_M[:3], 0]
    high = [*RANGE_M[3:], 1]
    parts = {"points": [], "voxels": [], "voxel_coords": [], "voxel_num_points": []}
    for frame in range(2):
        points = random.uniform(low, high, (1500, 4)).astype(np.float32)
        voxels, coords, counts = voxelize(
            points, RANGE_M, spec.voxel_size, points_per_voxel, max_voxels=4000
        )
        parts["points"].append(with_frame(points, frame))
        parts["voxels"].append(voxels)
        parts["voxel_coords"].append(with_frame(coords, frame))
        parts["voxel_num_points"].append(counts)
    batch = {key: np.concatenate(value) for key, value in parts.items()}
    boxes = [[CAR, PEDESTRIAN, CYCLIST], [CAR, PADDING, PADDING]]
    batch.update(gt_boxes=np.array(boxes, np.float32), batch_size=2)
    load_data_to_device(batch, "cpu")
    return batch


@pytest.mark.parametrize("name", NAMES)
def test_builds_trains_and_evaluates(name: str, repo: Path) -> None:
    path = repo / "cfgs" / f"{name}.yaml"
    cfg = load_config(path, ["DATA_CONFIG.POINT_CLOUD_RANGE", str(RANGE_M)])
    voxel_settings = cfg.DATA_CONFIG.DATA_PROCESSOR[-1]
    spec = DataSpec.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES)
    torch.manual_seed(0)
    model = build_network(cfg.MODEL, len(cfg.CLASS_NAMES), spec)
    batch = make_batch(spec, voxel_settings["MAX_POINTS_PER_VOXEL"])

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
