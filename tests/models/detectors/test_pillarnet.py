"""PillarNet: the sparse 2D encoders against dense convolutions, the neck, whole detectors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from odd_batches import NOTHING
from short_training import losses_of_a_few_steps
from small_model import make_batch, random_scene, small_model
from small_pillarnet import WIDTHS, neck_config, pillarnet_config
from torch import Tensor, nn

from pcdet_distill.errors import ConfigError
from pcdet_distill.models.backbones_2d import BaseBEVBackboneV1
from pcdet_distill.models.backbones_3d.spconv_backbone_2d import (
    PillarBackBone8x,
    PillarRes18BackBone8x,
)
from pcdet_distill.types import BatchDict

# --- Encoders on a grid without holes are dense convolutions

GRID_SIZE = [32, 32, 1]


def full_grid(frames: int, height: int, width: int, channels: int) -> tuple[BatchDict, Tensor]:
    """A batch with a pillar in every cell, and the same as a map."""
    torch.manual_seed(2)
    dense = torch.randn(frames, channels, height, width)
    cells = torch.cartesian_prod(torch.arange(frames), torch.arange(height), torch.arange(width))
    cells = cells[torch.randperm(len(cells))]
    frame, y, x = cells.unbind(dim=1)
    features = dense[frame, :, y, x]
    return {"pillar_features": features, "pillar_coords": cells, "batch_size": frames}, dense


def run_dense_convolution(module: nn.Module, features: Tensor) -> Tensor:
    """A sparse convolution on a map."""
    stride = 1 if type(module).__name__ == "SubMConv2d" else 2
    weight = module.weight.permute(0, 3, 1, 2)
    return F.conv2d(features, weight, module.bias, stride=stride, padding=1)


def run_dense_block(block: nn.Module, features: Tensor) -> Tensor:
    """A residual block on a map."""
    hidden = run_dense(block.bn1, run_dense(block.conv1, features)).relu()
    residual = run_dense(block.bn2, run_dense(block.conv2, hidden))
    return (residual + features).relu()


def run_dense(module: nn.Module, features: Tensor) -> Tensor:
    """A sparse convolution, batch norm or ReLU, or a sequence of them, on a map."""
    if hasattr(module, "weight") and module.weight.dim() == 4:
        return run_dense_convolution(module, features)
    if type(module).__name__ == "SparseBasicBlock":
        return run_dense_block(module, features)
    if isinstance(module, nn.BatchNorm1d):
        return F.batch_norm(
            features,
            running_mean=module.running_mean,
            running_var=module.running_var,
            weight=module.weight,
            bias=module.bias,
            eps=module.eps,
        )
    if isinstance(module, nn.ReLU):
        return torch.relu(features)
    for child in module.children():
        features = run_dense(child, features)
    return features


@pytest.mark.parametrize("backbone", [PillarBackBone8x, PillarRes18BackBone8x])
def test_encoder_on_a_full_grid_is_dense_convolution(backbone: type) -> None:
    torch.manual_seed(0)
    model = backbone(
        model_cfg={"NUM_FILTERS": WIDTHS}, input_channels=4, grid_size=np.array([24, 16, 1])
    ).eval()
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
    batch, expected = full_grid(frames=2, height=16, width=24, channels=4)
    with torch.no_grad():
        levels = model(batch)["multi_scale_2d_features"]
        for number in (1, 2, 3, 4):
            expected = run_dense(model.get_submodule(f"conv{number}"), expected)
            level = levels[f"x_conv{number}"]
            found = level if isinstance(level, Tensor) else level.dense()
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        # The last level is dense anyway.
        expected = model.conv5(expected)
        torch.testing.assert_close(levels["x_conv5"], expected, rtol=1e-4, atol=1e-4)
    assert levels["x_conv4"].shape == (2, 10, 2, 3)
    assert levels["x_conv5"].shape == (2, 12, 1, 2)
    assert batch["multi_scale_2d_strides"] == {
        "x_conv1": 1,
        "x_conv2": 2,
        "x_conv3": 4,
        "x_conv4": 8,
        "x_conv5": 16,
    }
    assert list(model.backbone_channels) == list(levels)
    assert list(model.backbone_channels.values()) == WIDTHS


def test_widths_without_a_setting() -> None:
    model = PillarBackBone8x(model_cfg={}, input_channels=32, grid_size=GRID_SIZE)
    assert list(model.backbone_channels.values()) == [32, 64, 128, 256, 256]
    assert model.num_point_features == 256


def test_names_of_the_residual_encoder() -> None:
    model = PillarRes18BackBone8x(
        model_cfg={"NUM_FILTERS": WIDTHS}, input_channels=4, grid_size=GRID_SIZE
    )
    names = {name for name, _ in model.named_parameters()}
    assert {
        "conv1.0.conv1.weight",
        "conv1.1.bn2.bias",
        "conv2.0.0.weight",
        "conv2.1.conv1.bias",
        "conv4.2.conv2.weight",
        "conv5.0.0.weight",
        "conv5.1.conv1.bias",
        "conv5.2.bn2.weight",
    } <= names


def test_the_residual_encoder_starts_with_the_channels_of_the_vfe() -> None:
    with pytest.raises(ConfigError, match="starts with 4 channels, but MODEL.VFE outputs 5"):
        PillarRes18BackBone8x(
            model_cfg={"NUM_FILTERS": WIDTHS}, input_channels=5, grid_size=GRID_SIZE
        )


# --- The neck


def make_levels(height: int = 8, channels_of_fifth: int = 12) -> dict[str, Tensor]:
    """The two levels that the neck reads."""
    return {
        "x_conv4": torch.randn(1, 10, height, 6),
        "x_conv5": torch.randn(1, channels_of_fifth, 4, 3),
    }


def test_neck_by_hand() -> None:
    torch.manual_seed(0)
    neck = BaseBEVBackboneV1(model_cfg=neck_config()).eval()
    levels = make_levels()
    found = neck({"multi_scale_2d_features": levels})["spatial_features_2d"]
    from_fourth = neck.deblocks[0](levels["x_conv4"])
    from_fifth = neck.deblocks[1](neck.blocks[1](levels["x_conv5"]))
    expected = neck.blocks[0](torch.cat([from_fourth, from_fifth], dim=1))
    torch.testing.assert_close(found, expected)
    assert found.shape == (1, 10, 8, 6)
    assert neck.num_bev_features == 10


def test_a_block_of_the_neck_has_a_first_convolution_and_its_layers() -> None:
    neck = BaseBEVBackboneV1(model_cfg=neck_config(LAYER_NUMS=[1, 2]))
    modules = neck.blocks[1].modules()
    convolutions = [module for module in modules if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == 1 + 2


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"NUM_UPSAMPLE_FILTERS": [7, 4]},
            r"NUM_FILTERS\[0\] is 10, expected the sum of NUM_UPSAMPLE_FILTERS, 11",
        ),
        ({"NUM_UPSAMPLE_FILTERS": [10]}, "has 2 levels"),
        ({"LAYER_NUMS": [1]}, "must be equally long"),
    ],
)
def test_necks_that_do_not_fit(change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BaseBEVBackboneV1(model_cfg=neck_config(**change))


def test_a_level_with_other_channels_is_refused() -> None:
    neck = BaseBEVBackboneV1(model_cfg=neck_config())
    levels = make_levels(channels_of_fifth=10)
    message = "expects 12 channels in x_conv5, but MODEL.BACKBONE_3D outputs 10"
    with pytest.raises(ConfigError, match=message):
        neck({"multi_scale_2d_features": levels})


def test_levels_that_do_not_meet_are_refused() -> None:
    neck = BaseBEVBackboneV1(model_cfg=neck_config())
    levels = make_levels(height=7)
    with pytest.raises(ConfigError, match=r"meet as \[7, 6\] and \[8, 6\] cells"):
        neck({"multi_scale_2d_features": levels})


# --- Whole detectors


@pytest.mark.parametrize("backbone", ["PillarBackBone8x", "PillarRes18BackBone8x"])
def test_taps_have_the_channels_and_strides_they_publish(backbone: str) -> None:
    model = small_model(pillarnet_config(backbone)).eval()
    batch = make_batch([random_scene(0), random_scene(1)])
    taps = model.taps()
    assert {
        "backbone_3d.conv1",
        "backbone_3d@multi_scale_2d_features.x_conv5",
        "backbone_2d.blocks.1",
        "backbone_2d@spatial_features_2d",
    } <= set(taps)
    with torch.no_grad(), model.capture(list(taps)) as features:
        model(batch)
    for path, info in taps.items():
        feature = features[path]
        if info.kind == "sparse":
            channels = feature.features.shape[1]
            shape = list(feature.spatial_shape)
        else:
            channels = feature.shape[1]
            shape = list(feature.shape[2:])
        cells = 32 // info.stride
        assert channels == info.channels, path
        assert shape == [cells, cells], path


@pytest.mark.parametrize(
    "backbone, head",
    [("PillarBackBone8x", "CenterHead"), ("PillarRes18BackBone8x", "AnchorHeadSingle")],
)
def test_a_few_steps_decrease_the_loss(backbone: str, head: str) -> None:
    model = small_model(pillarnet_config(backbone, head)).train()
    batch = make_batch([random_scene(0), random_scene(1)])
    losses = losses_of_a_few_steps(model, batch)
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("block", ["VFE", "BACKBONE_3D", "BACKBONE_2D", "DENSE_HEAD"])
def test_missing_blocks_are_named(block: str) -> None:
    config = pillarnet_config()
    del config[block]
    with pytest.raises(ConfigError, match=f"MODEL.{block} is missing"):
        small_model(config)


def test_a_frame_does_not_depend_on_the_others_in_eval() -> None:
    model = small_model(pillarnet_config(head="CenterHead")).eval()
    with torch.no_grad():
        alone, _ = model(make_batch([random_scene(1)]))
        together, _ = model(make_batch([random_scene(0), random_scene(1), NOTHING]))
    torch.testing.assert_close(
        together[1]["pred_boxes"], alone[0]["pred_boxes"], rtol=1e-4, atol=1e-4
    )
