"""The points of all objects of a database in one file, beside OpenPCDet's file for each object.

``kitti_dbinfos_train.pkl`` lists the objects, and ``kitti_dbinfos_train.points`` holds their points
in the same order: a line of JSON padded to one page, then float32 numbers, row below row. It needs
no index, because the list says how many points each object has. A file that does not belong to the
list is never read: its first line holds a checksum of the list.

The file is mapped. Its pages are in memory once, however many processes read them. A new file
replaces the old one as a whole, so a process that has mapped the old one keeps it.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..config import check_regular
from ..errors import DataError

SUFFIX = ".points"
FORMAT = "points of database objects, 1"
PAGE_BYTES = 4096
FLOAT_BYTES = 4

Objects = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True)
class Header:
    """The first line of the file.

    Attributes:
        checksum: of the list of objects.
        columns: numbers of a point.
        rows: points of all objects.
    """

    checksum: str
    columns: int
    rows: int

    def to_bytes(self) -> bytes:
        """The page that begins the file."""
        line = json.dumps({"format": FORMAT, **asdict(self)}).encode()
        return line.ljust(PAGE_BYTES - 1) + b"\n"

    @classmethod
    def from_bytes(cls, page: bytes) -> Header | None:
        """The header of a page; None where it is none."""
        try:
            entries = json.loads(page)
            if entries.pop("format") != FORMAT:
                return None
            header = cls(**entries)
            return cls(str(header.checksum), int(header.columns), int(header.rows))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None

    @property
    def file_bytes(self) -> int:
        """Size of the whole file."""
        return PAGE_BYTES + FLOAT_BYTES * self.rows * self.columns


class PackedObjects:
    """The mapped file; rows of points by their place.

    Args:
        path: of the file.
        header: of the file as it was opened. Another process opens it again, and refuses another
            one.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self.path = path
        self.header = header
        self._rows: np.ndarray | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Another process maps the file again: a mapped array would be sent as a copy."""
        return {**self.__dict__, "_rows": None}

    def rows(self, first: int, end: int) -> np.ndarray:
        """Read-only points (N, columns) float32."""
        if self._rows is None:
            self._rows = self._mapped()
        points = self._rows[first:end]
        # NaN and infinity survive a sum.
        if not np.isfinite(points.sum(dtype=np.float64)):
            raise DataError(
                f"{self.path}: the points in the rows {first} to {end} hold NaN or infinity; "
                "remove this file to read the objects from their own files, or make it again"
            )
        return points

    def _mapped(self) -> np.ndarray:
        if read_header(self.path) != self.header:
            raise DataError(
                f"{self.path}: was made again while it was in use; start the training again"
            )
        shape = (self.header.rows, self.header.columns)
        with open(self.path, "rb") as file:
            # A mapping stays as it is when another file takes the name.
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        values = np.frombuffer(content, dtype="<f4", offset=PAGE_BYTES)
        return values.reshape(shape)


def packed_file(list_file: Path) -> Path:
    """Where the points of a list of objects are."""
    return list_file.with_suffix(SUFFIX)


def write_packed(list_file: Path, objects: Objects) -> None:
    """Join the point files of a new database; nothing is written where no object has points.

    Args:
        list_file: of the objects. Their files are found from its folder.
        objects: the list, by class. Their files hold float32.
    """
    folder = list_file.parent
    columns = _columns(folder, objects)
    checksum = list_checksum(objects)
    if not columns or checksum is None:
        return
    num_rows = sum(info["num_points_in_gt"] for info in _in_order(objects))
    with open(packed_file(list_file), "wb") as file:
        file.write(Header(checksum, columns, num_rows).to_bytes())
        for info in _in_order(objects):
            file.write((folder / info["path"]).read_bytes())


def open_packed(list_file: Path, objects: Objects, num_features: int) -> PackedObjects | str:
    """The points of these objects, or why the file cannot be used."""
    path = packed_file(list_file)
    check_regular(path)
    if not path.is_file():
        return "does not exist"
    header = read_header(path)
    if header is None:
        return "is damaged or was cut off"
    if header.columns != num_features:
        return f"has points of {header.columns} columns and not of {num_features}"
    if header.checksum != list_checksum(objects):
        return f"does not belong to {list_file.name}"
    if header.rows != sum(int(info["num_points_in_gt"]) for info in _in_order(objects)):
        return "is damaged or was cut off"
    return PackedObjects(path, header)


def read_header(path: Path) -> Header | None:
    """The header of a file whose size is right; None of any other."""
    try:
        with open(path, "rb") as file:
            header = Header.from_bytes(file.read(PAGE_BYTES))
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    if header is None or header.columns < 1 or header.rows < 1 or header.file_bytes != size:
        return None
    return header


def places(objects: Objects) -> Iterator[tuple[Any, tuple[int, int]]]:
    """Each object with its first row and the one after its last."""
    first = 0
    for info in _in_order(objects):
        end = first + int(info["num_points_in_gt"])
        yield info, (first, end)
        first = end


def list_checksum(objects: Objects) -> str | None:
    """Checksum of files, numbers of points and boxes; None of entries that are no objects."""
    infos = list(_in_order(objects))
    try:
        paths = "\n".join(info["path"] for info in infos)
        counts = np.array([info["num_points_in_gt"] for info in infos], dtype=np.int64)
        boxes = [np.asarray(info["box3d_lidar"], dtype=np.float64).ravel() for info in infos]
        numbers = np.concatenate(boxes) if boxes else np.zeros(0)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    if counts.ndim != 1 or (counts < 0).any():
        return None
    checksum = hashlib.blake2b(paths.encode("utf-8", "surrogatepass"), digest_size=16)
    checksum.update(counts.astype("<i8").tobytes())
    checksum.update(numbers.astype("<f8").tobytes())
    return checksum.hexdigest()


def _in_order(objects: Objects) -> Iterator[Mapping[str, Any]]:
    for infos in objects.values():
        yield from infos


def _columns(folder: Path, objects: Objects) -> int:
    """Numbers of a point, from the first file that holds some; 0 where none does."""
    for info in _in_order(objects):
        count = info["num_points_in_gt"]
        if count:
            return int((folder / info["path"]).stat().st_size // (FLOAT_BYTES * count))
    return 0
