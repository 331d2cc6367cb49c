"""SECOND and the sparse backbones: shapes, widths, taps, height, points, learning."""

from __future__ import annotations

import pytest
import torch
from odd_batches import NOTHING
from small_model import CLASS_NAMES, random_scene
from small_second import (
    SMALL_VOXELS,
    WIDTHS,
    second_batch,
    second_config,
    second_spec,
    small_second,
)

from pcdet_distill.config import load_config
from pcdet_distill.datasets.spec import DataSpec
from pcdet_distill.engine.resources.device import prepare_for_device
from pcdet_distill.errors import ConfigError
from pcdet_distill.measure import count_parameters
from pcdet_distill.models import build_network
from pcdet_distill.models.backbones_2d.map_to_bev import HeightCompression
from pcdet_distill.models.backbones_3d import UNetV2, VoxelBackBone8x, VoxelResBackBone8x
from pcdet_distill.ops.sparse_conv import SparseConvolution, SparseConvTensor

GRID = [64, 64, 40]
SHAPES = {
    "x_conv1": [41, 64, 64],
    "x_conv2": [21, 32, 32],
    "x_conv3": [11, 16, 16],
    "x_conv4": [5, 8, 8],
}


def make_unet(**changes) -> UNetV2:
    return UNetV2(
        model_cfg={"NUM_FILTERS": WIDTHS, **changes},
        input_channels=4,
        grid_size=GRID,
        voxel_size=SMALL_VOXELS,
        point_cloud_range=[0, -8, -3, 16, 8, 1],
    )


def voxel_batch() -> dict:
    batch = second_batch([random_scene(0), random_scene(1)])
    batch["voxel_features"] = batch["voxels"].sum(dim=1) / batch["voxel_num_points"].unsqueeze(1)
    return batch


@pytest.mark.parametrize("backbone", ["VoxelBackBone8x", "VoxelResBackBone8x"])
def test_levels_of_the_backbone(backbone: str) -> None:
    model = small_second(second_config(backbone))
    found = model.run_modules(
        second_batch([random_scene(0), random_scene(1)]), until="map_to_bev_module"
    )
    levels = found["multi_scale_3d_features"]
    assert {name: tensor.spatial_shape for name, tensor in levels.items()} == SHAPES
    assert found["multi_scale_3d_strides"] == {
        "x_conv1": 1,
        "x_conv2": 2,
        "x_conv3": 4,
        "x_conv4": 8,
    }
    assert [tensor.features.shape[1] for tensor in levels.values()] == WIDTHS[:4]
    assert model.backbone_3d.backbone_channels == dict(zip(SHAPES, WIDTHS))
    encoded = found["encoded_spconv_tensor"]
    assert encoded.spatial_shape == [2, 8, 8]
    assert encoded.features.shape[1] == WIDTHS[4]
    assert found["encoded_spconv_tensor_stride"] == found["spatial_features_stride"] == 8
    assert found["spatial_features"].shape == (2, 2 * WIDTHS[4], 8, 8)
    assert model.backbone_3d.num_point_features == WIDTHS[4]


def test_default_widths_are_those_of_openpcdet() -> None:
    plain, residual = (
        kind(model_cfg={}, input_channels=4, grid_size=GRID)
        for kind in (VoxelBackBone8x, VoxelResBackBone8x)
    )
    assert plain.widths == [16, 32, 64, 64, 128]
    assert residual.widths == [16, 32, 64, 128, 128]
    assert plain.conv_out[0].weight.shape == (128, 3, 1, 1, 64)
    assert residual.conv1[0].conv1.bias is not None
    without = VoxelResBackBone8x(model_cfg={"USE_BIAS": False}, input_channels=4, grid_size=GRID)
    assert without.conv1[0].conv1.bias is None


@pytest.mark.parametrize("widths", [[4, 8, 8, 8], 16, [4, 8, 8, 8, "a"], [4, 8, 8, 8, 0]])
def test_impossible_widths_are_refused(widths) -> None:
    with pytest.raises(
        ConfigError, match="MODEL.BACKBONE_3D.NUM_FILTERS is .*expected 5 channel numbers"
    ):
        VoxelBackBone8x(model_cfg={"NUM_FILTERS": widths}, input_channels=4, grid_size=GRID)


