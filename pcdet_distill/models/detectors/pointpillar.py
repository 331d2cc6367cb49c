"""PointPillar: pillars, a 2D backbone and an anchor head (PointPillars, CVPR 2019)."""

from __future__ import annotations

from .detector3d_template import Detector3DTemplate


class PointPillar(Detector3DTemplate):
    """vfe -> map_to_bev_module -> backbone_2d -> dense_head."""

    required_slots = ("vfe", "map_to_bev_module", "backbone_2d", "dense_head")
