"""Which header of a table, or key of a JSON file, means which number of a box.

Everybody names these columns differently. The table below lists the usual names; upper and lower
case, separators and units do not matter: ``Center X (m)``, ``center_x`` and ``position.x`` are x.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ....errors import DataError
from .base import LabelRow, number, yaw_of_quaternion

# Names of each meaning without separators; the first one that a file has is taken.
NAMES: dict[str, tuple[str, ...]] = {
    "frame": (
        *("frame", "frameid", "framename", "framenumber", "frameindex", "filename", "file"),
        *("cloud", "pointcloud", "pointcloudfile", "pcd", "pcdfile", "lidarfile", "lidar"),
        *("sample", "sampleid", "sampleidx", "scan", "scanid", "timestampns", "timestamp"),
    ),
    "class": (
        *("class", "classname", "classtitle", "objectclass", "category", "categoryname"),
        *("objtype", "objecttype", "labelname", "labelclass", "label", "type", "name"),
        *("object", "gtname", "categoryid", "labelid", "classid"),
    ),
    "id": (
        *("trackid", "trackuuid", "tracktoken", "objectid", "objid", "objectkey", "instanceid"),
        *("instancetoken", "instance", "uuid", "id"),
    ),
    "x": ("x", "cx", "xc", "tx", "xcenter", "xcentre", "xpos"),
    "y": ("y", "cy", "yc", "ty", "ycenter", "ycentre", "ypos"),
    "z": ("z", "cz", "zc", "tz", "zcenter", "zcentre", "zpos"),
    "bottom": ("zbottom", "bottomz", "groundz", "zground"),
    "dx": ("dx", "length", "len", "l", "xsize", "lx", "sx"),
    "dy": ("dy", "width", "w", "ysize", "ly", "sy"),
    "dz": ("dz", "height", "h", "zsize", "lz", "sz"),
    "heading": (
        "heading",
        "headingangle",
        "yaw",
        "yawangle",
        "rz",
        "theta",
        "angle",
        "orientation",
    ),
    "camera yaw": ("rotationy", "roty", "ry"),
    "qw": ("qw",),
    "qx": ("qx",),
    "qy": ("qy",),
    "qz": ("qz",),
    "x min": ("xmin", "minx"),
    "y min": ("ymin", "miny"),
    "z min": ("zmin", "minz"),
    "x max": ("xmax", "maxx"),
    "y max": ("ymax", "maxy"),
    "z max": ("zmax", "maxz"),
}
# Names of vectors: centerx, positionx and so on mean x.
CENTRES = ("center", "centre", "centroid", "position", "pos", "location", "loc", "translation")
SIZES = ("size", "scale", "dimensions", "dimension", "dims", "dim", "extent", "extents")
ROTATIONS = ("rotation", "rotations", "rot", "euler", "eulerangles", "rpy", "orientation")
QUATERNIONS = ("quaternion", "quat", "rotation", "rot", "orientation", "q")
# In front of a name they say nothing: box3d_center_x.
PREFIXES = ("boundingbox", "bbox3d", "box3d", "bbox", "box", "cuboid", "gt", "psr", "geometry")
DEGREES = ("deg", "degs", "degree", "degrees", "°")
UNIT = re.compile(
    r"[\s_(\[]+(m|meters?|metres?|rad|radians?|deg|degs|degrees?|°)[)\]]?$", re.IGNORECASE
)
MIN_AND_MAX = ("x min", "y min", "z min", "x max", "y max", "z max")
QUATERNION = ("qw", "qx", "qy", "qz")


def _all_names() -> dict[str, tuple[str, ...]]:
    """NAMES with the names of vectors written out."""
    names = {meaning: list(texts) for meaning, texts in NAMES.items()}
    for axis, size in zip("xyz", ("dx", "dy", "dz")):
        names[axis] += [f"{vector}{axis}" for vector in CENTRES]
        names[size] += [f"{vector}{axis}" for vector in SIZES]
    for vector in SIZES:
        for size, words in (("dx", "length"), ("dy", "width"), ("dz", "height")):
            names[size] += [f"{vector}{words}", f"{vector}{words[0]}", f"{vector}{size}"]
    for vector in ROTATIONS:
        names["heading"] += [f"{vector}z", f"{vector}yaw", vector]
    for vector in QUATERNIONS:
        for part in "wxyz":
            names[f"q{part}"] += [f"{vector}{part}", f"{vector}q{part}"]
    return {meaning: tuple(texts) for meaning, texts in names.items()}


ALL_NAMES = _all_names()


@dataclass(frozen=True)
class Fields:
    """The headers of a file by what they mean.

    Attributes:
        header_of: header by meaning; the meanings are the keys of NAMES.
        in_degrees: the heading's header names degrees as its unit.
    """

    header_of: Mapping[str, str]
    in_degrees: bool = False

    def shown(self) -> str:
        """The reading in one phrase, for the user to check."""
        return ", ".join(f"{meaning} = '{header}'" for meaning, header in self.header_of.items())


def plain_name(header: str) -> str:
    """A header in lower case without unit, separators and words that say nothing."""
    text = UNIT.sub("", header.strip())
    text = re.sub(r"[^0-9a-z]", "", text.lower())
    for prefix in PREFIXES:
        rest = text.removeprefix(prefix)
        if rest != text and _is_known(rest):
            return rest
    return text


def _is_known(name: str) -> bool:
    return any(name in names for names in ALL_NAMES.values())


def guess_fields(headers: Iterable[str]) -> Fields:
    """What each header means; headers that are not known are left out."""
    by_name: dict[str, str] = {}
    for header in headers:
        by_name.setdefault(plain_name(header), header)
    found: dict[str, str] = {}
    for meaning, names in ALL_NAMES.items():
        for name in names:
            if name in by_name:
                found[meaning] = by_name[name]
                break
    if all(part in found for part in QUATERNION):
        # rotation.x and rotation.z of a quaternion are no angles.
        for meaning in ("heading", "camera yaw"):
            if found.get(meaning) in {found[part] for part in QUATERNION}:
                del found[meaning]
    else:
        for part in QUATERNION:
            found.pop(part, None)
    if "heading" in found:
        found.pop("camera yaw", None)  # roll, pitch and yaw: a rotation about y is no yaw
    return Fields(found, _names_degrees(found.get("heading", "")))


def _names_degrees(header: str) -> bool:
    unit = UNIT.search(header.strip())
    return unit is not None and unit.group(1).lower() in DEGREES


def check_fields(fields: Fields, headers: Sequence[str], where: str) -> None:
    """Refuse headers that do not make a box, with those that were found."""
    known = fields.header_of
    if "camera yaw" in known and "heading" not in known and "qw" not in known:
        raise DataError(
            f"{where}: '{known['camera yaw']}' is an angle about the camera's y axis; expected the "
            "heading about the LiDAR's z axis, such as 'yaw', and centres in LiDAR coordinates"
        )
    missing = [] if "class" in known else ["class"]
    if not all(name in known for name in MIN_AND_MAX):
        missing += [name for name in ("x", "y", "dx", "dy", "dz") if name not in known]
        if "z" not in known and "bottom" not in known:
            missing.append("z")
    if missing:
        raise DataError(
            f"{where}: no column for {', '.join(missing)} among {', '.join(map(str, headers))}; "
            "expected names such as class, x, y, z, length, width, height, yaw"
        )


def row_of_values(values: Mapping[str, object], fields: Fields, where: str) -> LabelRow:
    """The box of one line of a table, or of one JSON object.

    Args:
        values: the text or number of each header.
    """
    known = fields.header_of

    def numeric(meaning: str) -> float:
        header = known[meaning]
        return number(values.get(header), f"'{header}'", where)

    name = _text(values.get(known["class"]))
    if not name:
        raise DataError(f"{where}: the class '{known['class']}' is empty")
    if "x" not in known:
        lowest = [numeric(meaning) for meaning in MIN_AND_MAX[:3]]
        highest = [numeric(meaning) for meaning in MIN_AND_MAX[3:]]
        box = [(low + high) / 2 for low, high in zip(lowest, highest)]
        box += [high - low for low, high in zip(lowest, highest)]
    else:
        box = [numeric(meaning) for meaning in ("x", "y", "dx", "dy", "dz")]
        z = numeric("z") if "z" in known else numeric("bottom") + box[4] / 2
        box.insert(2, z)
    box.append(_heading(numeric, fields))
    object_id = _text(values.get(known["id"])) if "id" in known else ""
    return LabelRow(name, box, object_id or None, where)


def _text(value: object) -> str:
    """A class or an id as text; empty where there is none."""
    return "" if value is None else str(value).strip()


def _heading(numeric: Callable[[str], float], fields: Fields) -> float:
    """The heading in radians; 0 where the file has none."""
    if "heading" in fields.header_of:
        angle = numeric("heading")
        return math.radians(angle) if fields.in_degrees else angle
    if "qw" in fields.header_of:
        return yaw_of_quaternion(*(numeric(part) for part in QUATERNION))
    return 0.0


def notes_of_fields(fields: Fields, where: str) -> list[str]:
    """What was read as what, for the user to check."""
    notes = [f"{where}: {fields.shown()}"]
    if "heading" not in fields.header_of and "qw" not in fields.header_of:
        notes.append(
            f"{where}: has no heading, so all boxes are parallel to the x axis; a detector cannot "
            "learn headings from them"
        )
    if fields.in_degrees:
        notes.append(f"{where}: '{fields.header_of['heading']}' was converted from degrees")
    return notes
