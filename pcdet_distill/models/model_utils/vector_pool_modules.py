"""Vector pooling (PV-RCNN++, IJCV 2023, section 4.2): every cell around a centre has own channels.

Set abstraction takes a maximum over a ball, and so loses where a feature was. Here a cube around
every centre is divided into cells. The points of each cell are aggregated, followed by a linear
layer of the cell's own, and only then are the cells mixed.

Rows are (centres, C). All centres with an empty cube have the same input, zeros. One row stands for
them, and the batch normalisation counts it as often as there are such centres.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...config import lookup, required
from ...errors import ConfigError
from ...ops.point_sampling import interpolation_weights, three_interpolate
from ...ops.rows import add_rows, move_rows, take_rows
from ...ops.stacks import Counts
from ...ops.vector_pool import (
    cell_offsets,
    cells_of_pairs,
    cube_pairs,
    first_in_cells,
    three_nn_in_cubes,
)
from ...types import ConfigDict
from .pointnet2_modules import full_precision, run_weighted
from .row_conv import RowConv1d
from .weighted_batch_norm import WeightedBatchNorm1d

# Points for an interpolation come from a cube with this many times the reach of the cells.
CUBE_OF_INTERPOLATION = 2.0
ALL_POINTS = -1  # NEIGHBOR_NSAMPLE without a limit


class RowLayers(nn.Sequential):
    """Convolution of width 1, batch norm and ReLU for each pair of neighbouring ``widths``."""

    def __init__(self, widths: Sequence[int], groups: int = 1) -> None:
        layers: list[nn.Module] = []
        for in_channels, out_channels in zip(widths, widths[1:]):
            layers.append(RowConv1d(in_channels, out_channels, groups))
            layers.append(WeightedBatchNorm1d(out_channels))
            layers.append(nn.ReLU())
        super().__init__(*layers)

    def forward(self, rows: Tensor, weight: Tensor | None = None) -> Tensor:
        """(R, C_in) -> (R, C_out).

        Args:
            rows: (R, C_in).
            weight: (R,) number of equal rows that each row stands for; None: one.
        """
        return run_weighted(self, rows, weight)


class Distinct(NamedTuple):
    """Centres of which the first empty one stands for all empty ones.

    Attributes:
        kept: (K,) int64 centres.
        weight: (K,) int64, number of centres that each stands for.
        back: (M,) int64, for every centre which of the kept ones stands for it.
    """

    kept: Tensor
    weight: Tensor
    back: Tensor

    @classmethod
    def from_empty(cls, empty: Tensor) -> Distinct:
        """From a mask (M,) of the centres that are empty."""
        is_first_empty = empty & (empty.cumsum(0) == 1)
        is_kept = ~empty | is_first_empty
        kept = torch.nonzero(is_kept)[:, 0]
        number = is_kept.cumsum(0) - 1
        of_empty = number[is_first_empty.long().argmax()] if len(empty) else number
        weight = torch.where(is_first_empty[kept], empty.sum(), 1)
        return cls(kept, weight, torch.where(empty, of_empty, number))


class PointSets(NamedTuple):
    """Points and the centres around which they are aggregated, in stack layout.

    Attributes:
        xyz: (N, 3) points.
        counts: (B,) points of each frame.
        centres: (M, 3).
        centre_counts: (B,) centres of each frame.
        features: (N, C) of the points.
    """

    xyz: Tensor
    counts: Counts
    centres: Tensor
    centre_counts: Counts
    features: Tensor


class CubeCells(NamedTuple):
    """The cells of the cube around each centre.

    Attributes:
        shape: cells along x, y, z.
        reach_m: from the centre to the cube's faces.
        limit: points (``voxel_random_choice``: cells with a point) of a cube that count; -1: all.
    """

    shape: list[int]
    reach_m: float
    limit: int


def interpolate_cells(sets: PointSets, cells: CubeCells) -> tuple[Tensor, Distinct]:
    """Each cell interpolates between the three points nearest to its centre.

    Returns:
        (K, cells, C + 9): features weighted by the inverse distance, and the offsets of the cell's
        centre from the three points; and the K centres.
    """
    offsets = cell_offsets(cells.reach_m, cells.shape, sets.centres.device)
    distance, rows, found = three_nn_in_cubes(
        points=sets.xyz,
        point_counts=sets.counts,
        centres=sets.centres,
        centre_counts=sets.centre_counts,
        offsets=offsets,
        reach_m=cells.reach_m * CUBE_OF_INTERPOLATION,
        num_neighbors=cells.limit,
    )
    distinct = Distinct.from_empty(found == 0)
    distance = distance[distinct.kept]
    rows = rows[distinct.kept]
    has_points = (found > 0)[distinct.kept].view(-1, 1, 1)
    features = sets.features
    # The distances of an empty cube are infinite; any finite number avoids NaN weights.
    weights = interpolation_weights(distance.masked_fill(~has_points, 1.0)).to(features.dtype)
    at_cells = three_interpolate(features[None], rows.view(1, -1, 3), weights.view(1, -1, 3))[0]
    at_cells = at_cells.view(*rows.shape[:2], features.shape[1])
    cell_centres = sets.centres[distinct.kept].unsqueeze(1) + offsets
    from_points = cell_centres.unsqueeze(2) - take_rows(sets.xyz, rows)
    vectors = torch.cat([at_cells, from_points.flatten(2).to(features.dtype)], dim=2)
    return vectors * has_points, distinct


def average_cells(sets: PointSets, cells: CubeCells) -> tuple[Tensor, Distinct]:
    """Each cell has the mean of its points.

    Returns:
        (K, cells, 3 + C): offsets from the centre, and features; and the K centres.
    """
    centre, point = cube_pairs(
        points=sets.xyz,
        point_counts=sets.counts,
        centres=sets.centres,
        centre_counts=sets.centre_counts,
        reach_m=cells.reach_m,
        num_neighbors=cells.limit,
    )
    points_per_centre = torch.bincount(centre, minlength=len(sets.centres))
    distinct = Distinct.from_empty(points_per_centre == 0)
    cell = cells_of_pairs(
        points=sets.xyz,
        centres=sets.centres,
        centre=centre,
        point=point,
        reach_m=cells.reach_m,
        shape=cells.shape,
    )
    num_cells = prod(cells.shape)
    total = len(distinct.kept) * num_cells
    place = distinct.back[centre] * num_cells + cell
    offsets = (take_rows(sets.xyz, point) - sets.centres[centre]).to(sets.features.dtype)
    of_features = move_rows(sets.features, point, place, total)
    sums = torch.cat([add_rows(offsets, place, total), of_features], dim=1)
    count = torch.bincount(place, minlength=total).clamp_min(1).unsqueeze(1)
    return (sums / count).view(len(distinct.kept), num_cells, sums.shape[1]), distinct


def choose_in_cells(sets: PointSets, cells: CubeCells) -> tuple[Tensor, Distinct]:
    """Each cell has the first of its points; OpenPCDet calls that a random choice.

    Returns:
        (K, cells, 3 + C): offsets from the centre, and features; and the K centres.
    """
    rows = first_in_cells(
        points=sets.xyz,
        point_counts=sets.counts,
        centres=sets.centres,
        centre_counts=sets.centre_counts,
        reach_m=cells.reach_m,
        shape=cells.shape,
        num_neighbors=cells.limit,
    )
    distinct = Distinct.from_empty((rows < 0).all(dim=1))
    rows = rows[distinct.kept]
    has_point = (rows >= 0).unsqueeze(2)
    points = rows.clamp_min(0)
    offsets = take_rows(sets.xyz, points) - sets.centres[distinct.kept].unsqueeze(1)
    features = take_rows(sets.features, points)
    vectors = torch.cat([offsets.to(features.dtype), features], dim=2)
    return vectors * has_point, distinct


class LocalAggregation(NamedTuple):
    """A way to aggregate points in cells, and the channels it adds for their positions."""

    run: Callable[[PointSets, CubeCells], tuple[Tensor, Distinct]]
    position_channels: int


LOCAL_AGGREGATIONS = {
    "local_interpolation": LocalAggregation(interpolate_cells, 9),
    "voxel_avg_pool": LocalAggregation(average_cells, 3),
    "voxel_random_choice": LocalAggregation(choose_in_cells, 3),
}


class VectorPoolAggregationModule(nn.Module):
    """Vector pooling in cubes of one size.

    Args:
        num_local_voxel: cells along x, y, z.
        local_aggregation_type: a name of LOCAL_AGGREGATIONS.
        num_reduced_channels: the features' channels are summed in groups to so many.
        num_channels_of_local_aggregation: output channels of each cell's own layer.
        post_mlps: widths of the layers that mix the cells.
        max_neighbor_distance: metres from the centre to the cube's faces.
        neighbor_nsample: points (``voxel_random_choice``: cells with a point) of a cube that count;
            -1: all.
    """

    def __init__(
        self,
        num_local_voxel: Sequence[int],
        local_aggregation_type: str,
        num_reduced_channels: int,
        num_channels_of_local_aggregation: int,
        post_mlps: Sequence[int],
        max_neighbor_distance: float,
        neighbor_nsample: int = ALL_POINTS,
    ) -> None:
        super().__init__()
        self.cells = CubeCells(
            list(num_local_voxel), float(max_neighbor_distance), neighbor_nsample
        )
        self.num_reduced_channels = num_reduced_channels
        self.aggregation = LOCAL_AGGREGATIONS[local_aggregation_type]
        num_cells = prod(num_local_voxel)
        cell_channels = num_reduced_channels + self.aggregation.position_channels
        width = num_cells * num_channels_of_local_aggregation
        self.separate_local_aggregation_layer = RowLayers(
            [num_cells * cell_channels, width], groups=num_cells
        )
        self.post_mlps = RowLayers([width, *post_mlps])
        for layer in self.modules():
            if isinstance(layer, RowConv1d):
                nn.init.kaiming_normal_(layer.weight)

    def forward(
        self,
        xyz: Tensor,
        xyz_batch_cnt: Counts,
        new_xyz: Tensor,
        new_xyz_batch_cnt: Counts,
        features: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Compute features of the centres.

        Args:
            xyz: (N, 3) points.
            xyz_batch_cnt: (B,).
            new_xyz: (M, 3) centres.
            new_xyz_batch_cnt: (B,).
            features: (N, C).

        Returns:
            the centres, and their features (M, C').
        """
        with full_precision(xyz):
            features = features.to(next(self.parameters()).dtype)
            reduced = features.unflatten(1, (-1, self.num_reduced_channels)).sum(dim=1)
            sets = PointSets(xyz, xyz_batch_cnt, new_xyz, new_xyz_batch_cnt, reduced)
            vectors, distinct = self.aggregation.run(sets, self.cells)
            rows = self.separate_local_aggregation_layer(vectors.flatten(1), distinct.weight)
            rows = self.post_mlps(rows, distinct.weight)
            return new_xyz, take_rows(rows, distinct.back)


