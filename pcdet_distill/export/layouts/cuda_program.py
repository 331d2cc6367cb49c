"""What CUDA-PointPillars computes around its network, in numpy.

Written from the facts of its kernels, to check exported networks without a GPU.
docs/export_layouts.md names the files.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...types import ConfigDict
from ..boxes import FrameBoxes
from ..config import ExportConfig, PostProcessing
from ..runners import Runner
from .cuda_pointpillars import COLUMNS
from .decoration import decorate, group_points
from .pillars import candidates_to_boxes


class CudaProgram:
    """The program: points to boxes by the network, with the NMS of the detector.

    Args:
        network: in onnxruntime.
        config: of the detector.
        parameters: the fields of ``PostProcessParameter``.
    """

    def __init__(self, network: Runner, config: ExportConfig, parameters: ConfigDict) -> None:
        self.network = network
        self.config = config
        self.parameters = parameters

    def __call__(self, points: np.ndarray, rules: PostProcessing | None = None) -> FrameBoxes:
        """The final boxes of points (N, C), whose columns are those of the config."""
        config = self.config
        rules = rules or config.post_processing
        max_voxels = config.voxels.max_voxels
        assert max_voxels is not None
        voxels, coords, num_points = group_points(points, config)
        table = decorate(voxels, num_points, coords, columns=COLUMNS, config=config)
        # All buffers have their full size; unused rows are zero.
        inputs = {
            "voxels": np.zeros((max_voxels, *table.shape[1:]), np.float32),
            "voxel_idxs": np.zeros((max_voxels, 4), np.int32),
            "voxel_num": np.array([len(table)], np.int32),
        }
        inputs["voxels"][: len(table)] = table
        inputs["voxel_idxs"][: len(table), 1:] = coords
        outputs = self.network(inputs)
        lowest = {**self.parameters, "score_thresh": rules.score_threshold}
        boxes, scores, classes = decode(outputs, lowest)
        return candidates_to_boxes(boxes, scores, classes + 1, config, rules)


def decode(
    outputs: Mapping[str, np.ndarray], parameters: ConfigDict
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The boxes of the program before NMS.

    Args:
        outputs: the three of the network, (1, ny, nx, channels) each.
        parameters: the fields of ``PostProcessParameter``.

    Returns:
        boxes (K, 7) x, y, z, dx, dy, dz, heading; scores (K,); classes (K,) from 0.
    """
    anchors = _anchor_boxes(parameters)
    logits = outputs["cls_preds"].reshape(len(anchors), -1)
    codes = outputs["box_preds"].reshape(len(anchors), -1)
    directions = outputs["dir_cls_preds"].reshape(len(anchors), -1)
    scores = 1 / (1 + np.exp(-logits))
    kept = scores.max(axis=1) >= parameters["score_thresh"]
    boxes = _decode_boxes(codes[kept], anchors[kept])
    # The regressed heading is known modulo half a circle: the classified half decides.
    offset = np.float32(parameters["dir_offset"])
    beyond = boxes[:, 6] - offset
    within = beyond - np.floor(beyond / np.pi) * np.pi
    is_second_half = directions[kept, 0] <= directions[kept, 1]
    boxes[:, 6] = within + offset + np.pi * is_second_half
    return boxes, scores[kept].max(axis=1), scores[kept].argmax(axis=1)


def _anchor_boxes(parameters: ConfigDict) -> np.ndarray:
    """Anchors (A, 7): cell by cell, y then x; in a cell class by class with both headings."""
    nx, ny = parameters["feature_size"]
    lower = parameters["min_range"]
    upper = parameters["max_range"]
    rows = np.array(parameters["anchors"], np.float32)
    bottoms = np.repeat(parameters["anchor_bottom_heights"], 2)
    x = lower[0] + np.arange(nx) * (upper[0] - lower[0]) / (nx - 1)
    y = lower[1] + np.arange(ny) * (upper[1] - lower[1]) / (ny - 1)
    boxes = np.empty((ny, nx, len(rows), 7), np.float32)
    boxes[..., 0] = x[:, None]
    boxes[..., 1] = y[:, None, None]
    boxes[..., 2] = rows[:, 2] / 2 + bottoms
    boxes[..., 3:6] = rows[:, :3]
    boxes[..., 6] = rows[:, 3]
    return boxes.reshape(-1, 7)


def _decode_boxes(codes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """Boxes (K, 7) of codes relative to anchors."""
    diagonal = np.hypot(anchors[:, 3], anchors[:, 4])
    scale = np.stack([diagonal, diagonal, anchors[:, 5]], axis=1)
    centre = codes[:, :3] * scale + anchors[:, :3]
    size = np.exp(codes[:, 3:6]) * anchors[:, 3:6]
    heading = codes[:, 6:7] + anchors[:, 6:7]
    return np.concatenate([centre, size, heading], axis=1).astype(np.float32)
