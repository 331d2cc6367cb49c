"""Weights of places by their distance to labelled objects."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ...ops.boxes import along_and_across
from ...ops.points import points_in_boxes
from ..labelled_boxes import without_padding

GAUSSIAN_REACH = 3.0  # in sigmas; weights beyond are zero


def gaussian_weights(coords: Tensor, batch_index: Tensor, gt_boxes: Tensor, sigma: float) -> Tensor:
    """(N,) exp(-d^2 / 2) of the nearest object of the frame.

    d is a distance in units of the box: along its length one unit is ``sigma`` times its length,
    across it ``sigma`` times its width. So a long truck weighs a long region.

    Args:
        coords: (N, 3) x, y, z in metres; z is not used.
        batch_index: (N,) int64.
        gt_boxes: (B, G, 7 + C + 1).
        sigma: as a share of the box.
    """
    weights = coords.new_zeros(len(coords))
    for frame, frame_boxes in enumerate(gt_boxes):
        rows = torch.nonzero(batch_index == frame).flatten()
        nearest = coords.new_zeros(len(rows))
        for box in without_padding(frame_boxes).to(coords.dtype):
            nearest = torch.maximum(nearest, _gaussian(coords[rows, :2], box, sigma))
        weights[rows] = nearest
    return weights


def _gaussian(places: Tensor, box: Tensor, sigma: float) -> Tensor:
    """(N,) weights of places (N, 2) around one box (7 or more,)."""
    # A label without size would divide by zero.
    length, width = box[3:5].clamp_min(torch.finfo(box.dtype).tiny)
    along_m, across_m = along_and_across(places, box[None])
    squared_along = (along_m[0] / length).square()
    squared_across = (across_m[0] / width).square()
    distance_squared = (squared_along + squared_across) / sigma**2
    is_near = distance_squared <= GAUSSIAN_REACH**2
    return torch.exp(-distance_squared / 2) * is_near


def box_weights(coords: Tensor, batch_index: Tensor, gt_boxes: Tensor) -> Tensor:
    """(N,) 1 inside a labelled box as seen from above, else 0.

    Args:
        coords: (N, 3) x, y, z in metres; z is not used.
        batch_index: (N,) int64.
        gt_boxes: (B, G, 7 + C + 1).
    """
    weights = coords.new_zeros(len(coords))
    for frame, frame_boxes in enumerate(gt_boxes):
        rows = torch.nonzero(batch_index == frame).flatten()
        boxes = without_padding(frame_boxes)[:, :7].to(coords.dtype).clone()
        if len(boxes) == 0 or len(rows) == 0:
            continue
        # Places and boxes move to one height, so that the height does not matter.
        boxes[:, 2] = 0
        boxes[:, 5] = 2
        places = functional.pad(coords[rows, :2], (0, 1))
        weights[rows] = (points_in_boxes(places, boxes) >= 0).to(coords.dtype)
    return weights
