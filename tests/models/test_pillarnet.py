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


def full_grid(frames: int, height: int, width: int, channels: int) -> tuple[dict, Tensor]:
    """A batch with a pillar in every cell, and the same as a map."""
    torch.manual_seed(2)
    dense = torch.randn(frames, channels, height, width)
    cells = torch.cartesian_prod(torch.arange(frames), torch.arange(height), torch.arange(width))
    cells = cells[torch.randperm(len(cells))]
    features = dense[cells[:, 0], :, cells[:, 1], cells[:, 2]]
    return {"pillar_features": features, "pillar_coords": cells, "batch_size": frames}, dense


def run_dense(module: nn.Module, features: Tensor) -> Tensor:
    """A sparse convolution, batch norm or ReLU, or a sequence of them, on a map."""
    if hasattr(module, "weight") and module.weight.dim() == 4:
        stride = 1 if type(module).__name__ == "SubMConv2d" else 2
        return F.conv2d(
            features, module.weight.permute(0, 3, 1, 2), module.bias, stride=stride, padding=1
        )
    if type(module).__name__ == "SparseBasicBlock":
        hidden = torch.relu(run_dense(module.bn1, run_dense(module.conv1, features)))
        return torch.relu(run_dense(module.bn2, run_dense(module.conv2, hidden)) + features)
    if isinstance(module, nn.BatchNorm1d):
        statistics = module.running_mean, module.running_var
        return F.batch_norm(features, *statistics, module.weight, module.bias, eps=module.eps)
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
    batch, expected = full_grid(2, 16, 24, 4)
    with torch.no_grad():
        levels = model(batch)["multi_scale_2d_features"]
        for number, level in enumerate(
            (model.conv1, model.conv2, model.conv3, model.conv4), start=1
        ):
            expected = run_dense(level, expected)
            found = levels[f"x_conv{number}"]
            found = found if isinstance(found, Tensor) else found.dense()
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(levels["x_conv5"], model.conv5(expected), rtol=1e-4, atol=1e-4)
    assert levels["x_conv4"].shape == (2, 10, 2, 3)
    assert levels["x_conv5"].shape == (2, 12, 1, 2)
    assert batch["multi_scale_2d_strides"] == {
        "x_conv1": 1,
        "x_conv2": 2,
        "x_conv3": 4,
        "x_conv4": 8,
        "x_conv5": 16,
    }
    assert model.backbone_channels == {
        f"x_conv{number}": width for number, width in enumerate(WIDTHS, start=1)
    }


def test_usual_widths() -> None:
    model = PillarBackBone8x(model_cfg={}, input_channels=32, grid_size=[32, 32, 1])
    assert list(model.backbone_channels.values()) == [32, 64, 128, 256, 256]
    assert model.num_point_features == 256


def test_names_of_the_residual_encoder() -> None:
    model = PillarRes18BackBone8x(
        model_cfg={"NUM_FILTERS": WIDTHS}, input_channels=4, grid_size=[32, 32, 1]
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
    with pytest.raises(ConfigError, match="starts with 4 channels, but MODEL.VFE outputs 5"):
        PillarRes18BackBone8x(
            model_cfg={"NUM_FILTERS": WIDTHS}, input_channels=5, grid_size=[32, 32, 1]
        )


def test_neck_by_hand() -> None:
    torch.manual_seed(0)
    neck = BaseBEVBackboneV1(model_cfg=neck_config()).eval()
    levels = {"x_conv4": torch.randn(1, 10, 8, 6), "x_conv5": torch.randn(1, 12, 4, 3)}
    found = neck({"multi_scale_2d_features": levels})["spatial_features_2d"]
    deeper = neck.deblocks[1](neck.blocks[1](levels["x_conv5"]))
    expected = neck.blocks[0](torch.cat([neck.deblocks[0](levels["x_conv4"]), deeper], dim=1))
    torch.testing.assert_close(found, expected)
    assert found.shape == (1, 10, 8, 6)
    assert neck.num_bev_features == 10
    assert sum(isinstance(module, nn.Conv2d) for module in neck.blocks[1].modules()) == 3


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


def test_levels_that_do_not_fit() -> None:
    neck = BaseBEVBackboneV1(model_cfg=neck_config())
    with pytest.raises(
        ConfigError, match="expects 12 channels in x_conv5, but MODEL.BACKBONE_3D outputs 10"
    ):
        neck(
            {
                "multi_scale_2d_features": {
                    "x_conv4": torch.randn(1, 10, 8, 6),
                    "x_conv5": torch.randn(1, 10, 4, 3),
                }
            }
        )
    with pytest.raises(ConfigError, match=r"meet as \[7, 6\] and \[8, 6\] cells"):
        neck(
            {
                "multi_scale_2d_features": {
                    "x_conv4": torch.randn(1, 10, 7, 6),
                    "x_conv5": torch.randn(1, 12, 4, 3),
                }
            }
        )


@pytest.mark.parametrize("backbone", ["PillarBackBone8x", "PillarRes18BackBone8x"])
def test_taps_tell_the_truth(backbone: str) -> None:
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
        shape = feature.spatial_shape if info.kind == "sparse" else list(feature.shape[2:])
        rows = feature.features if info.kind == "sparse" else feature
        assert rows.shape[1] == info.channels and shape == [32 // info.stride] * 2, path


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
