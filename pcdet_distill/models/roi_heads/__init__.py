"""Second stages: the slot ``roi_head``."""

from __future__ import annotations

from torch import nn

from .partA2_head import PartA2FCHead
from .pointrcnn_head import PointRCNNHead
from .pvrcnn_head import PVRCNNHead
from .second_head import SECONDHead
from .voxelrcnn_head import VoxelRCNNHead

ROI_HEADS: dict[str, type[nn.Module]] = {
    "PVRCNNHead": PVRCNNHead,
    "PartA2FCHead": PartA2FCHead,
    "PointRCNNHead": PointRCNNHead,
    "SECONDHead": SECONDHead,
    "VoxelRCNNHead": VoxelRCNNHead,
}
