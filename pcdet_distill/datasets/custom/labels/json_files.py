"""Boxes in JSON: the usual shapes of such files, SUSTechPOINTS and labelCloud among them.

A file holds the boxes of one frame, or of many:

* a list of objects, or an object with such a list as ``objects``, ``labels``, ``annotations`` ...;
* parallel lists, as ``gt_boxes`` (M, 7) and ``gt_names`` (M,);
* an object whose keys are frames, or a list ``frames`` whose entries name theirs.

A box is an object. Its numbers may be nested (``position.x``), in lists (``center: [x, y, z]``,
``size: [dx, dy, dz]``, ``rotation`` as an angle, three angles or a quaternion w, x, y, z) or one
list of seven.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ....errors import DataError
from .base import FrameLabels, LabelRow, LabelSet, read_text
from .fields import (
    CENTRES,
    QUATERNION,
    ROTATIONS,
    SIZES,
    Fields,
    check_fields,
    guess_fields,
    notes_of_fields,
    plain_name,
    row_of_values,
)
from .files import LabelFile, LabelOptions, frame_of_value

LISTS = (
    *("objects", "labels", "annotations", "boxes", "cuboids", "bounding_boxes", "instances"),
    *("shapes", "figures", "gt", "ground_truth", "detections", "items"),
)
FRAME_LISTS = ("frames", "samples", "scans", "data", "images", "items")
FRAME_KEYS = (
    *("frame", "frame_id", "frame_name", "filename", "file", "file_name", "cloud", "point_cloud"),
    *("pcd", "sample", "scan", "timestamp", "name", "id", "path"),
)
BOX_LISTS = ("gt_boxes_lidar", "gt_boxes", "boxes_lidar", "boxes_3d", "boxes3d", "boxes")
NAME_LISTS = ("gt_names", "names", "name", "classes", "labels", "gt_labels")
ID_LISTS = ("ids", "track_ids", "obj_ids", "object_ids")
# One list that holds the whole box.
WHOLE_BOX = ("box", "bbox", "box3d", "bbox3d", "boundingbox", "cuboid", "lidarbox", "gtbox")
BOX_NAMES = ("x", "y", "z", "dx", "dy", "dz", "heading")


def read_json_files(files: Sequence[LabelFile], options: LabelOptions) -> LabelSet:
    """The labels of one JSON file of all frames, or of a file a frame."""
    rows: dict[str, list[LabelRow]] = {}
    notes: dict[str, None] = {}  # ordered, each sentence once
    for file in files:
        content = read_json(file.path)
        class_of = _classes_by_number(content)
        for frame, where, entries in frames_of_json(content, file):
            of_frame = rows.setdefault(frame, [])
            for index, entry in enumerate(entries):
                row, fields = _row(entry, f"{where}, box {index}")
                of_frame.append(replace(row, name=class_of.get(row.name, row.name)))
                notes.update(dict.fromkeys(notes_of_fields(fields, "JSON")))
    frames = {frame: FrameLabels.from_rows(entries) for frame, entries in rows.items()}
    return LabelSet(frames, tuple(notes))


def _classes_by_number(content: Any) -> dict[str, str]:
    """Class names by the numbers that boxes may have in their place.

    They are in a list ``categories`` of objects with id and name, as COCO has it, or in a list
    ``class_names``.
    """
    if not isinstance(content, Mapping):
        return {}
    listed = content.get("class_names")
    named = {}
    for index, name in enumerate(listed if isinstance(listed, list) else []):
        named[str(index)] = str(name)
    entries = content.get("categories")
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, Mapping) and "id" in entry and "name" in entry:
            named[str(entry["id"])] = str(entry["name"])
    return named


def read_json(path: Path) -> Any:
    """The content of a JSON file, or a DataError that names the line of the mistake."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}: is no JSON ({error.msg})") from None
    except RecursionError:
        raise DataError(f"{path}: has too many brackets within each other") from None
    except ValueError as error:  # a number of thousands of digits
        raise DataError(f"{path}: holds what is no number ({error})") from None


def frames_of_json(content: Any, file: LabelFile) -> Iterator[tuple[str, str, Sequence[Any]]]:
    """Each frame of a JSON file: its name, its place for messages, and its boxes."""
    where = str(file.path)
    boxes = boxes_of(content, where)
    if boxes is not None:
        yield from _by_frame(boxes, file.frame, where)
        return
    if isinstance(content, Mapping):
        for key in FRAME_LISTS:
            if isinstance(content.get(key), (list, Mapping)):
                content = content[key]
                break
    if isinstance(content, Mapping):
        pairs = [(frame_of_value(key, "key", where), value) for key, value in content.items()]
    elif isinstance(content, list):
        pairs = [_named_frame(entry, where, index) for index, entry in enumerate(content)]
    else:
        pairs = []
    found = False
    for frame, value in pairs:
        of_frame = boxes_of(value, f"{where}, frame {frame}")
        if of_frame is not None:
            found = True
            yield frame, f"{where}, frame {frame}", of_frame
    if not found:
        raise DataError(
            f"{where}: holds no boxes; expected a list of objects with class, centre, size and "
            f"heading, or an object with such a list as one of {', '.join(LISTS[:6])}"
        )


