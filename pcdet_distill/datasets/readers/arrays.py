"""Read .npy and .npz files: NumPy's arrays."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ...errors import DataError, first_line
from .cloud import PointCloud
from .columns import Columns, cloud_of_columns
from .content import check_head
from .default_names import column_names, note_of_unnamed
from .names import INTENSITY, PLACE, plain_name

FEWEST = 3
MOST = 64
LARGEST_UNPACKED = 256 * 2**20  # bytes: five million points of twelve columns
MOST_SHRUNK = 20  # times that numbers of a sensor are compressed
POSE = (4, 4)  # the shape of a pose, which may stand beside the points
POINT_ARRAYS = ("points", "point", "pointcloud", "point_cloud", "lidar", "pts", "xyz", "data")

Names = Sequence[str] | int | None


def read_npy(path: Path, columns: Names = None) -> PointCloud:
    """The cloud of an array (N, C), (H, W, C), or of a structured array with named columns."""
    check_head(path, (".npy",))
    try:
        with path.open("rb") as file:
            array = np.load(file, allow_pickle=False)
    except Exception as error:  # of NumPy, its parser of headers, zip and zlib
        raise DataError(f"{path}: not a readable .npy array: {first_line(error)}") from None
    return _cloud_of_array(array, path, columns, {})


def read_npz(path: Path, columns: Names = None) -> PointCloud:
    """The cloud of an archive: one array of points, and arrays (N,) as further columns."""
    check_head(path, (".npz",))
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            _check_sizes(path, archive.zip)
            arrays = {name: archive[name] for name in archive.files}
    except DataError:
        raise
    except Exception as error:  # of NumPy, its parser of headers, zip and zlib
        raise DataError(f"{path}: not a readable .npz archive: {first_line(error)}") from None
    if set(PLACE) <= {plain_name(name) for name in arrays}:
        return cloud_of_columns(_of_one_length(arrays, path), path)
    name = _points_name(arrays, path)
    table = arrays.pop(name)
    further = {other: values for other, values in arrays.items() if values.shape == table.shape[:1]}
    return _cloud_of_array(table, path, columns, further)


def _check_sizes(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuse an archive that unpacks to far more than any cloud: zeros shrink a thousandfold."""
    unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > max(LARGEST_UNPACKED, MOST_SHRUNK * path.stat().st_size):
        raise DataError(
            f"{path}: unpacks to {unpacked} bytes from {path.stat().st_size}, more than any cloud; "
            "it was not unpacked"
        )


def _of_one_length(arrays: Mapping[str, np.ndarray], path: Path) -> Columns:
    """The arrays (N,) or (N, 1) of an archive with one array a column."""
    columns = {name: values.ravel() for name, values in arrays.items() if _is_column(values)}
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DataError(f"{path}: its arrays differ in length: {shown}")
    return columns


def _is_column(values: np.ndarray) -> bool:
    is_flat = values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1)
    return is_flat and values.dtype.kind in "fiub"


def _points_name(arrays: Mapping[str, np.ndarray], path: Path) -> str:
    """The name of the array that holds points."""
    tables = [name for name, values in arrays.items() if _is_table(values)]
    usual = [name for name in POINT_ARRAYS if name in tables]
    if len(tables) > 1:
        tables = [name for name in tables if arrays[name].shape != POSE]
    if usual or len(tables) == 1:
        return (usual or tables)[0]
    found = ", ".join(f"{name} {values.shape}" for name, values in arrays.items()) or "none"
    raise DataError(
        f"{path}: which array holds the points? Expected one of shape (N, {FEWEST} or more), or "
        f"one named 'points'; its arrays are: {found}"
    )


def _is_table(values: np.ndarray) -> bool:
    """Whether an array of an archive may hold points."""
    if values.dtype.names:
        return True
    is_wide = values.ndim >= 2 and FEWEST <= values.shape[-1] <= MOST
    return is_wide and values.dtype.kind in "fiu"


def _cloud_of_array(
    array: np.ndarray, path: Path, columns: Names, further: Mapping[str, np.ndarray]
) -> PointCloud:
    """The cloud of an array, and of the arrays (N,) beside it."""
    if array.dtype.names:
        return cloud_of_columns(_fields_of(array.ravel()) | dict(further), path)
    _check_shape(array, path, columns)
    table = array.reshape(-1, array.shape[-1])
    names = column_names(columns, table.shape[1])
    if columns is None and INTENSITY in further:
        names = tuple("column_3" if name == INTENSITY else name for name in names)
    notes = [note_of_unnamed(names, table)]
    if array.ndim > 2:
        notes.append(f"its shape {array.shape} is read as a list of points")
    return cloud_of_columns(dict(zip(names, table.T)) | dict(further), path, notes)


def _fields_of(rows: np.ndarray) -> Columns:
    """The columns of a structured array. A field of several numbers becomes several columns."""
    columns: Columns = {}
    for name in rows.dtype.names or ():
        values = rows[name]
        if values.ndim == 1:
            columns[name] = values
            continue
        flat = values.reshape(len(rows), -1)
        for number in range(flat.shape[1]):
            columns[f"{name}_{number}"] = flat[:, number]
    return columns


def _check_shape(array: np.ndarray, path: Path, columns: Names) -> None:
    told = columns if columns is None or isinstance(columns, int) else len(columns)
    expected = f"(N, {told})" if told else f"(N, C) with C from {FEWEST} to {MOST}"
    width = array.shape[-1] if array.ndim >= 2 else 0
    is_right = width == told if told else FEWEST <= width <= MOST
    if is_right and array.dtype.kind in "fiu":
        return
    advice = ""
    if array.ndim == 2 and FEWEST <= array.shape[0] <= MOST < array.shape[1]:
        advice = "; transpose it"
    raise DataError(
        f"{path}: expected numbers of shape {expected}, found {array.dtype} {array.shape}{advice}"
    )