def test_last_pad_adds_a_layer() -> None:
    backbone = VoxelBackBone8x(
        model_cfg={"NUM_FILTERS": WIDTHS, "last_pad": 1}, input_channels=4, grid_size=GRID
    )
    found = backbone(voxel_batch())["encoded_spconv_tensor"]
    assert found.spatial_shape == [3, 10, 10]  # OpenPCDet pads all three axes, too


def test_convolutions_of_a_level_share_a_rulebook() -> None:
    keys = [
        module.indice_key
        for module in small_second().backbone_3d.modules()
        if isinstance(module, SparseConvolution)
    ]
    assert keys == [
        "subm1",
        "subm1",
        "spconv2",
        "subm2",
        "subm2",
        "spconv3",
        "subm3",
        "subm3",
        "spconv4",
        "subm4",
        "subm4",
        "spconv_down2",
    ]


def test_height_becomes_channels() -> None:
    tensor = SparseConvTensor(
        torch.tensor([[1.0, 2], [3, 4]], requires_grad=True),
        torch.tensor([[0, 1, 0, 2], [1, 0, 1, 1]]),
        [2, 2, 3],
        2,
    )
    found = HeightCompression(model_cfg={"NUM_BEV_FEATURES": 4})(
        {"encoded_spconv_tensor": tensor, "encoded_spconv_tensor_stride": 8}
    )
    canvas = found["spatial_features"]
    assert canvas.shape == (2, 4, 2, 3)
    assert canvas.is_contiguous(memory_format=torch.channels_last)
    assert canvas[0, :, 0, 2].tolist() == [0, 1, 0, 2]  # channel * layers + layer
    assert canvas[1, :, 1, 1].tolist() == [3, 0, 4, 0]
    assert canvas.sum() == 10
    assert found["spatial_features_stride"] == 8
    dense = tensor.dense()
    assert torch.equal(canvas, dense.view(2, 4, 2, 3))
    canvas[1].sum().backward()
    assert tensor.features.grad.tolist() == [[0, 0], [1, 1]]


def test_height_must_fit() -> None:
    config = second_config()
    config.MAP_TO_BEV.NUM_BEV_FEATURES = 20
    with pytest.raises(
        ConfigError, match="NUM_BEV_FEATURES is 20.*12 channels in 2 layers; expected 24"
    ):
        small_second(config)(second_batch([random_scene(0)]))


def test_taps_tell_the_truth() -> None:
    model = small_second().eval()
    batch = second_batch([random_scene(0), random_scene(1)])
    taps = model.taps()
    sparse = {path: info for path, info in taps.items() if info.kind == "sparse"}
    assert {path: info.stride for path, info in sparse.items()} == {
        "backbone_3d.conv1": 1,
        "backbone_3d.conv2": 2,
        "backbone_3d.conv3": 4,
        "backbone_3d.conv4": 8,
        "backbone_3d.conv_out": 8,
        "backbone_3d@encoded_spconv_tensor": 8,
    }
    with torch.no_grad(), model.capture(list(taps)) as features:
        model(batch)
    for path, info in taps.items():
        feature = features[path]
        if info.kind == "sparse":
            assert feature.features.shape[1] == info.channels, path
            assert feature.spatial_shape[2] == 64 // info.stride, path
        else:
            assert feature.shape[1] == info.channels, path
            if info.kind == "bev":
                assert feature.shape[3] == 64 // info.stride, path


def test_taps_can_be_captured_in_training() -> None:
    model = small_second().train()
    with model.capture([*model.taps(), "backbone_3d@multi_scale_3d_features.x_conv3"]) as features:
        model(second_batch([random_scene(0)]))[0]["loss"].backward()
    assert (
        features["backbone_3d@multi_scale_3d_features.x_conv3"].spatial_shape == SHAPES["x_conv3"]
    )


