"""Dynamic pillars: every point in range counts, whatever their number in a pillar (Zhou et al., MVF, CoRL 2019).

Points are grouped here, not by the data processor: nothing is dropped, nothing is padded. PillarNet (Shi et al., ECCV
2022) uses the form without mean offsets, whose pillars go on to a sparse 2D backbone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ....config import required
from ...taps import TapInfo
from .pillar_vfe import PillarRows, make_pfn_layers


class GroupedPoints(NamedTuple):
    """The points that are in range, pillar by pillar.

    Attributes:
        points: (R, features) x, y, z, ...
        rows: which pillar each point belongs to, and how many each pillar has.
        cells: (M, 3) long frame, y, x of the pillars, ordered by frame, x, y.
    """

    points: Tensor
    rows: PillarRows
    cells: Tensor

    @classmethod
    def from_points(
        cls, points: Tensor, origin: Tensor, voxel_size: Tensor, grid: Sequence[int]
    ) -> GroupedPoints:
        """Group ``points`` (N, 1 + features) with the frame first; height does not matter."""
        nx, ny = grid
        cell = torch.floor((points[:, 1:3] - origin[:2]) / voxel_size[:2])
        inside = ((cell >= 0) & (cell < cell.new_tensor([nx, ny]))).all(dim=1)
        points, cell = points[inside], cell[inside].long()
        key = (points[:, 0].long() * nx + cell[:, 0]) * ny + cell[:, 1]
        key, order = key.sort(stable=True)
        pillars, pillar, count = key.unique_consecutive(return_inverse=True, return_counts=True)
        ones = torch.ones_like(pillar)
        rows = PillarRows(pillar, torch.zeros_like(pillar), ones.bool(), ones, count)
        frame = torch.div(pillars, nx * ny, rounding_mode="floor")
        x = torch.div(pillars, ny, rounding_mode="floor") % nx
        return cls(points[order, 1:], rows, torch.stack([frame, pillars % ny, x], dim=1))

    def mean(self) -> Tensor:
        """Mean place (M, 3) of each pillar's points."""
        total = self.points.new_zeros(len(self.cells), 3).index_add_(
            0, self.rows.pillar, self.points[:, :3]
        )
        return total / self.rows.rows_per_pillar.unsqueeze(1)


