"""The formats of box labels: their table, how one is recognised, and how labels are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ....config import lookup
from ....errors import DataError
from .base import FrameLabels, LabelSet, read_text
from .checks import check_labels
from .datumaro import is_datumaro, read_datumaro
from .files import LabelFile, LabelOptions
from .json_files import read_json, read_json_files
from .kitti_text import read_kitti_text
from .openpcdet_text import read_openpcdet_text
from .sly import is_sly, read_sly
from .table import read_tables
from .tracklets import read_tracklets

Reader = Callable[[Sequence[LabelFile], LabelOptions], LabelSet]


@dataclass(frozen=True)
class LabelFormat:
    """A format of box labels.

    Attributes:
        read: its reader.
        help: what it is, in a phrase.
        is_kitti: its boxes are turned into LiDAR coordinates by a calibration.
    """

    read: Reader
    help: str
    is_kitti: bool = False


def _read_openpcdet(files: Sequence[LabelFile], options: LabelOptions) -> LabelSet:
    return LabelSet({file.frame: read_openpcdet_text(file.path) for file in files})


FORMATS: dict[str, LabelFormat] = {
    "openpcdet": LabelFormat(_read_openpcdet, "text 'x y z dx dy dz heading name', a file a frame"),
    "kitti": LabelFormat(read_kitti_text, "KITTI's label files, of any classes", is_kitti=True),
    "csv": LabelFormat(read_tables, "a table with a header line, of all frames or of one"),
    "json": LabelFormat(read_json_files, "JSON: SUSTechPOINTS, labelCloud and other usual shapes"),
    "sly": LabelFormat(read_sly, "Supervisely; CVAT's 'Sly Point Cloud'"),
    "datumaro": LabelFormat(read_datumaro, "Datumaro's JSON; CVAT's 'Datumaro 3D'"),
    "tracklets": LabelFormat(read_tracklets, "tracklet_labels.xml; CVAT's 'Kitti Raw Format'"),
}


def read_labels(
    files: Sequence[LabelFile], options: LabelOptions, format_name: str = ""
) -> tuple[str, LabelSet]:
    """The name of the format, and the checked labels in LiDAR coordinates.

    Args:
        format_name: a name of FORMATS; empty to recognise the format by the first file with labels.
    """
    if not files:
        raise DataError("no label files were found")
    name = format_name or guess_format(files)
    label_format = lookup(FORMATS, name, "--format")
    labels = label_format.read(files, options)
    if not any(len(entry) for entry in labels.frames.values()):
        raise DataError(
            f"{files[0].path}: holds no box in any frame, read as {name}; expected labelled objects"
        )
    if not label_format.is_kitti and options.box_z == "bottom":
        labels = _from_bottoms(labels)
    return name, check_labels(labels, options)


def _from_bottoms(labels: LabelSet) -> LabelSet:
    """The labels with z moved from the bottom of the box to its centre."""
    frames: dict[str, FrameLabels] = {}
    for frame, entry in labels.frames.items():
        boxes = entry.boxes.copy()
        boxes[:, 2] += boxes[:, 5] / 2
        frames[frame] = replace(entry, boxes=boxes)
    return replace(labels, frames=frames)


def guess_format(files: Sequence[LabelFile]) -> str:
    """The format of label files by the first that is not empty."""
    for file in files:
        if file.path.suffix.lower() == ".feather":
            return "csv"
        if read_text(file.path).strip():
            return _guess_by_content(file.path)
    return "openpcdet"  # all are empty: frames without objects, the same in every format


def _guess_by_content(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix == ".xml":
        return "tracklets"
    if suffix == ".json":
        return _guess_json(read_json(path))
    if suffix in (".csv", ".tsv"):
        return "csv"
    line = next(line for line in read_text(path).splitlines() if line.strip())
    fields = line.split()
    if len(fields) in (15, 16) and not _are_numbers(fields[:1]) and _are_numbers(fields[1:]):
        return "kitti"
    if len(fields) > 7 and _are_numbers(fields[:7]) and not _are_numbers(fields[7:8]):
        return "openpcdet"
    if len(fields) > 1 or "," in line or ";" in line:
        return "csv"
    raise DataError(
        f"{path}: is no known format of labels ('{line.strip()[:60]}'); --format names one of "
        f"{', '.join(FORMATS)}"
    )


def _guess_json(content: object) -> str:
    if is_sly(content):
        return "sly"
    if is_datumaro(content):
        return "datumaro"
    return "json"


def _are_numbers(fields: Sequence[str]) -> bool:
    try:
        [float(field) for field in fields]
    except ValueError:
        return False
    return bool(fields)
