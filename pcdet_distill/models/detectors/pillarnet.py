"""PillarNet: dynamic pillars, a sparse 2D encoder, and an anchor or a centre head (Shi et al., ECCV 2022)."""

from __future__ import annotations

from .detector3d_template import Detector3DTemplate


class PillarNet(Detector3DTemplate):
    """vfe -> backbone_3d, whose levels are bird's eye views already, -> backbone_2d -> dense_head."""

    required_slots = ("vfe", "backbone_3d", "backbone_2d", "dense_head")
