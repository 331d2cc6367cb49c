"""Dynamic pillars: grouping, point features, and pillars against a loop and PillarVFE."""

from __future__ import annotations

import math

import pytest
import torch
from easydict import EasyDict
from small_model import RANGE, VOXEL_SIZE
from torch import Tensor, nn

from pcdet_distill.errors import ConfigError
from pcdet_distill.models.backbones_3d.vfe import VFES, PillarVFE
from pcdet_distill.models.backbones_3d.vfe.dynamic_pillar_vfe import (
    DynamicPillarVFE,
    DynamicPillarVFESimple2D,
    GroupedPoints,
)
from pcdet_distill.types import BatchDict

GRID = [32, 32]


def make_encoder(name: str, **settings: object) -> nn.Module:
    """An encoder of this name with 6 output channels."""
    torch.manual_seed(0)
    config = EasyDict(
        {
            "WITH_DISTANCE": False,
            "USE_ABSLOTE_XYZ": True,
            "USE_NORM": True,
            "NUM_FILTERS": [6],
            **settings,
        }
    )
    return VFES[name](
        model_cfg=config,
        num_point_features=4,
        voxel_size=VOXEL_SIZE,
        grid_size=[*GRID, 1],
        point_cloud_range=RANGE,
    )


def random_points(count: int) -> Tensor:
    """(frame, x, y, z, intensity) of two frames, some beyond the range."""
    generator = torch.Generator().manual_seed(3)
    unit = torch.rand(count, 5, generator=generator)
    extent = torch.tensor([2, 18, 18, 5, 1])
    lowest = torch.tensor([0, -1, -9, -3.5, 0])
    points = lowest + unit * extent
    points[:, 0].floor_()
    return points


def batch_of(points: Tensor) -> BatchDict:
    """A batch of two frames."""
    return {"points": points, "batch_size": 2}


def group(points: Tensor) -> GroupedPoints:
    """Points (N, 5) by pillar."""
    return GroupedPoints.from_points(
        points, torch.tensor(RANGE[:3]), torch.tensor(VOXEL_SIZE), GRID
    )


def test_grouping_by_hand() -> None:
    rows = [
        # (frame, x, y, z, intensity); intensities number the rows.
        [1, 0.6, -7.9, 0, 0.1],  # frame 1, cell x 1, y 0
        [0, 0.2, -7.4, 9, 0.2],  # frame 0, cell x 0, y 1; its height does not matter
        [1, 0.9, -7.6, 0, 0.3],  # the first one's pillar
        [0, 16.0, 0, 0, 0.4],  # beyond the upper end
        [0, -0.01, 0, 0, 0.5],  # before the lower one
        [0, float("nan"), 0, 0, 0.6],
        [0, 0.7, -7.9, 0, 0.7],  # frame 0, cell x 1, y 0: behind x 0
    ]
    found = group(torch.tensor(rows))
    # Cells (frame, y, x), sorted by frame, then x, then y.
    assert found.cells.tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 1]]
    assert found.rows.rows_per_pillar.tolist() == [1, 1, 2]
    assert found.rows.pillar.tolist() == [0, 1, 2, 2]
    # Within a pillar points keep their order.
    intensity = found.points[:, 3]
    assert intensity.tolist() == pytest.approx([0.2, 0.7, 0.1, 0.3])
    assert found.mean()[2].tolist() == pytest.approx([0.75, -7.75, 0])


# The first of two points in a pillar: what an encoder may say about it.
TWO_POINTS = [[0, 0.6, -7.9, -2.0, 0.1], [0, 0.8, -7.7, -1.0, 0.3]]
XYZ = [0.6, -7.9, -2.0]
INTENSITY = [0.1]
TO_MEAN = [-0.1, -0.1, -0.5]
# From the middle of the pillar at (0.75, -7.75, -1).
TO_CENTRE = [-0.15, -0.15, -1.0]
DISTANCE = [math.sqrt(0.6**2 + 7.9**2 + 2**2)]
NO_XYZ_BUT_DISTANCE = {"USE_ABSLOTE_XYZ": False, "WITH_DISTANCE": True}


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("DynamicPillarVFE", {}, [*XYZ, *INTENSITY, *TO_MEAN, *TO_CENTRE]),
        (
            "DynamicPillarVFE",
            NO_XYZ_BUT_DISTANCE,
            [*INTENSITY, *TO_MEAN, *TO_CENTRE, *DISTANCE],
        ),
        ("DynamicPillarVFESimple2D", {}, [*TO_CENTRE, *XYZ, *INTENSITY]),
        (
            "DynamicPillarVFESimple2D",
            {"USE_CLUSTER_XYZ": True},
            [*TO_CENTRE, *XYZ, *INTENSITY, *TO_MEAN],
        ),
        (
            "DynamicPillarVFESimple2D",
            NO_XYZ_BUT_DISTANCE,
            [*TO_CENTRE, *INTENSITY, *DISTANCE],
        ),
    ],
)
def test_features_of_a_point_by_hand(
    name: str, settings: dict[str, bool], expected: list[float]
) -> None:
    encoder = make_encoder(name, **settings)
    features = torch.cat(encoder.decorate(group(torch.tensor(TWO_POINTS))), dim=1)
    assert features[0].tolist() == pytest.approx(expected, abs=1e-5)
    assert encoder.pfn_layers[0].linear.in_features == len(expected)


def encode_pillar(encoder: nn.Module, rows: Tensor) -> Tensor:
    """The definition: points (N, C) of one pillar through two layers, then their maximum."""
    first, last = encoder.pfn_layers
    rows = torch.relu(first.norm(first.linear(rows)))
    highest = rows.amax(dim=0).expand_as(rows)
    rows = torch.cat([rows, highest], dim=1)
    rows = torch.relu(last.norm(last.linear(rows)))
    return rows.amax(dim=0)


