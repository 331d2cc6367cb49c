"""Label-assignment distillation of SparseKD (Yang et al., NeurIPS 2022).

    labels = labelled boxes + {teacher's boxes after NMS with score > SCORE_THRESH, whose overlap
                               with every labelled box of their class is at most MAX_OVERLAP}

The student's own target assigner then makes its targets of all of them. This helps with frames
without labels, and with objects that the annotators missed. There is no loss of its own: the
student's detection loss changes.

Departures: the paper adds every box above the threshold (MAX_OVERLAP: 1). Its published
configurations set the threshold to 0.6, for some classes of some students to 0.5. They skip NMS, so
an object has several boxes. An anchor assigner then takes the box that fits an anchor best; a
centre head learns all of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...config import option
from ...ops.boxes import boxes_iou_bev
from ...types import BatchDict
from ..labelled_boxes import without_padding
from .base import BatchTransform

if TYPE_CHECKING:
    from ..teacher import Predictor


@dataclasses.dataclass(frozen=True)
class TeacherLabelOptions:
    """Which of the teacher's boxes become labels."""

    score_thresh: float = option(
        0.4, at_least=0, at_most=1, help="score that a box of the teacher must exceed"
    )
    max_overlap: float = option(
        0.1,
        at_least=0,
        at_most=1,
        help="bird's eye IoU with a labelled box of the same class, above which a box is left out",
    )


class TeacherLabels(BatchTransform):
    """Adds the teacher's boxes to ``gt_boxes``."""

    options_class = TeacherLabelOptions
    labels_frames = True

    options: TeacherLabelOptions

    @torch.no_grad()
    def prepare(self, batch_dict: BatchDict, teacher: Predictor) -> None:
        """Replace ``gt_boxes`` (B, G, 7 + C + 1); a batch without them gets them."""
        predictions = teacher.predict(batch_dict)
        gt_boxes = batch_dict.get("gt_boxes")
        if gt_boxes is None:
            boxes = predictions[0]["pred_boxes"]
            gt_boxes = boxes.new_zeros(len(predictions), 0, boxes.shape[1] + 1)
        frames = []
        added = 0
        for labelled, prediction in zip(gt_boxes, predictions):
            labels = self.labels_of_frame(labelled, prediction)
            frames.append(labels)
            added += len(labels) - len(without_padding(labelled))
        self.logs["added"] = float(added)
        batch_dict["gt_boxes"] = _with_padding(frames)

    def labels_of_frame(self, labelled: Tensor, prediction: Mapping[str, Tensor]) -> Tensor:
        """The labels (G', 7 + C + 1) of one frame.

        Args:
            labelled: (G, 7 + C + 1) boxes and labels, perhaps with padding.
            prediction: ``pred_boxes``, ``pred_scores`` and ``pred_labels`` of the teacher.
        """
        labelled = without_padding(labelled)
        confident = prediction["pred_scores"] > self.options.score_thresh
        boxes = prediction["pred_boxes"][confident]
        labels = prediction["pred_labels"][confident]
        if len(labelled) and len(boxes):
            # Without this, a labelled object would count twice, at two slightly different places.
            overlap = boxes_iou_bev(boxes[:, :7].to(labelled.dtype), labelled[:, :7])
            same_class = labels[:, None] == labelled[:, -1].round().to(labels.dtype)
            is_free = (overlap * same_class).amax(dim=1) <= self.options.max_overlap
            boxes = boxes[is_free]
            labels = labels[is_free]
        # Boxes may have velocities that the labels lack, or the other way round: those stay zero.
        added = labelled.new_zeros(len(boxes), labelled.shape[1])
        shared = min(boxes.shape[1], labelled.shape[1] - 1)
        added[:, :shared] = boxes[:, :shared].to(labelled.dtype)
        added[:, -1] = labels.to(labelled.dtype)
        return torch.cat([labelled, added])


def _with_padding(frames: list[Tensor]) -> Tensor:
    """(B, G, 7 + C + 1) of (G_b, 7 + C + 1) for every frame, at least one row each."""
    most = max(1, *(len(frame) for frame in frames))
    padded = frames[0].new_zeros(len(frames), most, frames[0].shape[1])
    for rows, frame in zip(padded, frames):
        rows[: len(frame)] = frame
    return padded
