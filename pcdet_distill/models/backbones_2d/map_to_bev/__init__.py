"""From voxels to a bird's eye view: the slot ``map_to_bev_module``."""

from __future__ import annotations

from torch import nn

from .height_compression import HeightCompression
from .pointpillar_scatter import PointPillarScatter

MAP_TO_BEV: dict[str, type[nn.Module]] = {
    "HeightCompression": HeightCompression,
    "PointPillarScatter": PointPillarScatter,
}
