"""Detections in KITTI's format: the dicts of result.pkl and the lines of final_result/data/<frame>.txt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .calibration import Calibration
from .camera_boxes import boxes_lidar_to_camera, image_boxes_of_camera_boxes

LINE = "{} -1 -1 {:.4f} {:.4f} {:.4f} {:.4f} {:.4f} {:.4f} {:.4f} {:.4f} {:.4f} {:.4f} {:.4f} {:.4f} {:.4f}\n"


def prediction_anno(
    prediction: Mapping[str, torch.Tensor],
    calib: Calibration,
    image_shape: np.ndarray,
    class_names: Sequence[str],
) -> dict[str, Any]:
    """KITTI's description of the detections of one frame.

    Args:
        prediction: ``pred_boxes`` (K, 7) LiDAR boxes, ``pred_scores`` (K,), ``pred_labels`` (K,) counted from 1.
        image_shape: height and width in pixels, to which the image boxes are clipped.
    """
    keys = ("pred_boxes", "pred_scores", "pred_labels")
    boxes, scores, labels = (prediction[key].detach().cpu().numpy() for key in keys)
    if len(labels) == 0:
        return _empty_anno()
    boxes = boxes[:, :7].astype(np.float32)
    camera = boxes_lidar_to_camera(boxes, calib)
    return {
        "name": np.array(class_names)[labels.astype(np.int64) - 1],
        "truncated": np.zeros(len(labels)),
        "occluded": np.zeros(len(labels)),
        "alpha": -np.arctan2(-boxes[:, 1], boxes[:, 0]) + camera[:, 6],
        "bbox": image_boxes_of_camera_boxes(camera, calib, image_shape),
        "dimensions": camera[:, 3:6],
        "location": camera[:, 0:3],
        "rotation_y": camera[:, 6],
        "score": scores,
        "boxes_lidar": boxes,
    }


def _empty_anno() -> dict[str, Any]:
    """The same keys for a frame without detections."""
    shapes = {"bbox": (0, 4), "dimensions": (0, 3), "location": (0, 3), "boxes_lidar": (0, 7)}
    keys = (
        "name",
        "truncated",
        "occluded",
        "alpha",
        "bbox",
        "dimensions",
        "location",
        "rotation_y",
        "score",
        "boxes_lidar",
    )
    return {key: np.zeros(shapes.get(key, (0,))) for key in keys}


def write_result_file(path: Path, anno: Mapping[str, Any]) -> None:
    """KITTI's result file of one frame: sixteen fields a line, four decimals."""
    length, height, width = anno["dimensions"].T if len(anno["name"]) else ([], [], [])
    rows = zip(
        anno["name"],
        anno["alpha"],
        *anno["bbox"].T,
        height,
        width,
        length,
        *anno["location"].T,
        anno["rotation_y"],
        anno["score"],
    )
    Path(path).write_text("".join(LINE.format(*row) for row in rows))