@pytest.mark.parametrize("name", ["DynamicPillarVFE", "DynamicPillarVFESimple2D"])
def test_pillars_equal_a_loop_over_them(name: str) -> None:
    encoder = make_encoder(name, NUM_FILTERS=[8, 6]).eval()
    points = random_points(300)
    found = encoder(batch_of(points))["pillar_features"]

    grouped = group(points)
    features = torch.cat(encoder.decorate(grouped), dim=1)
    expected = []
    for pillar in range(len(grouped.cells)):
        rows = features[grouped.rows.pillar == pillar]
        expected.append(encode_pillar(encoder, rows))
    torch.testing.assert_close(found, torch.stack(expected))


def test_full_pillars_are_those_of_pillar_vfe() -> None:
    """With as many points as slots nothing is padded: the numbers agree, statistics included."""
    dynamic = make_encoder("DynamicPillarVFE").train()
    padded = PillarVFE(
        model_cfg=dynamic.model_cfg,
        num_point_features=4,
        voxel_size=VOXEL_SIZE,
        point_cloud_range=RANGE,
    ).train()
    padded.load_state_dict(dynamic.state_dict())
    torch.manual_seed(1)
    # Three pillars (frame, z, y, x) with four points each.
    coords = torch.tensor([[0, 0, 3, 5], [0, 0, 9, 7], [1, 0, 3, 5]])
    centres_xy = coords[:, [3, 2]] * 0.5 + torch.tensor([0.25, -7.75])
    lowest = torch.tensor([-0.2, -0.2, -2.5, 0])
    extent = torch.tensor([0.4, 0.4, 3, 1])
    voxels = lowest + torch.rand(3, 4, 4) * extent
    voxels[..., :2] += centres_xy[:, None]
    counts = torch.full((3,), 4)
    expected = padded({"voxels": voxels, "voxel_num_points": counts, "voxel_coords": coords})

    frames = coords[:, None, :1].expand(3, 4, 1)
    points = torch.cat([frames, voxels], dim=2).flatten(0, 1)
    shuffled = points[torch.randperm(12)]
    found = dynamic(batch_of(shuffled))
    assert torch.equal(found["voxel_coords"], coords)
    assert torch.equal(found["voxel_num_points"], counts)
    torch.testing.assert_close(
        found["pillar_features"], expected["pillar_features"], rtol=1e-4, atol=1e-5
    )
    dynamic_norm = dynamic.pfn_layers[0].norm
    padded_norm = padded.pfn_layers[0].norm
    torch.testing.assert_close(dynamic_norm.running_var, padded_norm.running_var)


def test_classes_behind_the_names() -> None:
    assert isinstance(make_encoder("DynamicPillarVFE"), DynamicPillarVFE)
    assert isinstance(make_encoder("DynamicPillarVFESimple2D"), DynamicPillarVFESimple2D)


def test_the_yaml_files_of_openpcdet_name_it_shorter() -> None:
    assert type(make_encoder("DynPillarVFE")) is DynamicPillarVFE


def test_odd_widths_before_the_last_are_refused() -> None:
    make_encoder("DynPillarVFE", NUM_FILTERS=[44, 45])
    with pytest.raises(ConfigError, match="NUM_FILTERS is .45, 45., expected even numbers"):
        make_encoder("DynPillarVFE", NUM_FILTERS=[45, 45])


def test_without_voxels_there_are_no_pillars() -> None:
    config = EasyDict(NUM_FILTERS=[6])
    with pytest.raises(ConfigError, match="transform_points_to_voxels_placeholder"):
        VFES["DynPillarVFE"](
            model_cfg=config,
            num_point_features=4,
            voxel_size=None,
            grid_size=None,
            point_cloud_range=RANGE,
        )


def test_outputs_of_the_simple_encoder() -> None:
    encoder = make_encoder("DynamicPillarVFESimple2D")
    found = encoder(batch_of(random_points(100)))
    count = len(found["pillar_features"])
    assert found["pillar_features"].shape == (count, 6)
    assert found["pillar_coords"].shape == (count, 3)
    assert encoder.get_output_feature_dim() == 6


def test_outputs_of_the_full_encoder() -> None:
    points = random_points(100)
    simple = make_encoder("DynamicPillarVFESimple2D")(batch_of(points))
    full = make_encoder("DynamicPillarVFE")(batch_of(points))
    frame, z, y, x = full["voxel_coords"].unbind(dim=1)
    assert torch.equal(torch.stack([frame, y, x], dim=1), simple["pillar_coords"])
    assert (z == 0).all()
    assert full["voxel_features"] is full["pillar_features"]


@pytest.mark.parametrize("name", ["DynamicPillarVFE", "DynamicPillarVFESimple2D"])
@pytest.mark.parametrize("count", [0, 1])
def test_no_point_and_one_point(name: str, count: int) -> None:
    encoder = make_encoder(name).train()
    points = torch.tensor([[0, 1.2, 3.4, 0, 0.5]])[:count]
    features = encoder({"points": points, "batch_size": 1})["pillar_features"]
    assert features.shape == (count, 6)
    assert torch.isfinite(features).all()
    features.sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in encoder.parameters())


def test_the_order_of_points_is_irrelevant() -> None:
    encoder = make_encoder("DynamicPillarVFE").train()
    points = random_points(200)
    one = encoder(batch_of(points))["pillar_features"]
    other = encoder(batch_of(points.flip(0)))["pillar_features"]
    torch.testing.assert_close(one, other)
