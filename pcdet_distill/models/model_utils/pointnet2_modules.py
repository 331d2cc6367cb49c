"""Set abstraction and feature propagation (PointNet++, NeurIPS 2017), for batches and stacks.

Features are rows (points, C). The reference runs its layers on K slots per ball, and a ball with
fewer than K points repeats its first one. Here a ball has as many rows as points, and the first row
counts for the repetitions. The numbers are the same, with the statistics of the batch
normalisation, for a fraction of the work.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

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
from ...ops.stacks import Counts
from .weighted_batch_norm import WeightedBatchNorm1d, normalise_weighted


class RowConv2d(nn.Conv2d):
    """A linear layer on rows (R, C_in) with the parameters of a 1 x 1 Conv2d.

    OpenPCDet's checkpoints have such convolutions.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, kernel_size=1, bias=bias)

    def matrix(self) -> Tensor:
        """The weight as (C_out, C_in)."""
        return self.weight[:, :, 0, 0]

    def forward(self, rows: Tensor) -> Tensor:
        """(R, C_in) -> (R, C_out)."""
        return F.linear(rows, self.matrix(), self.bias)


class SharedMLP(nn.Sequential):
    """Convolution, batch norm and ReLU for each pair of neighbouring ``widths``.

    Without batch norm the convolutions have a bias.
    """

    def __init__(self, widths: Sequence[int], use_bn: bool = True) -> None:
        layers: list[nn.Module] = []
        for in_channels, out_channels in zip(widths, widths[1:]):
            layers.append(RowConv2d(in_channels, out_channels, bias=not use_bn))
            if use_bn:
                layers.append(WeightedBatchNorm1d(out_channels))
            layers.append(nn.ReLU())
        super().__init__(*layers)

    @property
    def first(self) -> RowConv2d:
        """The first convolution."""
        layer = self[0]
        assert isinstance(layer, RowConv2d)
        return layer

    def forward(self, rows: Tensor, weight: Tensor | None = None) -> Tensor:
        """(R, C_in) -> (R, C_out).

        Args:
            rows: (R, C_in).
            weight: (R,) number of equal rows that each row stands for; None: one.
        """
        return self.finish(self.first(rows), weight)

    def finish(self, rows: Tensor, weight: Tensor | None = None) -> Tensor:
        """All layers but the first, on the output of the first."""
        return run_weighted(list(self)[1:], rows, weight)


def run_weighted(layers: Iterable[nn.Module], rows: Tensor, weight: Tensor | None) -> Tensor:
    """Layers in a row, in which the batch norms count a row ``weight`` (R,) times (None: once)."""
    if weight is None:
        weight = rows.new_ones(len(rows))
    for layer in layers:
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            rows = normalise_weighted(layer, rows, weight)
        else:
            rows = layer(rows)
    return rows


def full_precision(like: Tensor) -> torch.autocast:
    """Turns mixed precision off.

    Half precision rounds metres to centimetres, and sums over many rows lose digits.
    """
    return torch.autocast(like.device.type, enabled=False)


class Neighbours(NamedTuple):
    """The points around each centre, as rows ordered by centre.

    Attributes:
        centre: (R,) int64.
        point: (R,) int64.
        weight: (R,) number of slots that a row stands for.
        rows_per_centre: (M,) int64, at least 1 each.
        is_empty: (M,) bool, centres without a neighbour; their only row is a placeholder.
    """

    centre: Tensor
    point: Tensor
    weight: Tensor
    rows_per_centre: Tensor
    is_empty: Tensor

    @classmethod
    def from_query(cls, rows: Tensor, found: Tensor) -> Neighbours:
        """From the result of a ball or voxel query.

        Args:
            rows: (M, K) of points.
            found: (M,) how many of them are real; the others repeat the first.
        """
        num_slots = rows.shape[1]
        count = found.clamp_min(1)
        has_row = torch.arange(num_slots, device=rows.device) < count.unsqueeze(1)
        centre, slot = torch.nonzero(has_row, as_tuple=True)
        repetitions = num_slots + 1 - count[centre]
        return cls(
            centre=centre,
            point=rows[centre, slot],
            weight=torch.where(slot == 0, repetitions, 1),
            rows_per_centre=count,
            is_empty=found == 0,
        )

    @classmethod
    def whole_frames(cls, num_frames: int, num_points: int, device: torch.device) -> Neighbours:
        """One centre per frame, whose neighbours are all points of the frame."""
        point = torch.arange(num_frames * num_points, device=device)
        count = torch.full((num_frames,), num_points, dtype=torch.int64, device=device)
        return cls(
            centre=point // num_points,
            point=point,
            weight=torch.ones_like(point),
            rows_per_centre=count,
            is_empty=count == 0,
        )


