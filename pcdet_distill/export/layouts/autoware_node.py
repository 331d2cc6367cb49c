"""What Autoware's node computes around its two networks, in numpy.

Written from the facts of its kernels, to check exported networks without a GPU and without ROS.
docs/export_layouts.md names the files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..boxes import FrameBoxes
from ..config import ExportConfig, PostProcessing
from ..runners import Runner
from .autoware import COLUMNS, LARGEST_INTENSITY
from .decoration import decorate, group_points
from .pillars import candidates_to_boxes


class AutowareNode:
    """The node: points to boxes by the two networks, with the NMS of the detector.

    Args:
        encoder, bev: the networks.
        config: of the detector.
        stride: a cell of the maps is so many pillars wide.
        largest_intensity: of the points, 1 or 255.
    """

    def __init__(
        self,
        encoder: Runner,
        bev: Runner,
        config: ExportConfig,
        *,
        stride: int,
        largest_intensity: float,
    ) -> None:
        self.encoder = encoder
        self.bev = bev
        self.config = config
        self.stride = stride
        self.largest_intensity = largest_intensity

    def __call__(self, points: np.ndarray, rules: PostProcessing | None = None) -> FrameBoxes:
        """The final boxes of points (N, C), whose columns are those of the config."""
        config = self.config
        rules = rules or config.post_processing
        features = config.points.features
        points = points.copy()
        if "intensity" in features:
            column = features.index("intensity")
            points[:, column] *= LARGEST_INTENSITY / self.largest_intensity
        voxels, coords, num_points = group_points(points, config)
        table = decorate(voxels, num_points, coords, columns=COLUMNS, config=config)
        pillars = self.encoder({"input_features": table})["pillar_features"]
        nx, ny = config.voxels.grid[:2]
        maps = self.bev({"spatial_features": scatter(pillars, coords, (ny, nx))})
        boxes, scores, classes = decode(
            maps,
            voxel_size=config.voxels.size_m,
            range_m=config.points.range_m,
            stride=self.stride,
            score_threshold=rules.score_threshold,
        )
        return candidates_to_boxes(boxes, scores, classes + 1, config, rules)


def scatter(pillars: np.ndarray, coords: np.ndarray, map_shape: tuple[int, int]) -> np.ndarray:
    """Between the networks: pillars (P, C) at coords (P, 3) z, y, x to a map (1, C, ny, nx)."""
    canvas = np.zeros((pillars.shape[1], *map_shape), np.float32)
    canvas[:, coords[:, 1], coords[:, 2]] = pillars.T
    return canvas[None]


def decode(
    maps: Mapping[str, np.ndarray],
    *,
    voxel_size: Sequence[float],
    range_m: Sequence[float],
    stride: int,
    score_threshold: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Behind the networks, before NMS: the boxes of the node's messages.

    Args:
        maps: the six outputs, (1, C, ny, nx) each.
        voxel_size: edges of a pillar along x, y, z in metres.
        range_m: x, y, z minimum, then maximum.
        stride: a cell of the maps is so many pillars wide.
        score_threshold: the lowest score.

    Returns:
        boxes (K, 9) x, y, z, length, width, height, heading, velocity; scores (K,); classes (K,)
        from 0.
    """
    scores = 1 / (1 + np.exp(-maps["heatmap"][0]))
    classes = scores.argmax(axis=0)
    best = scores.max(axis=0)
    y, x = np.nonzero(best >= score_threshold)
    offset, middle, log_size, direction, velocity = (
        maps[name][0][:, y, x] for name in ("reg", "height", "dim", "rot", "vel")
    )
    centre_x = voxel_size[0] * stride * (x + offset[0]) + range_m[0]
    centre_y = voxel_size[1] * stride * (y + offset[1]) + range_m[1]
    width, length, height = np.exp(log_size)
    sine, cosine = direction
    heading = -np.arctan2(sine, cosine) - np.pi / 2
    columns = [centre_x, centre_y, middle[0], length, width, height, heading, *velocity]
    boxes = np.stack(columns, axis=1).astype(np.float32)
    return boxes, best[y, x], classes[y, x]
