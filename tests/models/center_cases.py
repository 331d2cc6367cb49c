"""A centre head on 16 x 16 cells of 1 m, two boxes on it, and targets and perfect predictions."""

from __future__ import annotations

import torch
from easydict import EasyDict
from small_center import center_head_config
from small_model import CLASS_NAMES, RANGE
from torch import Tensor

from pcdet_distill.models.dense_heads.center_head import CenterHead
from pcdet_distill.models.dense_heads.center_targets import CenterTargets

# Labelled boxes whose centres lie in cells (row 10, column 4) and (row 3, column 10).
CAR = [4.3, 2.6, -0.9, 3.9, 1.6, 1.56, 0.4, 1]
PEDESTRIAN = [10.5, -4.25, -0.7, 0.8, 0.6, 1.73, -2.9, 2]
PADDING = [0.0] * 8
NUM_COLUMNS = 16
CELL_OF_CAR = 10 * NUM_COLUMNS + 4
CELL_OF_PEDESTRIAN = 3 * NUM_COLUMNS + 10


def labelled(box: list[float], label: int) -> list[float]:
    """The same box, of another class."""
    return [*box[:7], label]


def make_head(config: EasyDict | None = None, second_stage: bool = False) -> CenterHead:
    """A head on voxels of 0.5 m with stride 2."""
    torch.manual_seed(0)
    return CenterHead(
        model_cfg=config or center_head_config(),
        input_channels=4,
        num_class=3,
        class_names=CLASS_NAMES,
        grid_size=[32, 32, 1],
        point_cloud_range=RANGE,
        voxel_size=[0.5, 0.5, 4],
        predict_boxes_when_training=second_stage,
    )


def one_frame(*boxes: list[float]) -> Tensor:
    """Ground truth of one frame, (1, G, 8)."""
    return torch.tensor([boxes], dtype=torch.float32)


def targets_of(head: CenterHead, boxes: Tensor) -> list[CenterTargets]:
    """Targets of each group of classes."""
    return head.target_assigner.assign_targets(boxes, head.feature_map_size)


def perfect_predictions(targets: CenterTargets) -> dict[str, Tensor]:
    """Outputs of a head that predicts the targets exactly."""
    frames, _, height, width = targets.heatmap.shape
    num_codes = targets.boxes.shape[2]
    maps = torch.zeros(frames, num_codes, height * width)
    for frame in range(frames):
        rows = targets.mask[frame]
        cells = targets.cells[frame, rows]
        maps[frame][:, cells] = targets.boxes[frame, rows].T
    center, center_z, dim, rot = maps.view(frames, -1, height, width).split([2, 1, 3, 2], dim=1)
    hm = torch.where(targets.heatmap == 1, 5.0, -5.0)
    return {"center": center, "center_z": center_z, "dim": dim, "rot": rot, "hm": hm}
