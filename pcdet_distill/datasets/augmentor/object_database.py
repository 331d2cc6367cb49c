"""The ground-truth database: labelled objects cut out of training frames, with their points."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypedDict

import numpy as np

from ...commands import command_text
from ...config import inside, lookup, required
from ...errors import ConfigError, DataError
from ...structures import misfit_of
from ...types import ConfigDict
from ..info_structures import DATABASE_OBJECT, checks_of_file
from ..packed_objects import PackedObjects, open_packed, packed_file, places
from ..point_files import read_points
from ..safe_pickle import load_plain_pickle
from .world import WHERE

SAMPLING = f"{WHERE}.gt_sampling"
HOW_TO_MAKE_FILES = f"'{command_text('data', 'kitti')}' makes it, together with the info files"
CACHE_BYTES = 256 * 2**20
COMPARED_OBJECTS = 8  # of a packed file, with their own files


class ObjectInfo(TypedDict, total=False):
    """One object of the database.

    ``difficulty`` is there only where the dataset has difficulties, ``num_points_in_file`` only
    where ``num_points_in_gt`` counts some of the points, ``global_data_offset`` (first row, end)
    only where one file holds the points of all objects. ``packed_rows`` (number of the packed file,
    first row, end) is ours, of an object whose points are in a packed file.
    """

    name: str
    path: str
    box3d_lidar: np.ndarray
    num_points_in_gt: int
    num_points_in_file: int
    difficulty: int
    global_data_offset: Sequence[int]
    packed_rows: tuple[int, int, int]


ObjectsByClass = dict[str, list[ObjectInfo]]


class ObjectSource(Protocol):
    """Where the points of the objects come from."""

    def of(self, info: ObjectInfo) -> np.ndarray:
        """Points (N, num_features) float32 of an object, relative to the centre of its box."""


class ObjectPoints:
    """Points of database objects: from a packed file where there is one, else from their own files.

    What comes from an object's own file is kept in memory up to a limit.
    """

    def __init__(self, root: Path, num_features: int, limit_bytes: int = CACHE_BYTES) -> None:
        self.root = Path(root)
        self.num_features = num_features
        self.left_bytes = limit_bytes
        self.packed: list[PackedObjects] = []
        self._kept: dict[str, np.ndarray] = {}

    def of(self, info: ObjectInfo) -> np.ndarray:
        """The points of an object."""
        place = info.get("packed_rows")
        if place is not None:
            number, first, end = place
            return self.packed[number].rows(first, end)
        count = info.get("num_points_in_file", info["num_points_in_gt"])
        return self.read(info["path"], count)

    def use_packed(self, list_file: Path, objects: ObjectsByClass) -> str:
        """Read these objects from the packed file beside their list.

        Returns:
            why their own files have to be read; empty where the packed file is used.
        """
        packed = open_packed(list_file, objects, self.num_features)
        if isinstance(packed, str):
            return packed
        placed = list(places(objects))
        chosen = np.linspace(0, len(placed) - 1, min(len(placed), COMPARED_OBJECTS)).astype(int)
        for number in chosen:
            info, (first, end) = placed[number]
            if not self._is_file_of(info, packed.rows(first, end)):
                return f"holds other points of an object than {info['path']}"
        for info, (first, end) in placed:
            info["packed_rows"] = (len(self.packed), first, end)
        self.packed.append(packed)
        return ""

    def _is_file_of(self, info: ObjectInfo, points: np.ndarray) -> bool:
        """Whether an object's own file, where it has one, holds just these points."""
        path = inside(self.root, info["path"], "database of objects")
        if not path.is_file():
            return True
        return np.array_equal(self._read(path, info["num_points_in_gt"]), points)

    def read(self, path: str, count: int | None = None) -> np.ndarray:
        """Read-only points (N, num_features) float32, relative to the centre of the box.

        Args:
            path: of the object's file, relative to the folder of the dataset.
            count: how many points it holds; tells a file of float64 from one of float32.
        """
        points = self._kept.get(path)
        if points is None:
            points = self._read(inside(self.root, path, "database of objects"), count)
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


