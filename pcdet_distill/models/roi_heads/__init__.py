"""Second stages: the slot ``roi_head``."""
from __future__ import annotations

from torch import nn

from .pointrcnn_head import PointRCNNHead
from .second_head import SECONDHead

ROI_HEADS: dict[str, type[nn.Module]] = {
    "PointRCNNHead": PointRCNNHead,
    "SECONDHead": SECONDHead,
}
