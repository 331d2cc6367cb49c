"""PointRCNN: every point proposes a box, refined from the points inside it (CVPR 2019)."""

from __future__ import annotations

from .detector3d_template import Detector3DTemplate


class PointRCNN(Detector3DTemplate):
    """backbone_3d -> point_head -> roi_head."""

    required_slots = ("backbone_3d", "point_head", "roi_head")
