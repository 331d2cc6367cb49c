"""MeanVFE: a voxel's feature is the mean of its points (SECOND, Sensors 2018)."""

from __future__ import annotations

from torch import nn

from ....types import BatchDict, ConfigDict
from ...taps import TapInfo


class MeanVFE(nn.Module):
    """Mean of the point features of every voxel; no parameters.

    Voxels of SECOND are small and hold few points, so a mean loses little.
    """

    def __init__(self, model_cfg: ConfigDict, num_point_features: int, **unused: object) -> None:
        super().__init__()
        self.model_cfg = model_cfg
        self.num_point_features = num_point_features

    def get_output_feature_dim(self) -> int:
        """Channels of ``voxel_features``."""
        return self.num_point_features

    def taps(self) -> list[TapInfo]:
        """Features that can be captured, with paths relative to this slot."""
        return [TapInfo("@voxel_features", self.num_point_features, 1, "voxel")]

    def forward(self, batch_dict: BatchDict) -> BatchDict:
        """Average the points of each voxel.

        Reads ``voxels`` (M, P, C) with zeros in unused slots, ``voxel_num_points`` (M,). Writes
        ``voxel_features`` (M, C).
        """
        voxels = batch_dict["voxels"]
        count = batch_dict["voxel_num_points"].to(voxels.dtype).clamp_min(1)
        batch_dict["voxel_features"] = voxels.sum(dim=1) / count.unsqueeze(1)
        return batch_dict
