"""Datumaro's JSON of 3D cuboids, which CVAT exports as 'Datumaro'.

``categories.label.labels`` lists the classes, ``items`` the frames. A cuboid has ``label_id``,
``position``, ``rotation`` (radians about x, y, z) and ``scale`` (lengths along its own x, y, z).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ....errors import DataError
from .base import FrameLabels, LabelRow, LabelSet, number
from .files import LabelFile, LabelOptions, frame_of_value
from .json_files import read_json

CUBOID = "cuboid_3d"


def is_datumaro(content: object) -> bool:
    """Whether the content of a JSON file is Datumaro's."""
    return isinstance(content, Mapping) and "items" in content and "categories" in content


def read_datumaro(files: Sequence[LabelFile], options: LabelOptions) -> LabelSet:
    """The labels of all frames of the files, usually annotations/default.json alone."""
    frames: dict[str, FrameLabels] = {}
    for file in files:
        content = read_json(file.path)
        if not is_datumaro(content):
            raise DataError(f"{file.path}: has no 'categories' and 'items', as Datumaro writes")
        classes = _classes(content)
        for item in content["items"]:
            frame = frame_of_value(item.get("id"), "id", str(file.path))
            where = f"{file.path}, item {frame}"
            rows = _rows(item.get("annotations", ()), classes, where)
            frames[frame] = FrameLabels.from_rows(rows)
    return LabelSet(frames)


def _classes(content: Mapping[str, Any]) -> list[str]:
    labels = (content["categories"].get("label") or {}).get("labels") or []
    return [str(label.get("name")) for label in labels]


def _rows(annotations: Sequence[Any], classes: Sequence[str], where: str) -> Iterator[LabelRow]:
    for index, annotation in enumerate(annotations):
        if annotation.get("type") != CUBOID:
            continue
        place = f"{where}, annotation {index}"
        label = annotation.get("label_id")
        if not isinstance(label, int) or not 0 <= label < len(classes):
            raise DataError(f"{place}: label_id {label} is none of its {len(classes)} categories")
        box = [*_vector(annotation, "position", place), *_vector(annotation, "scale", place)]
        box.append(_vector(annotation, "rotation", place)[2])
        track = (annotation.get("attributes") or {}).get("track_id")
        yield LabelRow(classes[label], box, None if track is None else str(track), place)


def _vector(annotation: Mapping[str, Any], key: str, where: str) -> list[float]:
    """The three numbers of a vector."""
    vector = annotation.get(key)
    if not isinstance(vector, list) or len(vector) != 3:
        raise DataError(f"{where}: '{key}' is {vector}, expected three numbers")
    return [number(value, key, where) for value in vector]
