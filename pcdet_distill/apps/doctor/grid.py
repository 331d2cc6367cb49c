"""The grid of voxels that range and voxel size make, and a range that fits the boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ...ops.boxes import boxes_to_corners_3d
from ...types import ConfigDict
from .case import Case
from .finding import numbers

# Cells of the voxel grid that become one cell of the map a 3D backbone hands on, in x and y.
STRIDE_OF_BACKBONE_3D = {
    "VoxelBackBone8x": 8,
    "VoxelResBackBone8x": 8,
    "UNetV2": 8,
    "PillarBackBone8x": 16,
    "PillarRes18BackBone8x": 16,
}
OUTER_PERCENT = 0.5  # of the boxes may stay outside a proposed range, on each side
MARGIN_M = 1.0
MARGIN_Z_M = 0.5


def total_stride(model: ConfigDict) -> int:
    """By what the numbers of cells along x and y must be divisible; 1 where nothing is known."""
    backbone_3d = model.get("BACKBONE_3D") or {}
    backbone_2d = model.get("BACKBONE_2D") or {}
    stride = STRIDE_OF_BACKBONE_3D.get(str(backbone_3d.get("NAME")), 1)
    if str(backbone_2d.get("NAME")) == "BaseBEVBackbone":
        stride *= math.prod(int(step) for step in backbone_2d.get("LAYER_STRIDES") or ())
    return stride


def cells_of(limits: Sequence[float], voxel: Sequence[float]) -> np.ndarray:
    """(3,) numbers of cells along x, y, z, not rounded."""
    low, high = np.asarray(limits, dtype=np.float64).reshape(2, 3)
    return (high - low) / np.asarray(voxel, dtype=np.float64)


def fitting_range(case: Case) -> list[float]:
    """POINT_CLOUD_RANGE with every limit moved outwards that cuts off boxes.

    Along z the range is moved and, where the boxes are too high for it, extended.
    """
    limits = np.array(case.data["POINT_CLOUD_RANGE"], dtype=np.float64)
    boxes = seen_boxes(case)
    corners = boxes_to_corners_3d(boxes)
    low = np.percentile(corners.min(axis=1), OUTER_PERCENT, axis=0)
    high = np.percentile(corners.max(axis=1), 100 - OUTER_PERCENT, axis=0)
    centres = boxes[:, :3]
    for axis in (0, 1):
        if np.mean(centres[:, axis] < limits[axis]) > OUTER_PERCENT / 100:
            limits[axis] = math.floor(low[axis] - MARGIN_M)
        if np.mean(centres[:, axis] > limits[axis + 3]) > OUTER_PERCENT / 100:
            limits[axis + 3] = math.ceil(high[axis] + MARGIN_M)
    limits[[2, 5]] = _fitting_heights(limits[[2, 5]], float(low[2]), float(high[2]))
    return numbers(limits)


def _fitting_heights(limits: np.ndarray, low: float, high: float) -> np.ndarray:
    """z limits (2,) that hold the boxes, as far apart as before where that is enough."""
    slack = 0.3
    if limits[0] <= low + slack and limits[1] >= high - slack:
        return limits
    extent = limits[1] - limits[0]
    bottom = math.floor(2 * (low - MARGIN_Z_M)) / 2
    top = math.ceil(2 * (high + MARGIN_Z_M)) / 2
    return np.array([bottom, max(top, bottom + extent)])


def seen_boxes(case: Case) -> np.ndarray:
    """(K, 7) boxes of trained objects that hold points, or all where none does."""
    rows = [labelled.box[:7] for _, labelled in case.objects() if labelled.num_points > 0]
    return np.array(rows).reshape(-1, 7) if rows else case.boxes()


def grid_changes(case: Case, limits: Sequence[float]) -> dict[str, object]:
    """The lines of yaml for a new range: voxels of the same edges, and grids that divide evenly.

    The range grows until the numbers of cells are divisible by the network's stride. The number of
    cells along z stays, because layers are built for it.
    """
    key = case.key("POINT_CLOUD_RANGE")
    step = case.step("transform_points_to_voxels") or case.step("calculate_grid_size")
    new = np.array(limits, dtype=np.float64)
    if step is None or "VOXEL_SIZE" not in step[1]:
        return {key: numbers(new)}
    place, block = step
    voxel = [float(edge) for edge in block["VOXEL_SIZE"]]
    stride = total_stride(case.model)
    for axis in (0, 1):
        unit = voxel[axis] * stride
        extent = math.ceil((new[axis + 3] - new[axis]) / unit - 1e-6) * unit
        spare = extent - (new[axis + 3] - new[axis])
        # A range that is symmetric stays so; one that begins at 0, in front of the car, too.
        is_symmetric = abs(new[axis] + new[axis + 3]) < 1e-6
        before = spare / 2 if is_symmetric else 0.0
        new[axis] -= before
        new[axis + 3] = new[axis] + extent
    old_cells = cells_of(case.data["POINT_CLOUD_RANGE"], voxel)[2]
    cells_z = max(round(float(old_cells)), 1)
    voxel[2] = round((new[5] - new[2]) / cells_z, 6)
    changes: dict[str, object] = {key: numbers(new, 4)}
    if numbers(voxel, 6) != numbers(block["VOXEL_SIZE"], 6):
        path = case.key(f"DATA_PROCESSOR.{place}.VOXEL_SIZE")
        changes[path] = numbers(voxel, 6)
    return changes
