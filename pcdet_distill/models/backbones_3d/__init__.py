"""3D backbones: the slot ``backbone_3d``."""
from __future__ import annotations

from torch import nn

from .pointnet2_backbone import PointNet2MSG

BACKBONES_3D: dict[str, type[nn.Module]] = {
    "PointNet2MSG": PointNet2MSG,
}
