"""Every detector trains and predicts under autocast."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import small_nuscenes
import torch
from small_model import random_scene
from test_degenerate_inputs import DETECTORS
from torch import nn

from pcdet_distill.models import build_network
from pcdet_distill.types import BatchDict, ConfigDict

NUSCENES = {
    "VoxelNeXt": small_nuscenes.voxelnext_config,
    "TransFusion": small_nuscenes.transfusion_config,
}


@pytest.mark.parametrize("detector", DETECTORS)
def test_bfloat16(detector: str) -> None:
    make_model, collate = DETECTORS[detector]
    check_trains_and_predicts(make_model(), collate([random_scene(0), random_scene(1)]))


@pytest.mark.parametrize("make_config", NUSCENES.values(), ids=NUSCENES.keys())
def test_bfloat16_on_nuscenes(make_config: Callable[[], ConfigDict]) -> None:
    cfg = make_config()
    spec = small_nuscenes.spec_of(cfg)
    torch.manual_seed(0)
    model = build_network(cfg.MODEL, len(cfg.CLASS_NAMES), spec)
    scenes = [small_nuscenes.random_scene(0), small_nuscenes.random_scene(1)]
    check_trains_and_predicts(model, small_nuscenes.make_batch(spec, scenes))


def check_trains_and_predicts(model: nn.Module, batch: BatchDict) -> None:
    """One backward pass and one evaluation under autocast, all of it finite."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model.train()(dict(batch))[0]["loss"]
    assert loss.dtype == torch.float32
    assert math.isfinite(loss.item())
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.dtype == torch.float32, name
        assert torch.isfinite(parameter.grad).all(), name
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        predictions, _ = model.eval()(dict(batch))
    for frame in predictions:
        assert frame["pred_boxes"].dtype == torch.float32
        assert all(torch.isfinite(value).all() for value in frame.values())
