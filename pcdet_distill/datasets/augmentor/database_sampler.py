"""gt_sampling: stand objects of other frames into a training scene (SECOND, https://doi.org/10.3390/s18103337).

For each class the next objects of a shuffled list are candidates. One that touches an object of the scene, or another
candidate, is dropped; the rest are put on the ground of the scene, and the scene's own points inside them are removed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...config import lookup, required
from ...errors import ConfigError, DataError
from ...ops.boxes import boxes_overlap_bev, enlarge_box3d
from ...ops.points import points_in_boxes_mask
from ..kitti.calibration import Calibration
from ..point_files import read_points
from ..safe_pickle import load_plain_pickle
from .world import WHERE

ObjectInfo = dict[str, Any]
HOW_TO_MAKE = "make it with 'python tools/create_data.py kitti CFG'"
CACHE_BYTES = 256 * 2**20
ENTRY_KEYS = {"name", "path", "box3d_lidar", "num_points_in_gt", "difficulty"}


class SampleCursor:
    """Walks through a shuffled list of ``size`` objects, reshuffling whenever its end has been passed."""

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


class ObjectPoints:
    """Points of database objects, read on first use and then kept in memory up to a limit."""

    def __init__(self, root: Path, num_features: int, limit_bytes: int = CACHE_BYTES) -> None:
        self.root, self.num_features, self.left_bytes = Path(root), num_features, limit_bytes
        self._kept: dict[str, np.ndarray] = {}

    def read(self, path: str) -> np.ndarray:
        """(N, num_features) float32 points relative to the box centre; not to be changed."""
        points = self._kept.get(path)
        if points is None:
            points = read_points(self.root / path, self.num_features)
            if points.nbytes <= self.left_bytes:
                self.left_bytes -= points.nbytes
                self._kept[path] = points
        return points


class DataBaseSampler:
    """The gt_sampling augmentation.

    Args:
        root_path: dataset folder; DB_INFO_PATH and the objects' files are relative to it.
        sampler_cfg: the gt_sampling entry of AUG_CONFIG_LIST.
        class_names: classes that are trained; groups of other classes are not sampled.

    Attributes:
        db_infos: the objects of each class that passed PREPARE.
        sample_groups: how many objects of each class are drawn, in the order of SAMPLE_GROUPS.
    """

    def __init__(
        self,
        root_path: Path,
        sampler_cfg: Mapping[str, Any],
        class_names: Sequence[str],
        logger: logging.Logger | None = None,
    ) -> None:
        self.where = f"{WHERE}.gt_sampling"
        if sampler_cfg.get("DATABASE_WITH_FAKELIDAR", False):
            raise ConfigError(
                f"{self.where}.DATABASE_WITH_FAKELIDAR: True is not supported; the database of "
                "create_data.py holds LiDAR boxes: set it to False"
            )
        self.use_road_plane = bool(sampler_cfg.get("USE_ROAD_PLANE", False))
        self.limit_whole_scene = bool(sampler_cfg.get("LIMIT_WHOLE_SCENE", False))
        self.extra_width_m = required(sampler_cfg, "REMOVE_EXTRA_WIDTH", self.where)
        groups = _class_counts(
            required(sampler_cfg, "SAMPLE_GROUPS", self.where), f"{self.where}.SAMPLE_GROUPS"
        )
        self.sample_groups = {name: count for name, count in groups.items() if name in class_names}
        self.object_points = ObjectPoints(
            root_path, int(required(sampler_cfg, "NUM_POINT_FEATURES", self.where))
        )
        self.db_infos = self._load(
            Path(root_path), required(sampler_cfg, "DB_INFO_PATH", self.where), class_names
        )
        for name, argument in (sampler_cfg.get("PREPARE") or {}).items():
            self.db_infos = lookup(FILTERS, name, f"{self.where}.PREPARE")(self.db_infos, argument)
        if logger is not None:
            counts = ", ".join(f"{name} {len(infos)}" for name, infos in self.db_infos.items())
            logger.info("gt_sampling database: %s", counts)

    @staticmethod
    def _load(
        root: Path, paths: Sequence[str], class_names: Sequence[str]
    ) -> dict[str, list[ObjectInfo]]:
        merged: dict[str, list[ObjectInfo]] = {name: [] for name in class_names}
        for path in [paths] if isinstance(paths, str) else paths:
            infos = load_plain_pickle(root / path, HOW_TO_MAKE)
            if not isinstance(infos, dict) or not all(
                isinstance(entries, list) for entries in infos.values()
            ):
                raise DataError(
                    f"{root / path}: expected a dict with a list of objects per class; {HOW_TO_MAKE}"
                )
            for name in class_names:
                merged[name].extend(_checked(infos.get(name, []), name, root, path))
        return merged

    def new_cursors(self) -> dict[str, SampleCursor]:
        """A fresh cursor for each sampled class."""
        return {name: SampleCursor(len(self.db_infos[name])) for name in self.sample_groups}

    def __call__(
        self,
        data_dict: dict[str, Any],
        random: np.random.RandomState,
        cursors: dict[str, SampleCursor] | None = None,
    ) -> None:
        """Add objects to an item in place.

        Without ``cursors`` the item gets fresh ones, so that it depends on its own random state alone; with them, the
        walk through the database goes on from call to call.
        """
        cursors = self.new_cursors() if cursors is None else cursors
        scene_boxes, scene_names = data_dict["gt_boxes"], data_dict["gt_names"]
        existing, chosen = scene_boxes[:, :7], []
        for name, count in self.sample_groups.items():
            if self.limit_whole_scene:
                count -= int((scene_names == name).sum())
            if count > 0:
                candidates = [
                    self.db_infos[name][index] for index in cursors[name].draw(count, random)
                ]
                fitting = _without_collisions(candidates, existing)
                existing = np.concatenate([existing, _boxes_of(fitting)])
                chosen += fitting
        mask = data_dict.pop("gt_boxes_mask", None)
        if mask is not None:
            data_dict["gt_boxes"], data_dict["gt_names"] = scene_boxes[mask], scene_names[mask]
        if chosen:
            self._add(data_dict, chosen, existing[len(scene_boxes) :].copy())

    def _add(self, data_dict: dict[str, Any], chosen: list[ObjectInfo], boxes: np.ndarray) -> None:
        """Put the chosen objects with ``boxes`` (K, 7) in front of the scene's points."""
        drop_m = np.zeros(len(boxes), dtype=boxes.dtype)
        if self.use_road_plane:
            if data_dict.get("road_plane") is None:
                raise DataError(
                    f"{self.where}.USE_ROAD_PLANE is True, but the frame came without a road plane"
                )
            drop_m = heights_over_plane(boxes, data_dict["road_plane"], data_dict["calib"])
            boxes[:, 2] -= drop_m
        objects = [self._object_in_scene(info, height) for info, height in zip(chosen, drop_m)]
        points = data_dict["points"]
        covered = points_in_boxes_mask(points, enlarge_box3d(boxes, self.extra_width_m)).any(axis=0)
        data_dict["points"] = np.concatenate([*objects, points[~covered]])
        data_dict["gt_boxes"] = np.concatenate([data_dict["gt_boxes"], boxes])
        data_dict["gt_names"] = np.concatenate(
            [data_dict["gt_names"], [info["name"] for info in chosen]]
        )

    def _object_in_scene(self, info: ObjectInfo, drop_m: float) -> np.ndarray:
        points = self.object_points.read(info["path"]).copy()
        points[:, :3] += np.asarray(info["box3d_lidar"][:3]).astype(np.float32)
        points[:, 2] -= drop_m
        return points


