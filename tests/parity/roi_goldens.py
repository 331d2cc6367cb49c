"""Recorded passes of second stages: the recorded RoIs replace the ones sampled here."""

from __future__ import annotations

from collections.abc import Mapping
from math import pi
from typing import Any

import numpy as np
import torch
from on_cpu import on_cpu
from torch import Tensor, nn

from pcdet_distill.models.roi_heads.roi_head_template import RoIHeadTemplate
from pcdet_distill.models.roi_heads.target_assigner.proposal_target_layer import ProposalTargetLayer
from pcdet_distill.ops.rulebook import Kernel, cell_keys
from pcdet_distill.ops.sparse_tensor import SparseConvTensor
from pcdet_distill.types import BatchDict

SAMPLED = ("rois", "roi_scores", "roi_labels")
MAY_BE_MISSING = 0.02  # rounding may flip single decisions of the NMS


class RecordedSample(nn.Module):
    """A target layer for the recorded RoIs, which must be among the proposals."""

    def __init__(self, layer: ProposalTargetLayer, arrays: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        self.layer = layer
        self.layer.subsample_rois = lambda overlap: torch.arange(len(overlap))
        self.sampled = {
            key: torch.from_numpy(arrays[f"full/train/roi_head.{key}"]) for key in SAMPLED
        }

    def forward(self, batch_dict: Mapping[str, Any]) -> dict[str, Tensor]:
        """Targets of the recorded RoIs."""
        sampled = {key: value.to(batch_dict["rois"].device) for key, value in self.sampled.items()}
        assert missing_share(sampled["rois"], batch_dict["rois"]) <= MAY_BE_MISSING
        return self.layer({**batch_dict, **sampled})


def use_recorded_proposals(arrays: Mapping[str, np.ndarray], head: nn.Module | None) -> None:
    """Let a second stage refine the recorded proposals, which must equal its own.

    The last digits of a proposal decide whether a point lies inside a ball, or a cell in a voxel.
    """
    if not isinstance(head, RoIHeadTemplate):
        return
    propose = head.proposal_layer

    def propose_recorded(batch_dict: dict[str, Any], nms_config: Mapping[str, Any]) -> None:
        propose(batch_dict, nms_config)
        proposed = batch_dict["rois"]
        recorded = {key: torch.from_numpy(arrays[f"full/eval/{key}"]) for key in SAMPLED}
        assert missing_share(recorded["rois"], proposed.cpu()) <= MAY_BE_MISSING
        scores = batch_dict["roi_scores"].cpu()
        np.testing.assert_allclose(scores, recorded["roi_scores"], atol=1e-3)
        batch_dict.update({key: value.to(proposed.device) for key, value in recorded.items()})

    head.proposal_layer = propose_recorded


def missing_share(rois: Tensor, among: Tensor) -> float:
    """The share of rois (B, R, 7) that are not among the others (B, S, 7)."""
    differences = (rois[:, :, None] - among[:, None]).abs()
    to_the_nearest = differences.amax(dim=-1).amin(dim=-1)
    return float((to_the_nearest >= 1e-3).float().mean())


def is_tied(scores: Tensor, candidates: Tensor) -> Tensor:
    """Mask (N,): scores (N,) that several candidates (R,) share, in an arbitrary order.

    RoIs in empty space have equal scores.
    """
    is_equal = (scores[:, None] - candidates).abs() < 1e-6
    return is_equal.sum(dim=1) > 1


def use_recorded_sample(
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
        head.proposal_target_layer = RecordedSample(head.proposal_target_layer, arrays)


def check_roi_targets(arrays: Mapping[str, np.ndarray], head: RoIHeadTemplate) -> None:
    """IoUs, labels and boxes that the recorded RoIs are given."""
    found = on_cpu(dict(head.forward_ret_dict))
    prefix = "full/train/roi_head."
    recorded = {}
    for key, value in arrays.items():
        if key.startswith(prefix):
            recorded[key.removeprefix(prefix)] = value
    np.testing.assert_array_equal(found["reg_valid_mask"], recorded["reg_valid_mask"])
    for key in ("gt_iou_of_rois", "rcnn_cls_labels", "gt_of_rois_src"):
        np.testing.assert_allclose(found[key], recorded[key], atol=1e-4, err_msg=key)
    relative = found["gt_of_rois"].numpy()
    expected = recorded["gt_of_rois"]
    others = [0, 1, 2, 3, 4, 5, 7]
    np.testing.assert_allclose(relative[..., others], expected[..., others], atol=1e-3)
    # A quarter turn may round to either side.
    turn = (relative[..., 6] - expected[..., 6] + pi / 2) % pi - pi / 2
    np.testing.assert_allclose(turn, 0, atol=1e-3)


def use_reference_rows(pfe: nn.Module, backbone: nn.Module) -> None:
    """Reorder the rows of strided levels to the order of the recorded passes.

    A ball query takes the first points that it finds, so the features of PV-RCNN's keypoints depend
    on the order of rows. The reference loops over the kernel's offsets and, for each, over the rows
    of the input; output cells follow in the order in which they are reached first. This mixes the
    frames. The recorded passes counted rows as if they were grouped by frame: the first rows count
    as frame 0, whatever frame they belong to.
    """

    def reorder(module: nn.Module, inputs: tuple[BatchDict]) -> None:
        (batch_dict,) = inputs
        levels = dict(batch_dict["multi_scale_3d_features"])
        cells = levels["x_conv1"].indices.cpu()
        for number in (2, 3, 4):
            tensor = levels[f"x_conv{number}"]
            kernel = getattr(backbone, f"conv{number}")[0][0].kernel
            order = reference_order(tensor, cells, kernel)
            cells = tensor.indices[order].cpu()
            levels[f"x_conv{number}"] = rows_in_order(tensor, order)
        batch_dict["multi_scale_3d_features"] = levels

    pfe.register_forward_pre_hook(reorder)


def reference_order(tensor: SparseConvTensor, inputs: Tensor, kernel: Kernel) -> Tensor:
    """Rows of a level in the order in which the reference reaches them from ``inputs``."""
    row_of_cell = {}
    for row, cell in enumerate(flat_cells(tensor.indices, tensor.spatial_shape)):
        row_of_cell[cell] = row
    reached = first_reached(inputs, tensor.spatial_shape, kernel)
    return torch.tensor([row_of_cell[cell] for cell in reached])


def rows_in_order(tensor: SparseConvTensor, order: Tensor) -> SparseConvTensor:
    """Rows in another order, the frames counted as if the rows were grouped by frame."""
    cells = tensor.indices[order]
    sorted_frames = cells[:, :1].sort(dim=0).values
    indices = torch.cat([sorted_frames, cells[:, 1:]], dim=1)
    features = tensor.features[order]
    return SparseConvTensor(features, indices, tensor.spatial_shape, tensor.batch_size)


def flat_cells(indices: Tensor, shape: list[int]) -> list[int]:
    """One number for each cell (N, 4) of a grid."""
    return cell_keys(indices, shape).tolist()


def first_reached(indices: Tensor, out_shape: list[int], kernel: Kernel) -> list[int]:
    """Output cells of a strided convolution, in the order in which the reference reaches them."""
    cells: dict[int, None] = {}
    stride = torch.tensor(kernel.stride)
    padding = torch.tensor(kernel.padding)
    shape = torch.tensor(out_shape)
    for offset in torch.cartesian_prod(*map(torch.arange, kernel.size)):
        place = indices[:, 1:] + padding - offset
        cell = torch.div(place, stride, rounding_mode="floor")
        on_stride = (place % stride == 0).all(dim=1)
        in_grid = (cell >= 0).all(dim=1) & (cell < shape).all(dim=1)
        with_frame = torch.cat([indices[:, :1], cell], dim=1)
        reached = with_frame[on_stride & in_grid].int()
        for key in flat_cells(reached, out_shape):
            # A dict keeps the order in which keys come first.
            cells[key] = None
    return list(cells)
