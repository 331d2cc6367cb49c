"""What may be given as points: arrays, tensors and paths, as clouds that are read one by one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch

from ..datasets.readers import CloudSource, PointCloud, is_bag, open_clouds
from ..datasets.readers.columns import cloud_of_columns
from ..datasets.readers.default_names import column_names
from ..errors import DataError

OneCloud: TypeAlias = "np.ndarray | torch.Tensor | str | PathLike[str] | PointCloud"
Points: TypeAlias = "OneCloud | Sequence[OneCloud]"
ARRAY = "points"
MOST_COLUMNS = 64


class CloudArray:
    """One array (N, C), tensor or cloud of the readers as a source of one cloud."""

    def __init__(self, points: np.ndarray | torch.Tensor | PointCloud, name: str = ARRAY) -> None:
        if isinstance(points, torch.Tensor):
            points = points.detach().cpu()
            # NumPy has no bfloat16.
            points = (points.float() if points.dtype == torch.bfloat16 else points).numpy()
        if isinstance(points, np.ndarray) and not points.dtype.names:
            _check_array(points, name)
        self._points = points
        self._name = name

    def __len__(self) -> int:
        return 1

    @property
    def num_columns(self) -> int:
        """C of an array without names."""
        assert isinstance(self._points, np.ndarray)
        return self._points.shape[1]

    def place(self, index: int) -> str:
        """Its number among those that were given."""
        return self._name

    def origin(self, index: int) -> str:
        """The same for all arrays."""
        return ARRAY

    def name(self, index: int) -> str:
        """The same, as the name of a file."""
        return re.sub(r"\W+", "_", self._name).strip("_")

    def names_columns(self, index: int) -> bool:
        """Whether it is a structured array, or a cloud of the readers."""
        return isinstance(self._points, PointCloud) or bool(self._points.dtype.names)

    def read(self, index: int, columns: Sequence[str] | int | None = None) -> PointCloud:
        """The cloud. ``columns`` names the columns of an array that has no names."""
        points = self._points
        if isinstance(points, PointCloud):
            return points
        if points.dtype.names:
            return cloud_of_columns({name: points[name] for name in points.dtype.names}, self._name)
        names = column_names(columns, points.shape[1])
        if len(names) != points.shape[1]:
            raise DataError(
                f"{self._name}: has {points.shape[1]} columns, expected the {len(names)} that "
                f"'columns' names: {', '.join(names)}"
            )
        return cloud_of_columns(dict(zip(names, points.T)), self._name)


def names_of_columns(count: int, features: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names for the ``count`` columns of an array, and a warning if they are too many.

    The columns are taken to be those that the model reads. Of too few the first ones are there.
    """
    names = list(features[:count])
    further = range(len(features), count)
    names += [f"column_{number}" for number in further]
    if not further:
        return names, []
    doubt = (
        f"has {count} columns, but the model reads {len(features)} ({', '.join(features)}), so the "
        "last are left out; 'columns' names them if these are not the first"
    )
    return names, [doubt]


def clouds_of(points: Points) -> tuple[list[CloudSource], bool]:
    """The sources of what was given, and whether it is a single cloud.

    A list, a folder and a recording are several clouds, also if there is one in them.
    """
    if isinstance(points, (list, tuple)):
        return [_source(one, f"{ARRAY}[{number}]") for number, one in enumerate(points)], False
    source = _source(points, ARRAY)
    if isinstance(source, CloudArray):
        return [source], True
    path = Path(str(points)).expanduser()
    return [source], path.is_file() and not is_bag(path)


def _source(points: object, name: str) -> CloudSource:
    if isinstance(points, (str, PathLike)):
        return open_clouds(Path(points).expanduser())
    if isinstance(points, (np.ndarray, torch.Tensor, PointCloud)):
        return CloudArray(points, name)
    raise DataError(
        f"{name}: expected an array (N, 3 or more), a tensor, a path, or a list of these, "
        f"found {type(points).__name__}"
    )


def _check_array(array: np.ndarray, name: str) -> None:
    is_table = array.ndim == 2 and 3 <= array.shape[1] <= MOST_COLUMNS
    if is_table and array.dtype.kind in "fiu":
        return
    advice = ""
    if array.ndim == 2 and 3 <= array.shape[0] <= MOST_COLUMNS < array.shape[1]:
        advice = "; transpose it"
    raise DataError(
        f"{name}: expected numbers of shape (N, C) with C from 3, x, y, z first, "
        f"found {array.dtype} {array.shape}{advice}"
    )
