"""Set abstraction and feature propagation (PointNet++, NeurIPS 2017), for the batch and the stack layout.

Features are rows (points, C). The reference runs its layers on K slots per ball, and a ball with fewer than K points
repeats its first one. Here a ball is as many rows as it has points, and the first row counts for the repetitions: the
same numbers, statistics of the batch normalisation included, for a fraction of the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import ConfigError
from ...ops.point_sampling import (
    ball_query,
    furthest_point_sample,
    interpolation_weights,
    stack_ball_query,
    three_interpolate,
    three_nn,
)
from ...ops.rows import take_rows
from ...ops.segments import segment_max
from .weighted_batch_norm import WeightedBatchNorm1d, normalise_weighted


class RowConv2d(nn.Conv2d):
    """A 1 x 1 convolution on rows (R, C_in): the parameters of a Conv2d, the work of a linear layer."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, kernel_size=1, bias=bias)

    def matrix(self) -> Tensor:
        """The weight as (C_out, C_in)."""
        return self.weight[:, :, 0, 0]

    def forward(self, rows: Tensor) -> Tensor:
        """(R, C_in) -> (R, C_out)."""
        return F.linear(rows, self.matrix(), self.bias)


class SharedMLP(nn.Sequential):
    """Convolution, batch norm, ReLU for each step of ``widths``; without batch norm the convolutions have a bias."""

    def __init__(self, widths: Sequence[int], use_bn: bool = True) -> None:
        layers: list[nn.Module] = []
        for wide_in, wide_out in zip(widths, widths[1:]):
            layers.append(RowConv2d(wide_in, wide_out, bias=not use_bn))
            if use_bn:
                layers.append(WeightedBatchNorm1d(wide_out))
            layers.append(nn.ReLU())
        super().__init__(*layers)

    @property
    def first(self) -> RowConv2d:
        """The first convolution."""
        layer = self[0]
        assert isinstance(layer, RowConv2d)
        return layer

    def forward(self, rows: Tensor, weight: Tensor | None = None) -> Tensor:
        """(R, C_in) -> (R, C_out); ``weight`` (R,) tells how many equal rows each stands for, None: one."""
        return self.finish(self.first(rows), weight)

    def finish(self, rows: Tensor, weight: Tensor | None = None) -> Tensor:
        """All layers but the first, on what the first put out."""
        if weight is None:
            weight = rows.new_ones(len(rows))
        for layer in list(self)[1:]:
            is_norm = isinstance(layer, nn.modules.batchnorm._BatchNorm)
            rows = normalise_weighted(layer, rows, weight) if is_norm else layer(rows)
        return rows


def full_precision(like: Tensor) -> torch.autocast:
    """No mixed precision here: metres in half precision are centimetres wrong, and so are sums over many rows."""
    return torch.autocast(like.device.type, enabled=False)


