"""PillarVFE against the slot-by-slot computation that defines it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from pcdet_distill.errors import ConfigError
from pcdet_distill.models.backbones_3d.vfe import MeanVFE, PillarVFE
from pcdet_distill.models.model_utils.weighted_batch_norm import (
    WeightedBatchNorm1d,
    normalise_weighted,
)

RANGE = [0, -8, -3, 16, 8, 1]
VOXEL_SIZE = [0.5, 0.5, 4]


def make_vfe(widths: list[int], **settings) -> PillarVFE:
    torch.manual_seed(1)
    vfe = PillarVFE(
        model_cfg={"NUM_FILTERS": widths, **settings},
        num_point_features=4,
        voxel_size=VOXEL_SIZE,
        point_cloud_range=RANGE,
        grid_size=[32, 32, 1],
        depth_downsample_factor=None,
    )
    for norm in vfe.modules():
        if isinstance(norm, nn.BatchNorm1d):
            nn.init.normal_(norm.weight, 1, 0.5)
            nn.init.normal_(norm.bias, 0, 0.5)
    return vfe


def make_pillars(counts: list[int], num_slots: int = 5) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    coords = torch.stack(
        [
            torch.zeros(len(counts)),
            torch.zeros(len(counts)),
            torch.arange(len(counts)) + 3.0,
            torch.arange(len(counts)) + 1.0,
        ],
        dim=1,
    )
    counts_column = torch.tensor(counts)
    voxels = torch.rand(len(counts), num_slots, 4, generator=generator)
    voxels[..., :2] += coords[:, None, [3, 2]] * 0.5 + torch.tensor([0.0, -8.0])
    voxels *= (torch.arange(num_slots) < counts_column[:, None]).unsqueeze(2)
    return {"voxels": voxels, "voxel_num_points": counts_column.float(), "voxel_coords": coords}


def every_slot(
    vfe: PillarVFE, batch: dict[str, Tensor], absolute: bool = True, distance: bool = False
) -> Tensor:
    """The definition: all slots of all pillars through plain layers."""
    voxels = batch["voxels"]
    counts = batch["voxel_num_points"]
    coords = batch["voxel_coords"]
    xyz = voxels[..., :3]
    mean = xyz.sum(dim=1, keepdim=True) / counts.view(-1, 1, 1)
    centre = coords[:, [3, 2, 1]] * coords.new_tensor(VOXEL_SIZE) + coords.new_tensor(
        [0.25, -7.75, -1.0]
    )
    parts = [voxels if absolute else voxels[..., 3:], xyz - mean, xyz - centre.unsqueeze(1)]
    if distance:
        parts.append(xyz.norm(dim=2, keepdim=True))
    features = torch.cat(parts, dim=2) * (
        torch.arange(voxels.shape[1]) < counts.view(-1, 1)
    ).unsqueeze(2)
    for layer in vfe.pfn_layers:
        features = layer.linear(features)
        if layer.use_norm:
            norm = nn.BatchNorm1d(features.shape[2], eps=1e-3, momentum=0.01).to(features.dtype)
            norm.load_state_dict(layer.norm.state_dict())
            norm.train(vfe.training)
            features = norm(features.transpose(1, 2)).transpose(1, 2)
            layer.reference_norm = norm
        features = torch.relu(features)
        highest = features.amax(dim=1, keepdim=True)
        features = (
            highest if layer.last_vfe else torch.cat([features, highest.expand_as(features)], dim=2)
        )
    return features.squeeze(1)


@pytest.mark.parametrize("widths", [[6], [8, 6]])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("counts", [[1, 5, 3, 2, 5, 1, 4], [5, 5, 5], [1]])
def test_equals_the_computation_of_every_slot(
    widths: list[int], training: bool, counts: list[int]
) -> None:
    vfe = make_vfe(widths).train(training).double()
    batch = {key: value.double() for key, value in make_pillars(counts).items()}
    reference = copy.deepcopy(vfe)
    expected = every_slot(reference, batch)
    found = vfe(dict(batch))["pillar_features"]
    torch.testing.assert_close(found, expected)
    expected.square().sum().backward()
    found.square().sum().backward()
    for name, parameter in vfe.named_parameters():
        if "norm" not in name:
            torch.testing.assert_close(parameter.grad, reference.get_parameter(name).grad, msg=name)
    for ours, theirs in zip(vfe.pfn_layers, reference.pfn_layers):
        for key, value in theirs.reference_norm.state_dict().items():
            torch.testing.assert_close(ours.norm.state_dict()[key], value, msg=key)
        torch.testing.assert_close(ours.norm.weight.grad, theirs.reference_norm.weight.grad)
        torch.testing.assert_close(ours.norm.bias.grad, theirs.reference_norm.bias.grad)


@pytest.mark.parametrize("settings", [{"USE_ABSLOTE_XYZ": False}, {"WITH_DISTANCE": True}])
def test_feature_options(settings: dict[str, bool]) -> None:
    vfe = make_vfe([6], **settings).eval()
    batch = make_pillars([1, 3, 5])
    expected = every_slot(
        vfe, batch, settings.get("USE_ABSLOTE_XYZ", True), settings.get("WITH_DISTANCE", False)
    )
    torch.testing.assert_close(vfe(dict(batch))["pillar_features"], expected)


def test_without_norm_the_linear_layers_have_a_bias() -> None:
    vfe = make_vfe([6], USE_NORM=False)
    batch = make_pillars([1, 3, 5])
    assert vfe.pfn_layers[0].linear.bias is not None
    assert not hasattr(vfe.pfn_layers[0], "norm")
    torch.testing.assert_close(vfe(dict(batch))["pillar_features"], every_slot(vfe, batch))


@pytest.mark.parametrize("training", [True, False])
def test_no_pillar_at_all(training: bool) -> None:
    vfe = make_vfe([8, 6]).train(training)
    batch = make_pillars([])
    before = copy.deepcopy(vfe.state_dict())
    features = vfe(batch)["pillar_features"]
    assert features.shape == (0, 6)
    features.sum().backward()
    for key, value in vfe.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert all(torch.isfinite(parameter.grad).all() for parameter in vfe.parameters())


def test_missing_widths_are_named() -> None:
    with pytest.raises(ConfigError, match="MODEL.VFE.NUM_FILTERS is missing"):
        PillarVFE(
            model_cfg={"NUM_FILTER": [64]},
            num_point_features=4,
            voxel_size=VOXEL_SIZE,
            point_cloud_range=RANGE,
        )


def test_points_without_voxels_are_refused() -> None:
    with pytest.raises(ConfigError, match="MODEL.VFE: pillars need transform_points_to_voxels"):
        PillarVFE(
            model_cfg={"NUM_FILTERS": [64]},
            num_point_features=4,
            voxel_size=None,
            point_cloud_range=RANGE,
        )


def test_other_batch_norms_get_the_expanded_rows() -> None:
    rows = torch.randn(4, 3)
    weight = torch.tensor([1, 3, 1, 2])
    weighted = WeightedBatchNorm1d(3)
    plain = nn.BatchNorm1d(3)
    found = normalise_weighted(plain, rows, weight)
    torch.testing.assert_close(found, normalise_weighted(weighted, rows, weight))
    torch.testing.assert_close(plain.running_var, weighted.running_var)


def test_weighted_batch_norm_without_momentum_averages() -> None:
    rows = torch.randn(5, 3)
    norm = WeightedBatchNorm1d(3, momentum=None)
    norm(rows, torch.ones(5))
    norm(rows + 2, torch.ones(5))
    torch.testing.assert_close(norm.running_mean, rows.mean(0) + 1)


def test_sync_batch_norm_conversion_keeps_the_state_dict() -> None:
    vfe = make_vfe([6])
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(vfe))
    assert isinstance(converted.pfn_layers[0].norm, nn.SyncBatchNorm)
    assert list(converted.state_dict()) == list(vfe.state_dict())


def test_mean_vfe() -> None:
    voxels = torch.tensor([[[2.0, 4], [4, 0]], [[3, 3], [0, 0]], [[0, 0], [0, 0]]])
    vfe = MeanVFE(model_cfg={}, num_point_features=2, grid_size=None)
    found = vfe({"voxels": voxels, "voxel_num_points": torch.tensor([2.0, 1, 0])})["voxel_features"]
    assert found.tolist() == [[3, 2], [3, 3], [0, 0]]
    assert vfe.get_output_feature_dim() == 2
