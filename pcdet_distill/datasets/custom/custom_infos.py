"""Make the info files and the ground-truth database of a folder of own data.

The layout is OpenPCDet's ``create_custom_infos``: infos of the splits train and val, and a database
of the objects of train. ``num_points_in_gt`` is ours; OpenPCDet ignores it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ...errors import DataError
from ...ops.points import points_in_boxes_mask
from ...parallel import Workers
from ..cloud_sizes import write_sizes
from ..info_files import Info, collect_infos, publish, staging_folder
from ..object_files import write_object_files, write_object_list
from ..safe_pickle import plain_pickle
from .folder import POINTS, CustomFolder, check_root

DATABASE = "gt_database"
DATABASE_FILE = "custom_dbinfos_train.pkl"
# Splits beyond OpenPCDet's two, made where their list exists. They need no labels.
WITHOUT_LABELS = ("test", "unlabelled")


def info_file(split: str) -> str:
    """The name of a split's info file."""
    return f"custom_infos_{split}.pkl"


def file_of_info(info: Info) -> str:
    """The name of the point file of a frame."""
    return f"{info['point_cloud']['lidar_idx']}.npy"


def create_custom_infos(
    root: Path, workers: Workers = 1, show_progress: bool = True
) -> dict[str, dict[str, int]]:
    """Write custom_infos_{train,val}.pkl, gt_database/ and custom_dbinfos_train.pkl into ``root``.

    The splits ``test`` and ``unlabelled`` get an info file without labels where their list exists.
    The old files stay as they were when a frame cannot be read.

    Returns:
        ``frames``: the number of frames of each split; ``objects``: that of objects in the database
        by class.
    """
    folder = CustomFolder(check_root(root))
    splits = ["train", "val"]
    splits += [name for name in WITHOUT_LABELS if folder.split_file(name).is_file()]
    frames = {split: folder.frame_ids(split) for split in splits}
    if not frames["train"]:
        raise DataError(
            f"{folder.split_file('train')}: lists no frames; expected the names of points/*.npy"
        )
    objects: dict[str, list[Info]] = {}
    with staging_folder(folder.root, workers) as staging:
        (staging / DATABASE).mkdir()
        for split, frame_ids in frames.items():
            database = staging / DATABASE if split == "train" else None
            task = partial(_process_frame, folder.root, split not in WITHOUT_LABELS, database)
            infos, split_objects = collect_infos(
                task, frame_ids, split, workers=workers, show_progress=show_progress
            )
            _check_widths(infos, folder)
            file = staging / info_file(split)
            file.write_bytes(plain_pickle(infos))
            write_sizes(file, folder.root / POINTS, map(file_of_info, infos))
            objects.update(split_objects)
        write_object_list(staging / DATABASE_FILE, objects)
        publish(staging, folder.root, workers)
    return {
        "frames": {split: len(frame_ids) for split, frame_ids in frames.items()},
        "objects": {name: len(entries) for name, entries in objects.items()},
    }


def _process_frame(
    root: Path, labelled: bool, database: Path | None, frame_id: str
) -> tuple[Info, list[Info]]:
    """Info of one frame; with a database also its objects, whose points go there."""
    folder = CustomFolder(root)
    points = folder.points(frame_id)
    info: Info = {"point_cloud": {"num_features": points.shape[1], "lidar_idx": frame_id}}
    if not labelled:
        return info, []
    labels = folder.labels(frame_id)
    boxes = labels.boxes.astype(np.float32)
    inside = points_in_boxes_mask(points, boxes)
    info["annos"] = {
        "name": labels.names,
        "gt_boxes_lidar": boxes,
        "num_points_in_gt": inside.sum(axis=1).astype(np.int32),
    }
    if database is None:
        return info, []
    entries = write_object_files(
        database,
        frame_id,
        points=points,
        names=labels.names,
        boxes=boxes,
        centres=boxes[:, :3],
        inside=inside.astype(bool),
    )
    return info, entries


def _check_widths(infos: Sequence[Info], folder: CustomFolder) -> None:
    """Refuse frames whose points have different numbers of columns."""
    for info in infos[1:]:
        first = infos[0]["point_cloud"]
        cloud = info["point_cloud"]
        if cloud["num_features"] != first["num_features"]:
            raise DataError(
                f"{folder.points_file(cloud['lidar_idx'])}: its points have "
                f"{cloud['num_features']} columns, those of {POINTS}/{first['lidar_idx']}.npy have "
                f"{first['num_features']}; expected the same columns in all frames"
            )
