"""VoxelTargetAssigner: heatmaps and box codes on sparse cells (VoxelNeXt, CVPR 2023).

No cell may lie under the centre of an object, so the nearest active cell carries it. The heatmap
has a peak around the true centre and a second one, of height 1, at that cell; a cell takes the
larger value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ...ops.constants import constant_like
from ...ops.frames import split_by_frame
from .center_targets import CenterTargetAssigner, encode_centers


class VoxelTargets(NamedTuple):
    """Targets of one head for N active cells; M is NUM_MAX_OBJS, the most boxes of a frame.

    Attributes:
        heatmap: (N, classes of the head), 1 at the cells that carry an object.
        boxes: (B, M, 8 + C) codes, as ``encode_centers`` makes them.
        rows: (B, M) int64, the cells that carry the objects.
        mask: (B, M) bool, which entries hold a box.
    """

    heatmap: Tensor
    boxes: Tensor
    rows: Tensor
    mask: Tensor


class VoxelTargetAssigner(CenterTargetAssigner):
    """Targets for every head at the active cells of a batch."""

    @torch.no_grad()
    def assign_to_cells(
        self, gt_boxes: Tensor, cells: Tensor, map_size: Sequence[int]
    ) -> list[VoxelTargets]:
        """Targets of each head.

        Args:
            gt_boxes: (B, G, 7 + C + 1); the last column is the label, rows of zeros are padding.
            cells: (N, 3) frame, y, x of the active cells.
            map_size: (nx, ny) cells of the whole map.
        """
        rows_of_frames = split_by_frame(cells[:, 0], len(gt_boxes))
        targets = []
        for labels in self.head_labels:
            targets.append(
                self._assign_head_to_cells(gt_boxes, labels, cells, rows_of_frames, map_size)
            )
        return targets

    def _assign_head_to_cells(
        self,
        gt_boxes: Tensor,
        labels: Sequence[int],
        cells: Tensor,
        rows_of_frames: Sequence[Tensor],
        map_size: Sequence[int],
    ) -> VoxelTargets:
        head_boxes = self._boxes_of_heads(gt_boxes, [labels])
        boxes = head_boxes.boxes
        centre = self._in_cells(boxes[:, :2] - constant_like(self.origin, boxes))
        last = constant_like([map_size[0] - 0.5, map_size[1] - 0.5], centre)
        centre = centre.clamp_min(0).minimum(last)
        sigma = (2 * self._radius(boxes) + 1).to(boxes.dtype) / 6

        num_frames = len(gt_boxes)
        heatmap = boxes.new_zeros(len(cells), len(labels))
        codes = boxes.new_zeros(num_frames, self.max_objects, boxes.shape[1] + 1)
        rows = torch.zeros(codes.shape[:2], dtype=torch.long, device=cells.device)
        mask = torch.zeros_like(rows, dtype=torch.bool)
        boxes_of_frames = split_by_frame(head_boxes.frame, num_frames)
        for frame, (rows_of_frame, own) in enumerate(zip(rows_of_frames, boxes_of_frames)):
            if len(rows_of_frame) == 0 or len(own) == 0:
                continue
            places = cells[rows_of_frame][:, [2, 1]].to(boxes.dtype)
            nearest, heat = _peaks(places, centre[own], sigma[own])
            slot = head_boxes.slot[own]
            codes[frame, slot] = encode_centers(boxes[own], centre[own] - places[nearest])
            rows[frame, slot] = rows_of_frame[nearest]
            mask[frame, slot] = True
            class_index = head_boxes.class_index[own, None].expand_as(heat)
            heat_of_classes = boxes.new_zeros(len(labels), len(places))
            heat_of_classes = heat_of_classes.scatter_reduce(0, class_index, heat, "amax")
            heatmap[rows_of_frame] = heat_of_classes.T
        return VoxelTargets(heatmap, codes, rows, mask)


def _peaks(places: Tensor, centres: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest cell of every object, and its heat at all cells.

    Args:
        places: (V, 2) x and y of the active cells of a frame.
        centres: (G, 2) x and y of the objects, in cells.
        sigma: (G,) widths of the peaks.

    Returns:
        (G,) int64 and (G, V).
    """
    to_centre = (centres[:, None] - places).square().sum(dim=-1)
    nearest = to_centre.argmin(dim=1)
    to_nearest = (places[nearest][:, None] - places).square().sum(dim=-1)
    distance = torch.minimum(to_centre, to_nearest)
    return nearest, torch.exp(-distance / (2 * sigma.square()[:, None]))
