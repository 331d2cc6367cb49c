"""CenterPoint, its first stage: pillars or voxels and a centre head (Yin et al., CVPR 2021)."""

from __future__ import annotations

from .detector3d_template import Detector3DTemplate


class CenterPoint(Detector3DTemplate):
    """vfe -> (backbone_3d ->) map_to_bev_module -> backbone_2d -> dense_head."""

    required_slots = ("vfe", "map_to_bev_module", "backbone_2d", "dense_head")