class SharedObjectPoints:
    """USE_SHARED_MEMORY: the points of all objects, one below the other in a file of numpy.

    OpenPCDet copies this file into shared memory. Here it is mapped: its pages are in memory once,
    however many processes read them, and nothing has to be removed afterwards.

    Args:
        path: of the file, (M, num_features) for the M points of all objects.
        num_features: columns of a point.
    """

    def __init__(self, path: Path, num_features: int) -> None:
        self.path = path
        self.num_features = num_features
        self.num_rows = len(self._mapped())
        self._rows: np.ndarray | None = None

    @classmethod
    def from_config(cls, root: Path, sampler_cfg: ConfigDict) -> SharedObjectPoints:
        """The file DB_DATA_PATH of a gt_sampling block, relative to the folder of the dataset."""
        paths = required(sampler_cfg, "DB_DATA_PATH", SAMPLING)
        listed = [paths] if isinstance(paths, str) else list(paths)
        if len(listed) != 1:
            raise ConfigError(f"{SAMPLING}.DB_DATA_PATH: expected one file, found {listed}")
        return cls(Path(root) / listed[0], int(sampler_cfg["NUM_POINT_FEATURES"]))

    def __getstate__(self) -> dict[str, Any]:
        """Another process maps the file again: a mapped array would be sent as a copy."""
        return {**self.__dict__, "_rows": None}

    def of(self, info: ObjectInfo) -> np.ndarray:
        """The points of an object."""
        first, end = info["global_data_offset"]
        if self._rows is None:
            self._rows = self._mapped()
        return np.asarray(self._rows[first:end], dtype=np.float32)

    def check(self, objects: ObjectsByClass) -> None:
        """Refuse objects without a place in the file."""
        for name, infos in objects.items():
            for info in infos:
                self._check_place(name, info.get("global_data_offset"))

    def _check_place(self, name: str, place: object) -> None:
        if not isinstance(place, (Sequence, np.ndarray)) or len(place) != 2:
            raise DataError(
                f"{SAMPLING}.USE_SHARED_MEMORY is True, but an object of class {name} lacks the "
                f"entry 'global_data_offset', its place in {self.path}; expected False, which "
                "reads a file for each object"
            )
        first, end = place
        if not 0 <= first <= end <= self.num_rows:
            raise DataError(
                f"{self.path}: holds {self.num_rows} points, but an object of class {name} has the "
                f"rows {first} to {end}; expected the file that belongs to DB_INFO_PATH"
            )

    def _mapped(self) -> np.ndarray:
        try:
            rows = np.load(self.path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{self.path}: cannot be read as numbers of numpy ({error}); expected the file "
                f"that {SAMPLING}.DB_DATA_PATH names, or USE_SHARED_MEMORY False"
            ) from None
        if rows.ndim != 2 or rows.shape[1] != self.num_features:
            raise DataError(
                f"{self.path}: has the shape {rows.shape}, expected {self.num_features} columns as "
                f"{SAMPLING}.NUM_POINT_FEATURES says"
            )
        return rows


@dataclass(frozen=True)
class ObjectDatabase:
    """The objects of a gt_sampling block by class, and where their points come from."""

    objects: ObjectsByClass
    points: ObjectSource


def open_database(
    root: Path,
    sampler_cfg: ConfigDict,
    class_names: Sequence[str],
    how_to_make: str,
    logger: logging.Logger | None = None,
) -> ObjectDatabase:
    """The database of a gt_sampling block.

    Args:
        root: folder of the dataset; DB_INFO_PATH is relative to it.
        class_names: the classes of the objects.
        how_to_make: end of the messages about a missing or incomplete file.
        logger: is told why objects are read from files of their own.
    """
    paths = required(sampler_cfg, "DB_INFO_PATH", SAMPLING)
    source = _object_source(root, sampler_cfg)
    merged: ObjectsByClass = {name: [] for name in class_names}
    for path in [paths] if isinstance(paths, str) else paths:
        infos = _read_list(root / path, class_names, how_to_make)
        if isinstance(source, ObjectPoints):
            reason = source.use_packed(root / path, infos)
            if reason:
                _check_first_files(infos, class_names, root, path, how_to_make)
            if reason and logger is not None:
                logger.info(
                    "gt_sampling: %s %s, so each object is read from its own file",
                    packed_file(root / path),
                    reason,
                )
        for name in class_names:
            merged[name].extend(infos.get(name, []))
    if isinstance(source, SharedObjectPoints):
        source.check(merged)
    return ObjectDatabase(merged, source)


def _object_source(root: Path, sampler_cfg: ConfigDict) -> ObjectPoints | SharedObjectPoints:
    if sampler_cfg.get("USE_SHARED_MEMORY"):
        return SharedObjectPoints.from_config(root, sampler_cfg)
    # Without it DB_DATA_PATH is not read, as in OpenPCDet: both hold the same points.
    return ObjectPoints(root, int(sampler_cfg["NUM_POINT_FEATURES"]))


def _read_list(file: Path, class_names: Sequence[str], how_to_make: str) -> ObjectsByClass:
    """The objects of a file by class; those of ``class_names`` are checked."""
    infos = load_plain_pickle(file, how_to_make)
    if not _is_dict_of_lists(infos):
        raise DataError(f"{file}: expected a dict with a list of objects per class; {how_to_make}")
    for name in class_names:
        _check_entries(infos.get(name, []), name, file, how_to_make)
    return infos


def _is_dict_of_lists(infos: object) -> bool:
    return isinstance(infos, dict) and all(isinstance(value, list) for value in infos.values())


def _check_entries(objects: Sequence[object], name: str, file: Path, how_to_make: str) -> None:
    """Refuse objects with missing or malformed entries."""
    checked = checks_of_file(file)
    for number, entry in enumerate(objects):
        misfit = misfit_of(entry, DATABASE_OBJECT, checked)
        if misfit is not None:
            raise DataError(
                f"{file}: object {number} of class {name} cannot be used, {misfit}; {how_to_make}"
            )


def _check_first_files(
    infos: ObjectsByClass, class_names: Sequence[str], root: Path, path: str, how_to_make: str
) -> None:
    """Refuse a database that lacks the first point file of a class."""
    # To look for every file takes minutes on a network drive. Others are missed when drawn.
    for name in class_names:
        for info in infos.get(name, [])[:1]:
            first = root / info["path"]
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
        if any(info.get("difficulty") is None for info in infos):
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
