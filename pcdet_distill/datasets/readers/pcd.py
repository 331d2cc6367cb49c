"""Read .pcd files: PCL's format, as ASCII, binary and binary_compressed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...config import nearest
from ...errors import DataError
from .cloud import PointCloud
from .columns import Columns, cloud_of_columns
from .content import check_content, read_bytes
from .lzf import lzf_decompress
from .text_rows import numbers_of_rows

PADDING = "_"
MAX_HEADER_LINES = 200
KINDS = {"F": "f", "I": "i", "U": "u"}
SIZES = {"F": (2, 4, 8), "I": (1, 2, 4, 8), "U": (1, 2, 4, 8)}
DATA_KINDS = ("ascii", "binary", "binary_compressed")
NO_VIEWPOINT = ("0", "0", "0", "1", "0", "0", "0")


@dataclass(frozen=True)
class PcdField:
    """One entry of FIELDS: ``count`` numbers of one type."""

    name: str
    dtype: np.dtype
    count: int

    @property
    def num_bytes(self) -> int:
        """Bytes of a point that the field takes."""
        return self.dtype.itemsize * self.count

    @property
    def is_padding(self) -> bool:
        """Whether the field only fills up bytes."""
        return self.name == PADDING


@dataclass(frozen=True)
class PcdHeader:
    """What the header says of the data behind it."""

    fields: tuple[PcdField, ...]
    num_points: int
    kind: str  # one of DATA_KINDS
    size: int  # bytes of the header
    note: str


def read_pcd(path: Path) -> PointCloud:
    """The cloud of a .pcd file.

    A field of several numbers becomes columns ``name_0``, ``name_1``, ... Padding is left out.
    """
    content = read_bytes(path)
    check_content(path, content, (".pcd",))
    header = read_header(path, content)
    if header.num_points == 0:
        raise DataError(f"{path}: holds no points")
    read = {"ascii": _read_ascii, "binary": _read_binary, "binary_compressed": _read_compressed}
    columns = read[header.kind](path, header, content[header.size :])
    return cloud_of_columns(columns, path, [header.note])


def read_header(path: Path, content: bytes) -> PcdHeader:
    """The header of a .pcd file.

    Raises:
        DataError: a line is missing, or contradicts another.
    """
    entries, size = _header_entries(path, content)
    fields = _fields(path, entries)
    kind = " ".join(entries["DATA"]).lower()
    if kind not in DATA_KINDS:
        raise DataError(f"{path}: unknown DATA '{kind}'{nearest(kind, DATA_KINDS)}")
    viewpoint = tuple(f"{float(word):g}" for word in _numbers(path, entries, "VIEWPOINT"))
    notes = []
    if viewpoint and viewpoint != NO_VIEWPOINT:
        notes.append(f"VIEWPOINT {' '.join(viewpoint)} is not applied")
    if any(field.is_padding and field.count == 0 for field in fields):
        notes.append("its header counts padding wrongly (COUNT 0), so places of fields are a guess")
    note = "; ".join(notes)
    return PcdHeader(fields, _num_points(path, entries), kind, size, note)


def _header_entries(path: Path, content: bytes) -> tuple[dict[str, list[str]], int]:
    """The words after each key of the header, and where the header ends."""
    entries: dict[str, list[str]] = {}
    position = 0
    for _ in range(MAX_HEADER_LINES):
        end = content.find(b"\n", position)
        if end < 0:
            break
        line = content[position:end].decode("latin-1").strip()
        position = end + 1
        if not line or line.startswith("#"):
            continue
        key, *words = line.split()
        key = "FIELDS" if key.upper() == "COLUMNS" else key.upper()
        entries[key] = words
        if key == "DATA":
            return entries, position
    raise DataError(f"{path}: its header has no line DATA; the file is truncated or damaged")


def _fields(path: Path, entries: dict[str, list[str]]) -> tuple[PcdField, ...]:
    for key in ("FIELDS", "SIZE", "TYPE"):
        if not entries.get(key):
            raise DataError(f"{path}: its header has no line {key}")
    names = entries["FIELDS"]
    counts = entries.get("COUNT") or ["1"] * len(names)
    for key, words in (("SIZE", entries["SIZE"]), ("TYPE", entries["TYPE"]), ("COUNT", counts)):
        if len(words) != len(names):
            raise DataError(
                f"{path}: FIELDS names {len(names)} fields, but {key} has {len(words)} entries"
            )
    fields = []
    for name, size, kind, count in zip(names, entries["SIZE"], entries["TYPE"], counts):
        dtype = _dtype(path, name, size, kind.upper())
        fields.append(PcdField(name, dtype, _whole(path, f"COUNT of {name}", count)))
    return tuple(fields)


def _dtype(path: Path, name: str, size_word: str, kind: str) -> np.dtype:
    size = _whole(path, f"SIZE of {name}", size_word)
    if kind not in KINDS or size not in SIZES[kind]:
        raise DataError(
            f"{path}: field {name} has TYPE {kind} and SIZE {size}; expected F of 4 or 8 bytes, "
            "or I or U of 1, 2, 4 or 8"
        )
    return np.dtype(f"<{KINDS[kind]}{size}")


def _num_points(path: Path, entries: dict[str, list[str]]) -> int:
    """POINTS, or WIDTH x HEIGHT, which must agree."""
    area = None
    if entries.get("WIDTH"):
        width = _whole(path, "WIDTH", entries["WIDTH"][0])
        height = _whole(path, "HEIGHT", (entries.get("HEIGHT") or ["1"])[0])
        area = width * height
    if not entries.get("POINTS"):
        if area is None:
            raise DataError(f"{path}: its header has neither POINTS nor WIDTH")
        return area
    points = _whole(path, "POINTS", entries["POINTS"][0])
    if area is not None and area != points:
        raise DataError(f"{path}: POINTS is {points}, but WIDTH x HEIGHT is {area}")
    return points


def _whole(path: Path, what: str, word: str) -> int:
    if not word.isdecimal():
        raise DataError(f"{path}: {what} is '{word}'; expected a whole number")
    return int(word)


def _numbers(path: Path, entries: dict[str, list[str]], key: str) -> list[float]:
    try:
        return [float(word) for word in entries.get(key, [])]
    except ValueError:
        raise DataError(f"{path}: {key} is '{' '.join(entries[key])}'; expected numbers") from None


def _read_binary(path: Path, header: PcdHeader, data: bytes) -> Columns:
    """One struct a point. Bytes behind the last point are allowed: PCL pads to whole pages."""
    point_bytes = sum(field.num_bytes for field in header.fields)
    _check_size(path, header.num_points, point_bytes, len(data))
    columns: Columns = {}
    names_of = zip(header.fields, _column_names(header.fields), offsets_of(header.fields))
    for field, names, offset in names_of:
        for number, name in enumerate(names):
            start = offset + number * field.dtype.itemsize
            columns[name] = np.ndarray(
                header.num_points, field.dtype, data, start, strides=(point_bytes,)
            )
    return columns


def offsets_of(fields: Sequence[PcdField]) -> list[int]:
    """The byte of a point at which each field begins: behind the fields before it.

    Some writers count padding wrongly, which shows as padding of COUNT 0: they subtract the size of
    the field behind the padding in place of the one before it. Their fields are aligned in memory,
    so the repaired layout is taken if it is aligned and the written one is not.
    """
    offsets = []
    position = 0
    for field in fields:
        offsets.append(position)
        position += field.num_bytes
    if not any(field.is_padding and field.count == 0 for field in fields):
        return offsets
    repaired = _repaired_offsets(fields)
    ends_inside = repaired[-1] <= position - fields[-1].num_bytes
    if ends_inside and _are_aligned(fields, repaired) and not _are_aligned(fields, offsets):
        return repaired
    return offsets


def _repaired_offsets(fields: Sequence[PcdField]) -> list[int]:
    """The offsets if each padding is short by the size behind it, and long by that before it."""
    offsets = []
    start = 0  # of the last field that is no padding
    size = 0
    padding: int | None = None
    for field in fields:
        if field.is_padding:
            padding = field.count
            offsets.append(start + size)
            continue
        start += size if padding is None else padding + field.num_bytes
        offsets.append(start)
        size = field.num_bytes
        padding = None
    return offsets


def _are_aligned(fields: Sequence[PcdField], offsets: Sequence[int]) -> bool:
    pairs = zip(fields, offsets)
    return all(offset % field.dtype.itemsize == 0 for field, offset in pairs)


def _read_compressed(path: Path, header: PcdHeader, data: bytes) -> Columns:
    """One LZF stream of all fields, each with its values of all points in a row."""
    if len(data) < 8:
        raise DataError(f"{path}: truncated: the sizes of the compressed data are missing")
    stored, size = (int(number) for number in np.frombuffer(data, "<u4", 2))
    if len(data) - 8 < stored:
        raise DataError(
            f"{path}: truncated: {len(data) - 8} of {stored} bytes of compressed data are there"
        )
    fields = _stored_fields(path, header, size)
    values = lzf_decompress(data[8 : 8 + stored], size)
    if values is None:
        raise DataError(f"{path}: its compressed data are damaged")
    columns: Columns = {}
    offset = 0
    for field, names in zip(fields, _column_names(fields)):
        block = np.ndarray((header.num_points, field.count), field.dtype, values.data, offset)
        for number, name in enumerate(names):
            columns[name] = block[:, number]
        offset += field.num_bytes * header.num_points
    return columns


def _stored_fields(path: Path, header: PcdHeader, size: int) -> tuple[PcdField, ...]:
    """The fields that the compressed data hold. PCL does not compress padding, others do."""
    used = tuple(field for field in header.fields if not field.is_padding)
    for fields in (header.fields, used):
        if size == header.num_points * sum(field.num_bytes for field in fields):
            return fields
    point_bytes = sum(field.num_bytes for field in header.fields)
    raise DataError(
        f"{path}: the compressed data hold {size} bytes, but {header.num_points} points of "
        f"{point_bytes} bytes are {header.num_points * point_bytes}"
    )


def _read_ascii(path: Path, header: PcdHeader, data: bytes) -> Columns:
    """One line of numbers a point."""
    width = sum(field.count for field in header.fields)
    table = numbers_of_rows(data, header.num_points, width, path)
    columns: Columns = {}
    first = 0
    for field, names in zip(header.fields, _column_names(header.fields)):
        for number, name in enumerate(names):
            values = table[:, first + number]
            columns[name] = _typed(values, field.dtype)
        first += field.count
    return columns


def _typed(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Parsed float64 numbers in the type of the field, where it can hold them."""
    if dtype.kind != "f" and not np.isfinite(values).all():
        return values
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(dtype)


def _column_names(fields: Sequence[PcdField]) -> list[list[str]]:
    """The columns of each field: none for padding, ``name_0``, ``name_1`` ... for several."""
    names: list[list[str]] = []
    for field in fields:
        if field.is_padding:
            names.append([])
        elif field.count == 1:
            names.append([field.name])
        else:
            names.append([f"{field.name}_{number}" for number in range(field.count)])
    return names


def _check_size(path: Path, num_points: int, point_bytes: int, found: int) -> None:
    needed = num_points * point_bytes
    if found < needed:
        raise DataError(
            f"{path}: truncated: {num_points} points of {point_bytes} bytes need {needed} bytes, "
            f"{found} are there"
        )
