"""The DATA_PROCESSOR list: range mask, sampling, shuffling, voxels, in the order of the yaml.

Each step is made once from its block and is then called with an item's dict and the item's own random state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...config import lookup, required
from ...ops.boxes import mask_boxes_outside_range
from ...ops.voxels import grid_size_of, voxelize

WHERE = "DATA_CONFIG.DATA_PROCESSOR"
NEAR_LIMIT_M = 40.0  # sample_points keeps every point beyond it: there are few


class ProcessingStep:
    """One entry of DATA_PROCESSOR.

    Args:
        config: the entry.
        point_cloud_range: (6,) float32.
        training: which of a ``{train, test}`` pair holds.
    """

    def __init__(
        self, config: Mapping[str, Any], point_cloud_range: np.ndarray, training: bool
    ) -> None:
        self.config = config
        self.where = f"{WHERE}.{config['NAME']}"
        self.point_cloud_range = point_cloud_range
        self.training = training

    def _value(self, key: str) -> Any:
        return required(self.config, key, self.where)

    def _of_mode(self, key: str) -> Any:
        """The train or the test value of a ``{train: ..., test: ...}`` pair."""
        return required(
            self._value(key), "train" if self.training else "test", f"{self.where}.{key}"
        )

    def __call__(self, data_dict: dict[str, Any], random: np.random.RandomState) -> None:
        """Change ``data_dict`` in place."""


class MaskOutsideRange(ProcessingStep):
    """Drop points outside the range in x and y (z is the voxelizer's), and in training boxes outside it."""

    def __init__(
        self, config: Mapping[str, Any], point_cloud_range: np.ndarray, training: bool
    ) -> None:
        super().__init__(config, point_cloud_range, training)
        self.masks_boxes = training and bool(self._value("REMOVE_OUTSIDE_BOXES"))

    def __call__(self, data_dict: dict[str, Any], random: np.random.RandomState) -> None:
        if data_dict.get("points") is not None:
            data_dict["points"] = data_dict["points"][
                mask_points_by_range(data_dict["points"], self.point_cloud_range)
            ]
        if self.masks_boxes and data_dict.get("gt_boxes") is not None:
            mask = mask_boxes_outside_range(
                data_dict["gt_boxes"],
                self.point_cloud_range,
                min_num_corners=self.config.get("min_num_corners", 1),
                use_center_to_filter=self.config.get("USE_CENTER_TO_FILTER", True),
            )
            data_dict["gt_boxes"] = data_dict["gt_boxes"][mask]


class ShufflePoints(ProcessingStep):
    """Random order, so that the voxel limits drop points without preference."""

    def __init__(
        self, config: Mapping[str, Any], point_cloud_range: np.ndarray, training: bool
    ) -> None:
        super().__init__(config, point_cloud_range, training)
        self.enabled = bool(self._of_mode("SHUFFLE_ENABLED"))

    def __call__(self, data_dict: dict[str, Any], random: np.random.RandomState) -> None:
        if self.enabled:
            points = data_dict["points"]
            data_dict["points"] = points[random.permutation(len(points))]


class SamplePoints(ProcessingStep):
    """Exactly NUM_POINTS points: far points are all kept, near ones drawn; too few are repeated. -1 keeps all."""

    def __init__(
        self, config: Mapping[str, Any], point_cloud_range: np.ndarray, training: bool
    ) -> None:
        super().__init__(config, point_cloud_range, training)
        self.num_points = int(self._of_mode("NUM_POINTS"))

    def __call__(self, data_dict: dict[str, Any], random: np.random.RandomState) -> None:
        points = data_dict["points"]
        if self.num_points == -1:
            return
        if len(points) == 0:
            points = np.zeros((1, points.shape[1]), dtype=np.float32)
        chosen = (
            self._thin_out(points, random)
            if len(points) > self.num_points
            else self._repeat(len(points), random)
        )
        random.shuffle(chosen)
        data_dict["points"] = points[chosen]

    def _thin_out(self, points: np.ndarray, random: np.random.RandomState) -> np.ndarray:
        distance_m = np.linalg.norm(points[:, :3], axis=1)
        far, near = (
            np.flatnonzero(distance_m >= NEAR_LIMIT_M),
            np.flatnonzero(distance_m < NEAR_LIMIT_M),
        )
        if len(far) >= self.num_points:
            return random.choice(len(points), self.num_points, replace=False)
        return np.concatenate([random.choice(near, self.num_points - len(far), replace=False), far])

    def _repeat(self, available: int, random: np.random.RandomState) -> np.ndarray:
        whole_copies, rest = divmod(self.num_points, available)
        everything = np.tile(np.arange(available), whole_copies)
        return np.concatenate([everything, random.choice(available, rest, replace=False)])


class PointsToVoxels(ProcessingStep):
    """Adds ``voxels``, ``voxel_coords`` (z, y, x) and ``voxel_num_points``."""

    def __init__(
        self, config: Mapping[str, Any], point_cloud_range: np.ndarray, training: bool
    ) -> None:
        super().__init__(config, point_cloud_range, training)
        self.voxel_size = self._value("VOXEL_SIZE")
        self.max_points = int(self._value("MAX_POINTS_PER_VOXEL"))
        self.max_voxels = int(self._of_mode("MAX_NUMBER_OF_VOXELS"))

    def __call__(self, data_dict: dict[str, Any], random: np.random.RandomState) -> None:
        voxels, coords, num_points = voxelize(
            data_dict["points"],
            self.point_cloud_range,
            self.voxel_size,
            self.max_points,
            self.max_voxels,
        )
        data_dict["voxels"] = voxels if data_dict["use_lead_xyz"] else voxels[..., 3:]
        data_dict["voxel_coords"] = coords
        data_dict["voxel_num_points"] = num_points


class GridSizeOnly(ProcessingStep):
    """For models that make their voxels themselves: only VOXEL_SIZE is needed, the points stay points."""


PROCESSORS = {
    "mask_points_and_boxes_outside_range": MaskOutsideRange,
    "shuffle_points": ShufflePoints,
    "sample_points": SamplePoints,
    "transform_points_to_voxels": PointsToVoxels,
    "transform_points_to_voxels_placeholder": GridSizeOnly,
    "calculate_grid_size": GridSizeOnly,
}


class DataProcessor:
    """All steps of DATA_PROCESSOR, in order.

    Attributes:
        voxel_size, grid_size: of the step that has VOXEL_SIZE, else None.
    """

    def __init__(
        self,
        processor_configs: Sequence[Mapping[str, Any]],
        point_cloud_range: np.ndarray,
        training: bool,
        num_point_features: int,
    ) -> None:
        self.num_point_features = num_point_features
        self.voxel_size, self.grid_size = None, None
        self.steps: list[ProcessingStep] = []
        for config in processor_configs:
            step = lookup(PROCESSORS, required(config, "NAME", WHERE), WHERE)
            self.steps.append(step(config, point_cloud_range, training))
            if "VOXEL_SIZE" in config:
                self.voxel_size = list(config["VOXEL_SIZE"])
                self.grid_size = grid_size_of(point_cloud_range, self.voxel_size)

    def forward(self, data_dict: dict[str, Any], random: np.random.RandomState) -> dict[str, Any]:
        """Run every step on one item; the dict is changed in place and returned."""
        for step in self.steps:
            step(data_dict, random)
        return data_dict


def mask_points_by_range(points: np.ndarray, point_cloud_range: np.ndarray) -> np.ndarray:
    """(N,) bool: x and y inside the range, both ends included; z is not looked at."""
    x, y = points[:, 0], points[:, 1]
    low, high = point_cloud_range[:3], point_cloud_range[3:]
    return (x >= low[0]) & (x <= high[0]) & (y >= low[1]) & (y <= high[1])
