"""PVRCNN: proposals from voxels, refined with keypoints that have gathered what all levels know (CVPR 2020)."""

from __future__ import annotations

from .detector3d_template import Detector3DTemplate


class PVRCNN(Detector3DTemplate):
    """SECOND's slots with keypoints (``pfe``), their foreground scores (``point_head``) and a ``roi_head``."""

    required_slots = (
        "vfe",
        "backbone_3d",
        "map_to_bev_module",
        "pfe",
        "backbone_2d",
        "dense_head",
        "point_head",
        "roi_head",
    )
