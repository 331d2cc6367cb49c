"""SECOND and the sparse backbones: shapes, widths, taps, height, points, learning."""

from __future__ import annotations

from pathlib import Path

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
from pcdet_distill.errors import ConfigError
from pcdet_distill.measure import count_parameters
from pcdet_distill.models import build_network
from pcdet_distill.models.backbones_2d.map_to_bev import HeightCompression
from pcdet_distill.models.backbones_3d import UNetV2, VoxelBackBone8x, VoxelResBackBone8x
from pcdet_distill.models.device import prepare_for_device
from pcdet_distill.ops.sparse_conv import SparseConvolution, SparseConvTensor
from pcdet_distill.types import BatchDict, ConfigDict

GRID = [64, 64, 40]
SHAPES = {
    "x_conv1": [41, 64, 64],
    "x_conv2": [21, 32, 32],
    "x_conv3": [11, 16, 16],
    "x_conv4": [5, 8, 8],
}


WHOLE_RANGE = [0, -8, -3, 16, 8, 1]


def make_unet(**changes: bool) -> UNetV2:
    """A UNetV2 with small widths."""
    return UNetV2(
        model_cfg={"NUM_FILTERS": WIDTHS, **changes},
        input_channels=4,
        grid_size=GRID,
        voxel_size=SMALL_VOXELS,
        point_cloud_range=WHOLE_RANGE,
    )


def two_frames() -> BatchDict:
    """A batch of two scenes."""
    return second_batch([random_scene(0), random_scene(1)])


def voxel_batch() -> BatchDict:
    """The same with the mean point of each voxel, as backbones read it."""
    batch = two_frames()
    sums = batch["voxels"].sum(dim=1)
    batch["voxel_features"] = sums / batch["voxel_num_points"].unsqueeze(1)
    return batch


# --- Levels and widths


@pytest.mark.parametrize("backbone", ["VoxelBackBone8x", "VoxelResBackBone8x"])
def test_levels_of_the_backbone(backbone: str) -> None:
    model = small_second(second_config(backbone))
    found = model.run_modules(two_frames(), until="map_to_bev_module")
    levels = found["multi_scale_3d_features"]
    shapes = {name: tensor.spatial_shape for name, tensor in levels.items()}
    widths = [tensor.features.shape[1] for tensor in levels.values()]
    assert shapes == SHAPES
    assert widths == WIDTHS[:4]
    assert model.backbone_3d.backbone_channels == dict(zip(SHAPES, WIDTHS))
    assert found["multi_scale_3d_strides"] == {
        "x_conv1": 1,
        "x_conv2": 2,
        "x_conv3": 4,
        "x_conv4": 8,
    }


@pytest.mark.parametrize("backbone", ["VoxelBackBone8x", "VoxelResBackBone8x"])
def test_output_of_the_backbone(backbone: str) -> None:
    model = small_second(second_config(backbone))
    found = model.run_modules(two_frames(), until="map_to_bev_module")
    encoded = found["encoded_spconv_tensor"]
    assert encoded.spatial_shape == [2, 8, 8]
    assert encoded.features.shape[1] == WIDTHS[4]
    assert found["encoded_spconv_tensor_stride"] == 8
    assert found["spatial_features_stride"] == 8
    assert found["spatial_features"].shape == (2, 2 * WIDTHS[4], 8, 8)
    assert model.backbone_3d.num_point_features == WIDTHS[4]


def test_default_widths_are_those_of_openpcdet() -> None:
    plain = VoxelBackBone8x(model_cfg={}, input_channels=4, grid_size=GRID)
    residual = VoxelResBackBone8x(model_cfg={}, input_channels=4, grid_size=GRID)
    assert plain.widths == [16, 32, 64, 64, 128]
    assert residual.widths == [16, 32, 64, 128, 128]
    assert plain.conv_out[0].weight.shape == (128, 3, 1, 1, 64)


