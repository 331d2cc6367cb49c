"""Dynamic pillars: grouping, point features, and pillars against a loop and PillarVFE."""

from __future__ import annotations

import math

import pytest
import torch
from easydict import EasyDict
from small_model import RANGE, VOXEL_SIZE

from pcdet_distill.models.backbones_3d.vfe import VFES, PillarVFE
from pcdet_distill.models.backbones_3d.vfe.dynamic_pillar_vfe import (
    DynamicPillarVFE,
    DynamicPillarVFESimple2D,
    GroupedPoints,
)

GRID = [32, 32]


def make_encoder(name: str, **settings):
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


def random_points(count: int, frames: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    unit = torch.rand(count, 5, generator=generator)
    points = unit * torch.tensor([frames, 18, 18, 5, 1]) + torch.tensor([0, -1, -9, -3.5, 0])
    points[:, 0].floor_()
    return points


def group(points: torch.Tensor) -> GroupedPoints:
    return GroupedPoints.from_points(
        points, torch.tensor(RANGE[:3]), torch.tensor(VOXEL_SIZE), GRID
    )


def test_grouping_by_hand() -> None:
    points = torch.tensor(
        [
            [1, 0.6, -7.9, 0, 0.1],  # frame 1, cell x 1, y 0
            [
                0,
                0.2,
                -7.4,
                9,
                0.2,
            ],  # frame 0, cell x 0, y 1; far above the range, which does not matter
            [1, 0.9, -7.6, 0, 0.3],  # the first one's pillar
            [0, 16.0, 0, 0, 0.4],  # beyond the upper end
            [0, -0.01, 0, 0, 0.5],  # before the lower one
            [0, float("nan"), 0, 0, 0.6],
            [0, 0.7, -7.9, 0, 0.7],  # frame 0, cell x 1, y 0: behind x 0
        ]
    )
    found = group(points)
    assert found.cells.tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 1]]
    assert found.rows.rows_per_pillar.tolist() == [1, 1, 2]
    assert found.rows.pillar.tolist() == [
        0,
        1,
        2,
        2,
    ]
    assert found.points[:, 3].tolist() == pytest.approx(
        [0.2, 0.7, 0.1, 0.3]
    )  # in their order within a pillar
    assert found.mean()[2].tolist() == pytest.approx([0.75, -7.75, 0])


def test_features_of_a_point_by_hand() -> None:
    points = torch.tensor([[0, 0.6, -7.9, -2.0, 0.1], [0, 0.8, -7.7, -1.0, 0.3]])
    to_centre = [-0.15, -0.15, -1.0]  # from 0.75, -7.75, -1
    to_mean = [-0.1, -0.1, -0.5]
    own = [0.6, -7.9, -2.0, 0.1]
    distance = [math.sqrt(0.36 + 62.41 + 4)]
    for name, settings, expected in (
        ("DynamicPillarVFE", {}, [*own, *to_mean, *to_centre]),
        (
            "DynamicPillarVFE",
            {"USE_ABSLOTE_XYZ": False, "WITH_DISTANCE": True},
            [*own[3:], *to_mean, *to_centre, *distance],
        ),
        ("DynamicPillarVFESimple2D", {}, [*to_centre, *own]),
        ("DynamicPillarVFESimple2D", {"USE_CLUSTER_XYZ": True}, [*to_centre, *own, *to_mean]),
        (
            "DynamicPillarVFESimple2D",
            {"USE_ABSLOTE_XYZ": False, "WITH_DISTANCE": True},
            [*to_centre, *own[3:], *distance],
        ),
    ):
        encoder = make_encoder(name, **settings)
        found = torch.cat(encoder.decorate(group(points)), dim=1)
        assert found[0].tolist() == pytest.approx(expected, abs=1e-5)
        assert encoder.pfn_layers[0].linear.in_features == len(expected)


