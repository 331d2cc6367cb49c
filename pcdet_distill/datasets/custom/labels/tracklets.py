"""tracklet_labels.xml: tracks of KITTI's raw data, which CVAT exports as 'Kitti Raw Format'.

A track has one size and a pose for each frame from ``first_frame`` on. CVAT writes the names of the
frames into ``frame_list.txt`` beside it, and fills the three sizes in another order than KITTI:

=====  ==================  ==========================
tag    KITTI               CVAT (with frame_list.txt)
=====  ==================  ==========================
l      length, along x     size along z
w      width, along y      size along x
h      height, along z     size along y
tz     bottom of the box   centre of the box
=====  ==================  ==========================
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from ....errors import DataError
from .base import FrameLabels, LabelRow, LabelSet, number, read_text
from .files import LabelFile, LabelOptions, frame_of_value

FRAME_LIST = "frame_list.txt"
KITTI_SIZES = ("l", "w", "h")
CVAT_SIZES = ("w", "h", "l")
OUT_OF_IMAGE = "2"  # truncation, by which CVAT fills frames where a track is not there


def read_tracklets(files: Sequence[LabelFile], options: LabelOptions) -> LabelSet:
    """The labels of all frames in which a track stands."""
    rows: dict[str, list[LabelRow]] = {}
    notes = []
    for file in files:
        names = _frame_names(file.path)
        from_cvat = names is not None
        for name in (names or {}).values():
            rows.setdefault(name, [])
        for index, track in enumerate(_tracks(file.path)):
            _add_track(rows, track, names, f"{file.path}, track {index}", str(index))
        notes.append(
            f"{file.path}: read as {'CVAT' if from_cvat else 'KITTI'} writes it, because there is "
            f"{'a' if from_cvat else 'no'} {FRAME_LIST} beside it"
        )
    return LabelSet(
        {frame: FrameLabels.from_rows(entries) for frame, entries in rows.items()}, tuple(notes)
    )


def _tracks(path: Path) -> list[ElementTree.Element]:
    # Entities are refused: a few lines of them can grow to gigabytes when they are expanded.
    text = read_text(path)
    if "<!ENTITY" in text:
        raise DataError(f"{path}: declares XML entities; expected plain tracklets")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise DataError(f"{path}: is no XML ({error})") from None
    tracklets = root if root.tag == "tracklets" else root.find("tracklets")
    if tracklets is None:
        raise DataError(f"{path}: has no <tracklets>, as KITTI's raw data and CVAT write them")
    return tracklets.findall("item")


def _add_track(
    rows: dict[str, list[LabelRow]],
    track: ElementTree.Element,
    names: dict[int, str] | None,
    where: str,
    object_id: str,
) -> None:
    """Add the pose of each frame of a track to the boxes of that frame."""
    name = (track.findtext("objectType") or "").strip()
    if not name:
        raise DataError(f"{where}: has no objectType")
    from_cvat = names is not None
    order = CVAT_SIZES if from_cvat else KITTI_SIZES
    sizes = [number(track.findtext(tag), tag, where) for tag in order]
    first = int(number(track.findtext("first_frame"), "first_frame", where))
    for step, pose in enumerate(track.findall("poses/item")):
        if from_cvat and pose.findtext("truncation") == OUT_OF_IMAGE:
            continue
        frame = first + step
        place = f"{where}, frame {frame}"
        x, y, z, heading = (
            number(pose.findtext(tag), tag, place) for tag in ("tx", "ty", "tz", "rz")
        )
        if not from_cvat:
            z += sizes[2] / 2
        frame_name = (names or {}).get(frame, str(frame))
        row = LabelRow(name, [x, y, z, *sizes, heading], object_id, place)
        rows.setdefault(frame_name, []).append(row)


def _frame_names(path: Path) -> dict[int, str] | None:
    """The names of frame_list.txt by their numbers; None without the file."""
    list_file = path.parent / FRAME_LIST
    if not list_file.is_file():
        return None
    names = {}
    for line_number, line in enumerate(read_text(list_file).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{list_file}, line {line_number}"
        index, _, name = line.strip().partition(" ")
        names[int(number(index, "frame number", where))] = frame_of_value(name, "name", where)
    return names
