"""Make the info files and the ground-truth database of a KITTI folder, in OpenPCDet's layout.

A bad frame stops the run with its name, and leaves the old files as they were.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ...config import CloudOptions
from ...errors import DataError
from ...ops.boxes import boxes_to_corners_3d
from ...ops.points import count_points_in_corners, points_in_boxes_mask
from ...parallel import Workers
from ..cloud_sizes import write_sizes
from ..common_cloud import read_cloud
from ..info_files import Info, collect_infos, publish, staging_folder
from ..object_files import write_object_files, write_object_list
from ..safe_pickle import plain_pickle
from .calibration import Calibration
from .camera_boxes import boxes_camera_to_lidar
from .folder import EXTRA_SPLITS, TRUE_LABELS, KittiFolder, check_root, split_file
from .object3d import DONT_CARE, Object3d

DATABASE = "gt_database"
BOXES_AT_ONCE = 256
WITHOUT_LABELS = ("test", "unlabelled")


@dataclass(frozen=True)
class Database:
    """Where the objects of the training split go, and which points they have."""

    folder: Path
    cloud: CloudOptions


def create_kitti_infos(
    root: Path,
    workers: Workers = 1,
    show_progress: bool = True,
    cloud: CloudOptions | None = None,
) -> dict[str, int]:
    """Write the info files, gt_database/ and kitti_dbinfos_train.pkl into ``root``.

    The database of a common cloud has all its points of each object, under names that end with the
    cloud's own. Info files do not depend on the cloud: they count the points of ``velodyne``.

    The info files are kitti_infos_{train,val,trainval}.pkl. Those of ``test`` are made when
    ``ImageSets/test.txt`` and ``testing/`` exist. Those of ``holdout`` (labelled, for evaluating
    choices that were made on val) and of ``unlabelled`` (without labels) are made when their split
    files exist. These two may not share a frame with another split.

    A simulated folder may hold the true boxes beside an annotator's labels. Then there is
    kitti_infos_{split}_true.pkl too, for every labelled split but ``train``: it evaluates against
    the true boxes.

    Returns:
        the number of frames of each split, and of objects under ``"gt_database"``.
    """
    root = check_root(root)
    splits = ["train", "val"]
    if split_file(root, "test").is_file() and (root / "testing").is_dir():
        splits.append("test")
    splits += _extra_splits(root)
    cloud = cloud or CloudOptions()
    with staging_folder(root, workers) as staging:
        objects_of_train = Database(staging / (DATABASE + cloud.suffix), cloud)
        objects_of_train.folder.mkdir()
        infos: dict[str, list[Info]] = {}
        objects: dict[str, list[Info]] = {}
        for split in splits:
            database = objects_of_train if split == "train" else None
            infos[split], split_objects = _process_split(
                root, split, database, workers=workers, show_progress=show_progress
            )
            if split == "train":
                objects = split_objects
        infos["trainval"] = infos["train"] + infos["val"]
        true_infos = _infos_of_true_boxes(root, infos)
        for split, entries in {**infos, **true_infos}.items():
            _write_infos(root, split, entries, staging / f"kitti_infos_{split}.pkl")
        write_object_list(staging / f"kitti_dbinfos_train{cloud.suffix}.pkl", objects)
        publish(staging, root, workers)
    counts = {split: len(entries) for split, entries in infos.items()}
    counts[DATABASE] = sum(len(entries) for entries in objects.values())
    return counts


def _write_infos(root: Path, split: str, infos: Sequence[Info], file: Path) -> None:
    """Write the infos of a split, and the sizes of its point files."""
    file.write_bytes(plain_pickle(infos))
    folder = KittiFolder(root, split)
    clouds = [file_of_frame(folder, info["point_cloud"]["lidar_idx"]) for info in infos]
    write_sizes(file, root, clouds)


def file_of_frame(folder: KittiFolder, frame_id: str) -> str:
    """The point file of a frame, from the root of the data set."""
    return f"{folder.half.name}/velodyne/{frame_id}.bin"


def _infos_of_true_boxes(root: Path, infos: dict[str, list[Info]]) -> dict[str, list[Info]]:
    """The same infos with the boxes of label_2_true, by ``{split}_true``; for evaluation."""
    true_infos = {}
    for split in ("val", "holdout"):
        folder = KittiFolder(root, split)
        if split in infos and folder.has_true_labels():
            true_infos[f"{split}_true"] = [_with_true_boxes(folder, info) for info in infos[split]]
    return true_infos


def _with_true_boxes(folder: KittiFolder, info: Info) -> Info:
    """The info of a frame with its true boxes."""
    frame_id = info["point_cloud"]["lidar_idx"]
    annos = make_annos(
        folder.labels(frame_id, TRUE_LABELS),
        folder.points(frame_id),
        folder.calibration(frame_id),
        info["image"]["image_shape"],
    )
    return {**info, "annos": annos}


def _extra_splits(root: Path) -> list[str]:
    """Those of EXTRA_SPLITS that the folder has; refused where they share frames with others."""
    extra = [name for name in EXTRA_SPLITS if split_file(root, name).is_file()]
    if not extra:
        return []
    frames = {name: set(KittiFolder(root, name).frame_ids()) for name in ("train", "val", *extra)}
    for name in extra:
        for other in frames:
            shared = sorted(frames[name] & frames[other])
            if other != name and shared:
                raise DataError(
                    f"{split_file(root, name)}: {len(shared)} of its frames ({shared[0]} is one) "
                    f"are in {other}.txt too; a {name} split must share none"
                )
    return extra


def _process_split(
    root: Path, split: str, database: Database | None, *, workers: Workers, show_progress: bool
) -> tuple[list[Info], dict[str, list[Info]]]:
    """The infos of a split; with a database also its objects by class."""
    folder = KittiFolder(root, split)
    frame_ids = folder.frame_ids()
    for frame_id in frame_ids[:1]:
        folder.check_columns(frame_id)
    if split == "train" and not frame_ids:
        raise DataError(
            f"{split_file(root, split)}: lists no frames; "
            "expected one number a line, such as 000008"
        )
    task = partial(_process_frame, root, split, database)
    return collect_infos(task, frame_ids, split, workers=workers, show_progress=show_progress)


def _process_frame(
    root: Path, split: str, database: Database | None, frame_id: str
) -> tuple[Info, list[Info]]:
    """Info of one frame; with a database also its objects, whose points go there."""
    folder = KittiFolder(root, split)
    points = folder.points(frame_id)
    calib = folder.calibration(frame_id)
    image_shape = folder.image_shape(frame_id)
    info: Info = {
        "point_cloud": {"num_features": 4, "lidar_idx": frame_id},
        "image": {"image_idx": frame_id, "image_shape": image_shape},
        "calib": calib.to_info(),
    }
    if split in WITHOUT_LABELS:
        return info, []
    info["annos"] = make_annos(folder.labels(frame_id), points, calib, image_shape)
    if database is None:
        return info, []
    cloud = read_cloud(folder.half, frame_id, database.cloud)
    return info, _write_objects(database.folder, frame_id, cloud, info["annos"])


def make_annos(
    objects: Sequence[Object3d], points: np.ndarray, calib: Calibration, image_shape: np.ndarray
) -> Info:
    """The ``annos`` of a frame: one row per label, DontCare last.

    ``gt_boxes_lidar`` has no rows for DontCare regions. ``num_points_in_gt`` counts the points that
    camera 2 sees, all of them where there is no camera, and is -1 for these regions.
    """
    num_real = sum(entry.cls_type != DONT_CARE for entry in objects)
    num_regions = len(objects) - num_real
    location = np.array([entry.loc for entry in objects], dtype=np.float32).reshape(-1, 3)
    sizes = np.array([[entry.l, entry.h, entry.w] for entry in objects], dtype=np.float64)
    sizes = sizes.reshape(-1, 3)
    rotation_y = np.array([entry.ry for entry in objects], dtype=np.float64)
    camera = np.concatenate([location, sizes, rotation_y[:, None]], axis=1)
    boxes = boxes_camera_to_lidar(camera[:num_real], calib)
    if image_shape.any():
        points = points[calib.in_image(calib.lidar_to_rect(points[:, :3]), image_shape)]
    counts = count_points_in_corners(points, boxes_to_corners_3d(boxes))
    return {
        "name": np.array([entry.cls_type for entry in objects], dtype=str),
        "truncated": np.array([entry.truncation for entry in objects], dtype=np.float64),
        "occluded": np.array([entry.occlusion for entry in objects], dtype=np.float64),
        "alpha": np.array([entry.alpha for entry in objects], dtype=np.float64),
        "bbox": np.array([entry.box2d for entry in objects], dtype=np.float32).reshape(-1, 4),
        "dimensions": sizes,
        "location": location,
        "rotation_y": rotation_y,
        "score": np.array([entry.score for entry in objects], dtype=np.float64),
        "difficulty": np.array([entry.difficulty for entry in objects], dtype=np.int32),
        "index": np.array([*range(num_real), *[-1] * num_regions], dtype=np.int32),
        "gt_boxes_lidar": boxes,
        "num_points_in_gt": np.concatenate([counts, np.full(num_regions, -1)]).astype(np.int32),
    }


def _masks(points: np.ndarray, boxes: np.ndarray) -> Iterator[np.ndarray]:
    """(N,) bool for each box; never of all boxes at once, since there may be very many."""
    for first in range(0, len(boxes), BOXES_AT_ONCE):
        yield from points_in_boxes_mask(points, boxes[first : first + BOXES_AT_ONCE]).astype(bool)


def _write_objects(database: Path, frame_id: str, points: np.ndarray, annos: Info) -> list[Info]:
    """Cut the labelled objects out of a frame: a file of points and a database entry for each."""
    boxes = annos["gt_boxes_lidar"]
    entries = write_object_files(
        database,
        frame_id,
        points=points,
        names=annos["name"],
        boxes=boxes,
        centres=boxes[:, :3].astype(np.float32),
        inside=_masks(points, boxes),
    )
    for index, entry in enumerate(entries):
        for key in ("difficulty", "bbox", "score"):
            entry[key] = annos[key][index]
    return entries
