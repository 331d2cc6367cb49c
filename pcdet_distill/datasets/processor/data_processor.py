"""The DATA_PROCESSOR list: range mask, sampling, shuffling, voxels, in the order of the yaml.

Steps that select points of a common cloud come first; see ``selection.py``.

A step is constructed once from its block. It is then called with each item and its random state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...config import built_from, lookup, required
from ...errors import ConfigError
from ...ops.batch_voxels import VoxelRule
from ...ops.boxes import mask_boxes_outside_range
from ...ops.voxels import grid_size_of, voxelize
from ...types import ConfigDict
from ..item import Item
from .selection import SELECTIONS, CloudColumns, Selection

WHERE = "DATA_CONFIG.DATA_PROCESSOR"
NEAR_LIMIT_M = 40.0  # sample_points keeps every point beyond it, because there are few


class ProcessingStep:
    """One entry of DATA_PROCESSOR.

    Args:
        config: the entry.
        point_cloud_range: (6,) float32.
        training: which value of a ``{train, test}`` pair applies.
    """

    def __init__(self, config: ConfigDict, point_cloud_range: np.ndarray, training: bool) -> None:
        self.config = config
        self.where = f"{WHERE}.{config['NAME']}"
        self.point_cloud_range = point_cloud_range
        self.training = training

    def _value(self, key: str) -> Any:
        return required(self.config, key, self.where)

    def _value_of_mode(self, key: str) -> Any:
        """The train or the test value of a ``{train: ..., test: ...}`` pair."""
        mode = "train" if self.training else "test"
        return required(self._value(key), mode, f"{self.where}.{key}")

    def __call__(self, data_dict: Item, random: np.random.RandomState) -> None:
        """Change ``data_dict`` in place."""

    @property
    def needs_moved_points(self) -> bool:
        """Whether the step reads places of points, which must have moved by then."""
        return True


class MaskOutsideRange(ProcessingStep):
    """Drop points outside the range in x and y, and in training boxes outside it.

    Points outside the range in z are dropped when voxels are made, as in OpenPCDet. Points that
    move on the device are dropped there.
    """

    def __init__(self, config: ConfigDict, point_cloud_range: np.ndarray, training: bool) -> None:
        super().__init__(config, point_cloud_range, training)
        self.masks_boxes = training and bool(self._value("REMOVE_OUTSIDE_BOXES"))

    @property
    def needs_moved_points(self) -> bool:
        """Points that move later are dropped then."""
        return False

    def __call__(self, data_dict: Item, random: np.random.RandomState) -> None:
        points = data_dict.get("points")
        move = data_dict.get("scene_move")
        if move is not None:
            data_dict["scene_move"] = move.within(self.point_cloud_range)
        elif points is not None:
            is_inside = mask_points_by_range(points, self.point_cloud_range)
            data_dict["points"] = np.compress(is_inside, points, axis=0)
        if self.masks_boxes and data_dict.get("gt_boxes") is not None:
            mask = mask_boxes_outside_range(
                data_dict["gt_boxes"],
                self.point_cloud_range,
                min_num_corners=self.config.get("min_num_corners", 1),
                use_center_to_filter=self.config.get("USE_CENTER_TO_FILTER", True),
            )
            data_dict["gt_boxes"] = data_dict["gt_boxes"][mask]


class ShufflePoints(ProcessingStep):
    """Random order, so that the limits of voxels drop random points."""

    def __init__(self, config: ConfigDict, point_cloud_range: np.ndarray, training: bool) -> None:
        super().__init__(config, point_cloud_range, training)
        self.enabled = bool(self._value_of_mode("SHUFFLE_ENABLED"))

    @property
    def needs_moved_points(self) -> bool:
        """A random order of all points is one of those that stay."""
        return False

    def __call__(self, data_dict: Item, random: np.random.RandomState) -> None:
        if self.enabled:
            points = data_dict["points"]
            data_dict["points"] = points.take(random.permutation(len(points)), axis=0)


class SamplePoints(ProcessingStep):
    """Exactly NUM_POINTS points; -1 keeps all.

    Of too many points all far ones are kept and near ones drawn, because far objects have few
    points to lose. Too few points are repeated.
    """

    def __init__(self, config: ConfigDict, point_cloud_range: np.ndarray, training: bool) -> None:
        super().__init__(config, point_cloud_range, training)
        self.num_points = int(self._value_of_mode("NUM_POINTS"))

    def __call__(self, data_dict: Item, random: np.random.RandomState) -> None:
        points = data_dict["points"]
        if self.num_points == -1:
            return
        if len(points) == 0:
            points = np.zeros((1, points.shape[1]), dtype=np.float32)
        if len(points) > self.num_points:
            chosen = self._choose(points, random)
        else:
            chosen = self._repeat(len(points), random)
        random.shuffle(chosen)
        data_dict["points"] = points.take(chosen, axis=0)

    def _choose(self, points: np.ndarray, random: np.random.RandomState) -> np.ndarray:
        """NUM_POINTS row numbers of more points (N, C)."""
        distance_m = np.linalg.norm(points[:, :3], axis=1)
        far = np.flatnonzero(distance_m >= NEAR_LIMIT_M)
        near = np.flatnonzero(distance_m < NEAR_LIMIT_M)
        if len(far) >= self.num_points:
            return random.choice(len(points), self.num_points, replace=False)
        drawn = random.choice(near, self.num_points - len(far), replace=False)
        return np.concatenate([drawn, far])

    def _repeat(self, available: int, random: np.random.RandomState) -> np.ndarray:
        """NUM_POINTS row numbers of ``available`` points: whole copies of all, then random ones."""
        whole_copies, rest = divmod(self.num_points, available)
        every_point = np.tile(np.arange(available), whole_copies)
        return np.concatenate([every_point, random.choice(available, rest, replace=False)])


class PointsToVoxels(ProcessingStep):
    """Adds ``voxels`` (V, P, C), ``voxel_coords`` (V, 3) z, y, x, ``voxel_num_points`` (V,).

    With ON_DEVICE it adds ``voxel_rule`` in their place. The batch gets the same voxels when it
    moves to the device of the model, which then computes them from far fewer numbers.
    """

    def __init__(self, config: ConfigDict, point_cloud_range: np.ndarray, training: bool) -> None:
        super().__init__(config, point_cloud_range, training)
        self.voxel_size = self._value("VOXEL_SIZE")
        self.max_points = int(self._value("MAX_POINTS_PER_VOXEL"))
        self.max_voxels = int(self._value_of_mode("MAX_NUMBER_OF_VOXELS"))
        self.on_device = bool(config.get("ON_DEVICE", False))

    @property
    def needs_moved_points(self) -> bool:
        """Voxels of the device are made after the points have moved."""
        return not self.on_device

    def __call__(self, data_dict: Item, random: np.random.RandomState) -> None:
        if self.on_device:
            data_dict["voxel_rule"] = self._rule(data_dict)
            return
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

    def _rule(self, data_dict: Item) -> VoxelRule:
        """How the device has to make the voxels."""
        if not data_dict["use_lead_xyz"]:
            raise ConfigError(
                f"{self.where}.ON_DEVICE: the points of this POINT_FEATURE_ENCODING do not start "
                "with x, y, z in the voxels; expected false"
            )
        return VoxelRule(
            point_cloud_range=self.point_cloud_range,
            voxel_size=self.voxel_size,
            max_points=self.max_points,
            max_voxels=self.max_voxels,
        )


class GridSizeOnly(ProcessingStep):
    """For models that make their voxels themselves: the points stay as they are."""

    @property
    def needs_moved_points(self) -> bool:
        """It reads none."""
        return False


PROCESSORS: dict[str, type[ProcessingStep]] = {
    "mask_points_and_boxes_outside_range": MaskOutsideRange,
    "shuffle_points": ShufflePoints,
    "sample_points": SamplePoints,
    "transform_points_to_voxels": PointsToVoxels,
    "transform_points_to_voxels_placeholder": GridSizeOnly,
    "calculate_grid_size": GridSizeOnly,
}


class DataProcessor:
    """All steps of DATA_PROCESSOR, in order.

    Args:
        columns: of the stored points, for the steps that select some of them.

    Attributes:
        selections: the steps at the start of the list that select points.
        voxel_size: VOXEL_SIZE of the step that has one, else None.
        grid_size: (3,) voxels along x, y, z, else None.
    """

    def __init__(
        self,
        processor_configs: Sequence[ConfigDict],
        point_cloud_range: np.ndarray,
        training: bool,
        num_point_features: int,
        columns: CloudColumns | None = None,
    ) -> None:
        self.num_point_features = num_point_features
        self.voxel_size: list[float] | None = None
        self.grid_size: np.ndarray | None = None
        self.steps: list[ProcessingStep] = []
        self.selections: list[Selection] = []
        for config in processor_configs:
            name = required(config, "NAME", WHERE)
            if name in SELECTIONS:
                self._add_selection(name, config, columns or CloudColumns())
                continue
            step_class = lookup(PROCESSORS, name, WHERE)
            with built_from(f"{WHERE}.{name}"):
                self.steps.append(step_class(config, point_cloud_range, training))
                if "VOXEL_SIZE" in config:
                    self.voxel_size = list(config["VOXEL_SIZE"])
                    self.grid_size = grid_size_of(point_cloud_range, self.voxel_size)

    def _add_selection(self, name: str, config: ConfigDict, columns: CloudColumns) -> None:
        if self.steps:
            raise ConfigError(
                f"{WHERE}: {name} must stand before all steps that do not select points, so before "
                f"{self.steps[0].config['NAME']}"
            )
        self.selections.append(SELECTIONS[name](config, f"{WHERE}.{name}", columns))

    def select(self, points: np.ndarray) -> np.ndarray:
        """Those of the stored points (N, C) that the model sees, with all columns."""
        for selection in self.selections:
            points = np.compress(selection.keep(points), points, axis=0)
        return points

    def check_points_may_move_later(self, option: str) -> None:
        """Refuse a step that reads places of points; ``option`` lets them move on the device."""
        for step in self.steps:
            if step.needs_moved_points:
                name = step.config["NAME"]
                advice = f"leave {option} out"
                if isinstance(step, PointsToVoxels):
                    advice = f"set ON_DEVICE in {name} too, or {advice}"
                raise ConfigError(
                    f"{option}: {WHERE}.{name} needs the points where they lie after the "
                    f"augmentation, but they move on the device; {advice}"
                )

    def forward(self, data_dict: Item, random: np.random.RandomState) -> Item:
        """Run every step on one item, which is changed in place and returned."""
        for step in self.steps:
            step(data_dict, random)
        return data_dict


def mask_points_by_range(points: np.ndarray, point_cloud_range: np.ndarray) -> np.ndarray:
    """(N,) bool: x and y are inside the range, both ends included. z is not tested."""
    x = points[:, 0]
    y = points[:, 1]
    x_min, y_min = point_cloud_range[:2]
    x_max, y_max = point_cloud_range[3:5]
    return (x >= x_min) & (x <= x_max) & (y >= y_min) & (y <= y_max)
