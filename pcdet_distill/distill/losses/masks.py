"""Where the objects are: how much each node or prediction counts, from labelled boxes."""

from __future__ import annotations

import torch
from torch import Tensor

from ...ops.points import points_in_boxes

GAUSSIAN_REACH = 3.0  # sigmas; beyond, a weight is zero


def real_boxes(gt_boxes: Tensor, frame: int) -> Tensor:
    """The boxes (G, 7 + C + 1) of one frame, without padding."""
    boxes = gt_boxes[frame]
    return boxes[(boxes[:, 3:6] > 0).all(dim=1)]


def gaussian_weights(coords: Tensor, batch_index: Tensor, gt_boxes: Tensor, sigma: float) -> Tensor:
    """(N,) exp(-d^2 / 2) of the nearest object of the frame, where d counts in units of the box.

    Along the length of the box one unit is ``sigma`` times its length, across it ``sigma`` times its width.

    Args:
        coords: (N, 3) metres.
        batch_index: (N,) int64.
        gt_boxes: (B, G, 7 + C + 1).
    """
    weights = coords.new_zeros(len(coords))
    for frame in range(len(gt_boxes)):
        rows = torch.nonzero(batch_index == frame).flatten()
        best = coords.new_zeros(len(rows))
        for box in real_boxes(gt_boxes, frame).to(coords.dtype):
            offset = coords[rows, :2] - box[:2]
            cosine, sine = box[6].cos(), box[6].sin()
            along = (offset[:, 0] * cosine + offset[:, 1] * sine) / box[3]
            across = (offset[:, 1] * cosine - offset[:, 0] * sine) / box[4]
            square = (along.square() + across.square()) / sigma**2
            best = torch.maximum(best, torch.exp(-square / 2) * (square <= GAUSSIAN_REACH**2))
        weights[rows] = best
    return weights


def box_weights(coords: Tensor, batch_index: Tensor, gt_boxes: Tensor) -> Tensor:
    """(N,) 1 for what stands on an object seen from above, else 0; arguments as of ``gaussian_weights``."""
    weights = coords.new_zeros(len(coords))
    for frame in range(len(gt_boxes)):
        rows = torch.nonzero(batch_index == frame).flatten()
        boxes = real_boxes(gt_boxes, frame)[:, :7].to(coords.dtype).clone()
        if len(boxes) and len(rows):
            boxes[:, 2], boxes[:, 5] = 0, 2
            flat = torch.nn.functional.pad(coords[rows, :2], (0, 1))
            weights[rows] = (points_in_boxes(flat, boxes) >= 0).to(coords.dtype)
    return weights
