"""PillarVFE: a small PointNet on the points of every pillar (PointPillars, CVPR 2019, section 2.1).

The reference computes batch norm and maximum over all P slots of a pillar, empty ones included, and
published weights depend on it. The empty slots of a pillar are all equal. So each of its n points
is a row of a flat list here, and all empty slots together are one more row that counts P - n times.
On KITTI that is a seventh of the work, with the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ....config import required
from ....errors import ConfigError
from ....ops.segments import segment_max
from ....types import BatchDict, ConfigDict
from ...model_utils.places import register_first_centre
from ...model_utils.weighted_batch_norm import WeightedBatchNorm1d, normalise_weighted
from ...taps import TapInfo


class PillarRows(NamedTuple):
    """The slots of all pillars as rows, pillar by pillar.

    A pillar's points come first, then one row for its empty slots if it has any.

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
        """Rows of pillars that have ``num_points`` (M,) points in ``num_slots`` slots each."""
        count = num_points.long()
        rows_per_pillar = (count + 1).clamp_max(num_slots)
        slots = torch.arange(num_slots, device=count.device)
        has_row = slots < rows_per_pillar.unsqueeze(1)
        pillar, slot = torch.nonzero(has_row, as_tuple=True)
        is_point = slot < count[pillar]
        num_empty = num_slots - count[pillar]
        weight = torch.where(is_point, 1, num_empty)
        return cls(pillar, slot, is_point, weight, rows_per_pillar)

    def maximum(self, features: Tensor) -> Tensor:
        """Maximum of each channel in each pillar: (R, C) -> (M, C)."""
        if len(features) == 0:
            return features
        return segment_max(features, self.rows_per_pillar)


class PFNLayer(nn.Module):
    """Linear layer, batch norm and ReLU on every point, then the maximum over the pillar.

    The last layer outputs the maximum alone; the others append it to every point, which gives each
    point some context.
    """

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
        maximum = rows.maximum(features)
        if self.last_vfe:
            return maximum
        return torch.cat([features, maximum[rows.pillar]], dim=1)


def make_pfn_layers(inputs: int, widths: Sequence[int], use_norm: bool) -> nn.ModuleList:
    """A layer for every width, from ``inputs`` channels on."""
    layers = nn.ModuleList()
    for out_channels in widths:
        is_last = len(layers) == len(widths) - 1
        if not is_last and out_channels % 2:
            raise ConfigError(
                f"MODEL.VFE.NUM_FILTERS is {list(widths)}, expected even numbers before the last: "
                "half of these channels are the maxima of the pillars"
            )
        layers.append(PFNLayer(inputs, out_channels, use_norm, is_last))
        inputs = out_channels
    return layers


class PillarEncoder(nn.Module):
    """Base of the pillar encoders: the layers, and what a point brings to them by itself.

    A subclass defines the offsets that are further input features, and ``forward``.
    """

    def __init__(self, model_cfg: ConfigDict, num_point_features: int) -> None:
        super().__init__()
        self.model_cfg = model_cfg
        self.use_absolute_xyz = model_cfg.get("USE_ABSLOTE_XYZ", True)
        self.with_distance = model_cfg.get("WITH_DISTANCE", False)
        use_norm = model_cfg.get("USE_NORM", True)
        self.num_filters = list(required(model_cfg, "NUM_FILTERS", "MODEL.VFE"))
        own_features = num_point_features if self.use_absolute_xyz else num_point_features - 3
        inputs = own_features + self.num_offsets() + int(self.with_distance)
        self.pfn_layers = make_pfn_layers(inputs, self.num_filters, use_norm)

    def num_offsets(self) -> int:
        """Number of offset features of a point."""
        raise NotImplementedError(f"{type(self).__name__} does not define num_offsets()")

    def get_output_feature_dim(self) -> int:
        """Channels of ``pillar_features``."""
        return self.num_filters[-1]

    def own_features(self, points: Tensor) -> Tensor:
        """The features of a point as the data has them, without x, y, z unless configured."""
        return points if self.use_absolute_xyz else points[:, 3:]

    def distances(self, points: Tensor) -> list[Tensor]:
        """The distance (R, 1) from the sensor, with WITH_DISTANCE only."""
        if not self.with_distance:
            return []
        return [points[:, :3].norm(dim=1, keepdim=True)]


class PillarVFE(PillarEncoder):
    """Pillar features from points, their offsets to the pillar's mean and to its centre."""

    def __init__(
        self,
        model_cfg: ConfigDict,
        num_point_features: int,
        voxel_size: Sequence[float] | None,
        point_cloud_range: Sequence[float],
        **unused: object,
    ) -> None:
        super().__init__(model_cfg, num_point_features)
        if voxel_size is None:
            raise ConfigError(
                "MODEL.VFE: pillars need transform_points_to_voxels in DATA_CONFIG.DATA_PROCESSOR"
            )
        self.voxel_size: Tensor
        self.first_centre: Tensor
        register_first_centre(self, voxel_size, point_cloud_range)

    def num_offsets(self) -> int:
        """To the mean and to the centre."""
        return 6

    def taps(self) -> list[TapInfo]:
        """Features that can be captured, with paths relative to this slot."""
        return [TapInfo("@pillar_features", self.num_filters[-1], 1, "voxel")]

    def forward(self, batch_dict: BatchDict) -> BatchDict:
        """Encode the pillars.

        Reads ``voxels`` (M, P, C), ``voxel_num_points`` (M,), ``voxel_coords`` (M, 4) as
        (batch, z, y, x). Writes ``pillar_features`` (M, C_out).
        """
        voxels = batch_dict["voxels"]
        num_points = batch_dict["voxel_num_points"]
        # Half precision rounds metres to centimetres, so this slot computes in the precision of its
        # weights.
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
        """Input features (R, inputs) of every row; zero for empty slots."""
        count = num_points.to(voxels.dtype).clamp_min(1)
        mean = voxels[:, :, :3].sum(dim=1) / count.unsqueeze(1)
        cells_xyz = coords[:, [3, 2, 1]].to(voxels.dtype)
        centre = cells_xyz * self.voxel_size + self.first_centre
        points = voxels[rows.pillar, rows.slot]
        xyz = points[:, :3]
        parts = [
            self.own_features(points),
            xyz - mean[rows.pillar],
            xyz - centre[rows.pillar],
            *self.distances(points),
        ]
        return torch.cat(parts, dim=1) * rows.is_point.unsqueeze(1)