def test_a_frame_does_not_depend_on_the_others_in_eval() -> None:
    model = small_second().eval()
    with torch.no_grad():
        alone = model.run_modules(second_batch([random_scene(1)]), until="map_to_bev_module")
        together = model.run_modules(
            second_batch([random_scene(0), random_scene(1), NOTHING]), until="map_to_bev_module"
        )
    assert alone["spatial_features"].abs().sum() > 0
    assert together["spatial_features"].shape[0] == 3
    torch.testing.assert_close(
        together["spatial_features"][1], alone["spatial_features"][0], rtol=1e-4, atol=1e-5
    )
    assert together["spatial_features"][2].abs().sum() == 0


def test_unet_returns_to_the_voxels() -> None:
    unet = make_unet().train()
    batch = voxel_batch()
    found = unet(batch)
    assert found["point_features"].shape == (len(batch["voxel_coords"]), WIDTHS[0])
    assert found["encoded_spconv_tensor"].features.shape[1] == WIDTHS[4]
    coords = batch["voxel_coords"]
    centres = (coords[:, [3, 2, 1]] + 0.5) * torch.tensor(SMALL_VOXELS) + torch.tensor(
        [0.0, -8, -3]
    )
    torch.testing.assert_close(found["point_coords"], torch.cat([coords[:, :1], centres], dim=1))
    found["point_features"].square().sum().backward()
    without = [name for name, parameter in unet.named_parameters() if parameter.grad is None]
    assert all(name.startswith("conv_out") for name in without)
    assert set(unet.state_dict()) == {name for name in unet.state_dict() if "centre" not in name}


def test_unet_without_birds_eye_view() -> None:
    unet = make_unet(RETURN_ENCODED_TENSOR=False)
    found = unet(voxel_batch())
    assert unet.conv_out is None
    assert "encoded_spconv_tensor" not in found
    assert [info.path for info in unet.taps()] == [
        "conv1",
        "conv2",
        "conv3",
        "conv4",
        "@point_features",
    ]


def test_unet_of_nothing() -> None:
    batch = second_batch([NOTHING])
    batch["voxel_features"] = torch.zeros(0, 4)
    found = make_unet().train()(batch)
    assert found["point_features"].shape == (0, WIDTHS[0])
    assert found["point_coords"].shape == (0, 4)


def test_loss_falls() -> None:
    model = small_second().train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(12):
        loss = model(second_batch([random_scene(0), random_scene(1)]))[0]["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    ("name", "least", "most"), [("second_4x", 3.8, 4.1), ("second_16x", 14.5, 16.1)]
)
def test_students_of_kitti(repo, name: str, least: float, most: float) -> None:
    """A quarter and a sixteenth of the parameters, and nothing but widths differs."""
    sizes = []
    configs = []
    for path in ("kitti_models/second", f"kitti_distill/{name}"):
        cfg = load_config(repo / "cfgs" / f"{path}.yaml")
        spec = DataSpec.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES)
        sizes.append(count_parameters(build_network(cfg.MODEL, len(CLASS_NAMES), spec)))
        configs.append(cfg)
    assert least < sizes[0] / sizes[1] < most
    for block, key in (
        ("BACKBONE_3D", "NUM_FILTERS"),
        ("MAP_TO_BEV", "NUM_BEV_FEATURES"),
        ("BACKBONE_2D", "NUM_FILTERS"),
        ("BACKBONE_2D", "NUM_UPSAMPLE_FILTERS"),
    ):
        for cfg in configs:
            cfg.MODEL[block].pop(key, None)
    assert configs[0].MODEL == configs[1].MODEL
    assert configs[0].OPTIMIZATION == configs[1].OPTIMIZATION


def test_missing_slot_is_named() -> None:
    config = second_config()
    del config["BACKBONE_3D"]
    with pytest.raises(ConfigError, match="MODEL.BACKBONE_3D is missing"):
        build_network(config, len(CLASS_NAMES), second_spec())


def test_second_can_be_laid_out_for_a_cpu() -> None:
    """channels_last is for dense convolutions: weights of 3D ones have one axis more."""
    model = prepare_for_device(small_second(), torch.device("cpu"))
    assert model.backbone_2d.blocks[0][1].weight.is_contiguous(memory_format=torch.channels_last)
    assert model.backbone_3d.conv1[0][0].weight.is_contiguous()
    model.train()(second_batch([random_scene(0)]))[0]["loss"].backward()
