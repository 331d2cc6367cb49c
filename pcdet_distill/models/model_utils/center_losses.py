"""Losses of centre heads (CenterNet, Zhou et al., 2019): focal loss of heatmaps, L1 of the codes at the centres."""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST_PROBABILITY = 1e-4  # scores are kept this far from 0 and 1, where their logarithms end


def center_focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Focal loss of logits (B, C, H, W) against heatmaps of the same shape, over the number of peaks.

    Cells of height 1 are positive. The others count less the nearer they are to a peak: (1 - target) ** 4.
    """
    score = torch.sigmoid(logits).clamp(SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    peak = target == 1
    found = score[peak]
    hit = (torch.log(found) * (1 - found).square()).sum()
    rejected = torch.log1p(-score) * score.square() * (1 - target).pow(4)
    return -(hit + rejected.masked_fill(peak, 0).sum()) / peak.sum().clamp_min(1)


def center_regression_loss(codes: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Sum of absolute differences of codes and target (B, M, K) where mask (B, M), over the number of boxes: (K,).

    A code whose target is NaN (a velocity nobody measured) costs nothing.
    """
    counted = mask.unsqueeze(2) & ~target.isnan()
    difference = torch.where(counted, codes - torch.where(counted, target, codes), 0)
    return difference.abs().sum(dim=(0, 1)) / mask.sum().clamp_min(1)
