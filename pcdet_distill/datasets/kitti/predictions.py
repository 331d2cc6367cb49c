"""Detections in KITTI's format: dicts for result.pkl, lines for final_result/data/<frame>.txt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from .calibration import Calibration
from .camera_boxes import boxes_lidar_to_camera, image_boxes_of_camera_boxes

# Name, truncation and occlusion (-1: unknown), then 13 numbers.
LINE = "{} -1 -1" + 13 * " {:.4f}" + "\n"
WIDTHS = {
    "bbox": 4,
    "dimensions": 3,
    "location": 3,
    "boxes_lidar": 7,
}  # of arrays that are (K, width)
# The columns of a KITTI label file, as arrays of an info.
LABEL_KEYS = (
    "name",
    "truncated",
    "occluded",
    "alpha",
    "bbox",
    "dimensions",
    "location",
    "rotation_y",
)
KEYS = (*LABEL_KEYS, "score", "boxes_lidar")


def prediction_anno(
    prediction: Mapping[str, torch.Tensor],
    calib: Calibration,
    image_shape: np.ndarray,
    class_names: Sequence[str],
) -> dict[str, np.ndarray]:
    """KITTI's description of the detections of one frame.

    Args:
        prediction: ``pred_boxes`` (K, 7) LiDAR boxes, ``pred_scores`` (K,), ``pred_labels`` (K,)
            from 1.
        image_shape: height and width in pixels, to which the image boxes are clipped; zeros
            without a camera.
    """
    labels = prediction["pred_labels"].detach().cpu().numpy().astype(np.int64)
    return anno_of_boxes(
        prediction["pred_boxes"].detach().cpu().numpy(),
        prediction["pred_scores"].detach().cpu().numpy(),
        np.array(class_names)[labels - 1],
        calib=calib,
        image_shape=image_shape,
    )


def anno_of_boxes(
    boxes: np.ndarray,
    scores: np.ndarray,
    names: np.ndarray,
    *,
    calib: Calibration,
    image_shape: np.ndarray,
) -> dict[str, np.ndarray]:
    """KITTI's description of LiDAR boxes (K, 7 or more) with scores (K,) and names (K,)."""
    if len(names) == 0:
        return _empty_anno()
    boxes = boxes[:, :7].astype(np.float32)
    camera = boxes_lidar_to_camera(boxes, calib)
    has_image = bool(image_shape.any())
    # Heading relative to the ray from the sensor, which is what the image of an object depends on.
    alpha = -np.arctan2(-boxes[:, 1], boxes[:, 0]) + camera[:, 6]
    return {
        "name": names,
        "truncated": np.zeros(len(names)),
        "occluded": np.zeros(len(names)),
        "alpha": alpha,
        "bbox": image_boxes_of_camera_boxes(camera, calib, image_shape if has_image else None),
        "dimensions": camera[:, 3:6],
        "location": camera[:, 0:3],
        "rotation_y": camera[:, 6],
        "score": scores,
        "boxes_lidar": boxes,
    }


def _empty_anno() -> dict[str, np.ndarray]:
    """The same keys for a frame without detections."""
    anno = {}
    for key in KEYS:
        anno[key] = np.zeros((0, WIDTHS[key])) if key in WIDTHS else np.zeros(0)
    return anno


def write_result_file(path: Path, anno: Mapping[str, np.ndarray]) -> None:
    """KITTI's result file of one frame."""
    Path(path).write_text(result_text(anno))


def result_text(anno: Mapping[str, np.ndarray]) -> str:
    """The content of KITTI's result file of one frame: sixteen fields a line, four decimals."""
    lines = []
    for row, name in enumerate(anno["name"]):
        length, height, width = anno["dimensions"][row]
        line = LINE.format(
            name,
            anno["alpha"][row],
            *anno["bbox"][row],
            height,
            width,
            length,
            *anno["location"][row],
            anno["rotation_y"][row],
            anno["score"][row],
        )
        lines.append(line)
    return "".join(lines)
