"""The checkpoint's own road, step by step: what its exported network reads and has to return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..models import Detector3DTemplate
from ..models.backbones_3d.vfe.dynamic_pillar_vfe import DynamicPillarEncoder, GroupedPoints
from ..models.dense_heads.anchor_head_multi import AnchorHeadMulti
from ..models.dense_heads.center_head import CenterHead
from ..models.dense_heads.center_overlaps import corrected_scores
from ..types import BatchDict
from .boxes import Arrays, FrameBoxes
from .config import HeadSpec
from .network import LEVELS, MAP, slot_of


class Reference(NamedTuple):
    """One frame on the checkpoint's road.

    Attributes:
        inputs: of the exported network.
        outputs: what it has to return.
        boxes: the final boxes.
    """

    inputs: Arrays
    outputs: Arrays
    boxes: FrameBoxes


@torch.no_grad()
def run_reference(
    model: Detector3DTemplate, batch_dict: BatchDict, heads: Sequence[HeadSpec]
) -> Reference:
    """Run a detector in eval mode on a batch of one frame.

    Args:
        model: the detector.
        batch_dict: after ``load_data_to_device``; it is not changed.
        heads: the outputs of the exported network.
    """
    inputs = network_inputs(model, batch_dict)
    filled = model.run_modules(dict(batch_dict))
    outputs = _raw_outputs(model, filled, heads)
    final, _ = model.post_processing(filled)
    return Reference(inputs, outputs, frame_boxes(final[0]))


def frame_boxes(final: Mapping[str, Tensor]) -> FrameBoxes:
    """The final boxes of one frame as arrays."""
    return FrameBoxes(
        boxes=final["pred_boxes"].cpu().numpy(),
        scores=final["pred_scores"].cpu().numpy(),
        labels=final["pred_labels"].cpu().numpy().astype(np.int64),
    )


@torch.no_grad()
def network_inputs(model: Detector3DTemplate, batch_dict: BatchDict) -> Arrays:
    """Inputs of the exported network of a detector for a batch of one frame.

    Where the network is a dense part, the stages outside of it run here, in torch.
    """
    batch_dict = dict(batch_dict)
    if model.backbone_3d is not None:
        return _maps(model, batch_dict)
    if isinstance(model.vfe, DynamicPillarEncoder):
        return _dynamic_pillars(model.vfe, batch_dict)
    return {
        "voxels": batch_dict["voxels"].cpu().numpy(),
        "voxel_num_points": _int32(batch_dict["voxel_num_points"]),
        "voxel_coords": _int32(batch_dict["voxel_coords"][:, 1:]),
    }


def _maps(model: Detector3DTemplate, batch_dict: BatchDict) -> Arrays:
    has_map = model.map_to_bev_module is not None
    filled = model.run_modules(batch_dict, until="map_to_bev_module" if has_map else "backbone_3d")
    if has_map:
        return {MAP: _array(filled[MAP])}
    return {name: _array(filled["multi_scale_2d_features"][name]) for name in LEVELS}


def _dynamic_pillars(vfe: DynamicPillarEncoder, batch_dict: BatchDict) -> Arrays:
    grouped = GroupedPoints.from_points(batch_dict["points"], vfe.origin, vfe.voxel_size, vfe.grid)
    _, y, x = grouped.cells.unbind(dim=1)
    coords = torch.stack([torch.zeros_like(y), y, x], dim=1)
    return {
        "points": _array(grouped.points),
        "point_pillar": _int32(grouped.rows.pillar),
        "voxel_coords": _int32(coords),
    }


def _raw_outputs(model: Detector3DTemplate, filled: BatchDict, heads: Sequence[HeadSpec]) -> Arrays:
    if isinstance(model.dense_head, CenterHead):
        return _outputs_of_center_head(model.dense_head, heads)
    logits: Any = filled["batch_cls_preds"]
    boxes = filled["batch_box_preds"][0]
    if not isinstance(logits, list):
        logits = logits.split(_anchors_of_heads(model, len(boxes)), dim=1)
    counts = [of_head.shape[1] for of_head in logits]
    outputs = {}
    for head, of_head, own_boxes in zip(heads, logits, boxes.split(counts)):
        outputs[head.boxes] = _array(own_boxes)
        outputs[head.scores] = _array(torch.sigmoid(of_head[0]))
    return outputs


def _anchors_of_heads(model: Detector3DTemplate, num_anchors: int) -> list[int]:
    """Number of anchors of each head."""
    head = slot_of(model, "dense_head")
    if isinstance(head, AnchorHeadMulti):
        nx, ny = head.feature_map_size
        return [own.num_anchors * ny * nx for own in head.rpn_heads]
    return [num_anchors]


def _outputs_of_center_head(head: CenterHead, heads: Sequence[HeadSpec]) -> Arrays:
    """Of the last forward of the head: the boxes before NMS."""
    outputs = {}
    predictions = head.forward_ret_dict["pred_dicts"]
    for number, (names, prediction) in enumerate(zip(heads, predictions)):
        best = head.boxes_before_nms(number, prediction)
        scores = best.scores[0]
        labels = best.labels[0]
        if names.filter_scores is not None:
            assert best.overlaps is not None and head.overlap_exponents is not None
            outputs[names.filter_scores] = _array(scores)
            exponents = head.overlap_exponents[labels - 1]
            scores = corrected_scores(scores, best.overlaps[0], exponents)
        assert names.labels is not None
        outputs[names.boxes] = _array(best.boxes[0])
        outputs[names.scores] = _array(scores)
        outputs[names.labels] = _int32(labels)
    return outputs


def _array(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().float().cpu().numpy())


def _int32(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().numpy().astype(np.int32)
