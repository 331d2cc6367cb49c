"""Which reader reads which file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ...config import nearest
from ...errors import DataError
from .arrays import read_npy, read_npz
from .bags import is_bag
from .cloud import PointCloud
from .extras import in_one_line
from .feather import read_feather
from .las import read_las
from .number_file import NUSCENES_SUFFIX, read_bin
from .pcd import read_pcd
from .ply import read_ply

# Formats whose files name their columns, and formats whose columns may be told.
NAMED: dict[str, Callable[[Path], PointCloud]] = {
    ".feather": read_feather,
    ".las": read_las,
    ".laz": read_las,
    ".pcd": read_pcd,
    ".ply": read_ply,
}
UNNAMED: dict[str, Callable[[Path, Sequence[str] | int | None], PointCloud]] = {
    ".bin": read_bin,
    ".npy": read_npy,
    ".npz": read_npz,
}
UNNAMED_SUFFIXES = frozenset(UNNAMED)
CLOUD_SUFFIXES = tuple(sorted({**NAMED, **UNNAMED}))


def read_cloud_file(path: str | Path, columns: Sequence[str] | int | None = None) -> PointCloud:
    """The cloud of one file; its suffix says the format.

    Args:
        path: a file with one of ``CLOUD_SUFFIXES``.
        columns: names of the columns of a .bin, .npy or .npz file, which has none, or only their
            number. None guesses them, and the note says how. Other formats name their columns.

    Raises:
        DataError: the file cannot be read, is truncated, or has no x, y, z or no points.
    """
    path = Path(path)
    with in_one_line():
        cloud = _read(path, columns)
    if len(cloud.points) == 0:
        raise DataError(f"{path}: holds no points")
    return cloud


def _read(path: Path, columns: Sequence[str] | int | None) -> PointCloud:
    suffix = path.suffix.lower()
    if suffix in NAMED:
        return NAMED[suffix](path)
    if suffix in UNNAMED:
        return UNNAMED[suffix](path, columns)
    if is_bag(path):
        raise DataError(f"{path}: a recording of many clouds; expected a file of one cloud")
    if path.is_dir():
        raise DataError(f"{path}: a folder; expected a file of one cloud")
    raise DataError(f"{path}: no reader for '{suffix}'{nearest(suffix, CLOUD_SUFFIXES)}")


def names_its_columns(path: Path) -> bool:
    """Whether the format of a file names the columns, so that they need not be told."""
    return path.suffix.lower() in NAMED or path.name.endswith(NUSCENES_SUFFIX)