def aggregate(
    mlp: SharedMLP,
    xyz: Tensor,
    features: Tensor | None,
    centres: Tensor,
    neighbours: Neighbours,
    use_xyz: bool = True,
    zero_empty: bool = False,
) -> Tensor:
    """The maximum of the MLP's outputs over the neighbours of each centre.

    Args:
        mlp: its first inputs are the offsets from the centre, where ``use_xyz``.
        xyz: (N, 3) points.
        features: (N, C) further inputs, or None.
        centres: (M, 3).
        neighbours: the points around each centre.
        use_xyz: whether the offsets are inputs.
        zero_empty: zeros as the first layer's output for a centre without neighbours, as the
            reference has them; otherwise its placeholder counts.

    Returns:
        (M, C_out).
    """
    if len(centres) == 0 or len(xyz) == 0:
        # Running on zeros keeps the parameters in the graph.
        return mlp(xyz.new_zeros(len(centres), mlp.first.in_channels))
    with full_precision(xyz):
        dtype = mlp.first.weight.dtype
        xyz = xyz.to(dtype)
        centres = centres.to(dtype)
        features = None if features is None else features.to(dtype)
        offset = take_rows(xyz, neighbours.point) - take_rows(centres, neighbours.centre)
        rows = _first_layer(mlp, offset, features, neighbours.point, use_xyz)
        if zero_empty:
            rows = rows * ~neighbours.is_empty[neighbours.centre].unsqueeze(1)
        return segment_max(mlp.finish(rows, neighbours.weight), neighbours.rows_per_centre)


def _first_layer(
    mlp: SharedMLP, offset: Tensor, features: Tensor | None, point: Tensor, use_xyz: bool
) -> Tensor:
    """The first convolution's output (R, C') for every row.

    Args:
        mlp: whose first convolution.
        offset: (R, 3) of the row's point from its centre.
        features: (N, C) of the points, or None.
        point: (R,) the point of each row.
        use_xyz: whether the offsets are inputs.
    """
    if features is None:
        return mlp.first(offset)
    # A forward hook, such as a tap, must see the convolution's whole output.
    has_hook = bool(mlp.first._forward_hooks)
    if len(point) <= len(features) or has_hook:
        rows = take_rows(features, point)
        return mlp.first(torch.cat([offset, rows], dim=1) if use_xyz else rows)
    # A point that belongs to several centres has one product with the weights for its features.
    # The product for the offset, which differs, is added afterwards.
    matrix = mlp.first.matrix()
    for_features = matrix[:, 3:] if use_xyz else matrix
    at_points = F.linear(features, for_features, mlp.first.bias)
    rows = take_rows(at_points, point)
    return rows + F.linear(offset, matrix[:, :3]) if use_xyz else rows


def _check_pool_method(pool_method: str) -> None:
    if pool_method != "max_pool":
        raise ConfigError(f"POOL_METHOD is '{pool_method}', expected 'max_pool'")


def _make_mlps(mlps: Sequence[Sequence[int]], use_xyz: bool) -> nn.ModuleList:
    """A SharedMLP for each ball; with ``use_xyz`` x, y, z are three more inputs."""
    modules = nn.ModuleList()
    for widths in mlps:
        in_channels = widths[0] + 3 if use_xyz else widths[0]
        modules.append(SharedMLP([in_channels, *widths[1:]]))
    return modules


