"""CenterTargetAssigner: heatmaps, and the codes of the boxes at their centres' cells (CenterPoint, CVPR 2021)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...config import required
from ..model_utils.box_coders import SMALLEST_SIZE_M
from ..model_utils.centernet_utils import draw_peaks, gaussian_radius

WHERE = "MODEL.DENSE_HEAD.TARGET_ASSIGNER_CONFIG"


class CenterTargets(NamedTuple):
    """Targets of one head, M boxes at most in each frame.

    Attributes:
        heatmap: (B, classes of the head, H, W), 1 at the centres.
        boxes: (B, M, 8 + C) codes: offset in the cell x, y; z; logarithms of the sizes; cosine and sine of the heading;
            further attributes.
        cells: (B, M) long, y * W + x of the centres.
        mask: (B, M) bool, which rows hold a box.
    """

    heatmap: Tensor
    boxes: Tensor
    cells: Tensor
    mask: Tensor


class CenterTargetAssigner:
    """Targets for every head.

    Args:
        settings: TARGET_ASSIGNER_CONFIG.
        head_labels: per head the labels (from 1) of its classes, in the order of its heatmaps.
        voxel_size: metres.
        point_cloud_range: metres, x, y, z minimum then maximum.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        head_labels: Sequence[Sequence[int]],
        voxel_size: Sequence[float],
        point_cloud_range: Sequence[float],
    ) -> None:
        self.stride = int(required(settings, "FEATURE_MAP_STRIDE", WHERE))
        self.max_objects = int(settings.get("NUM_MAX_OBJS", 500))
        self.min_overlap = float(settings.get("GAUSSIAN_OVERLAP", 0.1))
        self.min_radius = int(settings.get("MIN_RADIUS", 2))
        self.head_labels = [list(labels) for labels in head_labels]
        self.voxel_size = [float(edge) for edge in voxel_size[:2]]
        self.origin = [float(limit) for limit in point_cloud_range[:2]]

    @torch.no_grad()
    def assign_targets(self, gt_boxes: Tensor, map_size: Sequence[int]) -> list[CenterTargets]:
        """Targets per head for gt_boxes (B, G, 7 + C + 1) with the label last, on a map of ``map_size`` (nx, ny)."""
        return [self._assign_head(gt_boxes, labels, map_size) for labels in self.head_labels]

    def _assign_head(
        self, gt_boxes: Tensor, labels: Sequence[int], map_size: Sequence[int]
    ) -> CenterTargets:
        width, height = map_size
        frames, classes = len(gt_boxes), len(labels)
        wanted = gt_boxes[..., -1:].round() == gt_boxes.new_tensor(labels)
        ours = wanted.any(dim=2)
        place = ours.cumsum(dim=1) - 1  # a box's number among the boxes of this head
        frame, row = torch.nonzero(ours & (place < self.max_objects), as_tuple=True)
        boxes, slot = gt_boxes[frame, row, :-1], place[frame, row]
        class_index = wanted[frame, row].int().argmax(dim=1)
        has_size = (boxes[:, 3:5] > 0).all(dim=1)
        frame, slot, boxes, class_index = (
            value[has_size] for value in (frame, slot, boxes, class_index)
        )

        centre = self._in_cells(boxes[:, :2] - boxes.new_tensor(self.origin))
        centre = centre.clamp_min(0).minimum(centre.new_tensor([width - 0.5, height - 0.5]))
        cell = centre.long()
        size = self._in_cells(boxes[:, 3:5])
        radius = (
            gaussian_radius(size[:, 0], size[:, 1], self.min_overlap)
            .long()
            .clamp_min(self.min_radius)
        )
        heatmap = draw_peaks(
            gt_boxes.new_zeros(frames * classes, height, width),
            frame * classes + class_index,
            cell,
            radius,
        )

        codes = gt_boxes.new_zeros(frames, self.max_objects, boxes.shape[1] + 1)
        cells = torch.zeros(frames, self.max_objects, dtype=torch.long, device=gt_boxes.device)
        mask = torch.zeros_like(cells, dtype=torch.bool)
        codes[frame, slot] = encode_centers(boxes, centre - cell)
        cells[frame, slot] = cell[:, 1] * width + cell[:, 0]
        mask[frame, slot] = True
        return CenterTargets(heatmap.view(frames, classes, height, width), codes, cells, mask)

    def _in_cells(self, metres: Tensor) -> Tensor:
        """(G, 2) lengths along x and y in cells of the feature map."""
        return metres / metres.new_tensor(self.voxel_size) / self.stride


def encode_centers(boxes: Tensor, offset: Tensor) -> Tensor:
    """Codes (G, 8 + C) of boxes (G, 7 + C) whose centres lie ``offset`` (G, 2) inside their cells."""
    log_size = boxes[:, 3:6].clamp_min(SMALLEST_SIZE_M).log()
    heading = boxes[:, 6:7]
    return torch.cat(
        [offset, boxes[:, 2:3], log_size, heading.cos(), heading.sin(), boxes[:, 7:]], dim=1
    )


def decode_centers(
    codes: Tensor,
    corners: Tensor,
    *,
    cell_size_m: Sequence[float],
    origin_m: Sequence[float],
) -> Tensor:
    """Boxes (..., 7 + C) of codes (..., 8 + C), the reverse of ``encode_centers``.

    Args:
        codes: what the branches of CenterHead predict, concatenated in the order of HEAD_ORDER.
        corners: (..., 2) column and row of the cell that predicts each box.
        cell_size_m: edges of a cell along x and y.
        origin_m: x and y of the corner of the first cell.
    """
    centre = (corners + codes[..., :2]) * codes.new_tensor(cell_size_m) + codes.new_tensor(origin_m)
    size = codes[..., 3:6].exp()
    heading = torch.atan2(codes[..., 7:8], codes[..., 6:7])
    return torch.cat([centre, codes[..., 2:3], size, heading, codes[..., 8:]], dim=-1)