class DynamicPillarEncoder(nn.Module):
    """Base of the encoders of dynamic pillars; a subclass says what a point's features are and where they go."""

    def __init__(
        self,
        model_cfg: Mapping[str, Any],
        num_point_features: int,
        voxel_size: Sequence[float],
        grid_size: Sequence[int],
        point_cloud_range: Sequence[float],
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self.model_cfg = model_cfg
        self.use_absolute_xyz = model_cfg.get("USE_ABSLOTE_XYZ", True)
        self.with_distance = model_cfg.get("WITH_DISTANCE", False)
        use_norm = model_cfg.get("USE_NORM", True)
        self.num_filters = list(required(model_cfg, "NUM_FILTERS", "MODEL.VFE"))
        own = num_point_features if self.use_absolute_xyz else num_point_features - 3
        inputs = own + self.num_offsets() + int(self.with_distance)
        self.pfn_layers = make_pfn_layers(inputs, self.num_filters, use_norm)
        self.grid = [int(cells) for cells in grid_size[:2]]
        self.voxel_size: Tensor
        self.origin: Tensor
        self.register_buffer(
            "voxel_size", torch.tensor([float(edge) for edge in voxel_size]), persistent=False
        )
        self.register_buffer(
            "origin",
            torch.tensor([float(limit) for limit in point_cloud_range[:3]]),
            persistent=False,
        )

    def num_offsets(self) -> int:
        """Numbers that are added to a point's own."""
        raise AssertionError(f"{type(self).__name__} does not say how many offsets its points have")

    def decorate(self, grouped: GroupedPoints) -> list[Tensor]:
        """Input features of the points, in the order of the weights: (R, ...) each."""
        raise AssertionError(
            f"{type(self).__name__} does not say what the features of its points are"
        )

    def get_output_feature_dim(self) -> int:
        """Channels of ``pillar_features``."""
        return self.num_filters[-1]

    def encode(self, batch_dict: Mapping[str, Any]) -> tuple[Tensor, GroupedPoints]:
        """Features (M, C_out) of the pillars of ``points`` (N, 1 + C), and the pillars."""
        # Metres in half precision are centimetres wrong: this slot always computes in the precision of its weights.
        with torch.autocast(batch_dict["points"].device.type, enabled=False):
            grouped = GroupedPoints.from_points(
                batch_dict["points"], self.origin, self.voxel_size, self.grid
            )
            features = torch.cat(self.decorate(grouped), dim=1)
            for layer in self.pfn_layers:
                features = layer(features, grouped.rows)
        return features, grouped

    def own_features(self, points: Tensor) -> Tensor:
        """What a point brings along."""
        return points if self.use_absolute_xyz else points[:, 3:]

    def offsets_to_centre(self, grouped: GroupedPoints) -> Tensor:
        """(R, 3) from the centre of the pillar, in height from the middle of the lowest layer of voxels."""
        cells = torch.nn.functional.pad(grouped.cells[:, [2, 1]], (0, 1))
        centre = cells * self.voxel_size + (self.voxel_size / 2 + self.origin)
        return grouped.points[:, :3] - centre[grouped.rows.pillar]

    def offsets_to_mean(self, grouped: GroupedPoints) -> Tensor:
        """(R, 3) from the mean of the pillar's points."""
        return grouped.points[:, :3] - grouped.mean()[grouped.rows.pillar]

    def distances(self, points: Tensor) -> list[Tensor]:
        """WITH_DISTANCE: (R, 1) from the sensor."""
        return [points[:, :3].norm(dim=1, keepdim=True)] if self.with_distance else []


class DynamicPillarVFE(DynamicPillarEncoder):
    """PillarVFE's features for dynamic pillars: own, offsets to the mean, offsets to the centre."""

    def num_offsets(self) -> int:
        """Two triples."""
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
        """What can be captured, relative to this slot."""
        return [TapInfo("@pillar_features", self.num_filters[-1], 1, "voxel")]

    def forward(self, batch_dict: dict[str, Any]) -> dict[str, Any]:
        """Reads ``points`` (N, 1 + C).

        Writes ``pillar_features`` and ``voxel_features`` (M, C_out), ``voxel_coords`` (M, 4) as (batch, 0, y, x) and
        ``voxel_num_points`` (M,), in place of those of the data processor.
        """
        features, grouped = self.encode(batch_dict)
        frame, y, x = grouped.cells.unbind(dim=1)
        batch_dict["pillar_features"] = batch_dict["voxel_features"] = features
        batch_dict["voxel_coords"] = torch.stack([frame, torch.zeros_like(frame), y, x], dim=1)
        batch_dict["voxel_num_points"] = grouped.rows.rows_per_pillar
        return batch_dict


class DynamicPillarVFESimple2D(DynamicPillarEncoder):
    """Offsets to the centre and own features; offsets to the mean only with USE_CLUSTER_XYZ."""

    def num_offsets(self) -> int:
        """One triple or two."""
        return 6 if self.model_cfg.get("USE_CLUSTER_XYZ", False) else 3

    def decorate(self, grouped: GroupedPoints) -> list[Tensor]:
        """Offsets to the centre, own features, offsets to the mean, distance."""
        to_mean = (
            [self.offsets_to_mean(grouped)] if self.model_cfg.get("USE_CLUSTER_XYZ", False) else []
        )
        return [
            self.offsets_to_centre(grouped),
            self.own_features(grouped.points),
            *to_mean,
            *self.distances(grouped.points),
        ]

    def forward(self, batch_dict: dict[str, Any]) -> dict[str, Any]:
        """Reads ``points`` (N, 1 + C); writes ``pillar_features`` (M, C_out), ``pillar_coords`` (M, 3) batch, y, x."""
        features, grouped = self.encode(batch_dict)
        batch_dict["pillar_features"], batch_dict["pillar_coords"] = features, grouped.cells
        return batch_dict
