"""Supervisely's point clouds, which CVAT exports as 'Sly Point Cloud'.

``ann/FRAME.pcd.json`` holds ``objects`` with a class each, and ``figures``: cuboids whose
``objectKey`` names their object. A point cloud episode has one ``annotation.json`` with figures by
frame, and ``frame_pointcloud_map.json`` with the clouds' names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ....errors import DataError
from .base import FrameLabels, LabelRow, LabelSet, number
from .files import LabelFile, LabelOptions, stem_of
from .json_files import read_json

FRAME_MAP = "frame_pointcloud_map.json"
CUBOID = "cuboid_3d"


def is_sly(content: object) -> bool:
    """Whether the content of a JSON file is an annotation of Supervisely."""
    if not isinstance(content, Mapping) or "objects" not in content:
        return False
    if "figures" in content:
        return True
    frames = content.get("frames")
    return isinstance(frames, list) and any("figures" in frame for frame in frames)


def read_sly(files: Sequence[LabelFile], options: LabelOptions) -> LabelSet:
    """The labels of a project of point clouds, or of episodes."""
    frames: dict[str, FrameLabels] = {}
    for file in files:
        content = read_json(file.path)
        if not is_sly(content):
            raise DataError(
                f"{file.path}: has no 'objects' and 'figures', as Supervisely writes them"
            )
        class_of = {}
        for entry in content["objects"]:
            class_of[entry.get("key")] = str(entry.get("classTitle") or "")
        if "figures" in content:
            rows = _rows(content["figures"], class_of, str(file.path))
            frames[file.frame] = FrameLabels.from_rows(rows)
            continue
        names = _frame_names(file)
        for frame in content["frames"]:
            index = frame.get("index")
            name = names.get(str(index), str(index))
            where = f"{file.path}, frame {index}"
            frames[name] = FrameLabels.from_rows(_rows(frame["figures"], class_of, where))
    return LabelSet(frames)


def _rows(figures: Sequence[Any], class_of: Mapping[Any, str], where: str) -> Iterator[LabelRow]:
    """The cuboids among the figures."""
    for index, figure in enumerate(figures):
        if figure.get("geometryType", CUBOID) != CUBOID:
            continue
        place = f"{where}, figure {index}"
        key = figure.get("objectKey")
        if not class_of.get(key):
            raise DataError(f"{place}: its object '{key}' is not among 'objects'")
        geometry = figure.get("geometry") or {}
        box = [*_vector(geometry, "position", place), *_vector(geometry, "dimensions", place)]
        box.append(_vector(geometry, "rotation", place)[2])
        yield LabelRow(class_of[key], box, str(key), place)


def _vector(geometry: Mapping[str, Any], key: str, where: str) -> list[float]:
    """x, y, z of a vector."""
    vector = geometry.get(key)
    if not isinstance(vector, Mapping):
        raise DataError(f"{where}: its geometry has no '{key}' with x, y and z")
    return [number(vector.get(axis), f"{key}.{axis}", where) for axis in "xyz"]


def _frame_names(file: LabelFile) -> dict[str, str]:
    """Frame by index; without the map, frames are named by their index."""
    path = file.path.parent / FRAME_MAP
    if not path.is_file():
        return {}
    folder = file.frame.rpartition("/")[0]
    names = {}
    for index, name in read_json(path).items():
        names[str(index)] = f"{folder}/{stem_of(name)}" if folder else stem_of(name)
    return names