def _checked(entries: list[ObjectInfo], name: str, root: Path, path: str) -> list[ObjectInfo]:
    """The objects of a class as they are, when each is complete and the points of the first are there."""
    if not all(isinstance(entry, dict) and entry.keys() >= ENTRY_KEYS for entry in entries):
        raise DataError(
            f"{root / path}: an object of class {name} lacks one of {', '.join(sorted(ENTRY_KEYS))}; "
            f"{HOW_TO_MAKE}"
        )
    if entries and not (root / entries[0]["path"]).is_file():
        raise DataError(
            f"{root / entries[0]['path']}: this point file, which {path} lists, does not exist; "
            f"{HOW_TO_MAKE}"
        )
    return entries


def heights_over_plane(boxes: np.ndarray, plane: np.ndarray, calib: Calibration) -> np.ndarray:
    """(K,) metres that each LiDAR box (K, 7) hovers over the plane ``a x + b y + c z + d = 0`` of the rect frame."""
    a, b, c, d = plane
    ground = calib.lidar_to_rect(boxes[:, :3])
    ground[:, 1] = (-d - a * ground[:, 0] - c * ground[:, 2]) / b
    return boxes[:, 2] - boxes[:, 5] / 2 - calib.rect_to_lidar(ground)[:, 2]


def _boxes_of(infos: Sequence[ObjectInfo]) -> np.ndarray:
    """(K, 7) float32 LiDAR boxes."""
    return np.array([info["box3d_lidar"][:7] for info in infos], dtype=np.float32).reshape(-1, 7)


def _without_collisions(candidates: list[ObjectInfo], existing: np.ndarray) -> list[ObjectInfo]:
    """The candidates that touch no existing box (E, 7) and no other candidate, seen from above."""
    if not candidates:
        return []
    boxes = _boxes_of(candidates)
    others = torch.from_numpy(np.concatenate([boxes, existing.astype(np.float32)]))
    overlap = boxes_overlap_bev(torch.from_numpy(boxes), others).numpy()
    np.fill_diagonal(overlap, 0)
    return [info for info, row in zip(candidates, overlap) if row.max() == 0]


def _class_counts(entries: Sequence[str], where: str) -> dict[str, int]:
    """``["Car:15", ...]`` as a dict."""
    counts = {}
    for entry in entries:
        name, _, count = str(entry).partition(":")
        if not count.strip().isdigit():
            raise ConfigError(f"{where}: '{entry}' is not of the form 'Car:15'")
        counts[name.strip()] = int(count)
    return counts


def _filter_by_min_points(
    db_infos: dict[str, list[ObjectInfo]], entries: Sequence[str]
) -> dict[str, list[ObjectInfo]]:
    """Keep objects with at least so many points, ``["Car:5", ...]``."""
    least = _class_counts(entries, f"{WHERE}.gt_sampling.PREPARE.filter_by_min_points")
    return {
        name: [info for info in infos if info["num_points_in_gt"] >= least.get(name, 0)]
        for name, infos in db_infos.items()
    }


def _filter_by_difficulty(
    db_infos: dict[str, list[ObjectInfo]], levels: Sequence[int]
) -> dict[str, list[ObjectInfo]]:
    """Drop objects of these difficulties."""
    return {
        name: [info for info in infos if info["difficulty"] not in levels]
        for name, infos in db_infos.items()
    }


FILTERS: dict[str, Callable[[dict[str, list[ObjectInfo]], Any], dict[str, list[ObjectInfo]]]] = {
    "filter_by_min_points": _filter_by_min_points,
    "filter_by_difficulty": _filter_by_difficulty,
}
