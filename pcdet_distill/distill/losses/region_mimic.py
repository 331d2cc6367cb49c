"""LiDAR Distillation (Wei et al., ECCV 2022): features in objects, of a teacher with more beams.

The student sees the points of few beams, the teacher the same scene with all of them. POINTS x
POINTS places are spread evenly over every labelled box, along and across it. s_rk and t_rk are the
features of both maps, interpolated at place k of box r. With A a learned 1x1 convolution:

    L = mean over boxes r of   mean over places k and channels of (A s_rk - t'_rk)^2

t' is t with zero mean and unit spread in every channel, measured in the boxes of the first training
batches. A box counts once, whatever its size: a pedestrian as much as a car.

The beams are not the loss's part. cfgs/synthetic/privileged/ has a teacher of 64 and a student of
16 beams, and the augmentation that thins the beams of real data.

Departures, from the paper and from its published code:

* The paper thins the beams step by step, from 64 to 32 to 16, and each student is the next teacher;
  here that is one training for each step.
* Its boxes are 128 proposals a frame of the teacher's second stage, right and wrong ones. Here they
  are the labelled ones: one-stage teachers have no proposals.
* It takes the mean over the cells whose centre lies in the box, without the box's heading; in a box
  between two centres there is none. Here the features are interpolated in the turned box.
* It takes the Euclidean norm over channels, here it is the mean of squares. Student and teacher
  have the same channels there, so it has no adapter, and its features are not standardised.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ...config import option
from ...models.taps import TapInfo
from ...ops.boxes import rotate_points_along_z
from ...ops.constants import constant_like
from ...types import BatchDict, ConfigDict
from ..labelled_boxes import without_padding
from ..nodes import NodeFeatures, NodeGrid, as_map
from ..term_inputs import require_map
from .imitation import ImitationLoss


@dataclasses.dataclass(frozen=True)
class RegionMimicOptions:
    """Where in a box features are compared."""

    points: int = option(
        5, above=0, help="places along and across each labelled box at which features are compared"
    )


class Regions(NamedTuple):
    """R labelled boxes that lie on the map at least in part, with K places each.

    Attributes:
        frames: (R,) int64.
        places: (R, K, 2) x, y in metres.
        weights: (R, K) of the places; those of a box add up to 1, and 0 is outside of the map.
    """

    frames: Tensor
    places: Tensor
    weights: Tensor


class RegionMimicLoss(ImitationLoss):
    """Squared difference from the teacher's standardised features at places inside objects."""

    options_class = RegionMimicOptions

    options: RegionMimicOptions

    @classmethod
    def options_from_config(
        cls, cfg: ConfigDict, student: TapInfo, teacher: TapInfo, where: str
    ) -> RegionMimicOptions:
        """The options in ``cfg``. Features between cells are interpolated, so both are maps."""
        for tap in (student, teacher):
            require_map(tap, cls.__name__, where)
        return super().options_from_config(cfg, student, teacher, where)

    def compute(
        self, student: NodeFeatures, teacher: NodeFeatures, batch_dict: BatchDict
    ) -> Tensor:
        """The loss, a scalar, between matched cells. Logs the number of boxes."""
        grid = student.grid
        assert grid is not None  # both taps are maps
        student_map = as_map(student)
        teacher_map = as_map(teacher.at_cells_of(student))
        gt_boxes = batch_dict["gt_boxes"][: len(student_map)]
        regions = find_regions(gt_boxes, grid, self.options.points)
        self.logs["boxes"] = float(len(regions.frames))
        if len(regions.frames) == 0:
            return self.zero_loss(student.features)
        student_features = interpolate(student_map, regions, grid)
        teacher_features = interpolate(teacher_map, regions, grid)
        self.observe(teacher_features, regions.weights.to(teacher_features.dtype))
        distance = self.distance(student_features, teacher_features)
        return (distance * regions.weights).sum() / len(distance)


@torch.no_grad()
def find_regions(gt_boxes: Tensor, grid: NodeGrid, points: int) -> Regions:
    """The places at which features are compared.

    Args:
        gt_boxes: (B, G, 7 + C + 1).
        grid: of the map.
        points: places along and across each box.
    """
    frames = []
    boxes = []
    for frame, frame_boxes in enumerate(gt_boxes):
        labelled = without_padding(frame_boxes)[:, :7]
        frames.append(torch.full((len(labelled),), frame, device=gt_boxes.device))
        boxes.append(labelled)
    places = places_in(torch.cat(boxes), points)
    unit = _in_map_units(places, grid)
    weights = (unit.abs() <= 1).all(dim=2).to(places.dtype)
    inside = weights.sum(dim=1)
    kept = torch.nonzero(inside > 0).flatten()
    return Regions(
        torch.cat(frames)[kept], places[kept], weights[kept] / inside[kept, None].clamp_min(1)
    )


def places_in(boxes: Tensor, points: int) -> Tensor:
    """(R, points * points, 2) x, y of places in the middles of equal parts of boxes (R, 7)."""
    steps = (torch.arange(points, device=boxes.device, dtype=boxes.dtype) + 0.5) / points - 0.5
    shares = torch.cartesian_prod(steps, steps).view(-1, 2)
    offsets = shares * boxes[:, None, 3:5]
    return rotate_points_along_z(offsets, boxes[:, 6]) + boxes[:, None, :2]


def _in_map_units(places: Tensor, grid: NodeGrid) -> Tensor:
    """Places (R, K, 2) in metres, with -1 and 1 at the borders of the map."""
    size_m = constant_like(grid.cell_size_m[:2], places) * constant_like(grid.size[:2], places)
    return (places - constant_like(grid.origin_m[:2], places)) / size_m * 2 - 1


def interpolate(feature_map: Tensor, regions: Regions, grid: NodeGrid) -> Tensor:
    """Features (R, K, C) of a map (B, C, H, W) at the places, bilinear between cell centres."""
    unit = _in_map_units(regions.places, grid).to(feature_map.dtype)
    features = feature_map.new_zeros(*unit.shape[:2], feature_map.shape[1])
    for frame in regions.frames.unique().tolist():
        rows = torch.nonzero(regions.frames == frame).flatten()
        of_frame = functional.grid_sample(
            feature_map[frame : frame + 1],
            unit[rows][None],
            padding_mode="border",
            align_corners=False,
        )
        features = features.index_copy(0, rows, of_frame[0].permute(1, 2, 0))
    return features
