"""VoxelRCNN: proposals from voxels, refined with the sparse voxels inside them (AAAI 2021)."""

from __future__ import annotations

from .detector3d_template import Detector3DTemplate
from .second_net import SECONDNet


class VoxelRCNN(Detector3DTemplate):
    """SECOND's slots and a ``roi_head`` on the sparse levels."""

    required_slots = (*SECONDNet.required_slots, "roi_head")