@pytest.mark.parametrize("name", ["DynamicPillarVFE", "DynamicPillarVFESimple2D"])
def test_pillars_against_a_loop(name: str) -> None:
    encoder = make_encoder(name, NUM_FILTERS=[8, 6]).eval()
    points = random_points(300)
    batch = encoder({"points": points, "batch_size": 2})
    grouped = group(points)
    features = torch.cat(encoder.decorate(grouped), dim=1)
    expected = []
    for pillar in range(len(grouped.cells)):
        rows = features[grouped.rows.pillar == pillar]
        for number, layer in enumerate(encoder.pfn_layers):
            rows = torch.relu(layer.norm(layer.linear(rows)))
            highest = rows.amax(dim=0)
            rows = torch.cat([rows, highest.expand_as(rows)], dim=1) if number == 0 else highest
        expected.append(rows)
    torch.testing.assert_close(batch["pillar_features"], torch.stack(expected))


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
    coords = torch.tensor([[0, 0, 3, 5], [0, 0, 9, 7], [1, 0, 3, 5]])
    centre = coords[:, [3, 2]] * 0.5 + torch.tensor([0.25, -7.75])
    voxels = torch.rand(3, 4, 4) * torch.tensor([0.4, 0.4, 3, 1]) - torch.tensor([0.2, 0.2, 2.5, 0])
    voxels[..., :2] += centre[:, None]
    expected = padded(
        {"voxels": voxels, "voxel_num_points": torch.full((3,), 4), "voxel_coords": coords}
    )
    frames = coords[:, None, :1].expand(3, 4, 1)
    points = torch.cat([frames, voxels], dim=2).flatten(0, 1)[torch.randperm(12)]
    found = dynamic({"points": points, "batch_size": 2})
    order = torch.tensor([0, 1, 2])
    assert torch.equal(found["voxel_coords"], coords[order])
    torch.testing.assert_close(
        found["pillar_features"], expected["pillar_features"], rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(
        dynamic.pfn_layers[0].norm.running_var, padded.pfn_layers[0].norm.running_var
    )
    assert found["voxel_num_points"].tolist() == [4, 4, 4]


def test_outputs() -> None:
    points = random_points(100)
    simple = make_encoder("DynamicPillarVFESimple2D")({"points": points, "batch_size": 2})
    full = make_encoder("DynamicPillarVFE")({"points": points, "batch_size": 2})
    count = len(simple["pillar_features"])
    assert simple["pillar_coords"].shape == (count, 3)
    assert simple["pillar_features"].shape == (
        count,
        6,
    )
    assert torch.equal(full["voxel_coords"][:, [0, 2, 3]], simple["pillar_coords"])
    assert (full["voxel_coords"][:, 1] == 0).all()
    assert full["voxel_features"] is full["pillar_features"]
    assert isinstance(make_encoder("DynamicPillarVFE"), DynamicPillarVFE)
    assert make_encoder("DynamicPillarVFESimple2D").get_output_feature_dim() == 6
    assert isinstance(make_encoder("DynamicPillarVFESimple2D"), DynamicPillarVFESimple2D)


@pytest.mark.parametrize("name", ["DynamicPillarVFE", "DynamicPillarVFESimple2D"])
@pytest.mark.parametrize("count", [0, 1])
def test_no_point_and_one_point(name: str, count: int) -> None:
    encoder = make_encoder(name).train()
    found = encoder({"points": torch.tensor([[0, 1.2, 3.4, 0, 0.5]])[:count], "batch_size": 1})
    assert found["pillar_features"].shape == (count, 6)
    assert torch.isfinite(found["pillar_features"]).all()
    found["pillar_features"].sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in encoder.parameters())


def test_the_order_of_points_is_irrelevant() -> None:
    encoder = make_encoder("DynamicPillarVFE").train()
    points = random_points(200)
    one = encoder({"points": points, "batch_size": 2})["pillar_features"]
    other = encoder({"points": points.flip(0), "batch_size": 2})["pillar_features"]
    torch.testing.assert_close(one, other)
