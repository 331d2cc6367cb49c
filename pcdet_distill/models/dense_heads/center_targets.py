"""CenterTargetAssigner: heatmaps, and box codes at the centres (CenterPoint, CVPR 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from ...config import required
from ...ops.constants import constant, constant_like
from ...types import ConfigDict
from ..model_utils.box_coders import SMALLEST_SIZE_M
from ..model_utils.centernet_utils import draw_peaks, gaussian_radius

WHERE = "MODEL.DENSE_HEAD.TARGET_ASSIGNER_CONFIG"


class CenterTargets(NamedTuple):
    """Targets of one head; M is NUM_MAX_OBJS, the most boxes of a frame.

    Attributes:
        heatmap: (B, classes of the head, H, W), 1 at the centres.
        boxes: (B, M, 8 + C) codes, as ``encode_centers`` makes them.
        cells: (B, M) int64, y * W + x of the centres.
        mask: (B, M) bool, which rows hold a box.
    """

    heatmap: Tensor
    boxes: Tensor
    cells: Tensor
    mask: Tensor


class HeadBoxes(NamedTuple):
    """The K boxes of a batch that the heads have to find.

    Attributes:
        head: (K,) int64, which head.
        frame: (K,) int64.
        slot: (K,) int64, number of the box among those of its frame and head.
        class_index: (K,) int64, which heatmap of the head.
        boxes: (K, 7 + C).
    """

    head: Tensor
    frame: Tensor
    slot: Tensor
    class_index: Tensor
    boxes: Tensor


class CenterTargetAssigner:
    """Targets for every head.

    Args:
        settings: TARGET_ASSIGNER_CONFIG.
        head_labels: per head the labels (from 1) of its classes, in the order of its heatmaps.
        voxel_size: metres.
        point_cloud_range: metres; x, y, z minimum, then maximum.
    """

    def __init__(
        self,
        settings: ConfigDict,
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
        """Targets of each head for gt_boxes (B, G, 7 + C + 1), on a map of ``map_size`` (nx, ny).

        The last column of a box is its label; rows of zeros are padding.
        """
        width, height = map_size
        num_frames = len(gt_boxes)
        found = self._boxes_of_heads(gt_boxes, self.head_labels)
        centre = self._in_cells(found.boxes[:, :2] - constant_like(self.origin, found.boxes))
        # A centre outside of the map, of a box that reaches into it, moves to the nearest cell.
        last = constant_like([width - 0.5, height - 0.5], centre)
        centre = centre.clamp_min(0).minimum(last)
        cell = centre.long()
        heatmaps = self._heatmaps(found, cell, num_frames, map_size)

        shape = (len(self.head_labels), num_frames, self.max_objects)
        codes = gt_boxes.new_zeros(*shape, found.boxes.shape[1] + 1)
        cells = torch.zeros(shape, dtype=torch.long, device=gt_boxes.device)
        mask = torch.zeros_like(cells, dtype=torch.bool)
        rows = (found.head, found.frame, found.slot)
        codes[rows] = encode_centers(found.boxes, centre - cell)
        cells[rows] = cell[:, 1] * width + cell[:, 0]
        mask[rows] = True
        return [CenterTargets(*of_head) for of_head in zip(heatmaps, codes, cells, mask)]

    def _heatmaps(
        self, found: HeadBoxes, cell: Tensor, num_frames: int, map_size: Sequence[int]
    ) -> list[Tensor]:
        """Heatmaps (B, classes, H, W) of each head, with peaks at the cells (K, 2) of the boxes.

        The peaks of all heads are drawn at once.
        """
        width, height = map_size
        num_classes = [len(labels) for labels in self.head_labels]
        planes_of_heads = [num_frames * count for count in num_classes]
        ends = list(accumulate(planes_of_heads))
        first = constant([0, *ends[:-1]], cell.device)
        classes_of_box = constant(num_classes, cell.device)[found.head]
        plane = first[found.head] + found.frame * classes_of_box + found.class_index
        blank = found.boxes.new_zeros(ends[-1], height, width)
        drawn = draw_peaks(blank, plane, cell, self._radius(found.boxes))
        return [
            of_head.view(num_frames, -1, height, width) for of_head in drawn.split(planes_of_heads)
        ]

    def _boxes_of_heads(self, gt_boxes: Tensor, head_labels: Sequence[Sequence[int]]) -> HeadBoxes:
        """The boxes of the classes of each head; in a frame with too many, the first NUM_MAX_OBJS.

        Args:
            gt_boxes: (B, G, 7 + C + 1).
            head_labels: per head the labels of its classes.
        """
        # As in OpenPCDet, a box without an area takes a slot but is not learnt.
        has_area = (gt_boxes[..., 3:5] > 0).all(dim=2)
        number_of_heads = []
        class_of_heads = []
        is_kept_by_heads = []
        for labels in head_labels:
            matches = gt_boxes[..., -1:].round() == constant_like(labels, gt_boxes)
            is_ours = matches.any(dim=2)
            number = is_ours.cumsum(dim=1) - 1
            number_of_heads.append(number)
            class_of_heads.append(matches.int().argmax(dim=2))
            is_kept_by_heads.append(is_ours & (number < self.max_objects) & has_area)
        # The host waits for the number of boxes, once for all heads.
        kept = torch.nonzero(torch.stack(is_kept_by_heads), as_tuple=True)
        head, frame, row = kept
        return HeadBoxes(
            head=head,
            frame=frame,
            slot=torch.stack(number_of_heads)[kept],
            class_index=torch.stack(class_of_heads)[kept],
            boxes=gt_boxes[frame, row, :-1],
        )

    def _radius(self, boxes: Tensor) -> Tensor:
        """Radii (K,) int64, in cells, of the peaks of boxes (K, 7 + C).

        A prediction a little beside the centre still gives a box with the overlap GAUSSIAN_OVERLAP.
        The peak covers those cells, so that they are punished less than background.
        """
        size = self._in_cells(boxes[:, 3:5])
        radius = gaussian_radius(size[:, 0], size[:, 1], self.min_overlap)
        return radius.long().clamp_min(self.min_radius)

    def _in_cells(self, metres: Tensor) -> Tensor:
        """(K, 2) lengths along x and y in cells of the feature map."""
        return metres / constant_like(self.voxel_size, metres) / self.stride


def encode_centers(boxes: Tensor, offset: Tensor) -> Tensor:
    """Codes (K, 8 + C) of boxes (K, 7 + C) whose centres lie ``offset`` (K, 2) inside their cells.

    A code is: offset in the cell along x and y; z in metres; logarithms of the sizes; cosine and
    sine of the heading, which do not jump at the full circle; further attributes of the box.
    """
    log_size = boxes[:, 3:6].clamp_min(SMALLEST_SIZE_M).log()
    heading = boxes[:, 6:7]
    parts = [offset, boxes[:, 2:3], log_size, heading.cos(), heading.sin(), boxes[:, 7:]]
    return torch.cat(parts, dim=1)


def decode_centers(
    codes: Tensor,
    corners: Tensor,
    *,
    cell_size_m: Sequence[float],
    origin_m: Sequence[float],
) -> Tensor:
    """Boxes (..., 7 + C) of codes (..., 8 + C), the reverse of ``encode_centers``.

    Args:
        codes: outputs of CenterHead's branches, concatenated in the order of HEAD_ORDER.
        corners: (..., 2) column and row of the cell that predicts each box.
        cell_size_m: edges of a cell along x and y.
        origin_m: x and y of the corner of the first cell.
    """
    corner_m = constant_like(origin_m, codes)
    centre = (corners + codes[..., :2]) * constant_like(cell_size_m, codes) + corner_m
    size = codes[..., 3:6].exp()
    heading = torch.atan2(codes[..., 7:8], codes[..., 6:7])
    return torch.cat([centre, codes[..., 2:3], size, heading, codes[..., 8:]], dim=-1)
