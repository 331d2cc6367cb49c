"""PointPillarScatter: pillar features onto their cells of a bird's eye view (PointPillars, CVPR 2019)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ....config import required
from ....errors import ConfigError
from ...taps import TapInfo


class PointPillarScatter(nn.Module):
    """Rows of pillars into a canvas of the whole batch, empty cells zero."""

    def __init__(
        self, model_cfg: Mapping[str, Any], grid_size: Sequence[int], **kwargs: Any
    ) -> None:
        super().__init__()
        self.model_cfg = model_cfg
        self.num_bev_features = required(model_cfg, "NUM_BEV_FEATURES", "MODEL.MAP_TO_BEV")
        self.nx, self.ny, self.nz = (int(cells) for cells in grid_size)
        if self.nz != 1:
            raise ConfigError(
                f"MODEL.MAP_TO_BEV: PointPillarScatter needs one voxel over the whole height, but the "
                f"grid has {self.nz}; set VOXEL_SIZE's z to the height of POINT_CLOUD_RANGE"
            )

    def check_input_channels(self, channels: int) -> None:
        """Called when the detector is built: the pillar encoder's width must be the one announced here."""
        if channels != self.num_bev_features:
            raise ConfigError(
                f"MODEL.MAP_TO_BEV.NUM_BEV_FEATURES is {self.num_bev_features}, but MODEL.VFE puts out "
                f"{channels} channels; make them equal"
            )

    def taps(self) -> list[TapInfo]:
        """What can be captured, relative to this slot."""
        return [TapInfo("@spatial_features", self.num_bev_features, 1, "bev")]

    def forward(self, batch_dict: dict[str, Any]) -> dict[str, Any]:
        """Reads ``pillar_features`` (M, C), ``voxel_coords`` (M, 4), ``batch_size``.

        Writes ``spatial_features`` (B, C, ny, nx), channels_last in memory: the rows are copied once, as they are, and
        the convolutions that follow run in their fast layout.
        """
        features: Tensor = batch_dict["pillar_features"]
        batch, _, y, x = batch_dict["voxel_coords"].long().unbind(dim=1)
        batch_size, channels = int(batch_dict["batch_size"]), features.shape[1]
        canvas = features.new_zeros(batch_size * self.ny * self.nx, channels)
        canvas = canvas.index_copy_(0, (batch * self.ny + y) * self.nx + x, features)
        batch_dict["spatial_features"] = canvas.view(
            batch_size, self.ny, self.nx, channels
        ).permute(0, 3, 1, 2)
        return batch_dict
