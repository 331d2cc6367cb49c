"""DynMeanVFE: the mean of all points of a voxel, however many fall into it.

MeanVFE averages the points that the data processor kept, at most MAX_POINTS_PER_VOXEL of each
voxel and MAX_NUMBER_OF_VOXELS of each frame. Here the points are grouped inside the model, so that
none is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ....ops.point_groups import PointGrid, group_points
from ....types import BatchDict, ConfigDict
from ...taps import TapInfo
from .grid_buffers import add_grid_buffers


class DynamicMeanVFE(nn.Module):
    """Mean of the point features of every voxel; no parameters.

    Args:
        model_cfg: the VFE block.
        num_point_features: columns of a point.
        voxel_size: metres along x, y, z; None when no step of the data processor gives it.
        grid_size: voxels along x, y, z.
        point_cloud_range: metres; x, y, z minimum, then maximum.
        unused: what other encoders need.
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
        super().__init__()
        self.model_cfg = model_cfg
        self.num_point_features = num_point_features
        self.voxel_size: Tensor
        self.origin: Tensor
        self.grid = add_grid_buffers(
            self, "DynMeanVFE needs", voxel_size, grid_size, point_cloud_range
        )

    def get_output_feature_dim(self) -> int:
        """Channels of ``voxel_features``."""
        return self.num_point_features

    def taps(self) -> list[TapInfo]:
        """Features that can be captured, with paths relative to this slot."""
        return [TapInfo("@voxel_features", self.num_point_features, 1, "voxel")]

    def forward(self, batch_dict: BatchDict) -> BatchDict:
        """Group the points into voxels and average each voxel.

        Reads ``points`` (N, 1 + C) with the frame as first column. Writes ``voxel_features``
        (M, C), ``voxel_coords`` (M, 4) as (batch, z, y, x) and ``voxel_num_points`` (M,), in place
        of those of the data processor.
        """
        points = batch_dict["points"]
        with torch.autocast(points.device.type, enabled=False):
            # Rows are ordered by frame, x, y, z.
            num_x, num_y, num_z = self.grid
            cells = (num_x, num_y, num_z)
            grid = PointGrid(self.origin, self.voxel_size, cells, axes=(0, 1, 2))
            groups = group_points(points, grid)
            total = points.new_zeros(len(groups.cells), self.num_point_features)
            total = total.index_add_(0, groups.owner, points[groups.rows, 1:])
        frame, x, y, z = groups.cells.unbind(dim=1)
        batch_dict["voxel_features"] = total / groups.counts.unsqueeze(1)
        batch_dict["voxel_coords"] = torch.stack([frame, z, y, x], dim=1)
        batch_dict["voxel_num_points"] = groups.counts
        return batch_dict
