"""Vector pooling (PV-RCNN++, IJCV 2023, section 4.2): the cells around a centre keep channels of their own.

A cube around every centre is divided into cells. What a cell sees of the points is followed by one linear layer per
cell, and only then are the cells mixed. Rows are (centres, C). Centres whose cube is empty all see zeros: one row
stands for them, and counts as often in the batch normalisation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...config import lookup, required
from ...errors import ConfigError
from ...ops.point_sampling import interpolation_weights, three_interpolate
from ...ops.rows import add_rows, take_rows
from ...ops.stacks import Counts
from ...ops.vector_pool import (
    cell_offsets,
    cells_of_pairs,
    cube_pairs,
    first_in_cells,
    three_nn_in_cubes,
)
from .pointnet2_modules import full_precision
from .weighted_batch_norm import WeightedBatchNorm1d, normalise_weighted

CUBE_OF_INTERPOLATION = (
    2.0  # how much further than its cells a cube reaches for points to interpolate
)
EVERYONE = -1  # NEIGHBOR_NSAMPLE without a limit


class RowConv1d(nn.Conv1d):
    """A convolution of width 1 on rows (R, C_in): the parameters of a Conv1d, the work of a linear layer per group."""

    def __init__(self, in_channels: int, out_channels: int, groups: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel_size=1, groups=groups, bias=False)

    def forward(self, rows: Tensor) -> Tensor:
        """(R, C_in) -> (R, C_out)."""
        if self.groups == 1:
            return F.linear(rows, self.weight[:, :, 0])
        by_group = rows.unflatten(1, (self.groups, -1)).transpose(0, 1)
        weights = self.weight[:, :, 0].unflatten(0, (self.groups, -1)).transpose(1, 2)
        return torch.bmm(by_group, weights).transpose(0, 1).flatten(1)


class RowLayers(nn.Sequential):
    """Convolution of width 1, batch norm, ReLU for each step of ``widths``, on rows that may count several times."""

    def __init__(self, widths: Sequence[int], groups: int = 1) -> None:
        super().__init__(
            *(
                layer
                for wide_in, wide_out in zip(widths, widths[1:])
                for layer in (
                    RowConv1d(wide_in, wide_out, groups),
                    WeightedBatchNorm1d(wide_out),
                    nn.ReLU(),
                )
            )
        )

    def forward(self, rows: Tensor, weight: Tensor | None = None) -> Tensor:
        """(R, C_in) -> (R, C_out); ``weight`` (R,) tells how many equal rows each stands for, None: one."""
        if weight is None:
            weight = rows.new_ones(len(rows))
        for layer in self:
            is_norm = isinstance(layer, nn.modules.batchnorm._BatchNorm)
            rows = normalise_weighted(layer, rows, weight) if is_norm else layer(rows)
        return rows


class Distinct(NamedTuple):
    """Centres without the repetitions of the first empty one.

    Attributes:
        kept: (K,) int64 centres.
        weight: (K,) int64, how many centres each stands for.
        back: (M,) int64, which of the kept ones stands for a centre.
    """

    kept: Tensor
    weight: Tensor
    back: Tensor

    @classmethod
    def from_empty(cls, empty: Tensor) -> Distinct:
        """From a mask (M,) of the centres that are empty."""
        is_first = empty & (empty.cumsum(0) == 1)
        kept = torch.nonzero(~empty | is_first)[:, 0]
        number = (~empty | is_first).cumsum(0) - 1
        first = number[is_first.long().argmax()] if len(empty) else number
        weight = torch.where(is_first[kept], empty.sum(), 1)
        return cls(kept, weight, torch.where(empty, first, number))


class VectorPoolAggregationModule(nn.Module):
    """Vector pooling in cubes of one size.

    Args:
        num_local_voxel: cells along x, y, z.
        local_aggregation_type: a name of LOCAL_AGGREGATIONS: how a cell sees the points.
        num_reduced_channels: of the features, which are added up in groups to so many.
        num_channels_of_local_aggregation: that each cell's own layer puts out.
        post_mlps: widths of the layers that mix the cells.
        max_neighbor_distance: reach of the cells from the centre in metres.
        neighbor_nsample: points (``voxel_random_choice``: cells with a point) that a cube holds at most; -1: all.
    """

    def __init__(
        self,
        num_local_voxel: Sequence[int],
        local_aggregation_type: str,
        num_reduced_channels: int,
        num_channels_of_local_aggregation: int,
        post_mlps: Sequence[int],
        max_neighbor_distance: float,
        neighbor_nsample: int = EVERYONE,
    ) -> None:
        super().__init__()
        self.shape, self.reach_m, self.limit = (
            list(num_local_voxel),
            float(max_neighbor_distance),
            neighbor_nsample,
        )
        self.num_reduced_channels = num_reduced_channels
        self.see, place_channels = LOCAL_AGGREGATIONS[local_aggregation_type]
        cells = prod(self.shape)
        width = cells * num_channels_of_local_aggregation
        self.separate_local_aggregation_layer = RowLayers(
            [cells * (num_reduced_channels + place_channels), width], groups=cells
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
        """Points (N, 3) with features (N, C) and centres (M, 3), counts (B,) each: the centres, and (M, C')."""
        with full_precision(xyz):
            features = features.to(next(self.parameters()).dtype)
            features = features.unflatten(1, (-1, self.num_reduced_channels)).sum(dim=1)
            vectors, distinct = self.see(
                self, xyz, xyz_batch_cnt, new_xyz, new_xyz_batch_cnt, features
            )
            rows = self.separate_local_aggregation_layer(vectors.flatten(1), distinct.weight)
            return new_xyz, take_rows(self.post_mlps(rows, distinct.weight), distinct.back)

    def interpolate(
        self, xyz: Tensor, counts: Counts, centres: Tensor, centre_counts: Counts, features: Tensor
    ) -> tuple[Tensor, Distinct]:
        """Cells (K, cells, C + 9) see the three points nearest to their middle: their features, weighted by the inverse
        distance, and the way from each of the points.
        """
        offsets = cell_offsets(self.reach_m, self.shape, centres.device)
        distance, rows, found = three_nn_in_cubes(
            xyz,
            counts,
            centres,
            centre_counts,
            offsets,
            self.reach_m * CUBE_OF_INTERPOLATION,
            self.limit,
        )
        distinct = Distinct.from_empty(found == 0)
        distance, rows, filled = (part[distinct.kept] for part in (distance, rows, found > 0))
        filled = filled.view(-1, 1, 1)
        weights = interpolation_weights(distance.masked_fill(~filled, 1.0)).to(features.dtype)
        seen = three_interpolate(features[None], rows.view(1, -1, 3), weights.view(1, -1, 3))[0]
        places = centres[distinct.kept].unsqueeze(1) + offsets
        ways = places.unsqueeze(2) - take_rows(xyz, rows)
        seen = seen.view(*rows.shape[:2], features.shape[1])
        vectors = torch.cat([seen, ways.flatten(2).to(features.dtype)], dim=2)
        return vectors * filled, distinct

    def average(
        self, xyz: Tensor, counts: Counts, centres: Tensor, centre_counts: Counts, features: Tensor
    ) -> tuple[Tensor, Distinct]:
        """Cells (K, cells, 3 + C) see the mean of their points: the way from the centre, and features."""
        centre, point = cube_pairs(xyz, counts, centres, centre_counts, self.reach_m, self.limit)
        distinct = Distinct.from_empty(torch.bincount(centre, minlength=len(centres)) == 0)
        cells, total = prod(self.shape), len(distinct.kept) * prod(self.shape)
        place = distinct.back[centre] * cells + cells_of_pairs(
            xyz, centres, centre, point, self.reach_m, self.shape
        )
        ways = (take_rows(xyz, point) - centres[centre]).to(features.dtype)
        sums = add_rows(torch.cat([ways, take_rows(features, point)], dim=1), place, total)
        number = torch.bincount(place, minlength=total).clamp_min(1).unsqueeze(1)
        return (sums / number).view(len(distinct.kept), cells, sums.shape[1]), distinct

    def choose(
        self, xyz: Tensor, counts: Counts, centres: Tensor, centre_counts: Counts, features: Tensor
    ) -> tuple[Tensor, Distinct]:
        """Cells (K, cells, 3 + C) see the first of their points: the way from the centre, and features."""
        rows = first_in_cells(
            xyz, counts, centres, centre_counts, self.reach_m, self.shape, self.limit
        )
        distinct = Distinct.from_empty((rows < 0).all(dim=1))
        rows = rows[distinct.kept]
        ways = take_rows(xyz, rows.clamp_min(0)) - centres[distinct.kept].unsqueeze(1)
        vectors = torch.cat(
            [ways.to(features.dtype), take_rows(features, rows.clamp_min(0))], dim=2
        )
        return vectors * (rows >= 0).unsqueeze(2), distinct


# Name in the yaml: how cells see the points, and how many numbers tell a cell where they lie.
LOCAL_AGGREGATIONS: dict[str, tuple[Any, int]] = {
    "local_interpolation": (VectorPoolAggregationModule.interpolate, 9),
    "voxel_avg_pool": (VectorPoolAggregationModule.average, 3),
    "voxel_random_choice": (VectorPoolAggregationModule.choose, 3),
}


class VectorPoolAggregationModuleMSG(nn.Module):
    """Vector pooling in cubes of several sizes, and layers that mix them with the place of the centre.

    Args:
        input_channels: of the features.
        config: the yaml block, with NUM_GROUPS blocks GROUP_CFG_0, GROUP_CFG_1, ...
        where: key path of the block, for errors.
    """

    def __init__(self, input_channels: int, config: Mapping[str, Any], where: str) -> None:
        super().__init__()
        reduced = _reduced_channels(config, input_channels, where)
        kind = required(config, "LOCAL_AGGREGATION_TYPE", where)
        lookup(LOCAL_AGGREGATIONS, kind, f"{where}.LOCAL_AGGREGATION_TYPE")
        self.num_groups = required(config, "NUM_GROUPS", where)
        width = 3
        for number in range(self.num_groups):
            name = f"GROUP_CFG_{number}"
            group, own_where = required(config, name, where), f"{where}.{name}"
            self.add_module(
                f"layer_{number}",
                VectorPoolAggregationModule(
                    _cells(group, own_where),
                    kind,
                    reduced,
                    required(config, "NUM_CHANNELS_OF_LOCAL_AGGREGATION", where),
                    required(group, "POST_MLPS", own_where),
                    required(group, "MAX_NEIGHBOR_DISTANCE", own_where),
                    required(group, "NEIGHBOR_NSAMPLE", own_where),
                ),
            )
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
        """Points (N, 3) with features (N, C) and centres (M, 3), counts (B,) each: the centres, and (M, C')."""
        layers = [getattr(self, f"layer_{number}") for number in range(self.num_groups)]
        pooled = [
            layer(xyz, xyz_batch_cnt, new_xyz, new_xyz_batch_cnt, features)[1] for layer in layers
        ]
        with full_precision(xyz):
            return new_xyz, self.msg_post_mlps(
                torch.cat([new_xyz.to(pooled[0].dtype), *pooled], dim=1)
            )


def _reduced_channels(config: Mapping[str, Any], input_channels: int, where: str) -> int:
    """NUM_REDUCED_CHANNELS, which divides the channels that come in; without it all of them."""
    reduced = config.get("NUM_REDUCED_CHANNELS")
    if reduced is None:
        reduced = input_channels
    if input_channels < 1 or reduced < 1 or input_channels % reduced:
        raise ConfigError(
            f"{where}.NUM_REDUCED_CHANNELS is {reduced}, expected a number that divides the "
            f"{input_channels} channels of the features it adds up"
        )
    return reduced


def _cells(group: Mapping[str, Any], where: str) -> list[int]:
    """NUM_LOCAL_VOXEL: cells along x, y, z."""
    cells = list(required(group, "NUM_LOCAL_VOXEL", where))
    if len(cells) != 3 or min(cells) < 1:
        raise ConfigError(
            f"{where}.NUM_LOCAL_VOXEL is {cells}, expected three numbers above 0: cells along x, y and z"
        )
    return cells
