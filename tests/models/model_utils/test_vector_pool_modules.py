"""Vector pooling against its definition, cell by cell, with plain convolutions and batch norms."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

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

SHAPE = [3, 2, 1]
REACH_M = 0.6


class Sets(NamedTuple):
    """Inputs of a module: points and centres of several frames, stacked."""

    points: Tensor
    counts: Tensor
    centres: Tensor
    centre_counts: Tensor
    features: Tensor


def make_sets(
    counts: Sequence[int] = (150, 1, 0, 40), centre_counts: Sequence[int] = (30, 20, 5, 12)
) -> Sets:
    """Random sets; about every third centre is far from all points."""
    torch.manual_seed(0)
    centres = torch.rand(sum(centre_counts), 3) * 3
    centres[::3] += 50
    return Sets(
        points=torch.rand(sum(counts), 3) * 3,
        counts=torch.tensor(counts),
        centres=centres,
        centre_counts=torch.tensor(centre_counts),
        features=torch.randn(sum(counts), 6, requires_grad=True),
    )


def make_module(
    kind: str, limit: int = -1, shape: Sequence[int] = SHAPE, reach_m: float = REACH_M
) -> VectorPoolAggregationModule:
    """A module that sums 6 channels to 3, with random shifts in its batch norms."""
    torch.manual_seed(1)
    module = VectorPoolAggregationModule(
        num_local_voxel=shape,
        local_aggregation_type=kind,
        num_reduced_channels=3,
        num_channels_of_local_aggregation=4,
        post_mlps=[8, 5],
        max_neighbor_distance=reach_m,
        neighbor_nsample=limit,
    )
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm1d):
            nn.init.normal_(layer.bias)
    return module


# --- The definition, cell by cell


def rows_in_cube(points: Tensor, centre: Tensor, reach_m: float) -> list[int]:
    """Points whose offset along each axis is at most ``reach_m``."""
    inside = ((points - centre).abs() <= reach_m).all(dim=1)
    return torch.nonzero(inside)[:, 0].tolist()


def middle_of_cell(centre: Tensor, cell: int, module: VectorPoolAggregationModule) -> Tensor:
    """The middle of one cell of the cube around ``centre``."""
    shape = torch.tensor(module.cells.shape)
    step = torch.tensor(np.unravel_index(cell, module.cells.shape))
    half_cell_m = module.cells.reach_m / shape
    return centre + (2 * step + 1 - shape) * half_cell_m


def interpolate_at(middle: Tensor, points: Tensor, features: Tensor) -> Tensor:
    """Features of the three nearest points weighted by inverse distances, and their offsets.

    Where there are fewer points, the nearest one repeats.
    """
    distance, order = (points - middle).norm(dim=1).sort()
    nearest = order[:3].tolist()
    missing = 3 - len(nearest)
    nearest += [nearest[0]] * missing
    distance = torch.cat([distance[:3], distance[:1].expand(missing)])
    inverse = 1 / (distance + 1e-8)
    weight = inverse / inverse.sum()
    mean = (features[nearest] * weight[:, None]).sum(dim=0)
    offsets = middle - points[nearest]
    return torch.cat([mean, offsets.flatten()])


def interpolated(
    module: VectorPoolAggregationModule, points: Tensor, features: Tensor, centre: Tensor
) -> Tensor:
    """``local_interpolation``: neighbours come from a cube of twice the size."""
    num_cells = prod(module.cells.shape)
    near = rows_in_cube(points, centre, 2 * module.cells.reach_m)
    if module.cells.limit > 0:
        near = near[: module.cells.limit]
    if not near:
        return torch.zeros(num_cells, features.shape[1] + 9)
    vectors = []
    for cell in range(num_cells):
        middle = middle_of_cell(centre, cell, module)
        vectors.append(interpolate_at(middle, points[near], features[near]))
    return torch.stack(vectors)


def cell_of_point(point: Tensor, centre: Tensor, module: VectorPoolAggregationModule) -> int:
    """The number of the cell that a point of the cube lies in."""
    along_axes = []
    for axis, num_cells in enumerate(module.cells.shape):
        cell_m = 2 * module.cells.reach_m / num_cells
        index = int((point[axis] - centre[axis] + module.cells.reach_m) / cell_m)
        along_axes.append(min(index, num_cells - 1))
    return int(np.ravel_multi_index(along_axes, module.cells.shape))


def averaged(
    module: VectorPoolAggregationModule, points: Tensor, features: Tensor, centre: Tensor
) -> Tensor:
    """``voxel_avg_pool``: the mean over the points of each cell, at most ``limit`` of a cube."""
    num_cells = prod(module.cells.shape)
    near = rows_in_cube(points, centre, module.cells.reach_m)
    if module.cells.limit > 0:
        near = near[: module.cells.limit]
    members: list[list[int]] = [[] for _ in range(num_cells)]
    for row in near:
        members[cell_of_point(points[row], centre, module)].append(row)

    vectors = []
    for rows in members:
        of_points = torch.cat([points[rows] - centre, features[rows]], dim=1)
        vectors.append(of_points.mean(dim=0) if rows else torch.zeros(of_points.shape[1]))
    return torch.stack(vectors)


def first_of_cells(
    module: VectorPoolAggregationModule, points: Tensor, features: Tensor, centre: Tensor
) -> Tensor:
    """``voxel_random_choice``: the first point of each cell, in at most ``limit`` cells."""
    chosen: dict[int, int] = {}
    for row in rows_in_cube(points, centre, module.cells.reach_m):
        cell = cell_of_point(points[row], centre, module)
        has_room = module.cells.limit < 1 or len(chosen) < module.cells.limit
        if cell not in chosen and has_room:
            chosen[cell] = row

    vectors = torch.zeros(prod(module.cells.shape), 3 + features.shape[1])
    for cell, row in chosen.items():
        vectors[cell] = torch.cat([points[row] - centre, features[row]])
    return vectors


DEFINITIONS = {
    "local_interpolation": interpolated,
    "voxel_avg_pool": averaged,
    "voxel_random_choice": first_of_cells,
}


def by_definition(module: VectorPoolAggregationModule, kind: str, sets: Sets) -> Tensor:
    """Vectors of all centres through plain convolutions and batch norms, (M, C)."""
    groups = sets.features.split(module.num_reduced_channels, dim=1)
    features = torch.stack(groups).sum(dim=0)
    points_of_frames = sets.points.split(sets.counts.tolist())
    features_of_frames = features.split(sets.counts.tolist())
    centres_of_frames = sets.centres.split(sets.centre_counts.tolist())
    vectors = []
    for points, own_features, centres in zip(
        points_of_frames, features_of_frames, centres_of_frames
    ):
        for centre in centres:
            vectors.append(DEFINITIONS[kind](module, points, own_features, centre))

    rows = torch.stack(vectors).flatten(1)[:, :, None]
    layers = [*module.separate_local_aggregation_layer, *module.post_mlps]
    convolutions = layers[::3]
    norms = layers[1::3]
    for convolution, norm in zip(convolutions, norms):
        rows = F.conv1d(rows, convolution.weight, groups=convolution.groups)
        rows = F.batch_norm(rows, None, None, weight=norm.weight, bias=norm.bias, training=True)
        rows = F.relu(rows)
    return rows[:, :, 0]


def test_every_kind_has_a_definition() -> None:
    assert set(DEFINITIONS) == set(LOCAL_AGGREGATIONS)


@pytest.mark.parametrize("limit", [-1, 2])
@pytest.mark.parametrize("kind", LOCAL_AGGREGATIONS)
def test_features_and_gradients_are_as_defined(kind: str, limit: int) -> None:
    module = make_module(kind, limit)
    sets = make_sets()
    _, found = module(*sets)
    expected = by_definition(module, kind, sets)
    assert found.shape == (67, 5)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)

    def gradients(output: Tensor) -> tuple[Tensor, ...]:
        weighted = output * torch.linspace(-1, 1, 5)
        return torch.autograd.grad(weighted.square().sum(), [sets.features, *module.parameters()])

    for ours, theirs in zip(gradients(found), gradients(expected)):
        torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("kind", LOCAL_AGGREGATIONS)
def test_statistics_count_empty_centres(kind: str) -> None:
    """Running statistics are those of all centres, though one row stands for the empty ones."""
    module = make_module(kind)
    weighted = module.separate_local_aggregation_layer[1]
    weighted.momentum = 1.0
    module(*make_sets())

    with_plain_norm = make_module(kind)
    # A norm that knows no weights gets all rows.
    plain = nn.BatchNorm1d(24, momentum=1.0)
    with_plain_norm.separate_local_aggregation_layer[1] = plain
    with_plain_norm(*make_sets())
    torch.testing.assert_close(weighted.running_mean, plain.running_mean)
    torch.testing.assert_close(weighted.running_var, plain.running_var)


@pytest.mark.parametrize("kind", LOCAL_AGGREGATIONS)
@pytest.mark.parametrize(
    ("counts", "centre_counts"), [([0], [0]), ([0], [3]), ([4], [0]), ([1], [1]), ([0, 5], [2, 0])]
)
def test_without_points_or_centres(kind: str, counts: list[int], centre_counts: list[int]) -> None:
    module = make_module(kind)
    sets = make_sets(counts, centre_counts)
    _, found = module(*sets)
    assert found.shape == (sum(centre_counts), 5)
    assert torch.isfinite(found).all()
    found.sum().backward()
    for tensor in [sets.features, *module.parameters()]:
        assert torch.isfinite(tensor.grad).all()


# --- Settings


def output_differs(kind: str, **changes: Any) -> bool:
    """Whether a module with changed settings and the same weights has another output."""
    module = make_module(kind)
    other = make_module(kind, **changes)
    other.load_state_dict(module.state_dict())
    _, found = module(*make_sets())
    _, of_other = other(*make_sets())
    return not torch.allclose(found, of_other)


@pytest.mark.parametrize("kind", LOCAL_AGGREGATIONS)
def test_settings_matter(kind: str) -> None:
    assert output_differs(kind, reach_m=0.5)
    assert output_differs(kind, limit=1)
    assert output_differs(kind, shape=SHAPE[::-1])
    assert not output_differs(kind)


def block(**changes: Any) -> EasyDict:
    """A BLOCK with cubes of 0.6 m and 1.2 m."""
    return EasyDict(vector_pool_config(0.6, **{"NUM_REDUCED_CHANNELS": 3, **changes}))


def test_mixed_precision_keeps_metres() -> None:
    """Places far from the origin are not rounded to centimetres."""
    module = build_local_aggregation(block(), 6, "BLOCK").eval()
    sets = make_sets()
    rounded = sets.features.bfloat16()
    far_away = sets._replace(points=sets.points + 60, centres=sets.centres + 60)
    _, expected = module(*far_away._replace(features=rounded.float()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, found = module(*far_away._replace(features=rounded))
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_cubes_of_several_sizes_and_the_position_of_the_centre() -> None:
    module = build_local_aggregation(block(), 6, "BLOCK")
    assert isinstance(module, VectorPoolAggregationModuleMSG)
    assert module.num_output_features == 8
    small = module.layer_0
    large = module.layer_1
    assert small.cells.reach_m == 0.6
    assert large.cells.reach_m == 1.2
    assert large.cells.shape == [3, 3, 1]

    sets = make_sets()
    centres, found = module(*sets)
    _, of_small = small(*sets)
    _, of_large = large(*sets)
    together = torch.cat([sets.centres, of_small, of_large], dim=1)
    assert centres is sets.centres
    assert torch.allclose(found, module.msg_post_mlps(together), atol=1e-5)


def test_all_channels_are_kept_unless_they_are_to_be_reduced() -> None:
    module = build_local_aggregation(block(NUM_REDUCED_CHANNELS=None), 6, "BLOCK")
    convolution = module.layer_0.separate_local_aggregation_layer[0]
    assert convolution.weight.shape == (8 * 3, 6 + 9, 1)


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
        build_local_aggregation(block(**changes), 6, "BLOCK")
