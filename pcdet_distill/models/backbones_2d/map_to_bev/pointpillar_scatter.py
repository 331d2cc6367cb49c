"""PointPillarScatter: a bird's eye view from pillar features (PointPillars, CVPR 2019)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ....config import required
from ....errors import ConfigError
from ....types import BatchDict, ConfigDict
from ...model_utils.map_layout import with_layout
from ...taps import TapInfo


class PointPillarScatter(nn.Module):
    """Copies the rows of pillars to their cells; empty cells are zero."""

    def __init__(self, model_cfg: ConfigDict, grid_size: Sequence[int], **unused: object) -> None:
        super().__init__()
        self.model_cfg = model_cfg
        self.num_bev_features = required(model_cfg, "NUM_BEV_FEATURES", "MODEL.MAP_TO_BEV")
        self.nx, self.ny, self.nz = (int(cells) for cells in grid_size)
        if self.nz != 1:
            raise ConfigError(
                "MODEL.MAP_TO_BEV: PointPillarScatter needs one voxel over the whole height, but "
                f"the grid has {self.nz}; set VOXEL_SIZE's z to the height of POINT_CLOUD_RANGE"
            )

    def check_input_channels(self, channels: int) -> None:
        """Check the width of the pillar encoder when the detector is built."""
        if channels != self.num_bev_features:
            raise ConfigError(
                f"MODEL.MAP_TO_BEV.NUM_BEV_FEATURES is {self.num_bev_features}, but MODEL.VFE "
                f"outputs {channels} channels; make them equal"
            )

    def taps(self) -> list[TapInfo]:
        """Features that can be captured, with paths relative to this slot."""
        return [TapInfo("@spatial_features", self.num_bev_features, 1, "bev")]

    def forward(self, batch_dict: BatchDict) -> BatchDict:
        """Write the pillars into a dense map.

        Reads ``pillar_features`` (M, C), ``voxel_coords`` (M, 4), ``batch_size``. Writes
        ``spatial_features`` (B, C, ny, nx), laid out by ``with_layout``. Where that is
        channels_last, the rows are copied once.
        """
        features: Tensor = batch_dict["pillar_features"]
        frame, _, y, x = batch_dict["voxel_coords"].long().unbind(dim=1)
        batch_size = int(batch_dict["batch_size"])
        channels = features.shape[1]
        cell = (frame * self.ny + y) * self.nx + x
        canvas = features.new_zeros(batch_size * self.ny * self.nx, channels)
        canvas = canvas.index_copy_(0, cell, features)
        canvas = canvas.view(batch_size, self.ny, self.nx, channels)
        batch_dict["spatial_features"] = with_layout(canvas.permute(0, 3, 1, 2))
        return batch_dict
