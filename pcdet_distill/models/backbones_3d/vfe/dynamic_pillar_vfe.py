"""Dynamic pillars: a pillar has as many points as fall into it (Zhou et al., MVF, CoRL 2019).

The points are grouped here, not by the data processor, so that no point is dropped and no slot is
padded. PillarNet (Shi et al., ECCV 2022) uses the form without mean offsets, followed by a sparse
2D backbone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ....ops.point_groups import PointGrid, group_points
from ....types import BatchDict, ConfigDict
from ...taps import TapInfo
from .grid_buffers import add_grid_buffers
from .pillar_vfe import PillarEncoder, PillarRows


class GroupedPoints(NamedTuple):
    """The points in range, pillar by pillar.

    Attributes:
        points: (R, features) x, y, z, ...
        rows: the pillar of each point, and the number of points of each pillar.
        cells: (M, 3) int64 frame, y, x of the pillars, ordered by frame, x, y.
    """

    points: Tensor
    rows: PillarRows
    cells: Tensor

    @classmethod
    def from_points(
        cls, points: Tensor, origin: Tensor, voxel_size: Tensor, grid: Sequence[int]
    ) -> GroupedPoints:
        """Group points by their cells on the ground; the height is ignored.

        Args:
            points: (N, 1 + features) frame, x, y, z, ...
            origin: (3,) the smallest x, y, z of the grid.
            voxel_size: (3,).
            grid: cells along x and y.
        """
        num_x, num_y = grid
        pillars = PointGrid(origin, voxel_size, cells=(num_x, num_y, 1), axes=(0, 1))
        groups = group_points(points, pillars)
        ones = torch.ones_like(groups.owner)
        rows = PillarRows(
            pillar=groups.owner,
            slot=torch.zeros_like(ones),
            is_point=ones.bool(),
            weight=ones,
            rows_per_pillar=groups.counts,
        )
        frame, x, y = groups.cells.unbind(dim=1)
        return cls(points[groups.rows, 1:], rows, torch.stack([frame, y, x], dim=1))

    def mean(self) -> Tensor:
        """Mean position (M, 3) of each pillar's points."""
        total = self.points.new_zeros(len(self.cells), 3)
        total = total.index_add_(0, self.rows.pillar, self.points[:, :3])
        return total / self.rows.rows_per_pillar.unsqueeze(1)


class DynamicPillarEncoder(PillarEncoder):
    """Base of the encoders of dynamic pillars.

    A subclass defines the input features of a point and the keys of the output.
    """

    def __init__(
        self,
        model_cfg: ConfigDict,
        num_point_features: int,
        voxel_size: Sequence[float] | None,
        grid_size: Sequence[int] | None,
        point_cloud_range: Sequence[float],
        **unused: object,
    ) -> None:
        super().__init__(model_cfg, num_point_features)
        self.voxel_size: Tensor
        self.origin: Tensor
        grid = add_grid_buffers(self, "pillars need", voxel_size, grid_size, point_cloud_range)
        self.grid = grid[:2]

    def decorate(self, grouped: GroupedPoints) -> list[Tensor]:
        """Input features of the points, in the order of the weights: (R, ...) each."""
        raise NotImplementedError(f"{type(self).__name__} does not define decorate()")

    def encode(self, batch_dict: BatchDict) -> tuple[Tensor, GroupedPoints]:
        """Features (M, C_out) of the pillars of ``points`` (N, 1 + C), and the pillars."""
        points = batch_dict["points"]
        # Half precision rounds metres to centimetres, so this slot computes in the precision of its
        # weights.
        with torch.autocast(points.device.type, enabled=False):
            grouped = GroupedPoints.from_points(points, self.origin, self.voxel_size, self.grid)
            features = torch.cat(self.decorate(grouped), dim=1)
            for layer in self.pfn_layers:
                features = layer(features, grouped.rows)
        return features, grouped

    def offsets_to_centre(self, grouped: GroupedPoints) -> Tensor:
        """(R, 3) from the centre of the pillar; the height is from the first voxel's centre."""
        cells_xyz = nn.functional.pad(grouped.cells[:, [2, 1]], (0, 1))
        first_centre = self.voxel_size / 2 + self.origin
        centre = cells_xyz * self.voxel_size + first_centre
        return grouped.points[:, :3] - centre[grouped.rows.pillar]

    def offsets_to_mean(self, grouped: GroupedPoints) -> Tensor:
        """(R, 3) from the mean of the pillar's points."""
        return grouped.points[:, :3] - grouped.mean()[grouped.rows.pillar]


class DynamicPillarVFE(DynamicPillarEncoder):
    """PillarVFE's input features for dynamic pillars."""

    def num_offsets(self) -> int:
        """To the mean and to the centre."""
        return 6

    def decorate(self, grouped: GroupedPoints) -> list[Tensor]:
        """Own features, offsets to mean and centre, distance."""
        return [
            self.own_features(grouped.points),
            self.offsets_to_mean(grouped),
            self.offsets_to_centre(grouped),
            *self.distances(grouped.points),
        ]

    def taps(self) -> list[TapInfo]:
        """Features that can be captured, with paths relative to this slot."""
        return [TapInfo("@pillar_features", self.num_filters[-1], 1, "voxel")]

    def forward(self, batch_dict: BatchDict) -> BatchDict:
        """Group the points into pillars and encode them.

        Reads ``points`` (N, 1 + C). Writes ``pillar_features`` and ``voxel_features`` (M, C_out),
        ``voxel_coords`` (M, 4) as (batch, 0, y, x) and ``voxel_num_points`` (M,), in place of those
        of the data processor.
        """
        features, grouped = self.encode(batch_dict)
        frame, y, x = grouped.cells.unbind(dim=1)
        batch_dict["pillar_features"] = features
        batch_dict["voxel_features"] = features
        batch_dict["voxel_coords"] = torch.stack([frame, torch.zeros_like(frame), y, x], dim=1)
        batch_dict["voxel_num_points"] = grouped.rows.rows_per_pillar
        return batch_dict


class DynamicPillarVFESimple2D(DynamicPillarEncoder):
    """PillarNet's encoder: offsets to the mean are an option, ``USE_CLUSTER_XYZ``."""

    @property
    def uses_mean(self) -> bool:
        """USE_CLUSTER_XYZ."""
        return bool(self.model_cfg.get("USE_CLUSTER_XYZ", False))

    def num_offsets(self) -> int:
        """To the centre, and to the mean where configured."""
        return 6 if self.uses_mean else 3

    def decorate(self, grouped: GroupedPoints) -> list[Tensor]:
        """Offsets to the centre, own features, offsets to the mean, distance."""
        to_mean = [self.offsets_to_mean(grouped)] if self.uses_mean else []
        return [
            self.offsets_to_centre(grouped),
            self.own_features(grouped.points),
            *to_mean,
            *self.distances(grouped.points),
        ]

    def forward(self, batch_dict: BatchDict) -> BatchDict:
        """Group the points into pillars and encode them.

        Reads ``points`` (N, 1 + C). Writes ``pillar_features`` (M, C_out), ``pillar_coords`` (M, 3)
        as (batch, y, x).
        """
        features, grouped = self.encode(batch_dict)
        batch_dict["pillar_features"] = features
        batch_dict["pillar_coords"] = grouped.cells
        return batch_dict