class Neighbours(NamedTuple):
    """Who belongs to which centre, as rows ordered by centre.

    Attributes:
        centre: (R,) int64.
        point: (R,) int64.
        weight: (R,) how many slots a row stands for.
        rows_per_centre: (M,) int64, at least 1 each.
        is_empty: (M,) bool, centres whose only row is no real neighbour.
    """

    centre: Tensor
    point: Tensor
    weight: Tensor
    rows_per_centre: Tensor
    is_empty: Tensor

    @classmethod
    def from_query(cls, rows: Tensor, found: Tensor) -> Neighbours:
        """From what a ball or voxel query returned: rows (M, K) of points and how many are real (M,)."""
        slots = rows.shape[1]
        count = found.clamp_min(1)
        centre, slot = torch.nonzero(
            torch.arange(slots, device=rows.device) < count.unsqueeze(1), as_tuple=True
        )
        weight = torch.where(slot == 0, slots + 1 - count[centre], 1)
        return cls(centre, rows[centre, slot], weight, count, found == 0)

    @classmethod
    def everyone(cls, frames: int, points: int, device: torch.device) -> Neighbours:
        """One centre per frame, to which all of its points belong."""
        point = torch.arange(frames * points, device=device)
        count = torch.full((frames,), points, dtype=torch.int64, device=device)
        return cls(point // points, point, torch.ones_like(point), count, count == 0)


def aggregate(
    mlp: SharedMLP,
    xyz: Tensor,
    features: Tensor | None,
    centres: Tensor,
    neighbours: Neighbours,
    use_xyz: bool = True,
    zero_empty: bool = False,
) -> Tensor:
    """The largest response (M, C_out) of ``mlp`` among the neighbours of each centre.

    Args:
        xyz: (N, 3) points; their offsets from the centre are the first inputs where ``use_xyz``.
        features: (N, C) further inputs, or None.
        centres: (M, 3).
        zero_empty: an empty ball is seen as zeros instead of the point the query put there.
    """
    if len(centres) == 0 or len(xyz) == 0:
        return _respond_to_zeros(mlp, len(centres), xyz)
    with full_precision(xyz):
        dtype = mlp.first.weight.dtype
        xyz, centres, features = (
            xyz.to(dtype),
            centres.to(dtype),
            None if features is None else features.to(dtype),
        )
        responses = _first_layer(mlp, xyz, features, centres, neighbours, use_xyz)
        if zero_empty:
            responses = responses * ~neighbours.is_empty[neighbours.centre].unsqueeze(1)
        return segment_max(mlp.finish(responses, neighbours.weight), neighbours.rows_per_centre)


def _first_layer(
    mlp: SharedMLP,
    xyz: Tensor,
    features: Tensor | None,
    centres: Tensor,
    neighbours: Neighbours,
    use_xyz: bool,
) -> Tensor:
    """What the first convolution makes of every row; the points pass it before they are repeated, if that is less."""
    offset = take_rows(xyz, neighbours.point) - take_rows(centres, neighbours.centre)
    if features is None:
        return mlp.first(offset)
    if (
        len(neighbours.point) <= len(xyz) or mlp.first._forward_hooks
    ):  # who listens to it must hear the whole of it
        rows = take_rows(features, neighbours.point)
        return mlp.first(torch.cat([offset, rows], dim=1) if use_xyz else rows)
    matrix = mlp.first.matrix()
    at_points = F.linear(features, matrix[:, 3:] if use_xyz else matrix, mlp.first.bias)
    responses = take_rows(at_points, neighbours.point)
    return responses + F.linear(offset, matrix[:, :3]) if use_xyz else responses


def _respond_to_zeros(mlp: SharedMLP, count: int, like: Tensor) -> Tensor:
    """Where there is nothing to look at: the response (M, C_out) to zeros, which keeps the parameters in the graph."""
    return mlp(like.new_zeros(count, mlp.first.in_channels))


def _check_pool_method(pool_method: str) -> None:
    if pool_method != "max_pool":
        raise ConfigError(f"POOL_METHOD is '{pool_method}', expected 'max_pool'")


class PointnetSAModuleMSG(nn.Module):
    """Set abstraction at several radii, batch layout.

    Args:
        npoint: centres chosen by furthest point sampling; None or below 1: one centre at the origin for everything.
        radii, nsamples: of each ball; ignored where everything is taken.
        mlps: widths of each ball's layers, those of the features (without x, y, z) first.
    """

    def __init__(
        self,
        npoint: int | None,
        radii: Sequence[float],
        nsamples: Sequence[int],
        mlps: Sequence[Sequence[int]],
        use_xyz: bool = True,
        pool_method: str = "max_pool",
    ) -> None:
        super().__init__()
        _check_pool_method(pool_method)
        self.npoint = npoint if npoint is not None and npoint > 0 else None
        self.radii, self.nsamples, self.use_xyz = list(radii), list(nsamples), use_xyz
        self.mlps = nn.ModuleList(
            SharedMLP([widths[0] + 3 * use_xyz, *widths[1:]]) for widths in mlps
        )

    def forward(self, xyz: Tensor, features: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Points (B, N, 3) with features (B, N, C) to centres (B, M, 3) with features (B, M, C')."""
        frames, total = xyz.shape[:2]
        flat = xyz.reshape(-1, 3)
        flat_features = None if features is None else features.reshape(frames * total, -1)
        if self.npoint is None:
            centres = xyz.new_zeros(frames, 1, 3)
            groups = [Neighbours.everyone(frames, total, xyz.device)] * len(self.mlps)
        else:
            first = total * torch.arange(frames, device=xyz.device).unsqueeze(1)
            centres = take_rows(flat, furthest_point_sample(xyz, self.npoint) + first)
            groups = [self._ball(scale, xyz, centres) for scale in range(len(self.mlps))]
        pooled = [
            aggregate(
                cast(SharedMLP, mlp), flat, flat_features, centres.view(-1, 3), group, self.use_xyz
            )
            for mlp, group in zip(self.mlps, groups)
        ]
        return centres, torch.cat(pooled, dim=1).view(frames, centres.shape[1], -1)

    def _ball(self, scale: int, xyz: Tensor, centres: Tensor) -> Neighbours:
        rows, found = ball_query(self.radii[scale], self.nsamples[scale], xyz, centres)
        first = xyz.shape[1] * torch.arange(len(xyz), device=xyz.device).view(-1, 1, 1)
        return Neighbours.from_query((rows + first).flatten(0, 1), found.flatten())


class PointnetSAModule(PointnetSAModuleMSG):
    """Set abstraction at one radius, batch layout."""

    def __init__(
        self,
        mlp: Sequence[int],
        npoint: int | None = None,
        radius: float = 0.0,
        nsample: int = 0,
        use_xyz: bool = True,
        pool_method: str = "max_pool",
    ) -> None:
        super().__init__(npoint, [radius], [nsample], [mlp], use_xyz, pool_method)


class StackSAModuleMSG(nn.Module):
    """Set abstraction at several radii around given centres, stack layout. An empty ball is seen as zeros.

    Args:
        radii, nsamples: of each ball.
        mlps: widths of each ball's layers, those of the features (without x, y, z) first.
    """

    def __init__(
        self,
        *,
        radii: Sequence[float],
        nsamples: Sequence[int],
        mlps: Sequence[Sequence[int]],
        use_xyz: bool = True,
        pool_method: str = "max_pool",
    ) -> None:
        super().__init__()
        _check_pool_method(pool_method)
        self.radii, self.nsamples, self.use_xyz = list(radii), list(nsamples), use_xyz
        self.mlps = nn.ModuleList(
            SharedMLP([widths[0] + 3 * use_xyz, *widths[1:]]) for widths in mlps
        )
        self.num_output_features = sum(widths[-1] for widths in mlps)
        for layer in self.modules():
            if isinstance(layer, RowConv2d):
                nn.init.kaiming_normal_(layer.weight)

    def forward(
        self,
        xyz: Tensor,
        xyz_batch_cnt: Tensor | Sequence[int],
        new_xyz: Tensor,
        new_xyz_batch_cnt: Tensor | Sequence[int],
        features: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Points (N, 3) with features (N, C) and centres (M, 3), counts (B,) each: the centres, and (M, C')."""
        pooled = []
        for radius, slots, mlp in zip(self.radii, self.nsamples, self.mlps):
            found = stack_ball_query(radius, slots, xyz, xyz_batch_cnt, new_xyz, new_xyz_batch_cnt)
            group = Neighbours.from_query(*found)
            pooled.append(
                aggregate(
                    cast(SharedMLP, mlp),
                    xyz,
                    features,
                    new_xyz,
                    group,
                    self.use_xyz,
                    zero_empty=True,
                )
            )
        return new_xyz, torch.cat(pooled, dim=1)


class PointnetFPModule(nn.Module):
    """Feature propagation: features of few points carried to many, weighted by the inverse distance."""

    def __init__(self, mlp: Sequence[int]) -> None:
        super().__init__()
        self.mlp = SharedMLP(mlp)

    def forward(
        self,
        unknown: Tensor,
        known: Tensor,
        unknown_features: Tensor | None,
        known_features: Tensor,
    ) -> Tensor:
        """To ``unknown`` (B, n, 3) with features (B, n, C1) from ``known`` (B, m, 3) with (B, m, C2): (B, n, C')."""
        distance, rows = three_nn(unknown, known)
        with full_precision(known):
            dtype = self.mlp.first.weight.dtype
            carried = three_interpolate(
                known_features.to(dtype), rows, interpolation_weights(distance).to(dtype)
            )
            if unknown_features is not None:
                carried = torch.cat([carried, unknown_features.to(dtype)], dim=2)
            return self.mlp(carried.flatten(0, 1)).view(*unknown.shape[:2], -1)
