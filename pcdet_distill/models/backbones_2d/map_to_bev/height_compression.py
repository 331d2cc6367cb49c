"""HeightCompression: the layers of a sparse 3D tensor become channels of a bird's eye view.

As in SECOND (Sensors 2018). Objects on a road do not stand on top of each other, so detection works
on the ground plane; the height stays available as channels.
"""

from __future__ import annotations

from torch import nn

from ....config import required
from ....errors import ConfigError
from ....ops.sparse_conv import SparseConvTensor
from ....types import BatchDict, ConfigDict
from ...model_utils.map_layout import with_layout
from ...taps import TapInfo


class HeightCompression(nn.Module):
    """Channel c of layer z becomes channel ``c * layers + z`` of the map, as in OpenPCDet."""

    def __init__(self, model_cfg: ConfigDict, **unused: object) -> None:
        super().__init__()
        self.model_cfg = model_cfg
        self.num_bev_features = required(model_cfg, "NUM_BEV_FEATURES", "MODEL.MAP_TO_BEV")

    def taps(self) -> list[TapInfo]:
        """Features that can be captured, with paths relative to this slot."""
        return [TapInfo("@spatial_features", self.num_bev_features, 1, "bev")]

    def forward(self, batch_dict: BatchDict) -> BatchDict:
        """Write the sparse cells into a dense map.

        Reads ``encoded_spconv_tensor`` (N cells, C) of D layers, ``encoded_spconv_tensor_stride``.
        Writes ``spatial_features`` (B, C * D, ny, nx), laid out by ``with_layout``, and
        ``spatial_features_stride``.
        """
        encoded: SparseConvTensor = batch_dict["encoded_spconv_tensor"]
        layers, height, width = encoded.spatial_shape
        channels = encoded.features.shape[1]
        if channels * layers != self.num_bev_features:
            raise ConfigError(
                f"MODEL.MAP_TO_BEV.NUM_BEV_FEATURES is {self.num_bev_features}, but "
                f"MODEL.BACKBONE_3D outputs {channels} channels in {layers} layers; expected "
                f"{channels * layers}"
            )
        frame, z, y, x = encoded.indices.long().unbind(dim=1)
        cell = (frame * height + y) * width + x
        num_cells = encoded.batch_size * height * width
        canvas = encoded.features.new_zeros(num_cells, channels, layers)
        canvas[cell, :, z] = encoded.features
        canvas = canvas.view(encoded.batch_size, height, width, channels * layers)
        batch_dict["spatial_features"] = with_layout(canvas.permute(0, 3, 1, 2))
        batch_dict["spatial_features_stride"] = batch_dict["encoded_spconv_tensor_stride"]
        return batch_dict
