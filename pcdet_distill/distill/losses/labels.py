"""Label-assignment distillation of SparseKD (Yang et al., NeurIPS 2022): the teacher's boxes join the labels.

    labels = ground truth  +  {teacher's boxes after NMS with score > SCORE_THRESH, that overlap no ground truth box of
                               their class by more than MAX_OVERLAP}

The student's own target assigner then makes targets of them. It serves frames that nobody has labelled, and objects
that were missed. There is no loss of its own: what changes is the detection loss.

Departures: the paper adds every box above the threshold (MAX_OVERLAP: 1), which its published configurations set to
0.6, for some classes of some students to 0.5, and they do so without NMS: an object then has several boxes. An assigner
of anchors takes the one that fits an anchor best, a centre head learns them all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...ops.boxes import boxes_iou_bev
from .base import DistillLoss, read_options

if TYPE_CHECKING:
    from ..teacher import Predictor


@dataclasses.dataclass(frozen=True)
class TeacherLabelOptions:
    """In yaml the names are in capitals.

    Attributes:
        score_thresh: boxes of the teacher below it are no labels.
        max_overlap: a box that overlaps a ground truth box of its class by more (bird's eye IoU) is none either.
    """

    score_thresh: float = 0.4
    max_overlap: float = 0.1


class TeacherLabels(DistillLoss):
    """Adds the teacher's boxes to ``gt_boxes`` before the student looks at them."""

    sees = "labels"
    labels_frames = True

    def __init__(self, options: TeacherLabelOptions | None = None) -> None:
        super().__init__()
        self.options = options or TeacherLabelOptions()

    @classmethod
    def from_config(
        cls, cfg: Mapping[str, Any], student: None, teacher: None, where: str
    ) -> TeacherLabels:
        limits = (0.0, 1.0)
        return cls(
            read_options(
                TeacherLabelOptions(),
                cfg,
                where,
                ranges={"score_thresh": limits, "max_overlap": limits},
            )
        )

    @torch.no_grad()
    def prepare(self, batch_dict: dict[str, Any], teacher: Predictor) -> None:
        """Replace ``gt_boxes`` (B, G, 7 + C + 1), zeros where padded; a batch without any gets them."""
        found = teacher.predict(batch_dict)
        given = batch_dict.get("gt_boxes")
        if given is None:
            width = found[0]["pred_boxes"].shape[1] + 1
            given = found[0]["pred_boxes"].new_zeros(len(found), 0, width)
        frames = [
            self.labels_of_frame(boxes, prediction) for boxes, prediction in zip(given, found)
        ]
        self.logs["added"] = float(
            sum(len(frame) for frame in frames)
            - sum(int(is_labelled(boxes).sum()) for boxes in given)
        )
        joined = given.new_zeros(
            len(frames), max(1, *(len(frame) for frame in frames)), given.shape[2]
        )
        for row, frame in zip(joined, frames):
            row[: len(frame)] = frame
        batch_dict["gt_boxes"] = joined

    def labels_of_frame(self, given: Tensor, prediction: Mapping[str, Tensor]) -> Tensor:
        """The labels (G', 7 + C + 1) of one frame from (G, 7 + C + 1) and the teacher's boxes."""
        given = given[is_labelled(given)]
        sure = prediction["pred_scores"] > self.options.score_thresh
        boxes, labels = prediction["pred_boxes"][sure], prediction["pred_labels"][sure]
        if len(given) and len(boxes):
            overlap = boxes_iou_bev(boxes[:, :7].to(given.dtype), given[:, :7])
            same_class = labels[:, None] == given[:, -1].round().to(labels.dtype)
            free = (overlap * same_class).amax(dim=1) <= self.options.max_overlap
            boxes, labels = boxes[free], labels[free]
        added = given.new_zeros(len(boxes), given.shape[1])
        shared = min(boxes.shape[1], given.shape[1] - 1)
        added[:, :shared], added[:, -1] = boxes[:, :shared].to(given.dtype), labels.to(given.dtype)
        return torch.cat([given, added])


def is_labelled(boxes: Tensor) -> Tensor:
    """(G,) bool: rows of (G, 7 + C + 1) that are no padding."""
    return boxes.ne(0).any(dim=1)
