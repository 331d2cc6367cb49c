"""Info files and the database of objects of Argoverse 2, in OpenPCDet's layout.

The keys of an info are OpenPCDet's. Its ``velodyne_path`` may name one of Argoverse 2's own feather
files, so that no point is stored twice; OpenPCDet copies all of them to .bin files. ``sweeps``
lists the earlier sweeps, the newest first, each with the matrix into the frame of the info.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ...config import Argo2Options
from ...parallel import Workers, as_engine
from ..info_files import publish, staging_folder
from ..object_files import points_of_first_box, write_object_files, write_object_list
from ..safe_pickle import plain_pickle
from .folder import SPLITS, Log, check_splits, find_splits, sweeps_of, timestamp_of
from .sweeps import read_frame
from .tables import Annotations, Labels, Poses

DATABASE = "gt_database"
DATABASE_FILE = "argo2_dbinfos_train.pkl"
VAL_SHARE = 0.2
UNKNOWN_ALPHA = -10.0
Info = dict[str, Any]


@dataclass(frozen=True)
class LogTask:
    """A log to be read.

    Attributes:
        log: its sweeps of one split.
        prefix: begin of the number of each of its frames, such as ``0012``: the split, then the
            number of the log.
        labelled: whether its labels are read.
    """

    log: Log
    prefix: str
    labelled: bool


@dataclass(frozen=True)
class Plan:
    """What stays the same for all logs; ``database`` is the folder of object files, or None."""

    root: Path
    tasks: dict[str, LogTask]
    max_sweeps: int
    features: tuple[str, ...]
    database: Path | None


def info_file(split: str) -> str:
    """The name of a split's info file."""
    return f"argo2_infos_{split}.pkl"


def create_argoverse2_infos(
    root: Path,
    options: Argo2Options,
    features: Sequence[str],
    *,
    val_share: float = VAL_SHARE,
    workers: Workers = 1,
    show_progress: bool = True,
) -> dict[str, dict[str, int]]:
    """Write argo2_infos_{train,val,test}.pkl, gt_database/ and argo2_dbinfos_train.pkl.

    The old files stay as they were when a log cannot be read.

    Args:
        root: the folder of the data set.
        options: MAX_SWEEPS sweeps are listed in each info and joined in the database.
        features: the columns of the points in the database.
        val_share: see ``folder.find_splits``.

    Returns:
        ``frames``: the number of frames of each split; ``objects``: that of objects in the database
        by class.
    """
    splits = find_splits(root, val_share)
    check_splits(splits, root)
    objects: dict[str, list[Info]] = {}
    frames: dict[str, int] = {}
    with staging_folder(root, workers) as staging:
        (staging / DATABASE).mkdir()
        for split, logs in splits.items():
            plan = Plan(
                root=root,
                tasks=_tasks(split, logs),
                max_sweeps=options.max_sweeps,
                features=tuple(features),
                database=staging / DATABASE if split == "train" else None,
            )
            infos, split_objects = _collect(plan, split, workers, show_progress)
            (staging / info_file(split)).write_bytes(plain_pickle(infos))
            frames[split] = len(infos)
            objects.update(split_objects)
        write_object_list(staging / DATABASE_FILE, objects)
        publish(staging, root, workers)
    counts = {name: len(entries) for name, entries in objects.items()}
    return {"frames": frames, "objects": counts}


def _tasks(split: str, logs: Sequence[Log]) -> dict[str, LogTask]:
    tasks = {}
    for number, log in enumerate(logs):
        prefix = f"{SPLITS.index(split)}{number:03d}"
        tasks[log.name] = LogTask(log, prefix, labelled=split != "test")
    return tasks


def _collect(
    plan: Plan, split: str, workers: Workers, show_progress: bool
) -> tuple[list[Info], dict[str, list[Info]]]:
    """The infos of a split, and its objects by class."""
    infos: list[Info] = []
    objects: dict[str, list[Info]] = {}
    names = list(plan.tasks)
    hidden = None if show_progress else True  # None: shown on a terminal only
    title = f"infos of {split}"
    with as_engine(workers).results(partial(_process_log, plan), names) as results:
        bar = tqdm(results, total=len(names), desc=title, unit="log", disable=hidden)
        for log_infos, log_objects in bar:
            infos += log_infos
            for entry in log_objects:
                objects.setdefault(entry["name"], []).append(entry)
    return infos, objects


