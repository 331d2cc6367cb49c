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
NUM_SLOTS = 5


def make_vfe(widths: list[int], **settings: bool) -> PillarVFE:
    """An encoder whose batch norms have random scales and shifts."""
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


def filled_slots(counts: Tensor) -> Tensor:
    """Which of NUM_SLOTS slots hold a point, (M, K)."""
    return torch.arange(NUM_SLOTS) < counts[:, None]


def make_pillars(counts: list[int]) -> dict[str, Tensor]:
    """Pillars along a diagonal with these numbers of random points; the other slots are zero."""
    generator = torch.Generator().manual_seed(2)
    number = torch.arange(len(counts))
    zero = torch.zeros(len(counts))
    # (frame, z, y, x)
    coords = torch.stack([zero, zero, number + 3.0, number + 1.0], dim=1)
    corners_xy = coords[:, [3, 2]] * 0.5 + torch.tensor([0.0, -8.0])
    voxels = torch.rand(len(counts), NUM_SLOTS, 4, generator=generator)
    voxels[..., :2] += corners_xy[:, None]
    counts_of_pillars = torch.tensor(counts)
    voxels *= filled_slots(counts_of_pillars).unsqueeze(2)
    return {
        "voxels": voxels,
        "voxel_num_points": counts_of_pillars.float(),
        "voxel_coords": coords,
    }


# --- The definition: all slots of all pillars through plain layers


def features_of_slots(batch: dict[str, Tensor], absolute: bool, distance: bool) -> Tensor:
    """Points themselves, and their offsets from mean and centre of their pillar, (M, K, C)."""
    voxels = batch["voxels"]
    counts = batch["voxel_num_points"]
    coords = batch["voxel_coords"]
    xyz = voxels[..., :3]
    mean = xyz.sum(dim=1, keepdim=True) / counts.view(-1, 1, 1)
    centre_of_first = coords.new_tensor([0.25, -7.75, -1.0])
    centre = centre_of_first + coords[:, [3, 2, 1]] * coords.new_tensor(VOXEL_SIZE)
    own = voxels if absolute else voxels[..., 3:]
    parts = [own, xyz - mean, xyz - centre.unsqueeze(1)]
    if distance:
        parts.append(xyz.norm(dim=2, keepdim=True))
    return torch.cat(parts, dim=2) * filled_slots(counts).unsqueeze(2)


def layer_on_slots(layer: nn.Module, features: Tensor) -> Tensor:
    """A layer on (M, K, C); keeps the batch norm it used as ``layer.reference_norm``."""
    features = layer.linear(features)
    if layer.use_norm:
        norm = nn.BatchNorm1d(features.shape[2], eps=1e-3, momentum=0.01).to(features.dtype)
        norm.load_state_dict(layer.norm.state_dict())
        norm.train(layer.training)
        features = norm(features.transpose(1, 2)).transpose(1, 2)
        layer.reference_norm = norm
    features = torch.relu(features)
    highest = features.amax(dim=1, keepdim=True)
    if layer.last_vfe:
        return highest
    return torch.cat([features, highest.expand_as(features)], dim=2)


def every_slot(
    vfe: PillarVFE, batch: dict[str, Tensor], absolute: bool = True, distance: bool = False
) -> Tensor:
    """Features of pillars, (M, C)."""
    features = features_of_slots(batch, absolute, distance)
    for layer in vfe.pfn_layers:
        features = layer_on_slots(layer, features)
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
    for ours, theirs in zip(vfe.pfn_layers, reference.pfn_layers):
        norm = theirs.reference_norm
        torch.testing.assert_close(ours.linear.weight.grad, theirs.linear.weight.grad)
        torch.testing.assert_close(ours.norm.weight.grad, norm.weight.grad)
        torch.testing.assert_close(ours.norm.bias.grad, norm.bias.grad)
        our_statistics = ours.norm.state_dict()
        for key, value in norm.state_dict().items():
            torch.testing.assert_close(our_statistics[key], value, msg=key)


def test_positions_can_be_left_out() -> None:
    vfe = make_vfe([6], USE_ABSLOTE_XYZ=False).eval()
    batch = make_pillars([1, 3, 5])
    expected = every_slot(vfe, batch, absolute=False)
    torch.testing.assert_close(vfe(dict(batch))["pillar_features"], expected)


def test_distances_can_be_added() -> None:
    vfe = make_vfe([6], WITH_DISTANCE=True).eval()
    batch = make_pillars([1, 3, 5])
    expected = every_slot(vfe, batch, distance=True)
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


# --- Settings


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


# --- Batch norms of pillars


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


# --- MeanVFE


def test_mean_vfe_is_the_mean_over_filled_slots() -> None:
    two_points = [[2.0, 4], [4, 0]]
    one_point = [[3, 3], [0, 0]]
    no_point = [[0, 0], [0, 0]]
    batch = {
        "voxels": torch.tensor([two_points, one_point, no_point]),
        "voxel_num_points": torch.tensor([2.0, 1, 0]),
    }
    vfe = MeanVFE(model_cfg={}, num_point_features=2, grid_size=None)
    assert vfe(batch)["voxel_features"].tolist() == [[3, 2], [3, 3], [0, 0]]
    assert vfe.get_output_feature_dim() == 2