@pytest.mark.parametrize(("settings", "has_bias"), [({}, True), ({"USE_BIAS": False}, False)])
def test_residual_blocks_have_a_bias_unless_the_yaml_says_no(
    settings: dict[str, bool], has_bias: bool
) -> None:
    backbone = VoxelResBackBone8x(model_cfg=settings, input_channels=4, grid_size=GRID)
    assert (backbone.conv1[0].conv1.bias is not None) == has_bias


@pytest.mark.parametrize("widths", [[4, 8, 8, 8], 16, [4, 8, 8, 8, "a"], [4, 8, 8, 8, 0]])
def test_impossible_widths_are_refused(widths: object) -> None:
    message = "MODEL.BACKBONE_3D.NUM_FILTERS is .*expected 5 channel numbers"
    with pytest.raises(ConfigError, match=message):
        VoxelBackBone8x(model_cfg={"NUM_FILTERS": widths}, input_channels=4, grid_size=GRID)


def test_last_pad_adds_a_layer() -> None:
    backbone = VoxelBackBone8x(
        model_cfg={"NUM_FILTERS": WIDTHS, "last_pad": 1}, input_channels=4, grid_size=GRID
    )
    found = backbone(voxel_batch())["encoded_spconv_tensor"]
    # OpenPCDet pads all three axes, too.
    assert found.spatial_shape == [3, 10, 10]


def test_convolutions_of_a_level_share_a_rulebook() -> None:
    keys = []
    for module in small_second().backbone_3d.modules():
        if isinstance(module, SparseConvolution):
            keys.append(module.indice_key)
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


# --- From voxels to the map


def test_height_becomes_channels() -> None:
    tensor = SparseConvTensor(
        features=torch.tensor([[1.0, 2], [3, 4]], requires_grad=True),
        # (frame, z, y, x)
        indices=torch.tensor([[0, 1, 0, 2], [1, 0, 1, 1]]),
        spatial_shape=[2, 2, 3],
        batch_size=2,
    )
    found = HeightCompression(model_cfg={"NUM_BEV_FEATURES": 4})(
        {"encoded_spconv_tensor": tensor, "encoded_spconv_tensor_stride": 8}
    )
    canvas = found["spatial_features"]
    assert canvas.shape == (2, 4, 2, 3)
    assert canvas.is_contiguous(memory_format=torch.channels_last)
    # Channel 0 of both layers, then channel 1 of both layers.
    assert canvas[0, :, 0, 2].tolist() == [0, 1, 0, 2]
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
    message = "NUM_BEV_FEATURES is 20.*12 channels in 2 layers; expected 24"
    with pytest.raises(ConfigError, match=message):
        small_second(config)(second_batch([random_scene(0)]))


# --- Taps


def test_strides_of_sparse_taps() -> None:
    strides = {}
    for path, info in small_second().taps().items():
        if info.kind == "sparse":
            strides[path] = info.stride
    assert strides == {
        "backbone_3d.conv1": 1,
        "backbone_3d.conv2": 2,
        "backbone_3d.conv3": 4,
        "backbone_3d.conv4": 8,
        "backbone_3d.conv_out": 8,
        "backbone_3d@encoded_spconv_tensor": 8,
    }


def test_taps_have_the_channels_and_strides_they_publish() -> None:
    model = small_second().eval()
    taps = model.taps()
    with torch.no_grad(), model.capture(list(taps)) as features:
        model(two_frames())
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
    third_level = "backbone_3d@multi_scale_3d_features.x_conv3"
    with model.capture([*model.taps(), third_level]) as features:
        ret_dict, _, _ = model(second_batch([random_scene(0)]))
        ret_dict["loss"].backward()
    assert features[third_level].spatial_shape == SHAPES["x_conv3"]


# --- Frames


def test_a_frame_does_not_depend_on_the_others_in_eval() -> None:
    model = small_second().eval()
    batch_of_one = second_batch([random_scene(1)])
    batch_of_three = second_batch([random_scene(0), random_scene(1), NOTHING])
    with torch.no_grad():
        alone = model.run_modules(batch_of_one, until="map_to_bev_module")
        together = model.run_modules(batch_of_three, until="map_to_bev_module")
    (expected,) = alone["spatial_features"]
    _, found, of_nothing = together["spatial_features"]
    assert expected.abs().sum() > 0
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert of_nothing.abs().sum() == 0


