"""gt_sampling: add objects of other frames to a training scene.

The method is SECOND's (https://doi.org/10.3390/s18103337). Most frames hold few objects, so a
detector learns faster from frames with objects added. For each class the next objects of a shuffled
list are candidates. A candidate that overlaps an object of the scene, or another candidate, is
dropped. The rest are put on the ground of the scene and replace the scene's own points there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from ...commands import command_text
from ...config import required
from ...config.cloud_options import AGE_COLUMN
from ...errors import ConfigError, DataError
from ...ops.boxes import boxes_overlap_bev, enlarge_box3d
from ...ops.points import points_in_boxes_mask
from ...types import ConfigDict
from ..box_fields import BOX_FIELDS
from ..item import Item
from ..predicted import PREDICTED, PredictionStore
from .object_database import (
    HOW_TO_MAKE_FILES,
    SAMPLING,
    ObjectInfo,
    ObjectsByClass,
    class_counts,
    filter_objects,
    open_database,
)
from .world import numbers_of

AGE_TOLERANCE_S = 1e-6
UPRIGHT = slice(0, len(BOX_FIELDS))  # the columns that say where a box is; velocities follow them


class PlaneFrame(Protocol):
    """The ``calib`` of a frame: how to get to the coordinates of its ``road_plane`` and back."""

    def lidar_to_rect(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) LiDAR to the plane's coordinates, whose y points down."""

    def rect_to_lidar(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) back to LiDAR."""


@dataclass(frozen=True)
class AgeRange:
    """FILTER_OBJ_POINTS_BY_TIMESTAMP: of the objects of several sweeps, the points of some.

    Attributes:
        column: of the age in seconds.
        lowest_s, highest_s: TIME_RANGE, both ends included.
    """

    column: int
    lowest_s: float
    highest_s: float

    @classmethod
    def from_config(
        cls, sampler_cfg: ConfigDict, features: Sequence[str], num_features: int
    ) -> AgeRange | None:
        """The range of a gt_sampling block; None where it keeps all points."""
        if not sampler_cfg.get("FILTER_OBJ_POINTS_BY_TIMESTAMP"):
            return None
        limits = required(sampler_cfg, "TIME_RANGE", SAMPLING)
        if not isinstance(limits, (list, tuple)) or len(limits) != 2:
            raise ConfigError(f"{SAMPLING}.TIME_RANGE: expected two ages in seconds, got {limits}")
        named = list(features).index(AGE_COLUMN) if AGE_COLUMN in features else num_features - 1
        return cls(named, min(limits), max(limits))

    def keep(self, points: np.ndarray) -> np.ndarray:
        """(N,) bool, which points (N, C) are inside the range."""
        age_s = points[:, self.column]
        lowest_s = self.lowest_s - AGE_TOLERANCE_S
        return (age_s > lowest_s) & (age_s < self.highest_s + AGE_TOLERANCE_S)


class SampleCursor:
    """Walks through a shuffled list of ``size`` objects and reshuffles it at its end."""

    def __init__(self, size: int) -> None:
        self.order = np.arange(size)
        self.pointer = size

    def draw(self, count: int, random: np.random.RandomState) -> np.ndarray:
        """The next indices: ``count`` of them, or fewer at the end of the list."""
        if self.pointer >= len(self.order):
            self.order = random.permutation(len(self.order))
            self.pointer = 0
        drawn = self.order[self.pointer : self.pointer + count]
        self.pointer += count
        return drawn


class DataBaseSampler:
    """The gt_sampling augmentation.

    Args:
        root_path: dataset folder; DB_INFO_PATH and the objects' files are relative to it.
        sampler_cfg: the gt_sampling entry of AUG_CONFIG_LIST.
        class_names: classes that are trained; groups of other classes are not sampled.
        logger: receives the number of objects of each class.
        how_to_make_files: end of the message about a missing database.
        features: columns of the scene's points; empty for no check of NUM_POINT_FEATURES.
        select: the points that the model sees, of points (N, C). Then filter_by_min_points counts
            these. None where the model sees all.

    Attributes:
        db_infos: the objects of each class that passed PREPARE.
        sample_groups: how many objects of each class are drawn, in the order of SAMPLE_GROUPS.
    """

    motion = "paste"

    def __init__(
        self,
        root_path: Path,
        sampler_cfg: ConfigDict,
        class_names: Sequence[str],
        logger: logging.Logger | None = None,
        *,
        how_to_make_files: str = HOW_TO_MAKE_FILES,
        features: Sequence[str] = (),
        select: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        _refuse_unsupported(sampler_cfg)
        self.use_road_plane = bool(sampler_cfg.get("USE_ROAD_PLANE", False))
        self.limit_whole_scene = bool(sampler_cfg.get("LIMIT_WHOLE_SCENE", False))
        extra_width_m = required(sampler_cfg, "REMOVE_EXTRA_WIDTH", SAMPLING)
        self.extra_width_m = numbers_of(extra_width_m, 3, f"{SAMPLING}.REMOVE_EXTRA_WIDTH")
        groups = class_counts(
            required(sampler_cfg, "SAMPLE_GROUPS", SAMPLING), f"{SAMPLING}.SAMPLE_GROUPS"
        )
        self.sample_groups = {name: count for name, count in groups.items() if name in class_names}
        num_features = int(required(sampler_cfg, "NUM_POINT_FEATURES", SAMPLING))
        if features and num_features != len(features):
            raise ConfigError(
                f"{SAMPLING}.NUM_POINT_FEATURES: {num_features}, but the points of the scene have "
                f"{len(features)} columns: {', '.join(features)}"
            )
        self.ages = AgeRange.from_config(sampler_cfg, features, num_features)
        database = open_database(
            Path(root_path), sampler_cfg, class_names, how_to_make_files, logger
        )
        self.object_points = database.points
        objects = database.objects
        self._predictions: PredictionStore | None = None
        self._label_of: dict[str, int] = {}  # path of an object to its labelled box in the store
        if select is not None:
            objects = self._with_seen_points(objects, select)
        self.db_infos = filter_objects(objects, sampler_cfg.get("PREPARE") or {})
        if logger is not None:
            counts = ", ".join(f"{name} {len(infos)}" for name, infos in self.db_infos.items())
            logger.info("gt_sampling database: %s", counts)

    def add_predictions(self, store: PredictionStore) -> None:
        """Paste the teacher's predictions of each object with it.

        Raises:
            DataError: an object is in none of the stored frames.
        """
        labels: dict[str, int] = {}
        missing: list[str] = []
        for infos in self.db_infos.values():
            for info in infos:
                label = store.label_of(info["box3d_lidar"])
                if label is None:
                    missing.append(info["path"])
                else:
                    labels[info["path"]] = label
        if missing:
            raise DataError(
                f"{SAMPLING}: {len(missing)} objects of the database, such as {missing[0]}, are "
                "labelled in no frame of the training split, so there are no teacher's predictions "
                "of them; expected a database of the same info files"
            )
        self._predictions = store
        self._label_of = labels

    def _with_seen_points(
        self, objects: ObjectsByClass, select: Callable[[np.ndarray], np.ndarray]
    ) -> ObjectsByClass:
        """The objects with the number of points that the model sees of each."""
        counted: ObjectsByClass = {}
        for name, infos in objects.items():
            counted[name] = []
            for info in infos:
                seen = len(select(self._objects_in_scene([info], np.zeros(1))))
                in_file = info["num_points_in_gt"]
                counted[name].append(
                    {**info, "num_points_in_gt": seen, "num_points_in_file": in_file}
                )
        return counted

    def new_cursors(self) -> dict[str, SampleCursor]:
        """A fresh cursor for each sampled class."""
        return {name: SampleCursor(len(self.db_infos[name])) for name in self.sample_groups}

    def __call__(
        self,
        data_dict: Item,
        random: np.random.RandomState,
        cursors: dict[str, SampleCursor] | None = None,
    ) -> None:
        """Add objects to an item in place.

        Args:
            cursors: where the walk through the database stands, to continue it from call to call.
                Without them the item gets fresh ones, so that it depends on ``random`` alone.
        """
        cursors = self.new_cursors() if cursors is None else cursors
        scene_boxes = data_dict["gt_boxes"]
        scene_names = data_dict["gt_names"]
        occupied = scene_boxes[:, UPRIGHT]
        chosen: list[ObjectInfo] = []
        for name, count in self.sample_groups.items():
            if self.limit_whole_scene:
                count -= int((scene_names == name).sum())
            if count <= 0:
                continue
            drawn = cursors[name].draw(count, random)
            candidates = [self.db_infos[name][index] for index in drawn]
            fitting = _without_collisions(candidates, occupied)
            occupied = np.concatenate([occupied, _boxes_of(fitting, len(BOX_FIELDS))])
            chosen.extend(fitting)
        # Boxes of untrained classes kept their places free until here; now they are dropped.
        mask = data_dict.pop("gt_boxes_mask", None)
        if mask is not None:
            data_dict["gt_boxes"] = scene_boxes[mask]
            data_dict["gt_names"] = scene_names[mask]
        if chosen:
            boxes = _boxes_of(chosen, scene_boxes.shape[1]).astype(scene_boxes.dtype)
            self._add(data_dict, chosen, boxes)

    def _add(self, data_dict: Item, chosen: list[ObjectInfo], boxes: np.ndarray) -> None:
        """Put the chosen objects with ``boxes`` (K, 7 or 9) in front of the scene's points."""
        drop_m = np.zeros(len(boxes), dtype=boxes.dtype)
        if self.use_road_plane:
            if data_dict.get("road_plane") is None:
                raise DataError(
                    f"{SAMPLING}.USE_ROAD_PLANE is True, but the frame came without a road plane"
                )
            drop_m = heights_over_plane(boxes, data_dict["road_plane"], data_dict["calib"])
            boxes[:, 2] -= drop_m
        objects = self._objects_in_scene(chosen, drop_m)
        points = data_dict["points"]
        enlarged = enlarge_box3d(boxes[:, UPRIGHT], self.extra_width_m)
        covered = points_in_boxes_mask(points, enlarged).any(axis=0)
        data_dict["points"] = np.concatenate([objects, np.compress(~covered, points, axis=0)])
        data_dict["gt_boxes"] = np.concatenate([data_dict["gt_boxes"], boxes])
        names = [info["name"] for info in chosen]
        data_dict["gt_names"] = np.concatenate([data_dict["gt_names"], names])
        if PREDICTED in data_dict:
            assert self._predictions is not None
            labels = [self._label_of[info["path"]] for info in chosen]
            predictions = self._predictions.of_objects(labels, drop_m)
            data_dict[PREDICTED].paste(predictions, enlarged, data_dict["lidar_aug_matrix"])

    def _objects_in_scene(self, infos: Sequence[ObjectInfo], drop_m: np.ndarray) -> np.ndarray:
        """The points of objects where these were recorded, lowered by ``drop_m`` (K,)."""
        parts = [self._points_of(info) for info in infos]
        counts = [len(part) for part in parts]
        centres = np.array([info["box3d_lidar"][:3] for info in infos], dtype=np.float32)
        points = np.concatenate(parts)
        points[:, :3] += np.repeat(centres, counts, axis=0)
        points[:, 2] -= np.repeat(drop_m, counts)
        return points

    def _points_of(self, info: ObjectInfo) -> np.ndarray:
        points = self.object_points.of(info)
        if self.ages is None:
            return points
        return np.compress(self.ages.keep(points), points, axis=0)


