"""Supervisely's point clouds, which CVAT exports as 'Sly Point Cloud'.

``ann/FRAME.pcd.json`` holds ``objects`` with a class each, and ``figures``: cuboids whose
``objectKey`` names their object. A point cloud episode has one ``annotation.json`` with figures by
frame, and ``frame_pointcloud_map.json`` with the clouds' names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ....errors import DataError
from .base import FrameLabels, LabelRow, LabelSet
from .files import LabelFile, LabelOptions, stem_of
from .json_files import read_json
from .json_parts import JsonObject, object_of, objects_of, vector_of

FRAME_MAP = "frame_pointcloud_map.json"
CUBOID = "cuboid_3d"


def is_sly(content: object) -> bool:
    """Whether the content of a JSON file is an annotation of Supervisely."""
    if not isinstance(content, Mapping) or "objects" not in content:
        return False
    if "figures" in content:
        return True
    frames = content.get("frames")
    if not isinstance(frames, list):
        return False
    return any(isinstance(frame, Mapping) and "figures" in frame for frame in frames)


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
        for entry in objects_of(content["objects"], f"{file.path}, objects"):
            class_of[str(entry.get("key"))] = str(entry.get("classTitle") or "")
        if "figures" in content:
            frames[file.frame] = _labels(content["figures"], class_of, str(file.path))
        else:
            frames.update(_episode(content, class_of, file))
    return LabelSet(frames)


def _episode(
    content: JsonObject, class_of: Mapping[str, str], file: LabelFile
) -> dict[str, FrameLabels]:
    """The labels of the frames of an episode; one without objects may be left out of its list."""
    names = _frame_names(file)
    frames = {name: FrameLabels.from_rows([]) for name in names.values()}
    for frame in objects_of(content["frames"], f"{file.path}, frames"):
        index = str(frame.get("index"))
        where = f"{file.path}, frame {index}"
        frames[names.get(index, index)] = _labels(frame.get("figures"), class_of, where)
    return frames


def _labels(figures: object, class_of: Mapping[str, str], where: str) -> FrameLabels:
    return FrameLabels.from_rows(_rows(figures, class_of, where))


def _rows(figures: object, class_of: Mapping[str, str], where: str) -> Iterator[LabelRow]:
    """The cuboids among the figures."""
    for index, figure in enumerate(objects_of(figures, f"{where}, figures")):
        if figure.get("geometryType", CUBOID) != CUBOID:
            continue
        place = f"{where}, figure {index}"
        key = str(figure.get("objectKey"))
        if not class_of.get(key):
            raise DataError(f"{place}: its object '{key}' is not among 'objects'")
        geometry = object_of(figure.get("geometry"), f"{place}, geometry")
        box = vector_of(geometry.get("position"), f"{place}, position")
        box += vector_of(geometry.get("dimensions"), f"{place}, dimensions")
        box.append(vector_of(geometry.get("rotation"), f"{place}, rotation")[2])
        yield LabelRow(class_of[key], box, key, place)


def _frame_names(file: LabelFile) -> dict[str, str]:
    """Frame by index; without the map, frames are named by their index."""
    path = file.path.parent / FRAME_MAP
    if not path.is_file():
        return {}
    folder = file.frame.rpartition("/")[0]
    names = {}
    for index, name in object_of(read_json(path), str(path)).items():
        stem = stem_of(str(name))
        names[str(index)] = f"{folder}/{stem}" if folder else stem
    return names
