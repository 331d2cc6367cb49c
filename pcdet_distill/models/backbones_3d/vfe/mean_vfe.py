"""MeanVFE: a voxel's feature is the mean of its points (SECOND, Sensors 2018)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from ...taps import TapInfo


class MeanVFE(nn.Module):
    """Mean of the point features of every voxel. Without parameters."""

    def __init__(
        self, model_cfg: Mapping[str, Any], num_point_features: int, **kwargs: Any
    ) -> None:
        super().__init__()
        self.model_cfg = model_cfg
        self.num_point_features = num_point_features

    def get_output_feature_dim(self) -> int:
        """Channels of ``voxel_features``."""
        return self.num_point_features

    def taps(self) -> list[TapInfo]:
        """What can be captured, relative to this slot."""
        return [TapInfo("@voxel_features", self.num_point_features, 1, "voxel")]

    def forward(self, batch_dict: dict[str, Any]) -> dict[str, Any]:
        """Reads ``voxels`` (M, P, C), ``voxel_num_points`` (M,); writes ``voxel_features`` (M, C)."""
        voxels = batch_dict["voxels"]
        count = batch_dict["voxel_num_points"].to(voxels.dtype).clamp_min(1).unsqueeze(1)
        batch_dict["voxel_features"] = voxels.sum(dim=1) / count
        return batch_dict
