"""VoxelRCNN: proposals from voxels, refined with the sparse voxels inside them (AAAI 2021)."""

from __future__ import annotations

from .detector3d_template import Detector3DTemplate


class VoxelRCNN(Detector3DTemplate):
    """SECOND's slots and a ``roi_head`` on the sparse levels."""

    required_slots = (
        "vfe",
        "backbone_3d",
        "map_to_bev_module",
        "backbone_2d",
        "dense_head",
        "roi_head",
    )
