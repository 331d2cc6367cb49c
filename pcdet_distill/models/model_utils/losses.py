"""Detection losses, element by element; the heads weight, normalise and sum them.

Focal loss: Lin et al., ICCV 2017. Smooth L1: Girshick, ICCV 2015.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import pi

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...ops.boxes import boxes_to_corners_3d


class SigmoidFocalClassificationLoss(nn.Module):
    """Binary cross entropy of logits times alpha_t * (1 - p_t) ** gamma."""

    def __init__(self, gamma: float = 2.0, alpha: float = 0.25) -> None:
        super().__init__()
        self.gamma = gamma
        self.alpha = alpha

    def forward(self, logits: Tensor, target: Tensor, weights: Tensor) -> Tensor:
        """Logits and one-hot target (B, A, C), weights (B, A) or (B, A, C); loss (B, A, C)."""
        entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        # |target - p| is 1 - p where the target is 1, p where it is 0.
        miss = (target - torch.sigmoid(logits)).abs()
        focus = miss.square() if self.gamma == 2.0 else miss.pow(self.gamma)
        alpha = (1 - self.alpha) + target * (2 * self.alpha - 1)
        if weights.dim() == logits.dim() - 1:
            weights = weights.unsqueeze(-1)
        return entropy * focus * (alpha * weights)


class WeightedSmoothL1Loss(nn.Module):
    """Quadratic below ``beta``, linear above.

    The differences are multiplied by ``code_weights`` first.
    """

    def __init__(
        self, beta: float = 1.0 / 9.0, code_weights: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        self.beta = beta
        self.code_weights: Tensor | None
        self.register_buffer("code_weights", _as_tensor(code_weights), persistent=False)

    def forward(self, prediction: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
        """Loss (..., codes) of prediction and target (..., codes) with weights (...).

        It is 0 where the target is NaN.
        """
        distance = _weighted_difference(prediction, target, self.code_weights).abs()
        if self.beta > 0:
            near = 0.5 * distance.square() / self.beta
            distance = torch.where(distance < self.beta, near, distance - 0.5 * self.beta)
        return distance if weights is None else distance * weights.unsqueeze(-1)


class WeightedL1Loss(nn.Module):
    """Absolute differences, multiplied by ``code_weights``."""

    def __init__(self, code_weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.code_weights: Tensor | None
        self.register_buffer("code_weights", _as_tensor(code_weights), persistent=False)

    def forward(self, prediction: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
        """Loss (..., codes) of prediction and target (..., codes) with weights (...).

        It is 0 where the target is NaN.
        """
        distance = _weighted_difference(prediction, target, self.code_weights).abs()
        return distance if weights is None else distance * weights.unsqueeze(-1)


class WeightedCrossEntropyLoss(nn.Module):
    """Softmax cross entropy against one-hot targets."""

    def forward(self, logits: Tensor, target: Tensor, weights: Tensor) -> Tensor:
        """Logits and one-hot target (..., bins), weights (...); loss (...)."""
        return -(target * F.log_softmax(logits, dim=-1)).sum(dim=-1) * weights


def corner_loss_lidar(boxes: Tensor, gt_boxes: Tensor) -> Tensor:
    """Mean Huber loss (N,) of the distances between corners of boxes (N, 7) and gt_boxes (N, 7).

    As in F-PointNet (CVPR 2018) a box turned by 180 degrees counts as the same box: the smaller
    distance of each corner is taken.
    """
    turned = torch.cat([gt_boxes[:, :6], gt_boxes[:, 6:7] + pi], dim=1)
    corners = boxes_to_corners_3d(boxes[:, :7])
    to_box = (corners - boxes_to_corners_3d(gt_boxes[:, :7])).norm(dim=2)
    to_turned_box = (corners - boxes_to_corners_3d(turned)).norm(dim=2)
    distance = torch.minimum(to_box, to_turned_box)
    return F.huber_loss(distance, torch.zeros_like(distance), reduction="none").mean(dim=1)


def _as_tensor(code_weights: Sequence[float] | None) -> Tensor | None:
    if code_weights is None:
        return None
    return torch.tensor([float(weight) for weight in code_weights])


def _weighted_difference(prediction: Tensor, target: Tensor, code_weights: Tensor | None) -> Tensor:
    difference = prediction - torch.where(torch.isnan(target), prediction, target)
    return difference if code_weights is None else difference * code_weights


REGRESSION_LOSSES = {
    "WeightedSmoothL1Loss": WeightedSmoothL1Loss,
    "WeightedL1Loss": WeightedL1Loss,
}
