"""Read .feather files by pyarrow, from the extra ``readers``. Argoverse 2 stores its sweeps so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...errors import DataError, first_line
from .cloud import PointCloud
from .columns import Columns, cloud_of_columns
from .content import check_head
from .extras import needed_for


def read_feather(path: Path) -> PointCloud:
    """The cloud of a .feather file: its columns of numbers, others are left out."""
    feather = needed_for(path, "pyarrow.feather")
    check_head(path, (".feather",))
    try:
        table = feather.read_table(path, memory_map=False)
        table.validate(full=True)  # else lengths in a damaged file may name memory outside of it
        columns = _columns(table)
    except Exception as error:  # pyarrow's errors have several bases
        raise DataError(f"{path}: truncated or damaged: {first_line(error)}") from None
    left_out = [name for name in table.column_names if name not in columns]
    note = f"columns that are no numbers are left out: {', '.join(left_out)}" if left_out else ""
    return cloud_of_columns(columns, path, [note])


def _columns(table: Any) -> Columns:
    """The columns of numbers of a pyarrow table. A missing number becomes NaN."""
    columns: Columns = {}
    for name in table.column_names:
        values = table[name].to_numpy()
        if values.dtype.kind in "fiub":
            columns[name] = values
    return columns