def _process_log(plan: Plan, name: str) -> tuple[list[Info], list[Info]]:
    """The infos of one log; with a database also its objects, whose points go there."""
    task = plan.tasks[name]
    annotations = Annotations(task.log.annotations) if task.labelled else None
    if annotations is not None:
        annotations.check_times([timestamp_of(sweep) for sweep in task.log.sweeps])
    poses = Poses(task.log.poses) if plan.max_sweeps > 1 or task.log.poses.is_file() else None
    all_sweeps = sweeps_of(task.log.path)
    infos = []
    objects: list[Info] = []
    for number, sweep in enumerate(task.log.sweeps):
        info = _frame_info(plan, sweep, f"{task.prefix}{number:03d}", name)
        if poses is not None:
            info["pose"] = {"city_from_ego": poses.at(timestamp_of(sweep))}
            info["sweeps"] = _earlier_sweeps(plan, all_sweeps, sweep, poses)
        if annotations is not None:
            labels = annotations.at(timestamp_of(sweep))
            info["annos"] = _annos(labels.where(labels.num_points > 0))
            if plan.database is not None:
                objects += _write_objects(plan, plan.database, info)
        infos.append(info)
    return infos, objects


def _frame_info(plan: Plan, sweep: Path, sample_idx: str, log_name: str) -> Info:
    return {
        "uuid": f"{log_name}/{sweep.stem}",
        "sample_idx": sample_idx,
        "image": {},
        "point_cloud": {
            "num_features": 4,
            "velodyne_path": sweep.relative_to(plan.root).as_posix(),
        },
        "calib": {},
        "pose": {},
        "sweeps": [],
        "max_sweeps": plan.max_sweeps,
    }


def _earlier_sweeps(
    plan: Plan, all_sweeps: Sequence[Path], sweep: Path, poses: Poses
) -> list[Info]:
    """The sweeps before one of a log, the newest first; a log's first sweep has none."""
    number = all_sweeps.index(sweep)
    now_ns = timestamp_of(sweep)
    ego_from_city = np.linalg.inv(poses.at(now_ns))
    earlier = []
    for other in reversed(all_sweeps[max(number - plan.max_sweeps + 1, 0) : number]):
        time_ns = timestamp_of(other)
        earlier.append(
            {
                "lidar_path": other.relative_to(plan.root).as_posix(),
                "transform_matrix": ego_from_city @ poses.at(time_ns),
                "time_lag": 1e-9 * (now_ns - time_ns),
            }
        )
    return earlier


def _annos(labels: Labels) -> Info:
    """OpenPCDet's keys; those of the image hold nothing, as there is no camera."""
    count = len(labels.names)
    return {
        "name": labels.names,
        "truncated": np.zeros(count),
        "occluded": np.zeros(count, dtype=np.int64),
        "alpha": np.full(count, UNKNOWN_ALPHA),
        "bbox": None,
        "dimensions": labels.boxes[:, 3:6],
        "location": labels.boxes[:, :3],
        "rotation_y": labels.boxes[:, 6],
        "index": np.arange(count, dtype=np.int32),
        "group_ids": None,
        "camera_id": None,
        "difficulty": None,
        "num_points_in_gt": labels.num_points,
        "track_ids": labels.track_ids,
    }


def boxes_of(annos: Info) -> np.ndarray:
    """Boxes (M, 7) float32 of the labels of a frame."""
    parts = (
        np.asarray(annos["location"]).reshape(-1, 3),
        np.asarray(annos["dimensions"]).reshape(-1, 3),
        np.asarray(annos["rotation_y"]).reshape(-1, 1),
    )
    return np.concatenate(parts, axis=1).astype(np.float32)


def _write_objects(plan: Plan, database: Path, info: Info) -> list[Info]:
    """Cut the labelled objects out of a frame: a file of points and an entry for each."""
    points = read_frame(plan.root, info, plan.features, plan.max_sweeps)
    boxes = boxes_of(info["annos"])
    return write_object_files(
        database,
        info["sample_idx"],
        points=points,
        names=info["annos"]["name"],
        boxes=boxes,
        centres=boxes[:, :3],
        inside=points_of_first_box(points, boxes),
    )
