"""PVRCNNPlusPlus: PV-RCNN with keypoints near proposals and vector pooling (IJCV 2023)."""

from __future__ import annotations

from typing import cast

from ...types import BatchDict
from ..roi_heads.roi_head_template import RoIHeadTemplate
from .pv_rcnn import PVRCNN


class PVRCNNPlusPlus(PVRCNN):
    """PVRCNN's slots, but proposals are selected before keypoints (``pfe``) are sampled.

    Keypoints far from every proposal serve no RoI. Sampling only near proposals covers objects more
    densely with the same number of keypoints.
    """

    running_order = (
        "vfe",
        "backbone_3d",
        "map_to_bev_module",
        "backbone_2d",
        "dense_head",
        "pfe",
        "point_head",
        "roi_head",
    )

    def run_slot(self, name: str, batch_dict: BatchDict) -> BatchDict:
        """Run one slot; before ``pfe``, the ``roi_head`` writes its ``rois``.

        In training these are the proposals sampled for it, and their targets wait in
        ``roi_targets_dict``.
        """
        if name == "pfe":
            targets = cast(RoIHeadTemplate, self.roi_head).prepare_rois(batch_dict)
            if self.training:
                batch_dict["roi_targets_dict"] = targets
        return super().run_slot(name, batch_dict)