def _refuse_unsupported(sampler_cfg: ConfigDict) -> None:
    """Refuse what OpenPCDet's sampler does and this one does not."""
    if sampler_cfg.get("DATABASE_WITH_FAKELIDAR"):
        raise ConfigError(
            f"{SAMPLING}.DATABASE_WITH_FAKELIDAR: True is not supported; the database of "
            f"'{command_text('data', 'kitti')}' holds LiDAR boxes: set it to False"
        )
    if sampler_cfg.get("AUG_WITH_IMAGE"):
        raise ConfigError(
            f"{SAMPLING}.AUG_WITH_IMAGE: True pastes objects into the camera's image too, but "
            "detectors here read points alone: set it to False"
        )
    if sampler_cfg.get("BACKUP_DB_INFO"):
        raise ConfigError(
            f"{SAMPLING}.BACKUP_DB_INFO is not read; expected its database as DB_INFO_PATH"
        )


def heights_over_plane(boxes: np.ndarray, plane: np.ndarray, calib: PlaneFrame) -> np.ndarray:
    """(K,) metres between the bottom of each LiDAR box (K, 7) and the plane under it.

    Args:
        plane: (4,) a, b, c, d of ``a x + b y + c z + d = 0`` in the coordinates of ``calib``.
    """
    a, b, c, d = plane
    ground = calib.lidar_to_rect(boxes[:, :3])
    ground[:, 1] = (-d - a * ground[:, 0] - c * ground[:, 2]) / b
    bottom = boxes[:, 2] - boxes[:, 5] / 2
    return bottom - calib.rect_to_lidar(ground)[:, 2]


def _boxes_of(infos: Sequence[ObjectInfo], width: int) -> np.ndarray:
    """(K, width) float32 LiDAR boxes."""
    for info in infos:
        if len(info["box3d_lidar"]) < width:
            raise DataError(
                f"{info['path']}: its box has {len(info['box3d_lidar'])} numbers, expected {width} "
                "as the boxes of the scene have; make the database again from this dataset"
            )
    boxes = [info["box3d_lidar"][:width] for info in infos]
    return np.array(boxes, dtype=np.float32).reshape(-1, width)


def _without_collisions(candidates: list[ObjectInfo], occupied: np.ndarray) -> list[ObjectInfo]:
    """The candidates that overlap neither an occupied box (E, 7) nor another candidate in BEV."""
    if not candidates:
        return []
    boxes = _boxes_of(candidates, len(BOX_FIELDS))
    others = torch.from_numpy(np.concatenate([boxes, occupied.astype(np.float32)]))
    overlap = boxes_overlap_bev(torch.from_numpy(boxes), others).numpy()
    np.fill_diagonal(overlap, 0)
    return [info for info, row in zip(candidates, overlap) if row.max() == 0]
