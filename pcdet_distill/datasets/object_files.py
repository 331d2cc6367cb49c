"""The files of a ground-truth database: the points of each labelled object, and its entry.

OpenPCDet's layout, and the same points once more in one packed file, which is read faster. The
augmentation gt_sampling reads them; see ``augmentor/object_database.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from ..ops.points import points_in_boxes
from .info_files import Info
from .packed_objects import write_packed
from .safe_pickle import plain_pickle

NOT_IN_FILE_NAMES = re.compile(r"[\\/:*?\"<>|\s\x00-\x1f\ud800-\udfff]")


def write_object_files(
    database: Path,
    frame: str | int,
    *,
    points: np.ndarray,
    names: Sequence[str] | np.ndarray,
    boxes: np.ndarray,
    centres: np.ndarray,
    inside: Iterable[np.ndarray],
) -> list[Info]:
    """Cut the labelled objects out of a frame: a file of points and a database entry for each.

    Args:
        database: folder of the files.
        frame: name or number of the frame.
        points: (N, C) float32.
        names: (M,) classes.
        boxes: (M, 7), or (M, 9) with velocities.
        centres: (M, 3) of the boxes, in the precision in which they are subtracted.
        inside: (N,) for each box, which points are its own.
    """
    entries = []
    for number, (name, box, centre, is_inside) in enumerate(zip(names, boxes, centres, inside)):
        object_points = points[is_inside]
        object_points[:, :3] -= centre
        file_name = NOT_IN_FILE_NAMES.sub("_", f"{frame}_{name}_{number}") + ".bin"
        # numpy's tofile does not report a full disk; write_bytes does.
        (database / file_name).write_bytes(object_points.tobytes())
        entries.append(
            {
                "name": str(name),
                "path": f"{database.name}/{file_name}",
                "image_idx": frame,
                "gt_idx": number,
                "box3d_lidar": box,
                "num_points_in_gt": len(object_points),
            }
        )
    return entries


def write_object_list(list_file: Path, objects: Mapping[str, Sequence[Info]]) -> None:
    """Write the list of a new database, by class, and the packed file of its points.

    Args:
        list_file: in the folder that the paths of the objects begin at.
    """
    list_file.write_bytes(plain_pickle(objects))
    write_packed(list_file, objects)


def points_of_first_box(points: np.ndarray, boxes: np.ndarray) -> list[np.ndarray]:
    """(N,) bool for each box: points that lie in several boxes belong to the first of them.

    Args:
        points: (N, 3 or more).
        boxes: (M, 7 or more).
    """
    places = torch.from_numpy(np.ascontiguousarray(points[:, :3]))
    owners = points_in_boxes(places, torch.from_numpy(boxes[:, :7].astype(np.float32))).numpy()
    return [owners == number for number in range(len(boxes))]
