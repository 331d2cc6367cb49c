"""3D backbones: the slot ``backbone_3d``.

``vfe`` makes features of voxels, ``pfe`` of keypoints. Of ``sparse_blocks``: ``spconv_backbone``,
``spconv_backbone_2d`` for pillars, ``spconv_backbone_voxelnext``, and ``spconv_unet`` with a
decoder. ``pointnet2_backbone`` works on points.
"""

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