def _by_frame(
    boxes: Sequence[Any], frame: str, where: str
) -> Iterator[tuple[str, str, Sequence[Any]]]:
    """One frame; or several, where every box names its own."""
    keys = [_frame_key(box) for box in boxes]
    if not boxes or None in keys:
        yield frame, where, boxes
        return
    of_frame: dict[str, list[Any]] = {}
    for key, box in zip(keys, boxes):
        of_frame.setdefault(frame_of_value(box[key], str(key), where), []).append(box)
    for name, entries in of_frame.items():
        yield name, f"{where}, frame {name}", entries


def _frame_key(box: object) -> str | None:
    """The key by which a box names its frame; names that could be the object's do not count."""
    if isinstance(box, Mapping):
        for key in box:
            if plain_name(str(key)) in ("frame", "frameid", "framename", "filename", "cloud"):
                return str(key)
    return None


def _named_frame(entry: Any, where: str, index: int) -> tuple[str, Any]:
    """A frame of a list, by the key that names it; else by its number."""
    if isinstance(entry, Mapping):
        for key in FRAME_KEYS:
            value = entry.get(key)
            if isinstance(value, (str, int)) and str(value):
                return frame_of_value(value, key, f"{where}, entry {index}"), entry
    return str(index), entry


def boxes_of(content: Any, where: str) -> Sequence[Any] | None:
    """The boxes of one frame; None when this is no frame."""
    if isinstance(content, list):
        return content if all(_is_box(entry) for entry in content) else None
    if not isinstance(content, Mapping):
        return None
    arrays = _parallel_lists(content, where)
    if arrays is not None:
        return arrays
    for key in LISTS:
        entries = content.get(key)
        if isinstance(entries, list) and all(_is_box(entry) for entry in entries):
            return entries
    return None


def _is_box(entry: object) -> bool:
    """Whether a JSON object has numbers of a box; a frame with a list of boxes has none itself."""
    if not isinstance(entry, Mapping):
        return False
    if any(isinstance(entry.get(key), list) and _has_objects(entry[key]) for key in LISTS):
        return False
    known = guess_fields(flat_values(entry, "")).header_of
    return "x" in known or "dx" in known or "x min" in known


def _has_objects(entries: Sequence[Any]) -> bool:
    return any(isinstance(entry, (Mapping, list)) for entry in entries)


def _parallel_lists(content: Mapping[str, Any], where: str) -> list[dict[str, Any]] | None:
    """The boxes of one list of seven numbers each and one list of names."""
    boxes = _first_list(content, BOX_LISTS)
    if boxes is None or not all(isinstance(box, list) for box in boxes):
        return None
    names = _first_list(content, NAME_LISTS)
    if names is None or len(names) != len(boxes):
        found = "no list of names" if names is None else f"{len(names)} names"
        raise DataError(
            f"{where}: holds {len(boxes)} boxes and {found}; expected a name for each box, as "
            f"{' or '.join(NAME_LISTS[:2])}"
        )
    ids = _first_list(content, ID_LISTS) or [None] * len(boxes)
    return [
        {"class": name, "box": box, "id": object_id}
        for name, box, object_id in zip(names, boxes, ids)
    ]


def _first_list(content: Mapping[str, Any], keys: Sequence[str]) -> list[Any] | None:
    for key in keys:
        if isinstance(content.get(key), list):
            found: list[Any] = content[key]
            return found
    return None


def _row(entry: Any, where: str) -> tuple[LabelRow, Fields]:
    if not isinstance(entry, Mapping):
        raise DataError(f"{where}: expected an object with class, centre, size and heading")
    values = flat_values(entry, where)
    fields = guess_fields(values)
    check_fields(fields, list(values), where)
    return row_of_values(values, fields, where), fields


def flat_values(entry: Mapping[str, Any], where: str, prefix: str = "") -> dict[str, Any]:
    """The numbers and texts of a nested object by their path, as ``psr.position.x``."""
    if _is_nuscenes(entry):
        entry = {"wlh" if key == "size" else key: value for key, value in entry.items()}
    values: dict[str, Any] = {}
    for key, value in entry.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            values.update(flat_values(value, where, f"{path}."))
        elif isinstance(value, list):
            values.update(_values_of_list(path, value, where))
        else:
            values[path] = value
    return values


def _is_nuscenes(entry: Mapping[str, Any]) -> bool:
    """Whether a box has nuScenes' keys: then its size is width, length, height."""
    rotation = entry.get("rotation")
    has_keys = {"translation", "size", "rotation"} <= entry.keys()
    return has_keys and isinstance(rotation, list) and len(rotation) == 4


def _values_of_list(path: str, value: list[Any], where: str) -> dict[str, Any]:
    """The numbers of a vector by names that say what they are."""
    name = plain_name(path.rsplit(".", 1)[-1])
    if name in WHOLE_BOX and len(value) in (7, 9):
        return {f"{path}.{part}": number_ for part, number_ in zip(BOX_NAMES, value)}
    if len(value) == 3 and name in (*CENTRES, "xyz", *SIZES, *ROTATIONS):
        stem = "position" if name == "xyz" else path
        return {f"{stem}.{axis}": number_ for axis, number_ in zip("xyz", value)}
    if len(value) == 3 and name in ("lwh", "wlh", "hwl", "whl", "hlw", "lhw"):
        sizes = {"l": "length", "w": "width", "h": "height"}
        return {f"size.{sizes[letter]}": item for letter, item in zip(name, value)}
    if len(value) == 4 and name in (*ROTATIONS, "quaternion", "quat", "q"):
        return dict(zip(QUATERNION, value))
    return {}
