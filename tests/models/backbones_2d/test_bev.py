"""Scatter, the 2D backbone and its batch norm."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pcdet_distill.errors import ConfigError
from pcdet_distill.models.backbones_2d import BaseBEVBackbone
from pcdet_distill.models.backbones_2d.map_to_bev import PointPillarScatter
from pcdet_distill.models.model_utils.channels_last_batch_norm import ChannelsLastBatchNorm2d

# --- Scatter


def make_scatter(nz: int = 1) -> PointPillarScatter:
    """Two channels on a map of 3 rows and 4 columns."""
    return PointPillarScatter(model_cfg={"NUM_BEV_FEATURES": 2}, grid_size=[4, 3, nz])


def test_rows_land_on_their_cells() -> None:
    batch = {
        "pillar_features": torch.tensor([[1.0, 2], [3, 4]], requires_grad=True),
        "batch_size": 2,
        # (frame, z, y, x)
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
    canvas = make_scatter()(batch)["spatial_features"]
    assert canvas.shape[0] == 3


def test_no_pillar_at_all_gives_an_empty_canvas() -> None:
    batch = {
        "pillar_features": torch.ones(0, 2),
        "voxel_coords": torch.zeros(0, 4),
        "batch_size": 2,
    }
    canvas = make_scatter()(batch)["spatial_features"]
    assert canvas.abs().sum() == 0


def test_scatter_needs_one_layer_of_voxels() -> None:
    with pytest.raises(ConfigError, match="one voxel over the whole height.*has 5"):
        make_scatter(nz=5)


def test_scatter_width_must_fit() -> None:
    with pytest.raises(ConfigError, match="NUM_BEV_FEATURES is 2, but MODEL.VFE outputs 3"):
        make_scatter().check_input_channels(3)


# --- Backbone


def make_backbone(**changes: object) -> BaseBEVBackbone:
    """Two blocks that halve the map, and their upsampling to the size of the first."""
    config = {
        "LAYER_NUMS": [1, 1],
        "LAYER_STRIDES": [2, 2],
        "NUM_FILTERS": [4, 8],
        "UPSAMPLE_STRIDES": [1, 2],
        "NUM_UPSAMPLE_FILTERS": [3, 5],
        **changes,
    }
    return BaseBEVBackbone(model_cfg=config, input_channels=2)


def output_shape(backbone: BaseBEVBackbone, height: int = 8, width: int = 8) -> tuple[int, ...]:
    """(C, H, W) of the output for a map of this size."""
    batch = {"spatial_features": torch.randn(1, 2, height, width)}
    return tuple(backbone(batch)["spatial_features_2d"].shape[1:])


def test_output_has_the_size_of_the_first_block() -> None:
    backbone = make_backbone()
    assert output_shape(backbone, 8, 12) == (8, 4, 6)
    assert backbone.num_bev_features == 8


def test_taps_publish_channels_and_strides() -> None:
    taps = {}
    for info in make_backbone().taps():
        taps[info.path] = (info.channels, info.stride)
    assert taps == {
        "blocks.0": (4, 2),
        "blocks.1": (8, 4),
        "deblocks.0": (3, 2),
        "deblocks.1": (5, 2),
        "deblocks.0.1": (3, 2),
        "deblocks.1.1": (5, 2),
        "@spatial_features_2d": (8, 2),
    }


def test_blocks_have_the_channels_and_strides_of_their_taps() -> None:
    backbone = make_backbone()
    of_first = backbone.get_submodule("blocks.0")(torch.randn(1, 2, 8, 12))
    of_second = backbone.get_submodule("blocks.1")(of_first)
    assert of_first.shape == (1, 4, 8 // 2, 12 // 2)
    assert of_second.shape == (1, 8, 8 // 4, 12 // 4)


def test_the_inner_tap_of_an_upsampling_lies_before_its_relu() -> None:
    backbone = make_backbone()
    upsampling = backbone.deblocks[0]
    features = torch.randn(1, 4, 4, 6)
    before_relu = backbone.get_submodule("deblocks.0.1")(upsampling[0](features))
    torch.testing.assert_close(before_relu.relu(), upsampling(features))


def test_a_stride_below_one_goes_down_again() -> None:
    backbone = make_backbone(LAYER_STRIDES=[1, 2], UPSAMPLE_STRIDES=[0.5, 1])
    first, second = backbone.deblocks
    assert isinstance(first[0], nn.Conv2d)
    assert isinstance(second[0], nn.ConvTranspose2d)
    assert output_shape(backbone) == (8, 4, 4)
    assert backbone.output_stride == 2


def test_a_convolution_can_replace_upsampling_by_one() -> None:
    first, second = make_backbone(USE_CONV_FOR_NO_STRIDE=True).deblocks
    assert isinstance(first[0], nn.Conv2d)
    assert isinstance(second[0], nn.ConvTranspose2d)


def test_a_last_upsampling_enlarges_the_output() -> None:
    backbone = make_backbone(UPSAMPLE_STRIDES=[1, 2, 2], NUM_UPSAMPLE_FILTERS=[3, 5, 8])
    assert output_shape(backbone) == (8, 8, 8)
    assert backbone.output_stride == 1


def test_without_upsampling_the_last_block_is_the_output() -> None:
    config = {"LAYER_NUMS": [0], "LAYER_STRIDES": [2], "NUM_FILTERS": [4]}
    backbone = BaseBEVBackbone(model_cfg=config, input_channels=2)
    assert output_shape(backbone) == (4, 4, 4)


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
        make_backbone(**changes)


def test_momentum_and_eps_of_the_batch_norms() -> None:
    modules = make_backbone().modules()
    norms = [module for module in modules if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 6
    for norm in norms:
        assert norm.eps == 1e-3
        assert norm.momentum == 0.01


# --- Batch norm


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
        largest = reference.abs().max().item()
        torch.testing.assert_close(value.double(), reference, rtol=2e-5, atol=2e-5 * largest)
    assert ours.num_batches_tracked == theirs.num_batches_tracked
    return ours


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("channels_last", [True, False])
def test_batch_norm_equals_torch(training: bool, channels_last: bool) -> None:
    torch.manual_seed(0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    features = torch.randn(2, 5, 7, 6) * 3 + 1
    check_against_torch(features.contiguous(memory_format=layout), training)


def test_batch_norm_is_exact_on_large_maps() -> None:
    torch.manual_seed(0)
    features = torch.relu(torch.randn(2, 4, 256, 256)) * 3 + 1
    features = features.contiguous(memory_format=torch.channels_last)
    norm = check_against_torch(features)
    # The running variance starts at 1 and moves by a tenth.
    exact = 0.9 * 1 + 0.1 * features.double().var((0, 2, 3))
    relative_error = (norm.running_var - exact) / exact
    # torch's kernel for this layout is off by 1e-4.
    assert relative_error.abs().max() < 1e-5


def test_gradients_of_batch_norm_equal_finite_differences() -> None:
    norm = ChannelsLastBatchNorm2d(2).double()
    features = torch.randn(2, 2, 3, 2, dtype=torch.float64)
    features = features.contiguous(memory_format=torch.channels_last)
    assert torch.autograd.gradcheck(norm, (features.requires_grad_(),))
