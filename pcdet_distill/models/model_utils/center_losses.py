"""Losses of centre heads (CenterNet, Zhou et al., 2019).

A focal loss of the heatmaps, and an L1 loss of the box codes at the centres.
"""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST_PROBABILITY = 1e-4  # scores stay this far from 0 and 1, where the logarithm is infinite


def center_focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Focal loss of logits (B, C, H, W) against heatmaps of the same shape, by the number of peaks.

    Cells of height 1 are positive. Of the others those near a peak count less, by
    (1 - target) ** 4: a prediction one cell beside the centre is nearly right.
    """
    score = torch.sigmoid(logits).clamp(SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    peak = target == 1
    # Not score[peak]: the host would wait for the number of peaks.
    found = score.masked_fill(~peak, 1)
    hit = (torch.log(found) * (1 - found).square()).sum()
    rejected = torch.log1p(-score) * score.square() * (1 - target).pow(4)
    return -(hit + rejected.masked_fill(peak, 0).sum()) / peak.sum().clamp_min(1)


def center_regression_loss(codes: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Sum of absolute differences (K,) of codes and target (B, M, K), by the number of boxes.

    Args:
        codes, target: (B, M, K).
        mask: (B, M), where there is a box. A NaN in ``target``, such as a velocity that was not
            measured, adds nothing.
    """
    counted = mask.unsqueeze(2) & ~target.isnan()
    difference = torch.where(counted, codes - torch.where(counted, target, codes), 0)
    return difference.abs().sum(dim=(0, 1)) / mask.sum().clamp_min(1)
