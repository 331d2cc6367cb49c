"""PointPillar: pillars, a 2D backbone and one anchor head (Lang et al., PointPillars, CVPR 2019)."""

from __future__ import annotations

from .detector3d_template import Detector3DTemplate


class PointPillar(Detector3DTemplate):
    """vfe -> map_to_bev_module -> backbone_2d -> dense_head, without further stages."""

    required_slots = ("vfe", "map_to_bev_module", "backbone_2d", "dense_head")
