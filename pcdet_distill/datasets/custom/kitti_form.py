"""LiDAR boxes in the form that KITTI's evaluation reads, as OpenPCDet makes it for own data.

There is no camera. A made-up one sits at the LiDAR and looks along x: camera x is -y, y is -z, z is
x. Every object gets the same image box of 50 pixels height, so all are of KITTI's easy difficulty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...config import lookup
from ..item import Item

IMAGE_BOX_PX = 50.0


def kitti_anno(
    names: np.ndarray,
    boxes: np.ndarray,
    map_to_kitti: Mapping[str, str],
    score: np.ndarray | None = None,
) -> Item:
    """KITTI's description of the objects of one frame.

    Args:
        names: (M,) classes, all of them keys of ``map_to_kitti``.
        boxes: (M, 7 or more) LiDAR boxes.
        score: (M,) of detections; None for labels.
    """
    boxes = np.asarray(boxes, dtype=np.float64).reshape(len(names), -1)
    if len(names) == 0:
        boxes = np.zeros((0, 7))
    bottom_z = boxes[:, 2] - boxes[:, 5] / 2
    rotation_y = -boxes[:, 6] - np.pi / 2
    image_boxes = np.zeros((len(names), 4))
    image_boxes[:, 2:] = IMAGE_BOX_PX
    kitti_names = [kitti_name(str(name), map_to_kitti) for name in names]
    anno: Item = {
        "name": np.array(kitti_names, dtype=str),
        "truncated": np.zeros(len(names)),
        "occluded": np.zeros(len(names)),
        "alpha": -np.arctan2(-boxes[:, 1], boxes[:, 0]) + rotation_y,
        "bbox": image_boxes,
        "dimensions": boxes[:, [3, 5, 4]],
        "location": np.stack([-boxes[:, 1], -bottom_z, boxes[:, 0]], axis=1),
        "rotation_y": rotation_y,
    }
    if score is not None:
        anno["score"] = np.asarray(score)
    return anno


def kitti_name(name: str, map_to_kitti: Mapping[str, str]) -> str:
    """KITTI's class for an own one."""
    return lookup(map_to_kitti, name, "DATA_CONFIG.MAP_CLASS_TO_KITTI")


def kitti_names(class_names: Sequence[str], map_to_kitti: Mapping[str, str]) -> list[str]:
    """KITTI's classes of the trained ones, each once and in their order."""
    return list(dict.fromkeys(kitti_name(name, map_to_kitti) for name in class_names))
