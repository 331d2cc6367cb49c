"""PartA2Net: proposals from voxels, refined with where in their object the points lie (Part-A2, TPAMI 2020).

The anchor-free variant has no bird's eye view; it is a PointRCNN whose points are voxels.
"""

from __future__ import annotations

from .detector3d_template import Detector3DTemplate


class PartA2Net(Detector3DTemplate):
    """SECOND's slots on a sparse U-Net, parts of the points (``point_head``) and a ``roi_head``."""

    required_slots = (
        "vfe",
        "backbone_3d",
        "map_to_bev_module",
        "backbone_2d",
        "dense_head",
        "point_head",
        "roi_head",
    )
