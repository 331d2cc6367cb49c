"""The overlap branch of a centre head: how well each predicted box fits its object.

The height of a peak says whether there is an object, not how good its box is. So a further branch
learns the IoU of the predicted box with the true one, as 2 IoU - 1 (IoU-aware detection, Wu et al.,
2020; CIA-SSD, AAAI 2021). For the final boxes, score ** (1 - a) * IoU ** a replaces the score, with
an exponent a for each class.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ...config import required
from ...errors import ConfigError
from ...ops.boxes import boxes_iou3d
from ...types import ConfigDict

BRANCH = "iou"


def overlap_loss(predicted: Tensor, boxes: Tensor, gt_boxes: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute difference between predicted and true overlaps, over all objects.

    Args:
        predicted: (B, M) outputs of the branch at the centres of the objects.
        boxes: (B, M, 7 + C) predicted there; they are not changed by this loss.
        gt_boxes: (B, M, 7 + C).
        mask: (B, M) bool, where there is an object.
    """
    of_all_pairs = boxes_iou3d(boxes.detach()[mask][:, :7], gt_boxes[mask][:, :7])
    overlap = of_all_pairs.diagonal()
    difference = predicted[mask] - (2 * overlap - 1)
    return difference.abs().sum() / mask.sum().clamp_min(1)


def corrected_scores(scores: Tensor, predicted: Tensor, exponents: Tensor) -> Tensor:
    """Scores (B, K), corrected by the predicted overlaps (B, K) with exponents (B, K)."""
    overlap = ((predicted + 1) / 2).clamp(0, 1)
    return scores.pow(1 - exponents) * overlap.pow(exponents)


def read_exponents(
    settings: ConfigDict, num_class: int, has_branch: bool, where: str
) -> Sequence[float] | None:
    """IOU_RECTIFIER, one exponent for each class; None where scores are not corrected.

    Args:
        settings: POST_PROCESSING of the head.
        num_class: number of classes.
        has_branch: whether the head predicts overlaps.
        where: key path of ``settings``.
    """
    if not settings.get("USE_IOU_TO_RECTIFY_SCORE"):
        return None
    if not has_branch:
        raise ConfigError(
            f"{where}.USE_IOU_TO_RECTIFY_SCORE is true, but this head predicts no overlaps; "
            f"expected a branch '{BRANCH}' in SEPARATE_HEAD_CFG.HEAD_DICT"
        )
    given = required(settings, "IOU_RECTIFIER", where)
    exponents = [float(value) for value in (given if isinstance(given, (list, tuple)) else [given])]
    if len(exponents) == 1:
        exponents = exponents * num_class
    if len(exponents) != num_class or not all(0 <= value <= 1 for value in exponents):
        raise ConfigError(
            f"{where}.IOU_RECTIFIER is {given}, expected a number from 0 to 1 for each of the "
            f"{num_class} classes"
        )
    return exponents
