"""What was written when infos were made: ``NAME.sizes.json`` beside NAME.pkl.

A cloud that was cut off between two points is read without an error, with fewer points. Only its
size tells. A bit that flipped in a box of an info file is another box; only a checksum tells. Infos
have OpenPCDet's keys alone, so the sizes and the checksum are kept in a file of their own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..errors import DataError

INFOS = "bytes of the info file"
CHECKSUM = "checksum of the info file"
CLOUDS = "bytes of the point files"


def sizes_file(info_file: Path) -> Path:
    """Where the sizes of the point files of an info file are."""
    return info_file.with_suffix(".sizes.json")


def write_sizes(info_file: Path, folder: Path, files: Iterable[str]) -> None:
    """Record the sizes of point files, and a checksum, beside the info file that lists them.

    Args:
        info_file: written already; its own size tells later whether the record belongs to it.
        folder: of the point files.
        files: their paths in ``folder``.
    """
    clouds = {file: (folder / file).stat().st_size for file in sorted(set(files))}
    content = {
        INFOS: info_file.stat().st_size,
        CHECKSUM: _checksum(info_file),
        CLOUDS: clouds,
    }
    sizes_file(info_file).write_text(json.dumps(content, indent=0), encoding="utf-8")


def read_sizes(info_file: Path) -> dict[str, int]:
    """The recorded bytes by path; none without a record, or where other infos took the place.

    Raises:
        DataError: the record is damaged.
    """
    record = _record_of(info_file)
    return {} if record is None else record.clouds


def is_changed(info_file: Path) -> bool:
    """Whether an info file has other bytes than were written, where a checksum is recorded.

    One of another size was made anew by another program, and the record is not about it.

    Raises:
        DataError: the record is damaged.
    """
    record = _record_of(info_file)
    if record is None or not record.checksum:
        return False
    return record.checksum != _checksum(info_file)


@dataclass(frozen=True)
class _Record:
    """What the file says: bytes and checksum of the infos, and the bytes of each point file."""

    info_bytes: int
    checksum: str
    clouds: dict[str, int]


def _record_of(info_file: Path) -> _Record | None:
    """The record of this info file; None without one, or where other infos took the place."""
    path = sizes_file(info_file)
    try:
        changed_ns = path.stat().st_mtime_ns
        info_bytes = info_file.stat().st_size
    except OSError:
        return None  # info files of OpenPCDet have none
    record = _read(path, changed_ns)
    return record if record.info_bytes == info_bytes else None


def _checksum(file: Path) -> str:
    return hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()


# The check asks for every frame. Datasets do not keep the record: they are copied to processes.
@lru_cache(maxsize=4)
def _read(path: Path, _changed_ns: int) -> _Record:
    """The record of a file. Those of older versions have no checksum."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        record = _Record(content[INFOS], content.get(CHECKSUM, ""), content[CLOUDS])
        sizes = [record.info_bytes, *record.clouds.values()]
        is_record = isinstance(record.checksum, str)
        is_record = is_record and all(isinstance(size, int) for size in sizes)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        is_record = False
    if not is_record:
        raise DataError(
            f"{path}: is no record of the sizes of point files; delete it, or make the info files "
            "again"
        )
    return record
