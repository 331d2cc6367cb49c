"""The points of all objects of a database in one file, beside OpenPCDet's file for each object.

``kitti_dbinfos_train.pkl`` lists the objects, and ``kitti_dbinfos_train.points`` holds their points
in the same order: a line of JSON padded to one page, then float32 numbers, row below row, then a
checksum of each page of numbers. It needs no index, because the list says how many points each
object has. A file that does not belong to the list is never read: its first line holds a checksum
of the list. A page is compared with its checksum when a process first reads points from it.

The file is mapped. Its pages are in memory once, however many processes read them. A new file
replaces the old one as a whole, so a process that has mapped the old one keeps it.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..config import check_regular
from ..errors import DataError

SUFFIX = ".points"
FORMAT = "points of database objects, 1"
PAGE_BYTES = 4096
FLOAT_BYTES = 4
CHECKSUM_BYTES = 4

Objects = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True)
class Header:
    """The first line of the file.

    Attributes:
        checksum: of the list of objects.
        columns: numbers of a point.
        rows: points of all objects.
        pages: how many pages have a checksum; 0 in files of older versions.
    """

    checksum: str
    columns: int
    rows: int
    pages: int = 0

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
            return cls(str(header.checksum), *map(int, (header.columns, header.rows, header.pages)))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None

    @property
    def point_bytes(self) -> int:
        """Size of the points."""
        return FLOAT_BYTES * self.rows * self.columns

    @property
    def file_bytes(self) -> int:
        """Size of the whole file."""
        return PAGE_BYTES + self.point_bytes + CHECKSUM_BYTES * self.pages

    def is_of(self, num_bytes: int) -> bool:
        """Whether it can be the header of a file of this size."""
        has_points = self.columns >= 1 and self.rows >= 1
        fits = self.pages in (0, num_pages(self.point_bytes))
        return has_points and fits and self.file_bytes == num_bytes


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
        self._mapping: _Mapping | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Another process maps the file again: a mapped array would be sent as a copy."""
        return {**self.__dict__, "_mapping": None}

    def rows(self, first: int, end: int) -> np.ndarray:
        """Read-only points (N, columns) float32."""
        if self._mapping is None:
            self._mapping = self._mapped()
        if not self._mapping.is_whole(first, end):
            raise DataError(
                f"{self.path}: the points in the rows {first} to {end} are not what was written, "
                "so the disk or a copy damaged it; remove this file to read the objects from their "
                "own files, or make it again"
            )
        points = self._mapping.points[first:end]
        # NaN and infinity survive a sum.
        if not np.isfinite(points.sum(dtype=np.float64)):
            raise DataError(
                f"{self.path}: the points in the rows {first} to {end} hold NaN or infinity; "
                "remove this file to read the objects from their own files, or make it again"
            )
        return points

    def _mapped(self) -> _Mapping:
        if read_header(self.path) != self.header:
            raise DataError(
                f"{self.path}: was made again while it was in use; start the training again"
            )
        with open(self.path, "rb") as file:
            # A mapping stays as it is when another file takes the name.
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return _Mapping(content, self.header)


class _Mapping:
    """The mapped file in one process, and which of its pages were found whole.

    Attributes:
        points: (rows, columns) float32.
    """

    def __init__(self, content: mmap.mmap, header: Header) -> None:
        self._content = content
        end = PAGE_BYTES + header.point_bytes
        values = np.frombuffer(content, "<f4", header.rows * header.columns, offset=PAGE_BYTES)
        self.points = values.reshape(header.rows, header.columns)
        self._checksums = np.frombuffer(content, "<u4", header.pages, offset=end)
        self._end = end
        self._row_bytes = FLOAT_BYTES * header.columns
        self._is_checked = np.zeros(header.pages, dtype=bool)

    def is_whole(self, first: int, end: int) -> bool:
        """Whether the pages of these rows are what was written, as far as checksums are there."""
        first_page = first * self._row_bytes // PAGE_BYTES
        pages = range(first_page, num_pages(end * self._row_bytes))[: len(self._checksums)]
        return all(self._is_checked[page] or self._check(page) for page in pages)

    def _check(self, page: int) -> bool:
        begin = PAGE_BYTES * (page + 1)  # the first page is the header
        content = self._content[begin : min(begin + PAGE_BYTES, self._end)]
        is_whole = zlib.crc32(content) == self._checksums[page]
        self._is_checked[page] = is_whole
        return bool(is_whole)


def num_pages(num_bytes: int) -> int:
    """Pages that hold so many bytes; the last may be part of one."""
    return -(-num_bytes // PAGE_BYTES)


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
    header = Header(checksum, columns, num_rows)
    header = replace(header, pages=num_pages(header.point_bytes))
    checksums: list[int] = []
    rest = b""  # of the objects so far, less than a page
    with open(packed_file(list_file), "wb") as file:
        file.write(header.to_bytes())
        for info in _in_order(objects):
            points = (folder / info["path"]).read_bytes()
            file.write(points)
            rest += points
            whole = len(rest) - len(rest) % PAGE_BYTES
            checksums += _page_checksums(rest[:whole])
            rest = rest[whole:]
        checksums += _page_checksums(rest)
        file.write(np.array(checksums, dtype="<u4").tobytes())


def _page_checksums(content: bytes) -> list[int]:
    starts = range(0, len(content), PAGE_BYTES)
    return [zlib.crc32(content[start : start + PAGE_BYTES]) for start in starts]


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
    return header if header is not None and header.is_of(size) else None


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
