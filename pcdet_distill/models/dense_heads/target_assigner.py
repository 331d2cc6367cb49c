"""AxisAlignedTargetAssigner: which anchor has to find which box (SECOND, Sensors 2018).

The rule is that of SSD and Faster R-CNN on the bird's eye view. For each class and frame, with the
IoU of boxes turned to the nearer axis:

* an anchor above ``matched_threshold`` is positive, one below ``unmatched_threshold`` background,
  and one between is ignored, since neither answer would be clearly wrong;
* the anchors that overlap a box most are positive as well, ties included, so that every box that
  any anchor touches is learnt;
* a positive anchor learns the box that it overlaps most itself, also if another box claimed it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ...config import nearest, required
from ...errors import ConfigError
from ...ops.boxes import boxes3d_nearest_bev_iou, boxes_iou3d
from ...types import ConfigDict
from ..model_utils.box_coders import ResidualCoder

WHERE = "MODEL.DENSE_HEAD"
IGNORED = -1
BACKGROUND = 0


class MatchRule(NamedTuple):
    """How the anchors of one class are matched.

    Attributes:
        label: of the class, from 1.
        matched: IoU from which an anchor is positive.
        unmatched: IoU below which it is background.
    """

    label: int
    matched: float
    unmatched: float


class ClassTargets(NamedTuple):
    """Targets of the anchors of one class in one frame.

    Attributes:
        label: (A,) int32.
        positive: (K,) int64, the rows of positive anchors.
        codes: (K, code_size) their boxes, encoded.
    """

    label: Tensor
    positive: Tensor
    codes: Tensor


class AxisAlignedTargetAssigner:
    """Labels and regression targets for anchors.

    Args:
        model_cfg: the DENSE_HEAD block, with TARGET_ASSIGNER_CONFIG and ANCHOR_GENERATOR_CONFIG.
        class_names: of the data; label 1 is the first.
        box_coder: encodes boxes against anchors.
        match_height: match by the rotated 3D IoU instead.
    """

    def __init__(
        self,
        model_cfg: ConfigDict,
        class_names: Sequence[str],
        box_coder: ResidualCoder,
        match_height: bool = False,
    ) -> None:
        settings = required(model_cfg, "TARGET_ASSIGNER_CONFIG", WHERE)
        generators = required(model_cfg, "ANCHOR_GENERATOR_CONFIG", WHERE)
        self.box_coder = box_coder
        self.overlap = boxes_iou3d if match_height else boxes3d_nearest_bev_iou
        self.norm_by_num_examples = settings.get("NORM_BY_NUM_EXAMPLES", False)
        self.pos_fraction = settings.get("POS_FRACTION", -1.0)
        self.sample_size = settings.get("SAMPLE_SIZE", 512)
        self.rules = [_rule(entry, list(class_names)) for entry in generators]

    @torch.no_grad()
    def assign_targets(
        self, all_anchors: Sequence[Tensor], gt_boxes_with_classes: Tensor
    ) -> dict[str, Tensor]:
        """Targets of a batch.

        Args:
            all_anchors: per entry of ANCHOR_GENERATOR_CONFIG (1, ny, nx, sizes, rotations, 7 + C).
            gt_boxes_with_classes: (B, G, 7 + C + 1), the last column the label; rows of zeros are
                padding.

        Returns:
            ``box_cls_labels`` (B, A) int32: 0 background, -1 ignored; ``box_reg_targets`` (B, A,
            code_size); ``reg_weights`` (B, A). A goes by cell, class, size and rotation.
        """
        per_cell = [grid.shape[-3] * grid.shape[-2] for grid in all_anchors]
        anchors_of_classes = [grid.reshape(-1, grid.shape[-1]) for grid in all_anchors]
        like = anchors_of_classes[0]
        batch_size = len(gt_boxes_with_classes)
        shape = (batch_size, len(like) // per_cell[0], sum(per_cell))
        label = torch.empty(shape, dtype=torch.int32, device=like.device)
        codes = like.new_zeros(*shape, self.box_coder.code_size)
        for frame, rows in enumerate(gt_boxes_with_classes.to(like.dtype)):
            boxes = rows[rows.ne(0).any(dim=1)]
            box_labels = boxes[:, -1].round()
            first = 0
            for rule, anchors, count in zip(self.rules, anchors_of_classes, per_cell):
                boxes_of_class = boxes[box_labels == rule.label, :-1]
                targets = self._assign_class(rule, anchors, boxes_of_class)
                label[frame, :, first : first + count] = targets.label.view(-1, count)
                cell = targets.positive // count
                column = first + targets.positive % count
                codes[frame, cell, column] = targets.codes
                first += count
        label = label.view(batch_size, -1)
        return {
            "box_cls_labels": label,
            "box_reg_targets": codes.view(*label.shape, -1),
            "reg_weights": self._weigh(label, codes.dtype),
        }

    def _assign_class(self, rule: MatchRule, anchors: Tensor, boxes: Tensor) -> ClassTargets:
        """Match anchors (A, 7 + C) with the boxes (G, 7 + C) of their class in one frame."""
        label = torch.full((len(anchors),), BACKGROUND, dtype=torch.int32, device=anchors.device)
        if len(boxes) == 0:
            no_rows = label.new_zeros(0, dtype=torch.long)
            no_codes = anchors.new_zeros(0, self.box_coder.code_size)
            return ClassTargets(self._sample(label), no_rows, no_codes)
        overlap = self.overlap(boxes, anchors)
        best_overlap, best_box = overlap.max(dim=0)
        highest_of_box = overlap.amax(dim=1, keepdim=True)
        # A box that touches no anchor claims none: all of them tie at zero.
        claimed = ((overlap == highest_of_box) & (highest_of_box > 0)).any(dim=0)
        label[best_overlap >= rule.unmatched] = IGNORED
        label[(best_overlap >= rule.matched) & (best_overlap >= rule.unmatched)] = rule.label
        label[claimed] = rule.label
        label = self._sample(label)
        positive = torch.nonzero(label > 0)[:, 0]
        codes = self.box_coder.encode_torch(boxes[best_box[positive]], anchors[positive])
        return ClassTargets(label, positive, codes)

    def _sample(self, label: Tensor) -> Tensor:
        """Ignore random anchors of label (A,) until SAMPLE_SIZE are left; all stay by default.

        At most the share POS_FRACTION of them is positive, and background fills the rest. This is
        the balance of Faster R-CNN. The focal loss needs none, so KITTI's configs turn it off with
        a negative POS_FRACTION.
        """
        if self.pos_fraction < 0:
            return label
        positive = torch.nonzero(label > 0)[:, 0]
        background = torch.nonzero(label == BACKGROUND)[:, 0]
        num_positive = min(len(positive), int(self.pos_fraction * self.sample_size))
        num_background = self.sample_size - num_positive
        label = label.clone()
        for rows, keep in ((positive, num_positive), (background, num_background)):
            shuffled = torch.randperm(len(rows), device=label.device)
            label[rows[shuffled[keep:]]] = IGNORED
        return label

    def _weigh(self, label: Tensor, dtype: torch.dtype) -> Tensor:
        """Regression weights (B, A): 1 for positive anchors, 0 for others.

        With NORM_BY_NUM_EXAMPLES they are divided by the frame's anchors that are not ignored.
        """
        weights = (label > 0).to(dtype)
        if self.norm_by_num_examples:
            num_examples = (label >= 0).sum(dim=1, keepdim=True)
            weights = weights / num_examples.clamp_min(1)
        return weights


def _rule(entry: ConfigDict, class_names: list[str]) -> MatchRule:
    """The rule of one entry of ANCHOR_GENERATOR_CONFIG."""
    where = f"{WHERE}.ANCHOR_GENERATOR_CONFIG"
    name = required(entry, "class_name", where)
    if name not in class_names:
        raise ConfigError(
            f"{where}: class_name '{name}' is not in CLASS_NAMES{nearest(name, class_names)}"
        )
    return MatchRule(
        label=class_names.index(name) + 1,
        matched=float(required(entry, "matched_threshold", where)),
        unmatched=float(required(entry, "unmatched_threshold", where)),
    )


TARGET_ASSIGNERS = {"AxisAlignedTargetAssigner": AxisAlignedTargetAssigner}
