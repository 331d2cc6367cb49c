"""PVRCNNPlusPlus: PV-RCNN whose keypoints lie near proposals and gather with vector pooling (IJCV 2023)."""

from __future__ import annotations

from typing import Any

from .pv_rcnn import PVRCNN


class PVRCNNPlusPlus(PVRCNN):
    """PVRCNN's slots; the ``roi_head`` chooses its proposals before the keypoints (``pfe``) are sampled."""

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

    def run_slot(self, name: str, batch_dict: dict[str, Any]) -> dict[str, Any]:
        """Run one slot; ``pfe`` finds ``rois``, in training those that have been drawn for the RoI head."""
        if name == "pfe":
            targets = self.roi_head.prepare_rois(batch_dict)  # type: ignore[operator, union-attr]
            if self.training:
                batch_dict["roi_targets_dict"] = targets
        return super().run_slot(name, batch_dict)
