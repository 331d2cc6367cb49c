"""Datumaro's JSON of 3D cuboids, which CVAT exports as 'Datumaro'.

``categories.label.labels`` lists the classes, ``items`` the frames. A cuboid has ``label_id``,
``position``, ``rotation`` (radians about x, y, z) and ``scale`` (lengths along its own x, y, z).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ....errors import DataError
from .base import FrameLabels, LabelRow, LabelSet
from .files import LabelFile, LabelOptions, frame_of_value
from .json_files import read_json
from .json_parts import JsonObject, object_of, objects_of, vector_of

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
        classes = _classes(content, str(file.path))
        for item in objects_of(content["items"], f"{file.path}, items"):
            frame = frame_of_value(item.get("id"), "id", str(file.path))
            rows = _rows(item, classes, f"{file.path}, item {frame}")
            frames[frame] = FrameLabels.from_rows(rows)
    return LabelSet(frames)


def _classes(content: JsonObject, where: str) -> list[str]:
    place = f"{where}, categories"
    categories = object_of(content["categories"], place)
    label = object_of(categories.get("label"), f"{place}.label")
    labels = objects_of(label.get("labels"), f"{place}.label.labels")
    return [str(entry.get("name")) for entry in labels]


def _rows(item: JsonObject, classes: Sequence[str], where: str) -> Iterator[LabelRow]:
    """The cuboids of a frame."""
    annotations = objects_of(item.get("annotations", []), f"{where}, annotations")
    for index, annotation in enumerate(annotations):
        if annotation.get("type") != CUBOID:
            continue
        place = f"{where}, annotation {index}"
        label = annotation.get("label_id")
        if not isinstance(label, int) or not 0 <= label < len(classes):
            raise DataError(f"{place}: label_id {label} is none of its {len(classes)} categories")
        box = vector_of(annotation.get("position"), f"{place}, position")
        box += vector_of(annotation.get("scale"), f"{place}, scale")
        box.append(vector_of(annotation.get("rotation"), f"{place}, rotation")[2])
        attributes = object_of(annotation.get("attributes") or {}, f"{place}, attributes")
        track = attributes.get("track_id")
        yield LabelRow(classes[label], box, None if track is None else str(track), place)
