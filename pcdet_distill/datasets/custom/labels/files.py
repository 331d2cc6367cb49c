"""Label files: their frames, and what the user says about them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ....errors import DataError

# Folders that hold one kind of file of all frames: they are no part of a frame's name.
KIND_FOLDERS = frozenset(
    {
        *("lidar", "velodyne", "velodyne_points", "points", "point_cloud", "point_clouds"),
        *("pointcloud", "pointclouds", "cloud", "clouds", "scans", "sensors", "data", "training"),
        *("bin", "bins", "pcd", "pcds", "ply", "las", "laz", "npy", "npz", "feather"),
        *("label", "labels", "label_2", "ann", "anns", "annotation", "annotations", "boxes"),
        *("json", "csv", "txt", "gt", "default"),
    }
)
CLOUD_ENDINGS = re.compile(r"\.(bin|npy|npz|pcd|ply|las|laz|feather)$", re.IGNORECASE)


@dataclass(frozen=True)
class LabelFile:
    """A label file, and the frame that it belongs to if it is the file of one frame."""

    path: Path
    frame: str


@dataclass(frozen=True)
class LabelOptions:
    """What the user says about the labels.

    Attributes:
        columns: names of a table's columns, for a table without header.
        calib: for KITTI labels: a calibration file of all frames, or ``default`` for a camera at
            the LiDAR that looks along its x axis; empty to look for calib/ beside the labels.
        lidar_frame: KITTI labels whose locations and angles are in LiDAR coordinates.
        box_z: ``centre`` or ``bottom``, what z means in the files; empty for the format's own rule.
        angles: ``radians`` or ``degrees``; empty for the format's own rule.
        ignore_ids: ids may repeat within a frame.
    """

    columns: tuple[str, ...] = ()
    calib: str = ""
    lidar_frame: bool = False
    box_z: str = ""
    angles: str = ""
    ignore_ids: bool = False


def frame_of_file(path: Path, root: Path) -> str:
    """The frame of a cloud or label file: its stem, with the folders that tell sequences apart.

    ``seq1/lidar/0001.pcd`` and ``seq1/label/0001.json`` are both ``seq1/0001``.
    """
    folders = path.relative_to(root).parts[:-1] if path != root else ()
    named = [folder for folder in folders if folder.lower() not in KIND_FOLDERS]
    return "/".join([*named, stem_of(path.name)])


def stem_of(name: str) -> str:
    """The name of a file without its endings: ``a`` of ``a.json`` and of ``a.pcd.json``."""
    stem = Path(name).stem
    return CLOUD_ENDINGS.sub("", stem)


def frame_of_value(value: object, header: str, where: str) -> str:
    """The frame that a table or a JSON file names by a number, a stem or a path."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = "" if value is None else str(value).strip()
    if not text:
        raise DataError(f"{where}: the frame '{header}' is empty")
    *folders, name = re.split(r"[\\/]", text)
    named = [folder for folder in folders if folder and folder.lower() not in KIND_FOLDERS]
    return "/".join([*named, CLOUD_ENDINGS.sub("", name)])
