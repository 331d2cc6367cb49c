"""3D backbones: the slot ``backbone_3d``."""
from __future__ import annotations

from torch import nn

BACKBONES_3D: dict[str, type[nn.Module]] = {}
