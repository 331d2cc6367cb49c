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
from pcdet_distill.ops.rulebook import Kernel, cell_keys
from pcdet_distill.ops.sparse_tensor import SparseConvTensor

DRAWN = ("rois", "roi_scores", "roi_labels")
MAY_BE_MISSING = 0.02  # rounding may flip single decisions of the NMS


class RecordedDraw(nn.Module):
    """A target layer that takes the recorded RoIs, after a look whether they are among the proposals."""

    def __init__(self, layer: ProposalTargetLayer, arrays: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        self.layer = layer
        self.layer.subsample_rois = lambda overlap: torch.arange(len(overlap))
        self.drawn = {key: torch.from_numpy(arrays[f"full/train/roi_head.{key}"]) for key in DRAWN}

    def forward(self, batch_dict: Mapping[str, Any]) -> dict[str, Tensor]:
        """Targets of the recorded RoIs."""
        assert missing_share(self.drawn["rois"], batch_dict["rois"]) <= MAY_BE_MISSING
        return self.layer({**batch_dict, **self.drawn})


def use_recorded_proposals(arrays: Mapping[str, np.ndarray], head: nn.Module | None) -> None:
    """Let a second stage refine the recorded proposals, after a look whether its own are the same.

    Whether a point lies inside a ball or a cell inside a voxel is decided by the last digits of a proposal.
    """
    if not isinstance(head, RoIHeadTemplate):
        return
    propose = head.proposal_layer

    def propose_recorded(batch_dict: dict[str, Any], nms_config: Mapping[str, Any]) -> None:
        propose(batch_dict, nms_config)
        recorded = {key: torch.from_numpy(arrays[f"full/eval/{key}"]) for key in DRAWN}
        assert missing_share(recorded["rois"], batch_dict["rois"]) <= MAY_BE_MISSING
        np.testing.assert_allclose(batch_dict["roi_scores"], recorded["roi_scores"], atol=1e-3)
        batch_dict.update(recorded)

    head.proposal_layer = propose_recorded


def missing_share(rois: Tensor, among: Tensor) -> float:
    """The share of rois (B, R, 7) that are not among the others (B, S, 7)."""
    apart = (rois[:, :, None] - among[:, None]).abs().amax(dim=-1).amin(dim=-1)
    return float((apart >= 1e-3).float().mean())


def is_tied(scores: Tensor, candidates: Tensor) -> Tensor:
    """Mask (N,): scores (N,) that several candidates (R,) share, as RoIs in empty space do; their order is chance."""
    return ((scores[:, None] - candidates).abs() < 1e-6).sum(dim=1) > 1


def use_recorded_draw(
    meta: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    head: nn.Module | None,
    model: nn.Module,
) -> None:
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
    prefix = "full/train/roi_head."
    recorded = {
        key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)
    }
    np.testing.assert_array_equal(found["reg_valid_mask"], recorded["reg_valid_mask"])
    for key in ("gt_iou_of_rois", "rcnn_cls_labels", "gt_of_rois_src"):
        np.testing.assert_allclose(found[key], recorded[key], atol=1e-4, err_msg=key)
    seen = found["gt_of_rois"].numpy()
    expected = recorded["gt_of_rois"]
    others = [0, 1, 2, 3, 4, 5, 7]
    np.testing.assert_allclose(seen[..., others], expected[..., others], atol=1e-3)
    turn = (
        seen[..., 6] - expected[..., 6] + pi / 2
    ) % pi - pi / 2  # a quarter turn may round to either side
    np.testing.assert_allclose(turn, 0, atol=1e-3)


def use_reference_rows(pfe: nn.Module, backbone: nn.Module) -> None:
    """Show keypoints the rows of the strided levels as they lay in the recorded passes.

    A ball query takes the first points it meets, so what PV-RCNN's keypoints see depends on the order of the rows. The
    reference goes through the kernel's offsets and, for each, through the input's rows; output cells line up as they
    are first met. The frames are mixed then, but the recorded passes counted the rows as if frame followed on frame:
    the first rows are shown as frame 0, whichever they belong to.
    """

    def show(module: nn.Module, inputs: tuple[dict[str, Any]]) -> None:
        levels = dict(inputs[0]["multi_scale_3d_features"])
        cells = levels["x_conv1"].indices
        for number in (2, 3, 4):
            tensor = levels[f"x_conv{number}"]
            place = first_met(
                cells, tensor.spatial_shape, getattr(backbone, f"conv{number}")[0][0].kernel
            )
            row_of_cell = {
                cell: row
                for row, cell in enumerate(flat_cells(tensor.indices, tensor.spatial_shape))
            }
            order = torch.tensor([row_of_cell[cell] for cell in place])
            cells = tensor.indices[order]
            shown = torch.cat([cells[:, :1].sort(dim=0).values, cells[:, 1:]], dim=1)
            levels[f"x_conv{number}"] = SparseConvTensor(
                tensor.features[order], shown, tensor.spatial_shape, tensor.batch_size
            )
        inputs[0]["multi_scale_3d_features"] = levels

    pfe.register_forward_pre_hook(show)


def flat_cells(indices: Tensor, shape: list[int]) -> list[int]:
    """One number for each cell (N, 4) of a grid."""
    return cell_keys(indices, shape).tolist()


def first_met(indices: Tensor, out_shape: list[int], kernel: Kernel) -> list[int]:
    """Output cells of a strided convolution, in the order in which the reference meets them."""
    met: dict[int, None] = {}
    stride, padding, shape = (
        torch.tensor(values) for values in (kernel.stride, kernel.padding, out_shape)
    )
    for offset in torch.cartesian_prod(*map(torch.arange, kernel.size)):
        reached = indices[:, 1:] + padding - offset
        cell = torch.div(reached, stride, rounding_mode="floor")
        valid = (
            (reached % stride == 0).all(dim=1) & (cell >= 0).all(dim=1) & (cell < shape).all(dim=1)
        )
        met.update(
            dict.fromkeys(
                flat_cells(torch.cat([indices[:, :1], cell], dim=1)[valid].int(), out_shape)
            )
        )
    return list(met)
