"""PillarNet: dynamic pillars and a sparse 2D encoder (Shi et al., ECCV 2022)."""

from __future__ import annotations

from .detector3d_template import Detector3DTemplate


class PillarNet(Detector3DTemplate):
    """vfe -> backbone_3d -> backbone_2d -> dense_head, with anchors or centres.

    The levels of the sparse encoder are bird's eye views already, so no slot maps them to one.
    """

    required_slots = ("vfe", "backbone_3d", "backbone_2d", "dense_head")
