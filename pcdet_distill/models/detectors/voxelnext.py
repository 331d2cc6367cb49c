"""VoxelNeXt: a fully sparse detector (Chen et al., CVPR 2023)."""

from __future__ import annotations

from .detector3d_template import Detector3DTemplate


class VoxelNeXt(Detector3DTemplate):
    """vfe -> backbone_3d -> dense_head; the head predicts at sparse cells."""

    required_slots = ("vfe", "backbone_3d", "dense_head")
