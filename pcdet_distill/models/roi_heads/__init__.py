"""Second stages: the slot ``roi_head``.

``roi_head_template`` is what they share, ``target_assigner`` chooses the proposals to train on.
``pointrcnn_head`` and ``partA2_head`` pool points, ``pvrcnn_head`` keypoints, ``voxelrcnn_head``
voxels; ``second_head`` scores proposals. ``fc_layers`` are their fully connected layers.
"""

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
