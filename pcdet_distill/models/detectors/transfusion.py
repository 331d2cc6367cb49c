"""TransFusion-L: a transformer decoder on the bird's eye view (Bai et al., CVPR 2022).

The published detector also reads cameras; this is its LiDAR part.
"""

from __future__ import annotations

from .detector3d_template import Detector3DTemplate


class TransFusion(Detector3DTemplate):
    """vfe -> backbone_3d -> map_to_bev_module -> backbone_2d -> dense_head."""

    required_slots = ("vfe", "backbone_3d", "map_to_bev_module", "backbone_2d", "dense_head")
