"""Targets of TransFusionHead: which query learns which object, and box codes (CVPR 2022).

A code is: x and y in cells, z, logarithms of the sizes, sine and cosine of the heading, and further
attributes such as velocities. Sine comes first here, unlike in CenterHead.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ...config import required
from ...ops.boxes import boxes_iou3d
from ...ops.constants import constant_like
from ...types import ConfigDict
from ..model_utils.box_coders import SMALLEST_SIZE_M
from .hungarian import assign

WHERE = "MODEL.DENSE_HEAD.TARGET_ASSIGNER_CONFIG.HUNGARIAN_ASSIGNER"
LOG_EPSILON = 1e-12


class QueryTargets(NamedTuple):
    """Targets of the P queries of a batch.

    Attributes:
        labels: (B, P) int64, the index of the class from 0, or -1 for a query without an object.
        codes: (B, P, 8 + C); rows of zeros for queries without an object.
        mean_iou: mean 3D IoU of the queries with an object, for the log.
    """

    labels: Tensor
    codes: Tensor
    mean_iou: Tensor


@dataclasses.dataclass(frozen=True)
class BoxGrid:
    """The map in metres.

    Attributes:
        cell_size_m: edges of a cell along x and y.
        origin_m: x and y of the corner of the first cell.
        extent_m: edges of the whole range along x and y.
    """

    cell_size_m: tuple[float, float]
    origin_m: tuple[float, float]
    extent_m: tuple[float, float]

    def encode(self, boxes: Tensor) -> Tensor:
        """Codes (..., 8 + C) of boxes (..., 7 + C)."""
        origin = constant_like(self.origin_m, boxes)
        centre = (boxes[..., :2] - origin) / constant_like(self.cell_size_m, boxes)
        log_size = boxes[..., 3:6].clamp_min(SMALLEST_SIZE_M).log()
        heading = boxes[..., 6:7]
        parts = [centre, boxes[..., 2:3], log_size, heading.sin(), heading.cos(), boxes[..., 7:]]
        return torch.cat(parts, dim=-1)

    def decode(self, codes: Tensor) -> Tensor:
        """Boxes (..., 7 + C) of codes (..., 8 + C)."""
        centre = codes[..., :2] * constant_like(self.cell_size_m, codes)
        centre = centre + constant_like(self.origin_m, codes)
        heading = torch.atan2(codes[..., 6:7], codes[..., 7:8])
        parts = [centre, codes[..., 2:3], codes[..., 3:6].exp(), heading, codes[..., 8:]]
        return torch.cat(parts, dim=-1)


class HungarianAssigner:
    """One query for every object, so that the sum of the matching costs is smallest.

    The cost of a pair is the sum of three: what the focal loss of the class would gain, the
    distance of the centres as a share of the range, and the negative 3D IoU.
    """

    def __init__(self, settings: ConfigDict, grid: BoxGrid) -> None:
        class_cost = required(settings, "cls_cost", WHERE)
        self.class_weight = float(required(class_cost, "weight", f"{WHERE}.cls_cost"))
        self.alpha = float(class_cost.get("alpha", 0.25))
        self.gamma = float(class_cost.get("gamma", 2.0))
        centre_cost = required(settings, "reg_cost", WHERE)
        self.centre_weight = float(required(centre_cost, "weight", f"{WHERE}.reg_cost"))
        iou_cost = required(settings, "iou_cost", WHERE)
        self.iou_weight = float(required(iou_cost, "weight", f"{WHERE}.iou_cost"))
        self.grid = grid

    @torch.no_grad()
    def assign_targets(self, logits: Tensor, codes: Tensor, gt_boxes: Tensor) -> QueryTargets:
        """Targets of a batch.

        Args:
            logits: (B, P, classes).
            codes: (B, P, 8 + C).
            gt_boxes: (B, G, 7 + C + 1); the last column is the label, rows without a size padding.
        """
        labels = torch.full(logits.shape[:2], -1, dtype=torch.long, device=logits.device)
        target = torch.zeros_like(codes)
        overlaps = []
        for frame, rows in enumerate(gt_boxes):
            objects = rows[(rows[:, 3:5] > 0).all(dim=1)]
            if len(objects) > logits.shape[1]:
                objects = objects[: logits.shape[1]]
            if len(objects) == 0:
                continue
            classes = objects[:, -1].round().long() - 1
            boxes = self.grid.decode(codes[frame])
            iou = boxes_iou3d(standing(objects[:, :7]), standing(boxes[:, :7]))
            cost = self._cost(logits[frame], boxes, objects[:, :-1], classes) - (
                self.iou_weight * iou
            )
            query = torch.from_numpy(assign(cost.cpu().numpy())).to(logits.device)
            labels[frame, query] = classes
            target[frame, query] = self.grid.encode(objects[:, :-1])
            overlaps.append(iou[torch.arange(len(query), device=query.device), query])
        mean = torch.cat(overlaps).mean() if overlaps else logits.new_zeros(())
        return QueryTargets(labels, target, mean)

    def _cost(self, logits: Tensor, boxes: Tensor, objects: Tensor, classes: Tensor) -> Tensor:
        """Costs (G, P) of classes and centres."""
        score = logits.sigmoid()
        found = -(score + LOG_EPSILON).log() * self.alpha * (1 - score).pow(self.gamma)
        missed = -(1 - score + LOG_EPSILON).log() * (1 - self.alpha) * score.pow(self.gamma)
        class_cost = (found - missed)[:, classes].T
        extent = constant_like(self.grid.extent_m, boxes)
        distance = (objects[:, None, :2] - boxes[None, :, :2]).abs() / extent
        return self.class_weight * class_cost + self.centre_weight * distance.sum(dim=-1)


def standing(boxes: Tensor) -> Tensor:
    """Boxes (N, 7) with z as their bottom, moved so that it is their centre.

    OpenPCDet's matching cost takes the centre's height for the bottom's. Overlaps change only where
    two boxes differ in height; kept, because trained models have learnt with it.
    """
    shifted = boxes.clone()
    shifted[:, 2] += boxes[:, 5] / 2
    return shifted


def flat_grid(map_size: Sequence[int], like: Tensor) -> Tensor:
    """Centres (cells, 2) of all cells as x and y, row by row."""
    nx, ny = map_size
    x = torch.arange(nx, device=like.device, dtype=like.dtype) + 0.5
    y = torch.arange(ny, device=like.device, dtype=like.dtype) + 0.5
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([columns.flatten(), rows.flatten()], dim=1)
