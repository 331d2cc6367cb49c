"""Boxes in a table: one line a box, a header line that names the columns.

CSV with commas, semicolons, tabs or spaces. A table of all frames has a column that names the
frame; without one, each file is one frame. A .feather table, as Argoverse's annotations, is read
alike.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ....errors import DataError
from ...readers.extras import needed_for
from .base import FrameLabels, LabelRow, LabelSet, read_text
from .fields import Fields, check_fields, guess_fields, notes_of_fields, row_of_values
from .files import LabelFile, LabelOptions, frame_of_value

DELIMITERS = (",", ";", "\t", " ")
HOW_TO_NAME = "--label_columns names the columns of a table without header, in their order"


def read_tables(files: Sequence[LabelFile], options: LabelOptions) -> LabelSet:
    """The labels of one table of all frames, or of a table a frame."""
    rows: dict[str, list[LabelRow]] = {}
    notes: dict[str, None] = {}  # ordered, each sentence once
    for file in files:
        headers, lines = _read_table(file.path, options)
        if not headers:
            rows.setdefault(file.frame, [])
            continue
        fields = guess_fields(headers)
        check_fields(fields, headers, str(file.path))
        where = str(file.path) if len(files) == 1 else file.path.suffix.lstrip(".")
        notes.update(dict.fromkeys(notes_of_fields(fields, where)))
        if "frame" not in fields.header_of:
            rows.setdefault(file.frame, [])
        _add_rows(rows, file, fields, lines)
    frames = {frame: FrameLabels.from_rows(entries) for frame, entries in rows.items()}
    return LabelSet(frames, tuple(notes))


def _add_rows(
    rows: dict[str, list[LabelRow]],
    file: LabelFile,
    fields: Fields,
    lines: Iterator[tuple[str, Mapping[str, object]]],
) -> None:
    """Add the boxes of a table to those of their frames."""
    frame_header = fields.header_of.get("frame")
    for where, values in lines:
        frame = file.frame
        if frame_header is not None:
            frame = frame_of_value(values.get(frame_header), frame_header, where)
        row = row_of_values(values, fields, where)
        rows.setdefault(frame, []).append(row)


def _read_table(
    path: Path, options: LabelOptions
) -> tuple[Sequence[str], Iterator[tuple[str, Mapping[str, object]]]]:
    """The headers of a table and its lines, each with its place and values by header."""
    if path.suffix == ".feather":
        return _read_feather(path)
    text = read_text(path)
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1)]
    lines = [(number, line) for number, line in lines if line.strip() and line[0] != "#"]
    if not lines:
        return [], iter(())
    delimiter = _delimiter(lines[0][1])
    headers = list(options.columns)
    if not headers:
        headers = _split(lines[0][1], delimiter, f"{path}, line {lines[0][0]}")
        if any(_is_number(header) for header in headers):
            raise DataError(
                f"{path}, line {lines[0][0]}: expected a line that names the columns, found "
                f"'{lines[0][1].strip()[:60]}'; {HOW_TO_NAME}"
            )
        lines = lines[1:]
    return headers, _values_of_lines(path, headers, lines, delimiter)


def _values_of_lines(
    path: Path, headers: Sequence[str], lines: Sequence[tuple[int, str]], delimiter: str
) -> Iterator[tuple[str, Mapping[str, object]]]:
    for number, line in lines:
        where = f"{path}, line {number}"
        values = _split(line, delimiter, where)
        if len(values) != len(headers):
            raise DataError(
                f"{where}: has {len(values)} columns, expected {len(headers)}: {', '.join(headers)}"
            )
        if delimiter == ";":  # such tables write 1,5 for one and a half
            values = [value.replace(",", ".") if _is_decimal(value) else value for value in values]
        yield where, dict(zip(headers, values))


def _delimiter(line: str) -> str:
    """The first of the usual delimiters that the header line holds."""
    for delimiter in DELIMITERS:
        if delimiter in line.strip():
            return delimiter
    return ","


def _split(line: str, delimiter: str, where: str) -> list[str]:
    if delimiter == " ":
        return line.split()
    try:
        (values,) = csv.reader([line], delimiter=delimiter, skipinitialspace=True)
    except csv.Error as error:  # a very long field; before Python 3.11 also a zero byte
        raise DataError(f"{where}: is no line of a table: {error}") from None
    return [value.strip() for value in values]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_decimal(text: str) -> bool:
    """Whether the text is a number with a decimal comma."""
    return text.count(",") == 1 and _is_number(text.replace(",", "."))


def _read_feather(path: Path) -> tuple[Sequence[str], Iterator[tuple[str, Mapping[str, object]]]]:
    arrow = needed_for(path, "pyarrow")
    feather = needed_for(path, "pyarrow.feather")
    try:
        table = feather.read_table(path)
    except (arrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable .feather table ({error})") from None
    lines = enumerate(table.to_pylist(), start=1)
    return table.column_names, ((f"{path}, row {row}", values) for row, values in lines)
