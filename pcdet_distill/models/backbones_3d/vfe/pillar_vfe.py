"""PillarVFE: a small PointNet on the points of every pillar (PointPillars, CVPR 2019, section 2.1).

The reference normalises and maximises over all P slots of a pillar, empty ones included, and published weights depend
on it. Here the slots are not computed one by one: the points are rows of a flat list, and the empty slots of a pillar,
all equal, are one more row that counts P - n times. On KITTI that is a seventh of the work, with the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ....config import required
from ....errors import ConfigError
from ....ops.segments import segment_max
from ...model_utils.places import register_first_centre
from ...model_utils.weighted_batch_norm import WeightedBatchNorm1d, normalise_weighted
from ...taps import TapInfo


class PillarRows(NamedTuple):
    """The slots of all pillars as rows, pillar by pillar: first the points, then one row for all empty slots if any.

    Attributes:
        pillar: (R,) long, the pillar of each row.
        slot: (R,) long, the slot of each row; the first empty slot for the row of the empty ones.
        is_point: (R,) bool.
        weight: (R,) how many slots a row stands for.
        rows_per_pillar: (M,) long, at least 1 each.
    """

    pillar: Tensor
    slot: Tensor
    is_point: Tensor
    weight: Tensor
    rows_per_pillar: Tensor

    @classmethod
    def from_counts(cls, num_points: Tensor, num_slots: int) -> PillarRows:
        """``num_points`` (M,) points in each pillar, of ``num_slots`` slots."""
        count = num_points.long()
        rows_per_pillar = (count + 1).clamp_max(num_slots)
        pillar, slot = torch.nonzero(
            torch.arange(num_slots, device=count.device) < rows_per_pillar.unsqueeze(1),
            as_tuple=True,
        )
        is_point = slot < count[pillar]
        weight = torch.where(is_point, 1, num_slots - count[pillar])
        return cls(pillar, slot, is_point, weight, rows_per_pillar)

    def maximum(self, features: Tensor) -> Tensor:
        """Largest of each channel in each pillar: (R, C) -> (M, C)."""
        if len(features) == 0:
            return features
        return segment_max(features, self.rows_per_pillar)


class PFNLayer(nn.Module):
    """Linear, batch norm, ReLU on every point; then the maximum of the pillar, alone (last) or beside every point."""

    def __init__(
        self, in_channels: int, out_channels: int, use_norm: bool = True, last_layer: bool = False
    ) -> None:
        super().__init__()
        self.last_vfe = last_layer
        self.use_norm = use_norm
        width = out_channels if last_layer else out_channels // 2
        self.linear = nn.Linear(in_channels, width, bias=not use_norm)
        if use_norm:
            self.norm = WeightedBatchNorm1d(width, eps=1e-3, momentum=0.01)

    def forward(self, features: Tensor, rows: PillarRows) -> Tensor:
        """(R, C_in) -> (M, C_out) in the last layer, else (R, C_out)."""
        features = self.linear(features)
        if self.use_norm:
            features = normalise_weighted(self.norm, features, rows.weight)
        features = torch.relu(features)
        highest = rows.maximum(features)
        if self.last_vfe:
            return highest
        return torch.cat([features, highest[rows.pillar]], dim=1)


def make_pfn_layers(inputs: int, widths: Sequence[int], use_norm: bool) -> nn.ModuleList:
    """A layer for every width; all but the last hand on a pillar's maximum beside each row."""
    return nn.ModuleList(
        PFNLayer(wide_in, wide_out, use_norm, last_layer=number == len(widths) - 1)
        for number, (wide_in, wide_out) in enumerate(zip([inputs, *widths[:-1]], widths))
    )


class PillarVFE(nn.Module):
    """Pillar features from points, offsets to the pillar's mean and offsets to its centre."""

    def __init__(
        self,
        model_cfg: Mapping[str, Any],
        num_point_features: int,
        voxel_size: Sequence[float] | None,
        point_cloud_range: Sequence[float],
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self.model_cfg = model_cfg
        self.use_absolute_xyz = model_cfg.get("USE_ABSLOTE_XYZ", True)
        self.with_distance = model_cfg.get("WITH_DISTANCE", False)
        use_norm = model_cfg.get("USE_NORM", True)
        widths = list(required(model_cfg, "NUM_FILTERS", "MODEL.VFE"))
        self.num_filters = widths
        inputs = num_point_features + (6 if self.use_absolute_xyz else 3) + int(self.with_distance)
        self.pfn_layers = make_pfn_layers(inputs, widths, use_norm)
        if voxel_size is None:
            raise ConfigError(
                "MODEL.VFE: pillars need transform_points_to_voxels in DATA_CONFIG.DATA_PROCESSOR"
            )
        self.voxel_size: Tensor
        self.first_centre: Tensor
        register_first_centre(self, voxel_size, point_cloud_range)

    def get_output_feature_dim(self) -> int:
        """Channels of ``pillar_features``."""
        return self.num_filters[-1]

    def taps(self) -> list[TapInfo]:
        """What can be captured, relative to this slot."""
        return [TapInfo("@pillar_features", self.num_filters[-1], 1, "voxel")]

    def forward(self, batch_dict: dict[str, Any]) -> dict[str, Any]:
        """Reads ``voxels`` (M, P, C), ``voxel_num_points`` (M,), ``voxel_coords`` (M, 4) as (batch, z, y, x).

        Writes ``pillar_features`` (M, C_out).
        """
        voxels, num_points = batch_dict["voxels"], batch_dict["voxel_num_points"]
        # Metres in half precision are centimetres wrong: this slot always computes in the precision of its weights.
        with torch.autocast(voxels.device.type, enabled=False):
            rows = PillarRows.from_counts(num_points, voxels.shape[1])
            features = self._decorate(voxels, num_points, batch_dict["voxel_coords"], rows)
            for layer in self.pfn_layers:
                features = layer(features, rows)
        batch_dict["pillar_features"] = features
        return batch_dict

    def _decorate(
        self, voxels: Tensor, num_points: Tensor, coords: Tensor, rows: PillarRows
    ) -> Tensor:
        """Input features of every row: (R, num_point_features + 3, 6 or 7); zero for empty slots."""
        mean = voxels[:, :, :3].sum(dim=1) / num_points.to(voxels.dtype).clamp_min(1).unsqueeze(1)
        centre = coords[:, [3, 2, 1]].to(voxels.dtype) * self.voxel_size + self.first_centre
        points = voxels[rows.pillar, rows.slot]
        xyz = points[:, :3]
        parts = [
            points if self.use_absolute_xyz else points[:, 3:],
            xyz - mean[rows.pillar],
            xyz - centre[rows.pillar],
        ]
        if self.with_distance:
            parts.append(xyz.norm(dim=1, keepdim=True))
        return torch.cat(parts, dim=1) * rows.is_point.unsqueeze(1)
