"""How well anchors overlap boxes, by the rule of the target assigner, and sizes that do it better.

The assigner compares all anchors of the map with all boxes of a frame. For one box only the anchors
around it matter, so only these are made here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from ...models.dense_heads.anchor_generator import AnchorGenerator
from ...ops.boxes import boxes3d_nearest_bev_iou, boxes_iou3d
from ...types import ConfigDict
from .case import Case
from .finding import numbers

MOST_BOXES = 400
MOST_SIZES = 3  # anchors of a class that are proposed
CLEARLY_BETTER = 0.1  # share of matched boxes that another size must add
ROUNDS = 20
WINDOW_CELLS = 2  # around the cell of a box, on each side


class ClassMatch(NamedTuple):
    """How the anchors of a class overlap its boxes."""

    matched_share: float  # of boxes, by matched_threshold
    median_iou: float


class Proposal(NamedTuple):
    """Anchor sizes made from boxes."""

    sizes: list[list[float]]
    match: ClassMatch


def match_anchors(
    case: Case, entry: ConfigDict, boxes: np.ndarray, sizes: Sequence | None = None
) -> ClassMatch:
    """The overlap of boxes (K, 7) with the anchors of an entry, or with others of these sizes."""
    chosen = boxes[np.linspace(0, len(boxes) - 1, min(len(boxes), MOST_BOXES)).astype(int)]
    best = np.array([_best_iou(case, entry, box, sizes) for box in chosen])
    threshold = float(entry.get("matched_threshold", 0.5))
    return ClassMatch(float((best >= threshold).mean()), float(np.median(best)))


def _best_iou(case: Case, entry: ConfigDict, box: np.ndarray, sizes: Sequence | None) -> float:
    limits = np.array(case.data["POINT_CLOUD_RANGE"], dtype=float)
    stride = int(entry.get("feature_map_stride", 1))
    voxel = np.array(case.spec.voxel_size or [0.1, 0.1, 0.1], dtype=float)
    cell = voxel[:2] * stride
    settings = dict(entry)
    settings["align_center"] = True
    if sizes is not None:
        settings["anchor_sizes"] = sizes
    # A window of whole cells around the box, so that anchors stand where the map has them.
    first = np.floor((box[:2] - limits[:2]) / cell) - WINDOW_CELLS
    last = first + 2 * WINDOW_CELLS + 1
    window = [*(limits[:2] + first * cell), limits[2], *(limits[:2] + last * cell), limits[5]]
    count = 2 * WINDOW_CELLS + 1
    grids, _ = AnchorGenerator(window, [settings]).generate_anchors([(count, count)])
    anchors = grids[0].reshape(-1, 7)
    one = torch.from_numpy(box[None].astype(np.float32))
    assigner = case.head.get("TARGET_ASSIGNER_CONFIG") or {}
    overlap = boxes_iou3d if assigner.get("MATCH_HEIGHT") else boxes3d_nearest_bev_iou
    return float(overlap(one, anchors).max())


def propose_sizes(case: Case, entry: ConfigDict, boxes: np.ndarray) -> Proposal:
    """As few sizes as match nearly as many boxes as more of them would."""
    best: Proposal | None = None
    for number in range(1, min(MOST_SIZES, len(boxes)) + 1):
        sizes = cluster_sizes(boxes[:, 3:6], number)
        proposal = Proposal(sizes, match_anchors(case, entry, boxes, sizes))
        if best is None or proposal.match.matched_share > best.match.matched_share + CLEARLY_BETTER:
            best = proposal
    assert best is not None
    return best


def cluster_sizes(sizes: np.ndarray, number: int) -> list[list[float]]:
    """The medians of ``number`` clusters of sizes (K, 3), the largest cluster first.

    The clusters are k-means on the logarithms: what matters for the overlap is the ratio of two
    sizes. The first centres are the quantiles of the area, so the result does not depend on chance.
    """
    logs = np.log(np.clip(sizes, 1e-3, None))
    order = np.argsort(logs[:, 0] + logs[:, 1], kind="stable")
    places = (np.arange(number) + 0.5) / number * len(sizes)
    centres = logs[order[places.astype(int)]]
    nearest = np.zeros(len(sizes), dtype=int)
    for _ in range(ROUNDS):
        distance = ((logs[:, None] - centres[None]) ** 2).sum(axis=2)
        nearest = distance.argmin(axis=1)
        for cluster in range(number):
            if (nearest == cluster).any():
                centres[cluster] = np.median(logs[nearest == cluster], axis=0)
    counts = np.bincount(nearest, minlength=number)
    largest_first = np.argsort(-counts, kind="stable")
    return [numbers(np.exp(centres[cluster])) for cluster in largest_first if counts[cluster]]
