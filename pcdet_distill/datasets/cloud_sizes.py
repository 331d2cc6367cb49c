"""The bytes of point files when their infos were made: ``NAME.sizes.json`` beside NAME.pkl.

A cloud that was cut off between two points is read without an error, with fewer points. Only its
size tells. Infos have OpenPCDet's keys alone, so sizes are kept in a file of their own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from ..errors import DataError

INFOS = "bytes of the info file"
CLOUDS = "bytes of the point files"


def sizes_file(info_file: Path) -> Path:
    """Where the sizes of the point files of an info file are."""
    return info_file.with_suffix(".sizes.json")


def write_sizes(info_file: Path, folder: Path, files: Iterable[str]) -> None:
    """Record the sizes of point files beside the info file that lists them.

    Args:
        info_file: written already; its own size tells later whether the record belongs to it.
        folder: of the point files.
        files: their paths in ``folder``.
    """
    clouds = {file: (folder / file).stat().st_size for file in sorted(set(files))}
    content = {INFOS: info_file.stat().st_size, CLOUDS: clouds}
    sizes_file(info_file).write_text(json.dumps(content, indent=0), encoding="utf-8")


def read_sizes(info_file: Path) -> dict[str, int]:
    """The recorded bytes by path; none without a record, or where other infos took the place.

    Raises:
        DataError: the record is damaged.
    """
    path = sizes_file(info_file)
    try:
        changed_ns = path.stat().st_mtime_ns
        info_bytes = info_file.stat().st_size
    except OSError:
        return {}  # info files of OpenPCDet have none
    recorded_bytes, clouds = _read(path, changed_ns)
    return clouds if recorded_bytes == info_bytes else {}


# The check asks for every frame. Datasets do not keep the record: they are copied to processes.
@lru_cache(maxsize=4)
def _read(path: Path, _changed_ns: int) -> tuple[int, dict[str, int]]:
    """The recorded size of the info file, and those of the point files."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        recorded = content[INFOS], content[CLOUDS]
        are_numbers = all(isinstance(size, int) for size in (recorded[0], *recorded[1].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        are_numbers = False
    if not are_numbers:
        raise DataError(
            f"{path}: is no record of the sizes of point files; delete it, or make the info files "
            "again"
        )
    return recorded
