"""ProposalTargetLayer: samples proposals to train a second stage on (PointRCNN, CVPR 2019).

Every frame gives the same number of proposals. One is foreground when its 3D IoU with a box is
high. Background is hard when it touches a box and easy when it does not. Most proposals are easy
background, and without sampling they would dominate the loss.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ....config import lookup, required
from ....ops.boxes import boxes_iou3d
from ....types import BatchDict, ConfigDict

WHERE = "MODEL.ROI_HEAD.TARGET_CONFIG"
IGNORED = -1
NO_PROPOSAL = -1.0  # in place of an overlap
REQUIRED_KEYS = (
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
        generator: source of the random numbers, on the CPU; None is torch's own generator.
    """

    def __init__(
        self, roi_sampler_cfg: ConfigDict, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.roi_sampler_cfg = roi_sampler_cfg
        self.generator = generator
        for key in REQUIRED_KEYS:
            required(roi_sampler_cfg, key, WHERE)
        score_type = required(roi_sampler_cfg, "CLS_SCORE_TYPE", WHERE)
        self.label_of_overlap = lookup(CLS_SCORE_TYPES, score_type, f"{WHERE}.CLS_SCORE_TYPE")

    @torch.no_grad()
    def forward(self, batch_dict: BatchDict) -> dict[str, Tensor]:
        """Sample the proposals of every frame.

        Reads ``rois`` (B, R, 7 + C), ``roi_scores`` (B, R), ``roi_labels`` (B, R) and ``gt_boxes``
        (B, G, 7 + C + 1).

        Returns:
            for S = ROI_PER_IMAGE sampled proposals ``rois`` (B, S, 7 + C) and ``gt_of_rois``
            (B, S, 7 + C + 1) in the scene; and, each (B, S), ``roi_scores``, ``roi_labels``,
            ``gt_iou_of_rois``, ``reg_valid_mask`` (1 where the box is regressed) and
            ``rcnn_cls_labels`` (-1 where the class is ignored).
        """
        rois = batch_dict["rois"]
        overlaps = []
        boxes_of_rois = []
        for frame, gt_boxes in enumerate(batch_dict["gt_boxes"].to(rois.dtype)):
            overlap, boxes = self.match(rois[frame], batch_dict["roi_labels"][frame], gt_boxes)
            overlaps.append(overlap)
            boxes_of_rois.append(boxes)
        overlap = torch.stack(overlaps)
        rows = self._sample(overlap.masked_fill(~is_box(rois), NO_PROPOSAL))
        sampled = {
            "rois": _rows_of_frames(rois, rows),
            "roi_scores": _rows_of_frames(batch_dict["roi_scores"], rows),
            "roi_labels": _rows_of_frames(batch_dict["roi_labels"], rows),
            "gt_of_rois": _rows_of_frames(torch.stack(boxes_of_rois), rows),
            "gt_iou_of_rois": _rows_of_frames(overlap, rows),
        }
        # A frame without any proposal gives padding, which must not count in the losses.
        is_real = is_box(sampled["rois"])
        overlap = sampled["gt_iou_of_rois"]
        label = self.label_of_overlap(overlap, self.roi_sampler_cfg)
        is_regressed = is_real & (overlap > self.roi_sampler_cfg["REG_FG_THRESH"])
        sampled["rcnn_cls_labels"] = label.masked_fill(~is_real, IGNORED)
        sampled["reg_valid_mask"] = is_regressed.long()
        return sampled

    def _sample(self, overlap: Tensor) -> Tensor:
        """Rows (B, S) of the sampled proposals, given their overlaps (B, R) or NO_PROPOSAL.

        How many proposals of each kind there are decides how many are drawn. So the host waits for
        the overlaps, once for the batch, and draws.
        """
        rows = []
        for of_frame in overlap.cpu():
            candidates = torch.nonzero(of_frame != NO_PROPOSAL)[:, 0]
            if len(candidates):
                rows.append(candidates[self.subsample_rois(of_frame[candidates])])
            else:
                rows.append(candidates.new_zeros(self.roi_sampler_cfg["ROI_PER_IMAGE"]))
        return torch.stack(rows).to(overlap.device, non_blocking=True)

    def match(self, rois: Tensor, labels: Tensor, gt_boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Highest 3D IoU (R,) of each proposal with a box, and that box (R, 7 + C + 1).

        A proposal that touches no box gets the first one. With SAMPLE_ROI_BY_EACH_CLASS only boxes
        of the proposal's own class count, because the final box keeps that class.
        """
        if len(gt_boxes) == 0:
            no_boxes = gt_boxes.new_zeros(len(rois), gt_boxes.shape[1])
            return rois.new_zeros(len(rois)), no_boxes
        overlap = boxes_iou3d(rois[:, :7], gt_boxes[:, :7]).nan_to_num(0.0)
        if self.roi_sampler_cfg.get("SAMPLE_ROI_BY_EACH_CLASS", False):
            is_other_class = labels[:, None] != gt_boxes[:, -1].long()
            overlap = overlap.masked_fill(is_other_class, -1.0)
        # Padding loses against boxes of other classes too; without any box it is the answer.
        is_padding = gt_boxes.eq(0).all(dim=1)
        best, index = overlap.masked_fill(is_padding, -2.0).max(dim=1)
        return best.clamp_min(0), gt_boxes[index]

    def subsample_rois(self, overlap: Tensor) -> Tensor:
        """Rows (S,) to train on, foreground first, of proposals with overlaps (K,), K > 0.

        At most the share FG_RATIO is foreground, each proposal once. Background fills the rest,
        drawn with replacement, since there may be too few. If all are foreground, they are drawn
        with replacement instead.
        """
        settings = self.roi_sampler_cfg
        count = settings["ROI_PER_IMAGE"]
        is_foreground = overlap >= min(settings["REG_FG_THRESH"], settings["CLS_FG_THRESH"])
        is_easy = overlap < settings["CLS_BG_THRESH_LO"]
        is_hard = (overlap < settings["REG_FG_THRESH"]) & ~is_easy
        foreground = is_foreground.nonzero()[:, 0]
        hard = is_hard.nonzero()[:, 0]
        easy = is_easy.nonzero()[:, 0]
        if len(hard) + len(easy) == 0:
            return self._draw(foreground, count)
        shuffled = torch.randperm(len(foreground), generator=self.generator).to(overlap.device)
        most_foreground = round(settings["FG_RATIO"] * count)
        foreground = foreground[shuffled[:most_foreground]]
        background = self._draw_background(hard, easy, count - len(foreground))
        return torch.cat([foreground, background])

    def _draw_background(self, hard: Tensor, easy: Tensor, count: int) -> Tensor:
        """``count`` rows, hard ones first; at most the share HARD_BG_RATIO is hard.

        There are also no more hard draws than hard proposals.
        """
        if len(hard) == 0 or len(easy) == 0:
            return self._draw(torch.cat([hard, easy]), count)
        num_hard = min(int(count * self.roi_sampler_cfg["HARD_BG_RATIO"]), len(hard))
        drawn_hard = self._draw(hard, num_hard)
        drawn_easy = self._draw(easy, count - num_hard)
        return torch.cat([drawn_hard, drawn_easy])

    def _draw(self, rows: Tensor, count: int) -> Tensor:
        """``count`` random ones of the rows, with replacement."""
        drawn = torch.randint(len(rows), (count,), generator=self.generator)
        return rows[drawn.to(rows.device)]


def _rows_of_frames(values: Tensor, rows: Tensor) -> Tensor:
    """Rows (B, S) of values (B, R, ...)."""
    frame = torch.arange(len(rows), device=rows.device)[:, None]
    return values[frame, rows]


def _hard_label(overlap: Tensor, settings: ConfigDict) -> Tensor:
    """1 above CLS_FG_THRESH, 0 up to CLS_BG_THRESH, ignored between (PointRCNN)."""
    low = settings["CLS_BG_THRESH"]
    high = settings["CLS_FG_THRESH"]
    is_unclear = (overlap > low) & (overlap < high)
    return (overlap > high).long().masked_fill(is_unclear, IGNORED)


def _soft_label(overlap: Tensor, settings: ConfigDict) -> Tensor:
    """1 above CLS_FG_THRESH, 0 below CLS_BG_THRESH, linear between.

    The score then tells how well the box fits, which is what NMS sorts by (PV-RCNN).
    """
    low = settings["CLS_BG_THRESH"]
    high = settings["CLS_FG_THRESH"]
    is_between = (overlap >= low) & (overlap <= high)
    linear = (overlap - low) / (high - low)
    return torch.where(is_between, linear, (overlap > high).to(overlap.dtype))


def _raw_label(overlap: Tensor, settings: ConfigDict) -> Tensor:
    """The IoU itself."""
    return overlap.clone()


CLS_SCORE_TYPES: dict[str, Callable[[Tensor, ConfigDict], Tensor]] = {
    "cls": _hard_label,
    "roi_iou": _soft_label,
    "raw_roi_iou": _raw_label,
}
