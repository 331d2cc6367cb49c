"""The ground-truth database of nuScenes: labelled objects with their points of several sweeps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..object_files import points_of_first_box, write_object_files

Entry = dict[str, Any]


def database_name(max_sweeps: int) -> str:
    """Name of the folder of point files."""
    return f"gt_database_{max_sweeps}sweeps_withvelo"


def database_file(max_sweeps: int) -> str:
    """Name of the file that lists the objects by class."""
    return f"nuscenes_dbinfos_{max_sweeps}sweeps_withvelo.pkl"


def write_objects(
    database: Path, index: int, points: np.ndarray, info: Mapping[str, Any]
) -> list[Entry]:
    """Cut the labelled objects out of a frame: a file of points and an entry for each.

    Objects of classes that are not trained get files too, as in OpenPCDet.

    Args:
        database: folder of the point files.
        index: number of the frame in its info file.
        points: (N, 5) of all sweeps.
        info: of the frame.
    """
    boxes = info["gt_boxes"]
    return write_object_files(
        database,
        index,
        points=points,
        names=info["gt_names"],
        boxes=boxes,
        centres=boxes[:, :3],
        inside=points_of_first_box(points, boxes),
    )
