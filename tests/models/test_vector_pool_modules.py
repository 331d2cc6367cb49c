"""Vector pooling against its definition, cell by cell, with plain convolutions and batch norms."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from easydict import EasyDict
from small_two_stage import vector_pool_config
from torch import Tensor, nn

from pcdet_distill.errors import ConfigError
from pcdet_distill.models.model_utils.local_aggregation import build_local_aggregation
from pcdet_distill.models.model_utils.vector_pool_modules import (
    LOCAL_AGGREGATIONS,
    VectorPoolAggregationModule,
    VectorPoolAggregationModuleMSG,
)

COUNTS = [150, 1, 0, 40]
CENTRE_COUNTS = [30, 20, 5, 12]
SHAPE = [3, 2, 1]
REACH_M = 0.6


def sets(counts: list[int] = COUNTS, centre_counts: list[int] = CENTRE_COUNTS) -> tuple:
    """Inputs of a module; about every third centre is far from all points."""
    torch.manual_seed(0)
    centres = torch.rand(sum(centre_counts), 3) * 3
    centres[::3] += 50
    return (
        torch.rand(sum(counts), 3) * 3,
        torch.tensor(counts),
        centres,
        torch.tensor(centre_counts),
        torch.randn(sum(counts), 6, requires_grad=True),
    )


def module(
    kind: str, limit: int = -1, reduced: int = 3, shape: list[int] = SHAPE, reach_m: float = REACH_M
) -> VectorPoolAggregationModule:
    torch.manual_seed(1)
    made = VectorPoolAggregationModule(shape, kind, reduced, 4, [8, 5], reach_m, limit)
    for layer in made.modules():
        if isinstance(layer, nn.BatchNorm1d):
            nn.init.normal_(layer.bias)
    return made


def cube_of(points: Tensor, centre: Tensor, reach_m: float, limit: int) -> list[int]:
    rows = torch.nonzero(((points - centre).abs() <= reach_m).all(dim=1))[:, 0].tolist()
    return rows[:limit] if limit > 0 else rows


def middle_of(centre: Tensor, cell: int, made: VectorPoolAggregationModule) -> Tensor:
    steps = torch.tensor(np.unravel_index(cell, made.cells.shape))
    return centre + (
        2 * steps + 1 - torch.tensor(made.cells.shape)
    ) * made.cells.reach_m / torch.tensor(made.cells.shape)


def interpolated(
    made: VectorPoolAggregationModule, points: Tensor, features: Tensor, centre: Tensor
) -> Tensor:
    near = cube_of(points, centre, 2 * made.cells.reach_m, made.cells.limit)
    cells = prod(made.cells.shape)
    if not near:
        return torch.zeros(cells, features.shape[1] + 9)
    seen = []
    for cell in range(cells):
        middle = middle_of(centre, cell, made)
        distance, order = (points[near] - middle).norm(dim=1).sort()
        order = [near[row] for row in order[:3]]
        distance = torch.cat([distance[:3], distance[:1].expand(3 - len(order))])
        order += [order[0]] * (3 - len(order))
        weight = (1 / (distance + 1e-8)) / (1 / (distance + 1e-8)).sum()
        seen.append(
            torch.cat(
                [
                    (features[order] * weight[:, None]).sum(0),
                    *(middle - points[row] for row in order),
                ]
            )
        )
    return torch.stack(seen)


def pooled(
    made: VectorPoolAggregationModule,
    points: Tensor,
    features: Tensor,
    centre: Tensor,
    average: bool,
) -> Tensor:
    members: dict[int, list[int]] = {}
    for row in cube_of(points, centre, made.cells.reach_m, made.cells.limit if average else -1):
        along = [
            min(
                int(
                    (points[row, axis] - centre[axis] + made.cells.reach_m)
                    / (2 * made.cells.reach_m / cells)
                ),
                cells - 1,
            )
            for axis, cells in enumerate(made.cells.shape)
        ]
        cell = int(np.ravel_multi_index(along, made.cells.shape))
        if average or cell in members or made.cells.limit < 1 or len(members) < made.cells.limit:
            members.setdefault(cell, []).append(row)
    cells = []
    for cell in range(prod(made.cells.shape)):
        rows = members.get(cell, [])[: None if average else 1]
        both = torch.cat([points[rows] - centre, features[rows]], dim=1)
        cells.append(both.mean(dim=0) if rows else torch.zeros(both.shape[1]))
    return torch.stack(cells)


def by_definition(
    made: VectorPoolAggregationModule,
    kind: str,
    points: Tensor,
    counts: Tensor,
    centres: Tensor,
    centre_counts: Tensor,
    features: Tensor,
) -> Tensor:
    reduced = made.num_reduced_channels
    features = sum(
        features[:, start : start + reduced] for start in range(0, features.shape[1], reduced)
    )
    own_points = points.split(counts.tolist())
    own_features = features.split(counts.tolist())
    vectors = []
    for item, own_centres in enumerate(centres.split(centre_counts.tolist())):
        for centre in own_centres:
            arguments = (made, own_points[item], own_features[item], centre)
            vectors.append(
                interpolated(*arguments)
                if kind == "local_interpolation"
                else pooled(*arguments, average=kind == "voxel_avg_pool")
            )
    rows = torch.stack(vectors).flatten(1)[:, :, None]
    layers = [*made.separate_local_aggregation_layer, *made.post_mlps]
    for convolution, norm in zip(layers[::3], layers[1::3]):
        rows = F.conv1d(rows, convolution.weight, groups=convolution.groups)
        rows = F.relu(F.batch_norm(rows, None, None, norm.weight, norm.bias, training=True))
    return rows[:, :, 0]


@pytest.mark.parametrize("limit", [-1, 2])
@pytest.mark.parametrize("kind", LOCAL_AGGREGATIONS)
def test_as_defined(kind: str, limit: int) -> None:
    made = module(kind, limit)
    inputs = sets()
    found = made(*inputs)[1]
    expected = by_definition(made, kind, *inputs)
    assert found.shape == (67, 5)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    wanted = [inputs[-1], *made.parameters()]
    grads = [
        torch.autograd.grad((output * torch.linspace(-1, 1, 5)).square().sum(), wanted)
        for output in (found, expected)
    ]
    for one, other in zip(*grads):
        torch.testing.assert_close(one, other, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("kind", LOCAL_AGGREGATIONS)
def test_statistics_count_empty_centres(kind: str) -> None:
    """Running statistics are those of all centres, though one row stands for the empty ones."""
    made = module(kind)
    inputs = sets()
    norm = made.separate_local_aggregation_layer[1]
    norm.momentum = 1.0
    made(*inputs)
    plain = module(kind)
    plain.separate_local_aggregation_layer[1] = nn.BatchNorm1d(
        24, momentum=1.0
    )  # knows no weights: gets all rows
    plain(*inputs)
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(
            getattr(norm, name), getattr(plain.separate_local_aggregation_layer[1], name)
        )


@pytest.mark.parametrize("kind", LOCAL_AGGREGATIONS)
@pytest.mark.parametrize(
    ("counts", "centre_counts"), [([0], [0]), ([0], [3]), ([4], [0]), ([1], [1]), ([0, 5], [2, 0])]
)
def test_empty_inputs(kind: str, counts: list[int], centre_counts: list[int]) -> None:
    made = module(kind)
    inputs = sets(counts, centre_counts)
    _, found = made(*inputs)
    found.sum().backward()
    assert found.shape == (sum(centre_counts), 5)
    assert torch.isfinite(found).all()
    assert all(torch.isfinite(tensor.grad).all() for tensor in [inputs[-1], *made.parameters()])


def changed(made: VectorPoolAggregationModule, other: VectorPoolAggregationModule) -> bool:
    """Whether two modules of the same weights have different outputs."""
    other.load_state_dict(made.state_dict())
    return not torch.allclose(made(*sets())[1], other(*sets())[1])


@pytest.mark.parametrize("kind", LOCAL_AGGREGATIONS)
def test_settings_matter(kind: str) -> None:
    assert changed(module(kind), module(kind, reach_m=0.5))
    assert changed(module(kind), module(kind, limit=1))
    assert changed(module(kind), module(kind, shape=SHAPE[::-1]))
    assert not changed(module(kind), module(kind))


def test_mixed_precision_keeps_metres() -> None:
    """Places far from the origin are not rounded to centimetres."""
    made = build_local_aggregation(config(), 6, "BLOCK").eval()
    (xyz, counts, centres, centre_counts, features) = sets()
    expected = made(xyz + 60, counts, centres + 60, centre_counts, features.bfloat16().float())[1]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = made(xyz + 60, counts, centres + 60, centre_counts, features.bfloat16())[1]
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def config(**changes: Any) -> EasyDict:
    return EasyDict(vector_pool_config(0.6, **{"NUM_REDUCED_CHANNELS": 3, **changes}))


def test_cubes_of_several_sizes_and_the_position_of_the_centre() -> None:
    made = build_local_aggregation(config(), 6, "BLOCK")
    inputs = sets()
    assert isinstance(made, VectorPoolAggregationModuleMSG)
    assert made.num_output_features == 8
    centres, found = made(*inputs)
    both = torch.cat([inputs[2], made.layer_0(*inputs)[1], made.layer_1(*inputs)[1]], dim=1)
    assert centres is inputs[2]
    assert torch.allclose(found, made.msg_post_mlps(both), atol=1e-5)
    assert made.layer_0.cells.reach_m == 0.6
    assert made.layer_1.cells.reach_m == 1.2
    assert made.layer_1.cells.shape == [3, 3, 1]


def test_all_channels_are_kept_unless_they_are_to_be_reduced() -> None:
    made = build_local_aggregation(config(NUM_REDUCED_CHANNELS=None), 6, "BLOCK")
    assert made.layer_0.separate_local_aggregation_layer[0].weight.shape == (8 * 3, 6 + 9, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"NAME": "VectorPoolAggregationModule"},
            "BLOCK.NAME: unknown name 'VectorPoolAggregationModule'; did you mean",
        ),
        (
            {"NUM_REDUCED_CHANNELS": 4},
            "BLOCK.NUM_REDUCED_CHANNELS is 4, expected a number that divides the 6 channels",
        ),
        ({"NUM_REDUCED_CHANNELS": 0}, "BLOCK.NUM_REDUCED_CHANNELS is 0, expected"),
        (
            {"LOCAL_AGGREGATION_TYPE": "voxel_max_pool"},
            "AGGREGATION_TYPE: unknown name 'voxel_max_pool'; did you mean",
        ),
        ({"NUM_GROUPS": 3}, "BLOCK.GROUP_CFG_2 is missing"),
        (
            {"GROUP_CFG_1": {"NUM_LOCAL_VOXEL": [3, 3]}},
            "GROUP_CFG_1.NUM_LOCAL_VOXEL is .3, 3., expected three numbers",
        ),
        (
            {"GROUP_CFG_0": {"NUM_LOCAL_VOXEL": [3, 3, 3], "POST_MLPS": [4]}},
            "GROUP_CFG_0.MAX_NEIGHBOR_DISTANCE is missing",
        ),
        ({"MSG_POST_MLPS": None}, "BLOCK.MSG_POST_MLPS is missing"),
    ],
)
def test_wrong_settings_are_named(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_local_aggregation(config(**changes), 6, "BLOCK")
