"""PartA2Net: refines proposals with where in their object the points lie (Part-A2, TPAMI 2020).

The anchor-free variant has no bird's eye view. It is a PointRCNN whose points are voxels.
"""

from __future__ import annotations

from .detector3d_template import Detector3DTemplate
from .second_net import SECONDNet


class PartA2Net(Detector3DTemplate):
    """SECOND's slots on a sparse U-Net, parts of the points (``point_head``) and a ``roi_head``."""

    required_slots = (*SECONDNet.required_slots, "point_head", "roi_head")
