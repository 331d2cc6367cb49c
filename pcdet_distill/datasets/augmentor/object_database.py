"""The ground-truth database: labelled objects cut out of training frames, with their points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from ...commands import command_text
from ...config import lookup
from ...errors import ConfigError, DataError
from ...types import ConfigDict
from ..point_files import read_points
from ..safe_pickle import load_plain_pickle
from .world import WHERE

SAMPLING = f"{WHERE}.gt_sampling"
HOW_TO_MAKE_FILES = f"'{command_text('data', 'kitti')}' makes it, together with the info files"
CACHE_BYTES = 256 * 2**20
REQUIRED_KEYS = frozenset({"name", "path", "box3d_lidar", "num_points_in_gt"})


class ObjectInfo(TypedDict, total=False):
    """One object of the database.

    ``difficulty`` is there only where the dataset has difficulties, ``num_points_in_file`` only
    where ``num_points_in_gt`` counts some of the points.
    """

    name: str
    path: str
    box3d_lidar: np.ndarray
    num_points_in_gt: int
    num_points_in_file: int
    difficulty: int


ObjectsByClass = dict[str, list[ObjectInfo]]


class ObjectPoints:
    """Points of database objects, read on first use and then kept in memory up to a limit."""

    def __init__(self, root: Path, num_features: int, limit_bytes: int = CACHE_BYTES) -> None:
        self.root = Path(root)
        self.num_features = num_features
        self.left_bytes = limit_bytes
        self._kept: dict[str, np.ndarray] = {}

    def read(self, path: str, count: int | None = None) -> np.ndarray:
        """Read-only points (N, num_features) float32, relative to the centre of the box.

        Args:
            path: of the object's file, relative to the folder of the dataset.
            count: how many points it holds; tells a file of float64 from one of float32.
        """
        points = self._kept.get(path)
        if points is None:
            points = self._read(self.root / path, count)
            if points.nbytes <= self.left_bytes:
                self.left_bytes -= points.nbytes
                self._kept[path] = points
        return points

    def _read(self, path: Path, count: int | None) -> np.ndarray:
        """The points of a file, which some versions of OpenPCDet write in float64."""
        float64_bytes = 8 * self.num_features * (count or 0)
        if float64_bytes and path.is_file() and path.stat().st_size == float64_bytes:
            values = np.fromfile(path, dtype=np.float64).astype(np.float32)
            return values.reshape(-1, self.num_features)
        return read_points(path, self.num_features)


def load_objects(
    root: Path, paths: str | Sequence[str], class_names: Sequence[str], how_to_make: str
) -> ObjectsByClass:
    """The objects of ``class_names`` in one or several database files.

    Args:
        root: folder of the dataset.
        paths: DB_INFO_PATH, relative to ``root``.
        how_to_make: end of the messages about a missing or incomplete file.
    """
    merged: ObjectsByClass = {name: [] for name in class_names}
    for path in [paths] if isinstance(paths, str) else paths:
        infos = load_plain_pickle(root / path, how_to_make)
        if not _is_dict_of_lists(infos):
            raise DataError(
                f"{root / path}: expected a dict with a list of objects per class; {how_to_make}"
            )
        for name in class_names:
            objects = infos.get(name, [])
            _check_objects(objects, name, root, path, how_to_make)
            merged[name].extend(objects)
    return merged


def _is_dict_of_lists(infos: object) -> bool:
    return isinstance(infos, dict) and all(isinstance(value, list) for value in infos.values())


def _check_objects(
    objects: Sequence[ObjectInfo], name: str, root: Path, path: str, how_to_make: str
) -> None:
    """Refuse objects with missing entries, and a database whose first point file is missing."""
    for entry in objects:
        if not isinstance(entry, dict) or not entry.keys() >= REQUIRED_KEYS:
            raise DataError(
                f"{root / path}: an object of class {name} lacks one of "
                f"{', '.join(sorted(REQUIRED_KEYS))}; {how_to_make}"
            )
    # To look for every file takes minutes on a network drive. Others are missed when drawn.
    if not objects:
        return
    first = root / objects[0]["path"]
    if not first.is_file():
        raise DataError(
            f"{first}: this point file, which {path} lists, does not exist; {how_to_make}"
        )


def class_counts(entries: Sequence[str], where: str) -> dict[str, int]:
    """``["Car:15", ...]`` as a dict."""
    counts = {}
    for entry in entries:
        name, _, count = str(entry).partition(":")
        if not count.strip().isdigit():
            raise ConfigError(f"{where}: '{entry}' is not of the form 'Car:15'")
        counts[name.strip()] = int(count)
    return counts


def filter_objects(objects: ObjectsByClass, filters: ConfigDict) -> ObjectsByClass:
    """Apply the filters of a PREPARE block, in order."""
    for name, argument in filters.items():
        keep = lookup(FILTERS, name, f"{SAMPLING}.PREPARE")
        objects = keep(objects, argument)
    return objects


def _filter_by_min_points(objects: ObjectsByClass, entries: Sequence[str]) -> ObjectsByClass:
    """Keep objects with at least so many points, ``["Car:5", ...]``."""
    least = class_counts(entries, f"{SAMPLING}.PREPARE.filter_by_min_points")
    kept = {}
    for name, infos in objects.items():
        least_points = least.get(name, 0)
        kept[name] = [info for info in infos if info["num_points_in_gt"] >= least_points]
    return kept


def _filter_by_difficulty(objects: ObjectsByClass, levels: Sequence[int]) -> ObjectsByClass:
    """Drop objects of these difficulties."""
    kept = {}
    for name, infos in objects.items():
        if any("difficulty" not in info for info in infos):
            raise DataError(
                f"{SAMPLING}.PREPARE.filter_by_difficulty: an object of class {name} has no "
                "difficulty; expected a database with difficulties, or no such filter"
            )
        kept[name] = [info for info in infos if info["difficulty"] not in levels]
    return kept


FILTERS: dict[str, Callable[[ObjectsByClass, Any], ObjectsByClass]] = {
    "filter_by_min_points": _filter_by_min_points,
    "filter_by_difficulty": _filter_by_difficulty,
}
