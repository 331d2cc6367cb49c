"""PVRCNN: proposals from voxels, refined with keypoints (Shi et al., CVPR 2020).

A few thousand keypoints gather the features of all sparse levels, so that the second stage reads
fine and coarse features at exact places.
"""

from __future__ import annotations

from .detector3d_template import Detector3DTemplate
from .second_net import SECONDNet


class PVRCNN(Detector3DTemplate):
    """SECOND's slots, keypoints (``pfe``), their scores (``point_head``) and a ``roi_head``."""

    required_slots = (*SECONDNet.required_slots, "pfe", "point_head", "roi_head")
