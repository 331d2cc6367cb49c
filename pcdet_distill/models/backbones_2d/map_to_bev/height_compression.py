"""HeightCompression: the layers of a sparse 3D tensor become channels of a bird's eye view (SECOND, Sensors 2018)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from ....config import required
from ....errors import ConfigError
from ....ops.sparse_conv import SparseConvTensor
from ...taps import TapInfo


class HeightCompression(nn.Module):
    """(cell, channel) to (channel * layers + layer) at the cell's place on the ground."""

    def __init__(self, model_cfg: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__()
        self.model_cfg = model_cfg
        self.num_bev_features = required(model_cfg, "NUM_BEV_FEATURES", "MODEL.MAP_TO_BEV")

    def taps(self) -> list[TapInfo]:
        """What can be captured, relative to this slot."""
        return [TapInfo("@spatial_features", self.num_bev_features, 1, "bev")]

    def forward(self, batch_dict: dict[str, Any]) -> dict[str, Any]:
        """Reads ``encoded_spconv_tensor`` (N cells, C) of D layers, ``encoded_spconv_tensor_stride``.

        Writes ``spatial_features`` (B, C * D, ny, nx), channels_last in memory, and ``spatial_features_stride``.
        """
        encoded: SparseConvTensor = batch_dict["encoded_spconv_tensor"]
        layers, height, width = encoded.spatial_shape
        channels = encoded.features.shape[1]
        if channels * layers != self.num_bev_features:
            raise ConfigError(
                f"MODEL.MAP_TO_BEV.NUM_BEV_FEATURES is {self.num_bev_features}, but MODEL.BACKBONE_3D "
                f"puts out {channels} channels in {layers} layers; expected {channels * layers}"
            )
        frame, z, y, x = encoded.indices.long().unbind(dim=1)
        canvas = encoded.features.new_zeros(encoded.batch_size * height * width, channels, layers)
        canvas[(frame * height + y) * width + x, :, z] = encoded.features
        canvas = canvas.view(encoded.batch_size, height, width, channels * layers)
        batch_dict["spatial_features"] = canvas.permute(0, 3, 1, 2)
        batch_dict["spatial_features_stride"] = batch_dict["encoded_spconv_tensor_stride"]
        return batch_dict
