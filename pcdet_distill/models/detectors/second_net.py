"""SECONDNet: voxels, a sparse 3D backbone and a dense head (Yan et al., SECOND, Sensors 2018)."""

from __future__ import annotations

from .detector3d_template import Detector3DTemplate


class SECONDNet(Detector3DTemplate):
    """vfe -> backbone_3d -> map_to_bev_module -> backbone_2d -> dense_head."""

    required_slots = ("vfe", "backbone_3d", "map_to_bev_module", "backbone_2d", "dense_head")
