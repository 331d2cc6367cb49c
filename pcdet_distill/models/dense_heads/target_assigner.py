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
NO_OVERLAP = -1.0  # of the rows that are no boxes


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


class ClassBoxes(NamedTuple):
    """The boxes of one class in a batch, at most G in a frame.

    Attributes:
        boxes: (B, G, 7 + C); in frames with fewer boxes the last rows are of no use.
        is_box: (B, G) bool, which rows are boxes.
        row: (B, G) int64, where each stands among all boxes of its frame.
    """

    boxes: Tensor
    is_box: Tensor
    row: Tensor


class Matches(NamedTuple):
    """How the A anchors of one class are matched.

    Attributes:
        label: (B, A) int32.
        row: (B, A) int64, the box of its frame that an anchor overlaps most.
    """

    label: Tensor
    row: Tensor


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
        gt_boxes = gt_boxes_with_classes.to(anchors_of_classes[0].dtype)
        matches = []
        for rule, anchors, boxes in zip(
            self.rules, anchors_of_classes, self._boxes_of_classes(gt_boxes)
        ):
            matches.append(self.match_anchors(rule, anchors, boxes))
        if self.pos_fraction >= 0:
            self._sample(matches)
        label = _by_cell([of_class.label for of_class in matches], per_cell)
        row = _by_cell([of_class.row for of_class in matches], per_cell)
        anchors = _by_cell([anchors.T for anchors in anchors_of_classes], per_cell).T
        codes = gt_boxes.new_zeros(*label.shape, self.box_coder.code_size)
        frame, anchor = torch.nonzero(label > 0, as_tuple=True)
        matched = gt_boxes[frame, row[frame, anchor], :-1]
        codes[frame, anchor] = self.box_coder.encode_torch(matched, anchors[anchor])
        return {
            "box_cls_labels": label,
            "box_reg_targets": codes,
            "reg_weights": self._weigh(label, codes.dtype),
        }

    def _boxes_of_classes(self, gt_boxes: Tensor) -> list[ClassBoxes]:
        """The boxes of each rule's class among gt_boxes (B, G, 7 + C + 1).

        All frames together have the size of the fullest one. The host waits for those sizes, once
        for all classes: without them every class would be compared with the boxes of all classes.
        """
        is_padding = gt_boxes.eq(0).all(dim=2)
        labels = gt_boxes[..., -1].round()
        of_classes = [(labels == rule.label) & ~is_padding for rule in self.rules]
        counts = torch.stack(of_classes).sum(dim=2).amax(dim=1).tolist()
        found = []
        for is_ours, count in zip(of_classes, counts):
            # Boxes of the class first, in their order.
            row = is_ours.int().argsort(dim=1, descending=True, stable=True)[:, :count]
            index = row[..., None].expand(-1, -1, gt_boxes.shape[2] - 1)
            boxes = gt_boxes[..., :-1].gather(1, index)
            found.append(ClassBoxes(boxes, is_ours.gather(1, row), row))
        return found

    def match_anchors(self, rule: MatchRule, anchors: Tensor, of_class: ClassBoxes) -> Matches:
        """Match anchors (A, 7 + C) with the boxes of their class, in all frames at once."""
        num_frames, most = of_class.is_box.shape
        shape = (num_frames, len(anchors))
        label = torch.full(shape, BACKGROUND, dtype=torch.int32, device=anchors.device)
        if most == 0:
            return Matches(label, torch.zeros_like(label, dtype=torch.long))
        overlap = self.overlap(of_class.boxes.flatten(0, 1), anchors).view(num_frames, most, -1)
        overlap = overlap.masked_fill(~of_class.is_box[..., None], NO_OVERLAP)
        best_overlap, best_box = overlap.max(dim=1)
        highest_of_box = overlap.amax(dim=2, keepdim=True)
        # A box that touches no anchor claims none: all of them tie at zero.
        claimed = ((overlap == highest_of_box) & (highest_of_box > 0)).any(dim=1)
        is_ignored = best_overlap >= rule.unmatched
        is_positive = (is_ignored & (best_overlap >= rule.matched)) | claimed
        label.masked_fill_(is_ignored, IGNORED).masked_fill_(is_positive, rule.label)
        return Matches(label, of_class.row.gather(1, best_box))

    def _sample(self, matches: Sequence[Matches]) -> None:
        """Ignore random anchors of each frame and class until SAMPLE_SIZE are left, in place.

        At most the share POS_FRACTION of them is positive, and background fills the rest. This is
        the balance of Faster R-CNN. The focal loss needs none, so KITTI's configs turn it off with
        a negative POS_FRACTION.
        """
        for frame in range(len(matches[0].label)):
            for of_class in matches:
                self._sample_anchors(of_class.label[frame])

    def _sample_anchors(self, label: Tensor) -> None:
        """``_sample`` for the labels (A,) of one class in one frame."""
        positive = torch.nonzero(label > 0)[:, 0]
        background = torch.nonzero(label == BACKGROUND)[:, 0]
        num_positive = min(len(positive), int(self.pos_fraction * self.sample_size))
        num_background = self.sample_size - num_positive
        for rows, keep in ((positive, num_positive), (background, num_background)):
            shuffled = torch.randperm(len(rows), device=label.device)
            label[rows[shuffled[keep:]]] = IGNORED

    def _weigh(self, label: Tensor, dtype: torch.dtype) -> Tensor:
        """Regression weights (B, A): 1 for positive anchors, 0 for others.

        With NORM_BY_NUM_EXAMPLES they are divided by the frame's anchors that are not ignored.
        """
        weights = (label > 0).to(dtype)
        if self.norm_by_num_examples:
            num_examples = (label >= 0).sum(dim=1, keepdim=True)
            weights = weights / num_examples.clamp_min(1)
        return weights


def _by_cell(parts: Sequence[Tensor], per_cell: Sequence[int]) -> Tensor:
    """Values (..., A of a class) of all classes (..., A), by cell and then by class."""
    by_cell = [part.unflatten(-1, (-1, count)) for part, count in zip(parts, per_cell)]
    return torch.cat(by_cell, dim=-1).flatten(-2)


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
