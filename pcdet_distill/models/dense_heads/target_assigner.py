"""AxisAlignedTargetAssigner: which anchor is to find which box (SSD's rule on the bird's eye view, as SECOND uses it).

Per class and frame, with the axis-aligned IoU of boxes turned to the nearer axis: an anchor is positive above
``matched_threshold``, background below ``unmatched_threshold``, ignored between. Every box also claims the anchors that
overlap it most, ties included; a claimed anchor takes the box that it overlaps most itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...config import nearest, required
from ...errors import ConfigError
from ...ops.boxes import boxes3d_nearest_bev_iou, boxes_iou3d

IGNORED, BACKGROUND = -1, 0


class MatchRule(NamedTuple):
    """How the anchors of one class are matched."""

    label: int
    matched: float
    unmatched: float


class ClassTargets(NamedTuple):
    """Of the anchors of one class in one frame: label (A,) int32, and the positive ones' codes (K, code_size)."""

    label: Tensor
    positive: Tensor
    codes: Tensor


class AxisAlignedTargetAssigner:
    """Labels and regression targets for anchors.

    Args:
        model_cfg: the head's block, with TARGET_ASSIGNER_CONFIG and ANCHOR_GENERATOR_CONFIG.
        class_names: names in the order of the labels, which start at 1.
        box_coder: encodes boxes against anchors.
        match_height: use the rotated 3D IoU instead.
    """

    def __init__(
        self,
        model_cfg: Mapping[str, Any],
        class_names: Sequence[str],
        box_coder: Any,
        match_height: bool = False,
    ) -> None:
        settings = required(model_cfg, "TARGET_ASSIGNER_CONFIG", "MODEL.DENSE_HEAD")
        generators = required(model_cfg, "ANCHOR_GENERATOR_CONFIG", "MODEL.DENSE_HEAD")
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
            all_anchors: per entry of ANCHOR_GENERATOR_CONFIG (1, ny, nx, sizes, rotations, 7).
            gt_boxes_with_classes: (B, G, 7 + C + 1), the last column the label; rows of zeros are padding.

        Returns:
            ``box_cls_labels`` (B, A) int32: 0 background, -1 ignored; ``box_reg_targets`` (B, A, code_size);
            ``reg_weights`` (B, A). A is ordered as the head's predictions: cell, class, size, rotation.
        """
        per_cell = [anchors.shape[-3] * anchors.shape[-2] for anchors in all_anchors]
        flat = [anchors.reshape(-1, anchors.shape[-1]) for anchors in all_anchors]
        cells = len(flat[0]) // per_cell[0]
        batch_size, like = len(gt_boxes_with_classes), flat[0]
        label = torch.empty(batch_size, cells, sum(per_cell), dtype=torch.int32, device=like.device)
        codes = like.new_zeros(batch_size, cells, sum(per_cell), self.box_coder.code_size)
        for frame, rows in enumerate(gt_boxes_with_classes.to(like.dtype)):
            boxes = rows[rows.ne(0).any(dim=1)]
            first = 0
            for rule, anchors, count in zip(self.rules, flat, per_cell):
                found = self._assign_class(
                    rule, anchors, boxes[boxes[:, -1].round() == rule.label, :-1]
                )
                label[frame, :, first : first + count] = found.label.view(cells, count)
                codes[frame, found.positive // count, first + found.positive % count] = found.codes
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
            return ClassTargets(
                self._sample(label),
                label.new_zeros(0, dtype=torch.long),
                anchors.new_zeros(0, self.box_coder.code_size),
            )
        overlap = self.overlap(boxes, anchors)
        best, box_index = overlap.max(dim=0)
        highest = overlap.amax(dim=1, keepdim=True)
        claimed = ((overlap == highest) & (highest > 0)).any(dim=0)
        label[best >= rule.unmatched] = IGNORED
        label[(best >= rule.matched) & (best >= rule.unmatched)] = rule.label
        label[claimed] = rule.label
        label = self._sample(label)
        positive = torch.nonzero(label > 0)[:, 0]
        return ClassTargets(
            label,
            positive,
            self.box_coder.encode_torch(boxes[box_index[positive]], anchors[positive]),
        )

    def _sample(self, label: Tensor) -> Tensor:
        """With a POS_FRACTION: at most that share of SAMPLE_SIZE positives, filled up with random background."""
        if self.pos_fraction < 0:
            return label
        positive, background = (
            torch.nonzero(label > 0)[:, 0],
            torch.nonzero(label == BACKGROUND)[:, 0],
        )
        allowed = min(len(positive), int(self.pos_fraction * self.sample_size))
        label = label.clone()
        for rows, keep in ((positive, allowed), (background, self.sample_size - allowed)):
            label[rows[torch.randperm(len(rows), device=label.device)[keep:]]] = IGNORED
        return label

    def _weigh(self, label: Tensor, dtype: torch.dtype) -> Tensor:
        """(B, A): 1 for positives; with NORM_BY_NUM_EXAMPLES over the number of anchors not ignored in the frame."""
        weights = (label > 0).to(dtype)
        if self.norm_by_num_examples:
            weights = weights / (label >= 0).sum(dim=1, keepdim=True).clamp_min(1)
        return weights


def _rule(entry: Mapping[str, Any], class_names: list[str]) -> MatchRule:
    """The rule of one entry of ANCHOR_GENERATOR_CONFIG."""
    where = "MODEL.DENSE_HEAD.ANCHOR_GENERATOR_CONFIG"
    name = required(entry, "class_name", where)
    if name not in class_names:
        raise ConfigError(
            f"{where}: class_name '{name}' is not in CLASS_NAMES{nearest(name, class_names)}"
        )
    return MatchRule(
        class_names.index(name) + 1,
        float(required(entry, "matched_threshold", where)),
        float(required(entry, "unmatched_threshold", where)),
    )


TARGET_ASSIGNERS = {"AxisAlignedTargetAssigner": AxisAlignedTargetAssigner}
