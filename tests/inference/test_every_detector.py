"""Every detector of cfgs/ takes clouds: alone and in a batch, of one point, and empty."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pcdet_distill.checkpoint import save_checkpoint
from pcdet_distill.config import load_config
from pcdet_distill.datasets.spec import DataSpec
from pcdet_distill.inference import Detector, load_detector
from pcdet_distill.inference.matching_yaml import experiments
from pcdet_distill.models import build_network

# Small ones, of each kind: sparse, points with a second stage, centres, several heads, velocities.
SMALL = {
    "synthetic/second_student.yaml": 7,
    "synthetic/pointrcnn_student.yaml": 7,
    "synthetic/centerpoint_pillar.yaml": 7,
    "synthetic/nuscenes/pp_multihead_student.yaml": 9,
    "synthetic/nuscenes/centerpoint_student.yaml": 9,
}


def untrained(config: str, folder, device: torch.device) -> Detector:
    """A detector with random weights that returns its 20 best boxes, whatever their scores."""
    cfg = load_config(config)
    torch.manual_seed(0)
    spec = DataSpec.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES)
    model = build_network(cfg.MODEL, len(cfg.CLASS_NAMES), spec)
    save_checkpoint({"model_state": model.state_dict()}, folder / "model.pth")
    return load_detector(
        cfg, folder / "model.pth", device=device, score_threshold=0.0, max_boxes=20, tell=print
    )


def check(detector: Detector, width: int | None = None) -> None:
    """The boxes of a cloud, of one point, of no point, and of a batch of them."""
    num_columns = len(detector.dataset.model_input.features)
    random = np.random.RandomState(0)
    cloud = random.uniform([0, -20, -2, 0, 0], [40, 20, 1, 1, 0], (3000, 5))
    cloud = cloud[:, :num_columns].astype(np.float32)
    clouds = [cloud, cloud[:0], cloud[:1]]
    alone = [detector(one) for one in clouds]
    assert len(alone[0]) > 0
    assert len(alone[1]) == 0
    together = detector(clouds, batch_size=3)
    for one, in_batch in zip(alone, together):
        assert one.boxes.shape[1] == in_batch.boxes.shape[1] == (width or one.boxes.shape[1])
        assert len(one) == len(in_batch)
        assert np.isfinite(one.boxes).all()
    np.testing.assert_allclose(alone[0].scores, together[0].scores, atol=1e-4)
    np.testing.assert_allclose(alone[0].boxes, together[0].boxes, atol=1e-3)


@pytest.mark.parametrize("config", SMALL)
def test_small_detectors_of_every_kind(config: str, tmp_path, device: torch.device) -> None:
    check(untrained(config, tmp_path, device), SMALL[config])


@pytest.mark.slow
def test_every_detector_of_cfgs(tmp_path, device: torch.device) -> None:
    names = []
    for name, _ in experiments("kitti_models"):
        check(untrained(name, tmp_path, device))
        names.append(name)
    assert len(names) > 50
