"""Scatter, the 2D backbone and its batch norm."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pcdet_distill.errors import ConfigError
from pcdet_distill.models.backbones_2d import BaseBEVBackbone
from pcdet_distill.models.backbones_2d.map_to_bev import PointPillarScatter
from pcdet_distill.models.model_utils.channels_last_batch_norm import ChannelsLastBatchNorm2d


def make_scatter(nz: int = 1) -> PointPillarScatter:
    return PointPillarScatter(model_cfg={"NUM_BEV_FEATURES": 2}, grid_size=[4, 3, nz])


def backbone_config(**changes) -> dict:
    return {
        "LAYER_NUMS": [1, 1],
        "LAYER_STRIDES": [2, 2],
        "NUM_FILTERS": [4, 8],
        "UPSAMPLE_STRIDES": [1, 2],
        "NUM_UPSAMPLE_FILTERS": [3, 5],
        **changes,
    }


def test_rows_land_on_their_cells() -> None:
    batch = {
        "pillar_features": torch.tensor([[1.0, 2], [3, 4]], requires_grad=True),
        "batch_size": 2,
        "voxel_coords": torch.tensor([[0.0, 0, 2, 1], [1, 0, 0, 3]]),
    }
    canvas = make_scatter()(batch)["spatial_features"]
    assert canvas.shape == (2, 2, 3, 4)
    assert canvas[0, :, 2, 1].tolist() == [1, 2]
    assert canvas[1, :, 0, 3].tolist() == [3, 4]
    assert canvas.abs().sum() == 10
    assert canvas.is_contiguous(memory_format=torch.channels_last)
    canvas[1].sum().backward()
    assert batch["pillar_features"].grad.tolist() == [[0, 0], [1, 1]]


def test_frames_without_pillars_keep_their_place() -> None:
    batch = {
        "pillar_features": torch.ones(1, 2),
        "voxel_coords": torch.tensor([[0.0, 0, 0, 0]]),
        "batch_size": 3,
    }
    assert make_scatter()(batch)["spatial_features"].shape[0] == 3
    empty = {
        "pillar_features": torch.ones(0, 2),
        "voxel_coords": torch.zeros(0, 4),
        "batch_size": 2,
    }
    assert make_scatter()(empty)["spatial_features"].abs().sum() == 0


def test_scatter_needs_one_layer_of_voxels() -> None:
    with pytest.raises(ConfigError, match="one voxel over the whole height.*has 5"):
        make_scatter(nz=5)


def test_scatter_width_must_fit() -> None:
    with pytest.raises(ConfigError, match="NUM_BEV_FEATURES is 2, but MODEL.VFE outputs 3"):
        make_scatter().check_input_channels(3)


def test_backbone_shapes_and_taps() -> None:
    backbone = BaseBEVBackbone(model_cfg=backbone_config(), input_channels=2)
    found = backbone({"spatial_features": torch.randn(2, 2, 8, 12)})["spatial_features_2d"]
    assert found.shape == (2, 8, 4, 6)
    assert backbone.num_bev_features == 8
    taps = {info.path: (info.channels, info.stride) for info in backbone.taps()}
    assert taps == {
        "blocks.0": (4, 2),
        "blocks.1": (8, 4),
        "deblocks.0": (3, 2),
        "deblocks.1": (5, 2),
        "deblocks.0.1": (3, 2),
        "deblocks.1.1": (5, 2),
        "@spatial_features_2d": (8, 2),
    }
    levels = torch.randn(1, 4, 4, 6)
    torch.testing.assert_close(
        backbone.get_submodule("deblocks.0.1")(backbone.deblocks[0][0](levels)).relu(),
        backbone.deblocks[0](levels),
    )
    for path in ("blocks.0", "blocks.1"):
        features = backbone.get_submodule("blocks.0")(torch.randn(1, 2, 8, 12))
        if path == "blocks.1":
            features = backbone.get_submodule("blocks.1")(features)
        assert (features.shape[1], 8 // features.shape[2]) == taps[path]


def test_backbone_that_goes_down_again() -> None:
    config = backbone_config(LAYER_STRIDES=[1, 2], UPSAMPLE_STRIDES=[0.5, 1])
    backbone = BaseBEVBackbone(model_cfg=config, input_channels=2)
    assert isinstance(backbone.deblocks[0][0], nn.Conv2d)
    assert isinstance(backbone.deblocks[1][0], nn.ConvTranspose2d)
    assert backbone({"spatial_features": torch.randn(1, 2, 8, 8)})["spatial_features_2d"].shape == (
        1,
        8,
        4,
        4,
    )
    assert backbone.output_stride == 2


def test_conv_for_no_stride() -> None:
    config = backbone_config(USE_CONV_FOR_NO_STRIDE=True)
    backbone = BaseBEVBackbone(model_cfg=config, input_channels=2)
    assert isinstance(backbone.deblocks[0][0], nn.Conv2d)
    assert isinstance(backbone.deblocks[1][0], nn.ConvTranspose2d)


def test_backbone_with_a_last_upsampling_and_without_any() -> None:
    config = backbone_config(UPSAMPLE_STRIDES=[1, 2, 2], NUM_UPSAMPLE_FILTERS=[3, 5, 8])
    backbone = BaseBEVBackbone(model_cfg=config, input_channels=2)
    assert backbone({"spatial_features": torch.randn(1, 2, 8, 8)})["spatial_features_2d"].shape == (
        1,
        8,
        8,
        8,
    )
    assert backbone.output_stride == 1
    plain = BaseBEVBackbone(
        model_cfg={"LAYER_NUMS": [0], "LAYER_STRIDES": [2], "NUM_FILTERS": [4]}, input_channels=2
    )
    assert plain({"spatial_features": torch.randn(1, 2, 8, 8)})["spatial_features_2d"].shape == (
        1,
        4,
        4,
        4,
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"LAYER_NUMS": [1]}, "LAYER_NUMS has 1, LAYER_STRIDES has 2"),
        ({"UPSAMPLE_STRIDES": [1]}, "UPSAMPLE_STRIDES has 1, NUM_UPSAMPLE_FILTERS has 2"),
        ({"UPSAMPLE_STRIDES": [1, 1]}, "do not meet at one resolution"),
        ({"UPSAMPLE_STRIDES": [1], "NUM_UPSAMPLE_FILTERS": [3]}, "1 entries for 2 blocks"),
    ],
)
def test_lists_that_do_not_fit(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BaseBEVBackbone(model_cfg=backbone_config(**changes), input_channels=2)


def test_momentum_and_eps_of_the_batch_norms() -> None:
    backbone = BaseBEVBackbone(model_cfg=backbone_config(), input_channels=2)
    norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 6
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}


def check_against_torch(features: torch.Tensor, training: bool = True) -> ChannelsLastBatchNorm2d:
    """Ours on ``features`` against torch's in float64: output, gradients, running statistics."""
    channels = features.shape[1]
    ours = ChannelsLastBatchNorm2d(channels, eps=1e-3)
    theirs = nn.BatchNorm2d(channels, eps=1e-3).double()
    weight = torch.randn(channels)
    bias = torch.randn(channels)
    for norm in (ours, theirs):
        norm.train(training)
        norm.weight.data.copy_(weight)
        norm.bias.data.copy_(bias)
    grad = torch.randn(features.shape)
    mine = features.clone(memory_format=torch.preserve_format).requires_grad_()
    exact = features.double().contiguous().requires_grad_()
    found = ours(mine)
    expected = theirs(exact)
    found.backward(grad)
    expected.backward(grad.double())
    pairs = [
        (found, expected),
        (mine.grad, exact.grad),
        (ours.weight.grad, theirs.weight.grad),
        (ours.bias.grad, theirs.bias.grad),
        (ours.running_mean, theirs.running_mean),
        (ours.running_var, theirs.running_var),
    ]
    for value, reference in pairs:
        torch.testing.assert_close(
            value.double(), reference, rtol=2e-5, atol=2e-5 * reference.abs().max().item()
        )
    assert ours.num_batches_tracked == theirs.num_batches_tracked
    return ours


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("channels_last", [True, False])
def test_batch_norm_equals_torch(training: bool, channels_last: bool) -> None:
    torch.manual_seed(0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    check_against_torch(
        (torch.randn(2, 5, 7, 6) * 3 + 1).contiguous(memory_format=layout), training
    )


def test_batch_norm_is_exact_on_large_maps() -> None:
    torch.manual_seed(0)
    features = (torch.relu(torch.randn(2, 4, 256, 256)) * 3 + 1).contiguous(
        memory_format=torch.channels_last
    )
    norm = check_against_torch(features)
    exact = 0.9 + 0.1 * features.double().var((0, 2, 3))
    assert (
        (norm.running_var - exact) / exact
    ).abs().max() < 1e-5  # torch's kernel for this layout is off by 1e-4


def test_batch_norm_gradcheck() -> None:
    norm = ChannelsLastBatchNorm2d(2).double()
    features = torch.randn(2, 2, 3, 2, dtype=torch.float64).contiguous(
        memory_format=torch.channels_last
    )
    assert torch.autograd.gradcheck(norm, (features.requires_grad_(),))