# --- UNetV2


def test_unet_returns_to_the_voxels() -> None:
    unet = make_unet().train()
    batch = voxel_batch()
    found = unet(batch)
    assert found["point_features"].shape == (len(batch["voxel_coords"]), WIDTHS[0])
    assert found["encoded_spconv_tensor"].features.shape[1] == WIDTHS[4]
    # Its points are the centres of the voxels.
    frame, z, y, x = batch["voxel_coords"].unbind(dim=1)
    lowest_corner = torch.tensor(WHOLE_RANGE[:3])
    indices_xyz = torch.stack([x, y, z], dim=1)
    centres = lowest_corner + (indices_xyz + 0.5) * torch.tensor(SMALL_VOXELS)
    expected = torch.cat([frame[:, None], centres], dim=1)
    torch.testing.assert_close(found["point_coords"], expected)


def test_features_of_points_train_all_of_the_unet_but_its_map() -> None:
    unet = make_unet().train()
    found = unet(voxel_batch())
    found["point_features"].square().sum().backward()
    for name, parameter in unet.named_parameters():
        if not name.startswith("conv_out"):
            assert parameter.grad is not None, name


def test_centres_of_voxels_are_no_part_of_the_state() -> None:
    assert not any("centre" in name for name in make_unet().state_dict())


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


def test_unet_of_no_point_at_all() -> None:
    batch = second_batch([NOTHING])
    batch["voxel_features"] = torch.zeros(0, 4)
    found = make_unet().train()(batch)
    assert found["point_features"].shape == (0, WIDTHS[0])
    assert found["point_coords"].shape == (0, 4)


# --- The whole detector


def test_training_lowers_the_loss() -> None:
    model = small_second().train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(12):
        ret_dict, _, _ = model(two_frames())
        loss = ret_dict["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def size_of(cfg: ConfigDict) -> int:
    """The number of parameters of a config's detector."""
    spec = DataSpec.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES)
    return count_parameters(build_network(cfg.MODEL, len(CLASS_NAMES), spec))


def remove_widths(cfg: ConfigDict) -> None:
    """Drop the settings in which students differ from their teacher."""
    cfg.MODEL["BACKBONE_3D"].pop("NUM_FILTERS", None)
    cfg.MODEL["MAP_TO_BEV"].pop("NUM_BEV_FEATURES", None)
    cfg.MODEL["BACKBONE_2D"].pop("NUM_FILTERS", None)
    cfg.MODEL["BACKBONE_2D"].pop("NUM_UPSAMPLE_FILTERS", None)


@pytest.mark.parametrize(
    ("name", "least", "most"), [("second_4x", 3.8, 4.1), ("second_16x", 14.5, 16.1)]
)
def test_students_of_kitti_have_a_fraction_of_the_parameters_and_differ_in_widths_alone(
    repo: Path, name: str, least: float, most: float
) -> None:
    teacher = load_config(repo / "cfgs/kitti_models/second.yaml")
    student = load_config(repo / f"cfgs/kitti_distill/{name}.yaml")
    assert least < size_of(teacher) / size_of(student) < most
    remove_widths(teacher)
    remove_widths(student)
    assert student.MODEL == teacher.MODEL
    assert student.OPTIMIZATION == teacher.OPTIMIZATION


def test_a_missing_slot_is_named() -> None:
    config = second_config()
    del config["BACKBONE_3D"]
    with pytest.raises(ConfigError, match="MODEL.BACKBONE_3D is missing"):
        build_network(config, len(CLASS_NAMES), second_spec())


def test_second_can_be_laid_out_for_a_cpu() -> None:
    """channels_last is for dense convolutions: weights of 3D ones have one axis more."""
    model = prepare_for_device(small_second(), torch.device("cpu"))
    assert model.backbone_2d.blocks[0][1].weight.is_contiguous(memory_format=torch.channels_last)
    assert model.backbone_3d.conv1[0][0].weight.is_contiguous()
    ret_dict, _, _ = model.train()(second_batch([random_scene(0)]))
    ret_dict["loss"].backward()
