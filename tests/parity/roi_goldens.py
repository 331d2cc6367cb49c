"""Recorded training passes of second stages: the RoIs that were drawn are put in place of our own draw."""
from __future__ import annotations

from collections.abc import Mapping
from math import pi
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pcdet_distill.models.roi_heads.roi_head_template import RoIHeadTemplate
from pcdet_distill.models.roi_heads.target_assigner.proposal_target_layer import ProposalTargetLayer

DRAWN = ("rois", "roi_scores", "roi_labels")


class RecordedDraw(nn.Module):
    """A target layer that takes the recorded RoIs, after a look whether they are among the proposals."""

    def __init__(self, layer: ProposalTargetLayer, arrays: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        self.layer = layer
        self.layer.subsample_rois = lambda overlap: torch.arange(len(overlap))
        self.drawn = {key: torch.from_numpy(arrays[f"full/train/roi_head.{key}"]) for key in DRAWN}

    def forward(self, batch_dict: Mapping[str, Any]) -> dict[str, Tensor]:
        """Targets of the recorded RoIs. Rounding may flip single decisions of the NMS: 2 % of them may be missing."""
        apart = (self.drawn["rois"][:, :, None] - batch_dict["rois"][:, None]).abs().amax(dim=-1).amin(dim=-1)
        assert (apart < 1e-3).float().mean() >= 0.98, f"{int((apart >= 1e-3).sum())} recorded RoIs are no proposals"
        return self.layer({**batch_dict, **self.drawn})


def use_recorded_draw(meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray], head: nn.Module | None,
                      model: nn.Module) -> None:
    """Prepare a model for a recorded training pass: recorded RoIs, and no dropout."""
    for name in meta.get("train/dropout_set_to_zero_in", ()):
        dropout = model.get_submodule(name)
        assert isinstance(dropout, nn.Dropout)
        dropout.p = 0.0
    if isinstance(head, RoIHeadTemplate):
        head.proposal_target_layer = RecordedDraw(head.proposal_target_layer, arrays)


def check_roi_targets(arrays: Mapping[str, np.ndarray], head: RoIHeadTemplate) -> None:
    """IoUs, labels and boxes that the recorded RoIs are given."""
    found = head.forward_ret_dict
    recorded = {key.rpartition(".")[2]: value for key, value in arrays.items() if key.startswith("full/train/roi_head.")}
    np.testing.assert_array_equal(found["reg_valid_mask"], recorded["reg_valid_mask"])
    for key in ("gt_iou_of_rois", "rcnn_cls_labels", "gt_of_rois_src"):
        np.testing.assert_allclose(found[key], recorded[key], atol=1e-4, err_msg=key)
    seen, expected = found["gt_of_rois"].numpy(), recorded["gt_of_rois"]
    others = [0, 1, 2, 3, 4, 5, 7]
    np.testing.assert_allclose(seen[..., others], expected[..., others], atol=1e-3)
    turn = (seen[..., 6] - expected[..., 6] + pi / 2) % pi - pi / 2      # a quarter turn may round to either side
    np.testing.assert_allclose(turn, 0, atol=1e-3)
