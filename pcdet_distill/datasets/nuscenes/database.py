"""The ground-truth database of nuScenes: labelled objects with their points of several sweeps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...ops.points import points_in_boxes

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
    # A point that lies in several boxes belongs to the first of them.
    owners = points_in_boxes(
        torch.from_numpy(np.ascontiguousarray(points[:, :3])),
        torch.from_numpy(boxes[:, :7].astype(np.float32)),
    ).numpy()
    entries = []
    for number, name in enumerate(info["gt_names"]):
        object_points = points[owners == number]
        object_points[:, :3] -= boxes[number, :3]
        file_name = f"{index}_{name}_{number}.bin"
        # numpy's tofile does not report a full disk; write_bytes does.
        (database / file_name).write_bytes(object_points.tobytes())
        entries.append(
            {
                "name": str(name),
                "path": f"{database.name}/{file_name}",
                "image_idx": index,
                "gt_idx": number,
                "box3d_lidar": boxes[number],
                "num_points_in_gt": len(object_points),
            }
        )
    return entries
