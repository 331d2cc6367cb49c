"""Parameters, multiply-adds and latency against layers counted by hand and against torch's own counter."""
from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pcdet_distill.config import load_config
from pcdet_distill.datasets.spec import DataSpec
from pcdet_distill.measure import count_gflops, count_parameters, measure_latencies, measure_latency
from pcdet_distill.models import build_network, load_data_to_device


class Runs(nn.Module):
    """A layer that reads ``x`` from the batch dict, as a detector's slot does."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, batch_dict: dict) -> dict:
        batch_dict["y"] = self.layers(batch_dict["x"])
        return batch_dict


class Sleeps(nn.Module):
    """Takes at least ``seconds``."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def forward(self, batch_dict: dict) -> dict:
        time.sleep(self.seconds)
        return batch_dict


def test_parameters_by_hand():
    assert count_parameters(nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5))) == 3 * 5 * 9 + 5 + 2 * 5


def test_a_shared_parameter_counts_once():
    layer = nn.Linear(4, 4)
    assert count_parameters(nn.Sequential(layer, layer)) == 4 * 4 + 4


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (nn.Linear(10, 7), (5, 10), 5 * 10 * 7),
        (nn.Linear(10, 7), (5, 3, 10), 5 * 3 * 10 * 7),
        (nn.Conv2d(4, 6, 3, padding=1), (1, 4, 8, 10), 8 * 10 * 4 * 6 * 9),
        (nn.Conv2d(4, 6, 3, padding=1, stride=2), (1, 4, 8, 10), 4 * 5 * 4 * 6 * 9),
        (nn.Conv2d(4, 6, 3, groups=2), (1, 4, 8, 10), 6 * 8 * 2 * 6 * 9),
        (nn.Conv1d(4, 6, 1), (1, 4, 8), 8 * 4 * 6),
        (nn.ConvTranspose2d(4, 6, 2, stride=2), (1, 4, 8, 10), 16 * 20 * 4 * 6),
        (nn.ConvTranspose2d(4, 6, 1), (1, 4, 8, 10), 8 * 10 * 4 * 6),
        (nn.BatchNorm2d(4), (1, 4, 8, 10), 0),
    ],
)
def test_multiply_adds_by_hand(layer, shape, expected):
    assert count_gflops(Runs(layer), {"x": torch.zeros(shape)}) == pytest.approx(expected / 1e9)


def test_multiply_adds_are_half_of_torchs_own_flops():
    layers = [nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.ConvTranspose2d(8, 4, 4, stride=4), nn.Linear(24, 5)]
    model = Runs(*layers)
    batch = {"x": torch.randn(2, 3, 17, 13), "batch_size": 2}
    with FlopCounterMode(display=False) as counter:
        model(dict(batch))
    assert count_gflops(model, batch) == pytest.approx(counter.get_total_flops() / 2 / 2 / 1e9)


def test_a_layer_used_twice_counts_twice():
    layer = nn.Linear(6, 6)
    assert count_gflops(Runs(layer, layer), {"x": torch.zeros(2, 6)}) == pytest.approx(2 * 2 * 36 / 1e9)


def test_neither_model_nor_batch_is_changed():
    model = Runs(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3))
    model.layers[0].eval()
    running_mean = model.layers[1].running_mean.clone()
    batch = {"x": torch.randn(1, 3, 5, 5)}
    count_gflops(model, batch)
    measure_latency(model, batch, repeats=1)
    assert set(batch) == {"x"}
    assert model.training and model.layers[1].training and not model.layers[0].training
    assert torch.equal(model.layers[1].running_mean, running_mean)
    assert not model.layers[0]._forward_hooks


def test_hooks_and_mode_are_put_back_when_the_model_fails():
    model = Runs(nn.Linear(3, 3))
    with pytest.raises(RuntimeError):
        count_gflops(model, {"x": torch.zeros(1, 4)})
    assert model.training and not model.layers[0]._forward_hooks


def test_latency_is_in_milliseconds_and_per_model():
    slow, fast = measure_latencies([Sleeps(0.02), Sleeps(0.0)], [{}, {}], repeats=3)
    assert 20 <= slow < 400
    assert fast < slow


def one_frame(num_pillars: int) -> dict:
    """A batch of one frame whose pillars hold one point each."""
    index = np.arange(num_pillars)
    coords = np.stack([0 * index, 0 * index, index // 400, index % 400], axis=1)
    voxels = np.zeros((num_pillars, 32, 4), dtype=np.float32)
    voxels[:, 0] = [10.0, 0.0, -1.0, 0.5]
    batch = {"batch_size": 1, "voxels": voxels, "voxel_coords": coords, "voxel_num_points": np.ones(num_pillars)}
    load_data_to_device(batch, "cpu")
    return batch


def dense_gflops(c: int) -> float:
    """Everything after the pillar encoder, by hand, for a first block of ``c`` channels on a map of 248 x 216."""
    large, middle, small = 248 * 216, 124 * 108, 62 * 54
    blocks = large * 9 * 4 * c * c
    blocks += middle * 9 * (c * 2 * c + 5 * 2 * c * 2 * c) + small * 9 * (2 * c * 4 * c + 5 * 4 * c * 4 * c)
    upsampling = large * 2 * c * (c + 2 * c + 4 * c)
    heads = large * 6 * c * (18 + 42 + 12)
    return (blocks + upsampling + heads) / 1e9


@pytest.mark.parametrize(
    ("config", "published"),
    [("cfgs/kitti_models/pointpillar.yaml", 34.3), ("cfgs/kitti_distill/pointpillar_4x.yaml", 9.0)],
)
def test_kitti_pointpillars_counts_as_published(repo, config, published):
    cfg = load_config(repo / config)
    width = cfg.MODEL.VFE.NUM_FILTERS[0]
    model = build_network(cfg.MODEL, len(cfg.CLASS_NAMES), DataSpec.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES))
    encoder = count_gflops(model, one_frame(6000)) - dense_gflops(width)
    assert 6000 * 10 * width <= round(encoder * 1e9) <= 6000 * 32 * 10 * width
    assert dense_gflops(width) == pytest.approx(published, rel=0.01)
