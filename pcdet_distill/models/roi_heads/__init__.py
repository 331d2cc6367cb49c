"""Second stages: the slot ``roi_head``."""
from __future__ import annotations

from torch import nn

ROI_HEADS: dict[str, type[nn.Module]] = {}
