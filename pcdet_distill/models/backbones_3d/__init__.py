"""3D backbones: the slot ``backbone_3d``."""

from __future__ import annotations

from torch import nn

from .pointnet2_backbone import PointNet2MSG
from .spconv_backbone import VoxelBackBone8x, VoxelResBackBone8x
from .spconv_backbone_2d import PillarBackBone8x, PillarRes18BackBone8x
from .spconv_backbone_voxelnext import VoxelResBackBone8xVoxelNeXt
from .spconv_unet import UNetV2

BACKBONES_3D: dict[str, type[nn.Module]] = {
    "PillarBackBone8x": PillarBackBone8x,
    "PillarRes18BackBone8x": PillarRes18BackBone8x,
    "PointNet2MSG": PointNet2MSG,
    "UNetV2": UNetV2,
    "VoxelBackBone8x": VoxelBackBone8x,
    "VoxelResBackBone8x": VoxelResBackBone8x,
    "VoxelResBackBone8xVoxelNeXt": VoxelResBackBone8xVoxelNeXt,
}
