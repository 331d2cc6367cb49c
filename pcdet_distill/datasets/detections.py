"""Detections in LiDAR coordinates, the format of datasets without a format of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from .item import Item


def lidar_detections(
    prediction: Mapping[str, Tensor], frame_id: str, class_names: Sequence[str], box_width: int
) -> Item:
    """OpenPCDet's description of the detections of one frame.

    Args:
        prediction: ``pred_boxes`` (K, box_width or more), ``pred_scores`` (K,) and
            ``pred_labels`` (K,) from 1.
        box_width: columns of a box that are kept.

    Returns:
        ``frame_id``, ``name`` (K,), ``score`` (K,), ``boxes_lidar`` (K, box_width) and
        ``pred_labels`` (K,).
    """
    labels = prediction["pred_labels"].detach().cpu().numpy().astype(np.int64)
    boxes = prediction["pred_boxes"].detach().cpu().numpy()
    return {
        "frame_id": frame_id,
        "name": np.array(class_names)[labels - 1],
        "score": prediction["pred_scores"].detach().cpu().numpy(),
        "boxes_lidar": boxes[:, :box_width],
        "pred_labels": labels,
    }