class VectorPoolAggregationModuleMSG(nn.Module):
    """Vector pooling in cubes of several sizes; their outputs and the centre's position are mixed.

    Args:
        input_channels: of the features.
        config: the yaml block, with NUM_GROUPS blocks GROUP_CFG_0, GROUP_CFG_1, ...
        where: key path of the block, for errors.
    """

    def __init__(self, input_channels: int, config: ConfigDict, where: str) -> None:
        super().__init__()
        reduced = _reduced_channels(config, input_channels, where)
        kind = required(config, "LOCAL_AGGREGATION_TYPE", where)
        lookup(LOCAL_AGGREGATIONS, kind, f"{where}.LOCAL_AGGREGATION_TYPE")
        self.num_groups = required(config, "NUM_GROUPS", where)
        width = 3  # x, y, z of the centre
        for number in range(self.num_groups):
            name = f"GROUP_CFG_{number}"
            group = required(config, name, where)
            group_where = f"{where}.{name}"
            layer = VectorPoolAggregationModule(
                num_local_voxel=_num_cells(group, group_where),
                local_aggregation_type=kind,
                num_reduced_channels=reduced,
                num_channels_of_local_aggregation=required(
                    config, "NUM_CHANNELS_OF_LOCAL_AGGREGATION", where
                ),
                post_mlps=required(group, "POST_MLPS", group_where),
                max_neighbor_distance=required(group, "MAX_NEIGHBOR_DISTANCE", group_where),
                neighbor_nsample=required(group, "NEIGHBOR_NSAMPLE", group_where),
            )
            self.add_module(f"layer_{number}", layer)
            width += group["POST_MLPS"][-1]
        self.msg_post_mlps = RowLayers([width, *required(config, "MSG_POST_MLPS", where)])
        self.num_output_features = config["MSG_POST_MLPS"][-1]

    def forward(
        self,
        xyz: Tensor,
        xyz_batch_cnt: Counts,
        new_xyz: Tensor,
        new_xyz_batch_cnt: Counts,
        features: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Compute features of the centres; arguments as in ``VectorPoolAggregationModule``."""
        pooled = []
        for number in range(self.num_groups):
            layer = self.get_submodule(f"layer_{number}")
            _, of_group = layer(xyz, xyz_batch_cnt, new_xyz, new_xyz_batch_cnt, features)
            pooled.append(of_group)
        with full_precision(xyz):
            position = new_xyz.to(pooled[0].dtype)
            return new_xyz, self.msg_post_mlps(torch.cat([position, *pooled], dim=1))


def _reduced_channels(config: ConfigDict, input_channels: int, where: str) -> int:
    """NUM_REDUCED_CHANNELS, which must divide the input channels; without it all of them."""
    reduced = config.get("NUM_REDUCED_CHANNELS")
    if reduced is None:
        reduced = input_channels
    if input_channels < 1 or reduced < 1 or input_channels % reduced:
        raise ConfigError(
            f"{where}.NUM_REDUCED_CHANNELS is {reduced}, expected a number that divides the "
            f"{input_channels} channels of the features it adds up"
        )
    return int(reduced)


def _num_cells(group: ConfigDict, where: str) -> list[int]:
    """NUM_LOCAL_VOXEL: cells along x, y, z."""
    cells = list(required(group, "NUM_LOCAL_VOXEL", where))
    if len(cells) != 3 or min(cells) < 1:
        raise ConfigError(
            f"{where}.NUM_LOCAL_VOXEL is {cells}, expected three numbers above 0: cells along x, y "
            "and z"
        )
    return cells
