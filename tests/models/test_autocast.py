"""Every detector trains and predicts under autocast, in bfloat16 and in float16."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import small_nuscenes
import torch
from small_model import random_scene
from test_degenerate_inputs import DETECTORS
from torch import Tensor, nn

from pcdet_distill.models import build_network
from pcdet_distill.types import BatchDict, ConfigDict

NUSCENES = {
    "VoxelNeXt": small_nuscenes.voxelnext_config,
    "TransFusion": small_nuscenes.transfusion_config,
}
DTYPES = [torch.bfloat16, torch.float16]
# A scaler starts at 2^16 and halves its scale after each step that overflows.
MOST_OVERFLOWS = 12


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("detector", DETECTORS)
def test_autocast(detector: str, dtype: torch.dtype) -> None:
    make_model, collate = DETECTORS[detector]
    check_trains_and_predicts(make_model(), collate([random_scene(0), random_scene(1)]), dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("make_config", NUSCENES.values(), ids=NUSCENES.keys())
def test_autocast_on_nuscenes(make_config: Callable[[], ConfigDict], dtype: torch.dtype) -> None:
    cfg = make_config()
    spec = small_nuscenes.spec_of(cfg)
    torch.manual_seed(0)
    model = build_network(cfg.MODEL, len(cfg.CLASS_NAMES), spec)
    scenes = [small_nuscenes.random_scene(0), small_nuscenes.random_scene(1)]
    check_trains_and_predicts(model, small_nuscenes.make_batch(spec, scenes), dtype)


def check_trains_and_predicts(model: nn.Module, batch: BatchDict, dtype: torch.dtype) -> None:
    """One step of the optimizer and one evaluation under autocast, all of it finite."""
    scaler = torch.amp.GradScaler("cpu", enabled=dtype == torch.float16)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    before = {name: value.clone() for name, value in model.named_parameters()}
    for _ in range(MOST_OVERFLOWS):
        add_gradients(model, batch, dtype, scaler)
        scaler.unscale_(optimizer)
        scale = scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        if scaler.get_scale() >= scale:
            break
    check_gradients(model)
    changed = [
        name for name, value in model.named_parameters() if not torch.equal(value, before[name])
    ]
    assert changed
    check_predictions(model, batch, dtype)


def add_gradients(
    model: nn.Module, batch: BatchDict, dtype: torch.dtype, scaler: torch.amp.GradScaler
) -> None:
    """One forward and backward pass; the loss and its parts are float32 and finite."""
    model.zero_grad(set_to_none=True)
    with torch.autocast("cpu", dtype=dtype):
        ret, parts, _ = model.train()(dict(batch))
    loss = ret["loss"]
    assert loss.dtype == torch.float32
    assert math.isfinite(loss.item())
    for name, value in parts.items():
        if isinstance(value, Tensor):
            assert value.dtype in (torch.float32, torch.int64), name
        assert math.isfinite(value), name
    scaler.scale(loss).backward()


def check_gradients(model: nn.Module) -> None:
    """Every parameter has one, float32 and finite."""
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.dtype == torch.float32, name
        assert torch.isfinite(parameter.grad).all(), name


def check_predictions(model: nn.Module, batch: BatchDict, dtype: torch.dtype) -> None:
    """Final boxes are float32 and finite."""
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype):
        predictions, _ = model.eval()(dict(batch))
    for frame in predictions:
        assert frame["pred_boxes"].dtype == torch.float32
        assert all(torch.isfinite(value).all() for value in frame.values())
