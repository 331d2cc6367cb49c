"""Read .ply files: the vertices of Stanford's format, as ASCII and binary of both byte orders."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...config import nearest
from ...errors import DataError
from .cloud import PointCloud
from .columns import Columns, cloud_of_columns
from .content import check_content, read_bytes
from .text_rows import numbers_of_rows

BYTE_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">"}
FORMATS = ("ascii", *BYTE_ORDERS)
TYPES = {
    "char": "i1",
    "uchar": "u1",
    "short": "i2",
    "ushort": "u2",
    "int": "i4",
    "uint": "u4",
    "float": "f4",
    "double": "f8",
    "int8": "i1",
    "uint8": "u1",
    "int16": "i2",
    "uint16": "u2",
    "int32": "i4",
    "uint32": "u4",
    "int64": "i8",
    "uint64": "u8",
    "float32": "f4",
    "float64": "f8",
}
POINT_ELEMENTS = ("vertex", "vertices", "point", "points")


@dataclass(frozen=True)
class PlyProperty:
    """One property of an element; ``count_type`` is that of a list's length, else None."""

    name: str
    type: str
    count_type: str | None = None


@dataclass
class PlyElement:
    """One kind of rows: vertices, faces or others."""

    name: str
    count: int
    properties: list[PlyProperty] = field(default_factory=list)

    @property
    def has_lists(self) -> bool:
        """Whether rows can differ in length."""
        return any(entry.count_type for entry in self.properties)

    def dtype(self, order: str) -> np.dtype:
        """The struct of a row without lists."""
        return np.dtype([(entry.name, order + entry.type) for entry in self.properties])


def read_ply(path: Path) -> PointCloud:
    """The vertices of a .ply file. Lists, faces and other elements are skipped."""
    content = read_bytes(path)
    check_content(path, content, (".ply",))
    kind, elements, size = _read_header(path, content)
    data = content[size:]
    columns = (
        _read_text(path, elements, data)
        if kind == "ascii"
        else _read_binary(path, elements, data, BYTE_ORDERS[kind])
    )
    return cloud_of_columns(columns, path)


def _read_header(path: Path, content: bytes) -> tuple[str, list[PlyElement], int]:
    """The format, the elements up to the vertices, and the size of the header in bytes."""
    lines, size = _header_lines(path, content)
    kind = ""
    elements: list[PlyElement] = []
    for line in lines:
        words = line.split()
        if not words or words[0] in ("ply", "comment", "obj_info"):
            continue
        if words[0] == "format" and len(words) >= 2:
            kind = words[1]
        elif words[0] == "element" and len(words) == 3 and words[2].isdecimal():
            elements.append(PlyElement(words[1], int(words[2])))
        elif words[0] == "property" and elements:
            _add_property(path, elements[-1], words)
        else:
            raise DataError(f"{path}: its header has the unknown line '{line[:60]}'")
    if kind not in FORMATS:
        raise DataError(f"{path}: unknown format '{kind}'{nearest(kind, FORMATS)}")
    return kind, _up_to_points(path, elements), size


def _header_lines(path: Path, content: bytes) -> tuple[list[str], int]:
    """The lines of the header, and its size. A header may end its lines with CR or CR LF."""
    end = content.find(b"end_header")
    if end < 0:
        raise DataError(f"{path}: its header has no line end_header; the file is truncated")
    newline = b"\r\n" if content[3:5] == b"\r\n" else content[3:4]
    size = content.find(newline, end)
    size = len(content) if size < 0 else size + len(newline)
    return content[:end].decode("latin-1").splitlines(), size


def _up_to_points(path: Path, elements: list[PlyElement]) -> list[PlyElement]:
    for number, element in enumerate(elements):
        if element.name.lower() in POINT_ELEMENTS:
            return elements[: number + 1]
    found = ", ".join(element.name for element in elements) or "none"
    raise DataError(f"{path}: has no element vertex; its elements are: {found}")


