"""From the outputs of an exported network to the final boxes of a frame, as config.json says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ..ops.nms import nms, nms_circle, nms_normal
from .config import ExportConfig, HeadSpec, NmsGroup, PostProcessing

# Inputs or outputs of a network, by name.
Arrays: TypeAlias = dict[str, np.ndarray]

NMS_KINDS = {"rotated": nms, "axis_aligned": nms_normal, "circle": nms_circle}


class FrameBoxes(NamedTuple):
    """Final boxes of one frame.

    Attributes:
        boxes: (M, 7 or 9) float32.
        scores: (M,) float32.
        labels: (M,) int64 from 1.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


def final_boxes(
    outputs: Mapping[str, np.ndarray],
    config: ExportConfig,
    post_processing: PostProcessing | None = None,
) -> FrameBoxes:
    """The boxes that the score threshold and NMS leave, one group of NMS after the other.

    Args:
        outputs: of the network.
        config: says what they mean.
        post_processing: other rules than those of ``config``.
    """
    rules = post_processing or config.post_processing
    tensors = {name: torch.from_numpy(array) for name, array in outputs.items()}
    parts = []
    for group in rules.nms:
        heads = [config.heads[number] for number in group.heads]
        candidates = [_candidates(tensors, head, group.label, rules) for head in heads]
        boxes, scores, labels = (torch.cat(column) for column in zip(*candidates))
        kept = _suppress(boxes, scores, group)
        parts.append((boxes[kept], scores[kept], labels[kept]))
    return FrameBoxes(*(torch.cat(column).numpy() for column in zip(*parts)))


def _candidates(
    outputs: Mapping[str, Tensor], head: HeadSpec, label: int | None, rules: PostProcessing
) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes, scores and labels of one head that take part in an NMS."""
    boxes = outputs[head.boxes]
    scores = outputs[head.scores]
    if head.labels is not None:
        labels = outputs[head.labels].long()
        takes_part = torch.ones(len(labels), dtype=torch.bool)
        if label is not None:
            takes_part = labels == label
    elif label is not None:
        scores = scores[:, head.column_labels.index(label)]
        labels = torch.full((len(scores),), label)
        takes_part = torch.ones(len(labels), dtype=torch.bool)
    else:
        scores, column = scores.max(dim=1)
        labels = torch.tensor(head.column_labels)[column]
        takes_part = torch.ones(len(labels), dtype=torch.bool)
    compared = scores if head.filter_scores is None else outputs[head.filter_scores]
    takes_part &= _is_high_enough(compared, rules) & _is_in_range(boxes, rules)
    return boxes[takes_part], scores[takes_part], labels[takes_part]


def _is_high_enough(scores: Tensor, rules: PostProcessing) -> Tensor:
    if rules.keeps_equal:
        return scores >= rules.score_threshold
    return scores > rules.score_threshold


def _is_in_range(boxes: Tensor, rules: PostProcessing) -> Tensor:
    if rules.centre_range_m is None:
        return torch.ones(len(boxes), dtype=torch.bool)
    limits = boxes.new_tensor(rules.centre_range_m)
    centre = boxes[:, :3]
    return ((centre >= limits[:3]) & (centre <= limits[3:])).all(dim=1)


def _suppress(boxes: Tensor, scores: Tensor, group: NmsGroup) -> Tensor:
    """Rows that the NMS of a group keeps, by falling score."""
    return NMS_KINDS[group.kind](
        boxes,
        scores,
        group.threshold,
        pre_maxsize=group.pre_maxsize,
        post_maxsize=group.post_maxsize,
    )