class PointnetSAModuleMSG(nn.Module):
    """Set abstraction at several radii, batch layout.

    Args:
        npoint: centres chosen by furthest point sampling; None or below 1: one centre at the origin
            for all points.
        radii: metres of each ball; ignored with one centre for all.
        nsamples: points of each ball; ignored with one centre for all.
        mlps: widths of each ball's layers, the features' (without x, y, z) first.
        use_xyz: whether offsets from the centre are inputs.
        pool_method: ``max_pool``.
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
        self.radii = list(radii)
        self.nsamples = list(nsamples)
        self.use_xyz = use_xyz
        self.mlps = _make_mlps(mlps, use_xyz)

    def forward(self, xyz: Tensor, features: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Choose centres and compute their features.

        Args:
            xyz: (B, N, 3).
            features: (B, N, C).

        Returns:
            centres (B, M, 3), and their features (B, M, C').
        """
        frames, total = xyz.shape[:2]
        flat = xyz.reshape(-1, 3)
        flat_features = None if features is None else features.reshape(frames * total, -1)
        if self.npoint is None:
            centres = xyz.new_zeros(frames, 1, 3)
            groups = [Neighbours.whole_frames(frames, total, xyz.device)] * len(self.mlps)
        else:
            chosen = furthest_point_sample(xyz, self.npoint)
            first = total * torch.arange(frames, device=xyz.device).unsqueeze(1)
            centres = take_rows(flat, chosen + first)
            groups = [self._ball(scale, xyz, centres) for scale in range(len(self.mlps))]
        flat_centres = centres.view(-1, 3)
        pooled = []
        for mlp, group in zip(self.mlps, groups):
            assert isinstance(mlp, SharedMLP)
            pooled.append(
                aggregate(mlp, flat, flat_features, flat_centres, group, use_xyz=self.use_xyz)
            )
        return centres, torch.cat(pooled, dim=1).view(frames, centres.shape[1], -1)

    def _ball(self, scale: int, xyz: Tensor, centres: Tensor) -> Neighbours:
        """The points (B, N, 3) in the balls of one radius around the centres (B, M, 3)."""
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
    """Set abstraction at several radii around given centres, stack layout.

    Args:
        radii: metres of each ball.
        nsamples: points of each ball.
        mlps: widths of each ball's layers, the features' (without x, y, z) first.
        use_xyz: whether offsets from the centre are inputs.
        pool_method: ``max_pool``.
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
        self.radii = list(radii)
        self.nsamples = list(nsamples)
        self.use_xyz = use_xyz
        self.mlps = _make_mlps(mlps, use_xyz)
        self.num_output_features = sum(widths[-1] for widths in mlps)
        for layer in self.modules():
            if isinstance(layer, RowConv2d):
                nn.init.kaiming_normal_(layer.weight)

    def forward(
        self,
        xyz: Tensor,
        xyz_batch_cnt: Counts,
        new_xyz: Tensor,
        new_xyz_batch_cnt: Counts,
        features: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Compute features of the centres; an empty ball counts as zeros.

        Args:
            xyz: (N, 3) points.
            xyz_batch_cnt: (B,).
            new_xyz: (M, 3) centres.
            new_xyz_batch_cnt: (B,).
            features: (N, C).

        Returns:
            the centres, and their features (M, C').
        """
        pooled = []
        for radius_m, num_slots, mlp in zip(self.radii, self.nsamples, self.mlps):
            assert isinstance(mlp, SharedMLP)
            rows, found = stack_ball_query(
                radius_m=radius_m,
                num_neighbors=num_slots,
                points=xyz,
                point_counts=xyz_batch_cnt,
                centres=new_xyz,
                centre_counts=new_xyz_batch_cnt,
            )
            pooled.append(
                aggregate(
                    mlp,
                    xyz,
                    features,
                    new_xyz,
                    Neighbours.from_query(rows, found),
                    use_xyz=self.use_xyz,
                    zero_empty=True,
                )
            )
        return new_xyz, torch.cat(pooled, dim=1)


class PointnetFPModule(nn.Module):
    """Feature propagation from few points to many.

    A point gets the features of its three nearest known points, weighted by the inverse distance,
    beside its own.
    """

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
        """Carry features to the points ``unknown``.

        Args:
            unknown: (B, n, 3).
            known: (B, m, 3).
            unknown_features: (B, n, C1), or None.
            known_features: (B, m, C2).

        Returns:
            (B, n, C').
        """
        distance, rows = three_nn(unknown, known)
        with full_precision(known):
            dtype = self.mlp.first.weight.dtype
            weights = interpolation_weights(distance).to(dtype)
            carried = three_interpolate(known_features.to(dtype), rows, weights)
            if unknown_features is not None:
                carried = torch.cat([carried, unknown_features.to(dtype)], dim=2)
            return self.mlp(carried.flatten(0, 1)).view(*unknown.shape[:2], -1)