def _add_property(path: Path, element: PlyElement, words: list[str]) -> None:
    is_list = len(words) == 5 and words[1] == "list"
    if not is_list and len(words) != 3:
        raise DataError(f"{path}: its header has the unknown line '{' '.join(words)[:60]}'")
    for name in words[2:4] if is_list else words[1:2]:
        if name not in TYPES:
            raise DataError(f"{path}: unknown type '{name}'{nearest(name, TYPES)}")
    if any(entry.name == words[-1] for entry in element.properties):
        raise DataError(f"{path}: its header names the property {words[-1]} twice")
    count_type = TYPES[words[2]] if is_list else None
    element.properties.append(PlyProperty(words[-1], TYPES[words[-2]], count_type))


def _read_text(path: Path, elements: list[PlyElement], data: bytes) -> Columns:
    """The vertices of ASCII data. Each row of an element is one line."""
    points = elements[-1]
    lines = [line for line in data.splitlines() if line.strip()]
    first = sum(element.count for element in elements[:-1] if element.properties)
    rows = lines[first : first + points.count]
    if points.has_lists:
        rows = [_without_lists(row, points) for row in rows]
    scalars = [entry for entry in points.properties if not entry.count_type]
    table = numbers_of_rows(b"\n".join(rows), points.count, len(scalars), path)
    return {entry.name: _typed(table[:, n], entry.type) for n, entry in enumerate(scalars)}


def _typed(values: np.ndarray, kind: str) -> np.ndarray:
    """Parsed float64 numbers as float32, where the file says so: it says how exact they are."""
    with np.errstate(over="ignore"):
        return values.astype(kind) if kind == "f4" else values


def _without_lists(row: bytes, element: PlyElement) -> bytes:
    """A line of ASCII data without the values of lists."""
    words = row.split()
    kept = []
    for entry in element.properties:
        if not words:
            break
        if not entry.count_type:
            kept.append(words.pop(0))
            continue
        length = words.pop(0)
        del words[: int(length) if length.isdigit() else 0]
    return b" ".join(kept + words)


def _read_binary(path: Path, elements: list[PlyElement], data: bytes, order: str) -> Columns:
    """The vertices of binary data, behind the elements before them."""
    position = 0
    for element in elements[:-1]:
        position += _skip(path, element, data[position:], order)
    points = elements[-1]
    if points.has_lists:
        return _rows_with_lists(path, points, data[position:], order)[0]
    dtype = points.dtype(order)
    _check_size(path, points, dtype.itemsize * points.count, len(data) - position)
    rows = np.frombuffer(data, dtype, points.count, position)
    return {entry.name: rows[entry.name] for entry in points.properties}


def _skip(path: Path, element: PlyElement, data: bytes, order: str) -> int:
    """The bytes that an element takes."""
    if element.has_lists:
        return _rows_with_lists(path, element, data, order)[1]
    size = element.dtype(order).itemsize * element.count
    _check_size(path, element, size, len(data))
    return size


def _rows_with_lists(
    path: Path, element: PlyElement, data: bytes, order: str
) -> tuple[Columns, int]:
    """The numbers of an element's rows that are no lists, and the bytes of all rows."""
    scalars = [entry for entry in element.properties if not entry.count_type]
    values: dict[str, list[float]] = {entry.name: [] for entry in scalars}
    position = 0
    for row in range(element.count):
        for entry in element.properties:
            dtype = np.dtype(order + (entry.count_type or entry.type))
            end = position + dtype.itemsize
            number = np.frombuffer(data[position:end], dtype) if end <= len(data) else None
            if number is not None and entry.count_type:
                end += max(0, int(number[0])) * np.dtype(entry.type).itemsize
            if number is None or end > len(data):
                raise DataError(
                    f"{path}: truncated: {row} of {element.count} rows of {element.name} are there"
                )
            position = end
            if not entry.count_type:
                values[entry.name].append(number[0])
    columns = {entry.name: np.array(values[entry.name], entry.type) for entry in scalars}
    return columns, position


def _check_size(path: Path, element: PlyElement, needed: int, found: int) -> None:
    if found < needed:
        raise DataError(
            f"{path}: truncated: {element.count} rows of {element.name} need {needed} bytes, "
            f"{found} are there"
        )
