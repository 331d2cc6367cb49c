"""Heads on the bird's eye view and on points: the slots ``dense_head`` and ``point_head``."""

from __future__ import annotations

from torch import nn

from .anchor_head_multi import AnchorHeadMulti
from .anchor_head_single import AnchorHeadSingle
from .center_head import CenterHead
from .point_head_box import PointHeadBox
from .point_head_simple import PointHeadSimple
from .point_intra_part_head import PointIntraPartOffsetHead
from .transfusion_head import TransFusionHead
from .voxelnext_head import VoxelNeXtHead

DENSE_HEADS: dict[str, type[nn.Module]] = {
    "AnchorHeadMulti": AnchorHeadMulti,
    "AnchorHeadSingle": AnchorHeadSingle,
    "CenterHead": CenterHead,
    "TransFusionHead": TransFusionHead,
    "VoxelNeXtHead": VoxelNeXtHead,
}
POINT_HEADS: dict[str, type[nn.Module]] = {
    "PointHeadBox": PointHeadBox,
    "PointHeadSimple": PointHeadSimple,
    "PointIntraPartOffsetHead": PointIntraPartOffsetHead,
}
