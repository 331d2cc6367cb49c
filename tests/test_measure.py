"""Parameters, multiply-adds and latency, against layers counted by hand and torch's counter."""

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
from pcdet_distill.models.model_utils.pointnet2_modules import PointnetFPModule, PointnetSAModuleMSG
from pcdet_distill.ops.sparse_conv import (
    SparseConv3d,
    SparseConvTensor,
    SparseInverseConv3d,
    SparseSequential,
    SubMConv2d,
    SubMConv3d,
)


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
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5))
    weight = 3 * 5 * 9
    bias = 5
    scale_and_shift = 2 * 5
    assert count_parameters(model) == weight + bias + scale_and_shift


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
    layers = [
        nn.Conv2d(3, 8, 3, stride=2),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 4, 4, stride=4),
        nn.Linear(24, 5),
    ]
    model = Runs(*layers)
    batch = {"x": torch.randn(2, 3, 17, 13), "batch_size": 2}
    with FlopCounterMode(display=False) as counter:
        model(dict(batch))
    assert count_gflops(model, batch) == pytest.approx(counter.get_total_flops() / 2 / 2 / 1e9)


def multiply_adds(model: nn.Module, x: object) -> int:
    """What is counted for one call on ``x``."""
    return round(1e9 * count_gflops(Runs(model), {"x": x}))


def cells(*places: tuple[int, ...], channels: int, shape: list[int]) -> SparseConvTensor:
    """Active cells of one frame."""
    frame_and_place = [(0, *place) for place in places]
    indices = torch.tensor(frame_and_place, dtype=torch.int32).view(len(places), -1)
    features = torch.randn(len(places), channels)
    return SparseConvTensor(features, indices, shape, 1)


@pytest.mark.parametrize(
    ("places", "pairs"),
    [
        ([(1, 1, 1)], 1),  # itself
        ([(1, 1, 1), (1, 1, 2)], 2 + 2),  # and each the other
        ([(0, 0, 0), (0, 0, 1), (3, 3, 3)], 3 + 2),  # the third stands alone
        ([(0, 0, 0), (0, 0, 2)], 2),  # out of the kernel's reach
    ],
)
def test_submanifold_convolution_by_hand(places, pairs):
    tensor = cells(*places, channels=4, shape=[4, 4, 4])
    assert multiply_adds(SubMConv3d(4, 6, 3), tensor) == pairs * 4 * 6


def test_submanifold_convolution_in_two_dimensions_by_hand():
    """Two neighbours: each meets itself and the other."""
    tensor = cells((0, 0), (1, 1), channels=4, shape=[4, 4])
    pairs = 2 + 2
    assert multiply_adds(SubMConv2d(4, 6, 3), tensor) == pairs * 4 * 6


@pytest.mark.parametrize(
    ("place", "pairs"), [((0, 0, 0), 1), ((1, 0, 0), 2), ((1, 1, 0), 4), ((1, 1, 1), 8)]
)
def test_strided_and_inverse_convolution_by_hand(place, pairs):
    down = SparseConv3d(4, 6, 3, stride=2, padding=1, indice_key="down")
    there_and_back = SparseSequential(
        down, SubMConv3d(6, 6, 1), SparseInverseConv3d(6, 5, 3, indice_key="down")
    )
    cell = cells(place, channels=4, shape=[4, 4, 4])
    assert multiply_adds(down, cell) == pairs * 4 * 6
    assert multiply_adds(there_and_back, cell) == pairs * 4 * 6 + pairs * 6 * 6 + pairs * 6 * 5


def test_sparse_convolution_of_a_full_grid_is_a_dense_one():
    grid = [(z, y, x) for z in range(3) for y in range(4) for x in range(5)]
    tensor = cells(*grid, channels=2, shape=[3, 4, 5])
    inner = multiply_adds(SparseConv3d(2, 3, 3), tensor)
    assert inner == multiply_adds(nn.Conv3d(2, 3, 3), tensor.dense())


class OnPoints(nn.Module):
    """A module of several tensors as one of their tuple."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, inputs: tuple[torch.Tensor, ...]) -> object:
        return self.module(*inputs)


@pytest.mark.parametrize(("far", "rows"), [(10.0, 3), (0.2, 6)])
def test_set_abstraction_counts_every_point_of_a_ball(far, rows):
    points = torch.tensor([[[0.0, 0, 0], [0.1, 0, 0], [far, 0, 0]]])
    module = PointnetSAModuleMSG(2, [0.5], [8], [[2, 5, 7]])
    assert multiply_adds(OnPoints(module), (points, torch.randn(1, 3, 2))) == rows * (
        (3 + 2) * 5 + 5 * 7
    )


def test_feature_propagation_by_hand():
    known, unknown = torch.rand(1, 4, 3), torch.rand(1, 9, 3)
    inputs = (unknown, known, torch.rand(1, 9, 2), torch.rand(1, 4, 4))
    assert multiply_adds(OnPoints(PointnetFPModule([6, 5, 3])), inputs) == 9 * (6 * 5 + 5 * 3)


def test_a_layer_used_twice_counts_twice():
    layer = nn.Linear(6, 6)
    assert count_gflops(Runs(layer, layer), {"x": torch.zeros(2, 6)}) == pytest.approx(
        2 * 2 * 36 / 1e9
    )


def test_neither_model_nor_batch_is_changed():
    model = Runs(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3))
    model.layers[0].eval()
    running_mean = model.layers[1].running_mean.clone()
    batch = {"x": torch.randn(1, 3, 5, 5)}
    count_gflops(model, batch)
    measure_latency(model, batch, repeats=1)
    assert set(batch) == {"x"}
    assert model.training
    assert model.layers[1].training
    assert not model.layers[0].training
    assert torch.equal(model.layers[1].running_mean, running_mean)
    assert not model.layers[0]._forward_hooks


def test_hooks_and_mode_are_put_back_when_the_model_fails():
    model = Runs(nn.Linear(3, 3))
    with pytest.raises(RuntimeError):
        count_gflops(model, {"x": torch.zeros(1, 4)})
    assert model.training
    assert not model.layers[0]._forward_hooks


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
    batch = {
        "batch_size": 1,
        "voxels": voxels,
        "voxel_coords": coords,
        "voxel_num_points": np.ones(num_pillars),
    }
    load_data_to_device(batch, "cpu")
    return batch


def dense_gflops(c: int) -> float:
    """All layers after the pillar encoder: a first block of ``c`` channels, a map of 248 x 216."""
    large, middle, small = 248 * 216, 124 * 108, 62 * 54
    blocks = large * 9 * 4 * c * c
    blocks += middle * 9 * (c * 2 * c + 5 * 2 * c * 2 * c)
    blocks += small * 9 * (2 * c * 4 * c + 5 * 4 * c * 4 * c)
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
    model = build_network(
        cfg.MODEL, len(cfg.CLASS_NAMES), DataSpec.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES)
    )
    encoder = count_gflops(model, one_frame(6000)) - dense_gflops(width)
    assert 6000 * 10 * width <= round(encoder * 1e9) <= 6000 * 32 * 10 * width
    assert dense_gflops(width) == pytest.approx(published, rel=0.01)
