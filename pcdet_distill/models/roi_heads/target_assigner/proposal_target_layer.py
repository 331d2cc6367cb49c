"""ProposalTargetLayer: a fixed number of proposals of each frame to train a second stage on (PointRCNN, CVPR 2019).

A proposal is foreground when its 3D IoU with a box is high enough; background is drawn from proposals that touch a box
(hard) and from those that do not (easy), with replacement. A frame without any proposal yields padding that costs
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ....config import lookup, required
from ....ops.boxes import boxes_iou3d

WHERE = "MODEL.ROI_HEAD.TARGET_CONFIG"
IGNORED = -1
SETTINGS = (
    "ROI_PER_IMAGE",
    "FG_RATIO",
    "HARD_BG_RATIO",
    "REG_FG_THRESH",
    "CLS_FG_THRESH",
    "CLS_BG_THRESH",
    "CLS_BG_THRESH_LO",
)


def is_box(rois: Tensor) -> Tensor:
    """Mask (...,) of the rois (..., 7 + C) that are boxes; padding has no size."""
    return (rois[..., 3:6] > 0).all(dim=-1)


class ProposalTargetLayer(nn.Module):
    """Samples proposals and assigns them ground truth.

    Args:
        roi_sampler_cfg: the TARGET_CONFIG block.
        generator: where the draws come from, on the CPU; None is torch's own generator.
    """

    def __init__(
        self, roi_sampler_cfg: Mapping[str, Any], generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.roi_sampler_cfg = roi_sampler_cfg
        self.generator = generator
        for key in SETTINGS:
            required(roi_sampler_cfg, key, WHERE)
        score_type = required(roi_sampler_cfg, "CLS_SCORE_TYPE", WHERE)
        self.label_of_overlap = lookup(CLS_SCORE_TYPES, score_type, f"{WHERE}.CLS_SCORE_TYPE")

    @torch.no_grad()
    def forward(self, batch_dict: Mapping[str, Any]) -> dict[str, Tensor]:
        """Reads ``rois`` (B, R, 7 + C), ``roi_scores`` (B, R), ``roi_labels`` (B, R), ``gt_boxes`` (B, G, 7 + C + 1).

        Returns:
            for S = ROI_PER_IMAGE sampled proposals ``rois`` (B, S, 7 + C), ``roi_scores``, ``roi_labels``,
            ``gt_of_rois`` (B, S, 7 + C + 1) in the scene, ``gt_iou_of_rois``, ``reg_valid_mask`` (1 where the box is
            regressed) and ``rcnn_cls_labels`` (-1 where the class is ignored), each (B, S).
        """
        keys = ("rois", "roi_scores", "roi_labels", "gt_boxes")
        frames = [self._sample_frame(*rows) for rows in zip(*(batch_dict[key] for key in keys))]
        sampled = {key: torch.stack([frame[key] for frame in frames]) for key in frames[0]}
        real, overlap = is_box(sampled["rois"]), sampled["gt_iou_of_rois"]
        label = self.label_of_overlap(overlap, self.roi_sampler_cfg)
        return {
            **sampled,
            "rcnn_cls_labels": label.masked_fill(~real, IGNORED),
            "reg_valid_mask": (real & (overlap > self.roi_sampler_cfg["REG_FG_THRESH"])).long(),
        }

    def _sample_frame(
        self, rois: Tensor, scores: Tensor, labels: Tensor, gt_boxes: Tensor
    ) -> dict[str, Tensor]:
        """The sampled proposals of one frame and their ground truth."""
        overlap, assigned = self.match(rois, labels, gt_boxes.to(rois.dtype))
        candidates = is_box(rois).nonzero()[:, 0]
        if len(candidates):
            chosen = candidates[self.subsample_rois(overlap[candidates])]
        else:
            chosen = labels.new_zeros(self.roi_sampler_cfg["ROI_PER_IMAGE"])
        return {
            "rois": rois[chosen],
            "roi_scores": scores[chosen],
            "roi_labels": labels[chosen],
            "gt_of_rois": assigned[chosen],
            "gt_iou_of_rois": overlap[chosen],
        }

    def match(self, rois: Tensor, labels: Tensor, gt_boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Highest 3D IoU (R,) of each proposal with a box, and that box (R, 7 + C + 1); without any, the first box.

        With SAMPLE_ROI_BY_EACH_CLASS only boxes of the proposal's class count.
        """
        boxes = gt_boxes[gt_boxes.ne(0).any(dim=1)]
        if len(boxes) == 0:
            return rois.new_zeros(len(rois)), gt_boxes.new_zeros(len(rois), gt_boxes.shape[1])
        overlap = boxes_iou3d(rois[:, :7], boxes[:, :7]).nan_to_num(0.0)
        if self.roi_sampler_cfg.get("SAMPLE_ROI_BY_EACH_CLASS", False):
            overlap = overlap.masked_fill(labels[:, None] != boxes[:, -1].long(), -1.0)
        best, index = overlap.max(dim=1)
        return best.clamp_min(0), boxes[index]

    def subsample_rois(self, overlap: Tensor) -> Tensor:
        """Rows (S,) to train on, foreground first, of proposals with these highest IoUs (K,), K > 0."""
        settings = self.roi_sampler_cfg
        count = settings["ROI_PER_IMAGE"]
        is_foreground = overlap >= min(settings["REG_FG_THRESH"], settings["CLS_FG_THRESH"])
        is_hard = (overlap < settings["REG_FG_THRESH"]) & (overlap >= settings["CLS_BG_THRESH_LO"])
        is_easy = overlap < settings["CLS_BG_THRESH_LO"]
        foreground, hard, easy = (
            mask.nonzero()[:, 0] for mask in (is_foreground, is_hard, is_easy)
        )
        if len(hard) + len(easy) == 0:
            return self._draw(foreground, count)
        shuffled = torch.randperm(len(foreground), generator=self.generator).to(overlap.device)
        foreground = foreground[shuffled[: round(settings["FG_RATIO"] * count)]]
        return torch.cat([foreground, self._draw_background(hard, easy, count - len(foreground))])

    def _draw_background(self, hard: Tensor, easy: Tensor, count: int) -> Tensor:
        """``count`` rows: at most HARD_BG_RATIO of them, and no more than there are, hard ones; then easy ones."""
        if len(hard) == 0 or len(easy) == 0:
            return self._draw(torch.cat([hard, easy]), count)
        num_hard = min(int(count * self.roi_sampler_cfg["HARD_BG_RATIO"]), len(hard))
        return torch.cat([self._draw(hard, num_hard), self._draw(easy, count - num_hard)])

    def _draw(self, rows: Tensor, count: int) -> Tensor:
        """``count`` of the rows, with replacement."""
        return rows[torch.randint(len(rows), (count,), generator=self.generator).to(rows.device)]


def _hard_label(overlap: Tensor, settings: Mapping[str, Any]) -> Tensor:
    """1 above CLS_FG_THRESH, 0 up to CLS_BG_THRESH, ignored between."""
    unclear = (overlap > settings["CLS_BG_THRESH"]) & (overlap < settings["CLS_FG_THRESH"])
    return (overlap > settings["CLS_FG_THRESH"]).long().masked_fill(unclear, IGNORED)


def _soft_label(overlap: Tensor, settings: Mapping[str, Any]) -> Tensor:
    """1 above CLS_FG_THRESH, 0 below CLS_BG_THRESH, linear between."""
    low, high = settings["CLS_BG_THRESH"], settings["CLS_FG_THRESH"]
    between = (overlap >= low) & (overlap <= high)
    return torch.where(between, (overlap - low) / (high - low), (overlap > high).to(overlap.dtype))


def _raw_label(overlap: Tensor, settings: Mapping[str, Any]) -> Tensor:
    """The IoU itself."""
    return overlap.clone()


CLS_SCORE_TYPES: dict[str, Callable[[Tensor, Mapping[str, Any]], Tensor]] = {
    "cls": _hard_label,
    "roi_iou": _soft_label,
    "raw_roi_iou": _raw_label,
}
