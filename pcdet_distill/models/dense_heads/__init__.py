"""Heads on the bird's eye view and on points: the slots ``dense_head`` and ``point_head``.

detection_head      what every head offers; ``prediction_layout`` what its outputs mean

anchor_head_template  anchors of ``anchor_generator``, targets of ``target_assigner``,
                      ``direction_bins``; ``anchor_head_single`` and ``anchor_head_multi`` use it
center_head           peaks of heatmaps: ``center_targets``, ``center_overlaps``,
                      ``center_candidates``, ``center_nms``
transfusion_head      object queries: ``transfusion_decoder``, ``transfusion_targets``,
                      ``hungarian``
voxelnext_head        sparse cells: ``voxelnext_targets``
point_head_template   points: ``point_head_simple``, ``point_head_box``, ``point_intra_part_head``
"""

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
