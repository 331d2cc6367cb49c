"""Which files of a folder are clouds, and what else lies beside them in known data sets."""

from __future__ import annotations

from pathlib import Path

from ...errors import DataError
from .table import CLOUD_SUFFIXES

# Argoverse's tables: of the boxes, of the vehicle's poses, and of where its sensors are mounted.
LABEL_TABLES = frozenset({"annotations.feather"})
OTHER_TABLES = frozenset(
    {
        *LABEL_TABLES,
        "city_se3_egovehicle.feather",
        "egovehicle_se3_sensor.feather",
        "intrinsics.feather",
    }
)
# Folders that hold neither clouds nor boxes of frames.
OTHER_FOLDERS = frozenset(
    {
        *("calib", "calibration", "imagesets", "related_images", "camera", "planes"),
        *("gt_database", "map", "maps", "oxts", "ego_pose", "extrinsic", "intrinsic"),
        *("image_0", "image_1", "image_2", "image_3"),
    }
)


def find_clouds(folder: str | Path) -> list[Path]:
    """The files of a folder that may be clouds, as ``clouds_below``.

    Raises:
        DataError: there is no such folder, or no such file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    files = clouds_below(folder)
    if not files:
        raise DataError(
            f"{folder}: holds no point clouds; expected files {', '.join(CLOUD_SUFFIXES)}"
        )
    return files


def clouds_below(folder: Path) -> list[Path]:
    """The files of a folder that may be clouds, in the order of their names; none where none is.

    A folder without such files is searched with all its subfolders, but for those of
    ``OTHER_FOLDERS``. ``OTHER_TABLES`` are no clouds, though their suffix is that of a cloud.
    """
    files = [file for file in folder.iterdir() if _may_be_cloud(file)]
    if not files:
        below = [file for file in folder.rglob("*") if _may_be_cloud(file)]
        files = [file for file in below if not is_in_other_folder(file, folder)]
    return sorted(files)


def is_in_other_folder(file: Path, root: Path) -> bool:
    """Whether a file lies, below ``root``, in one of ``OTHER_FOLDERS``."""
    folders = {name.lower() for name in file.relative_to(root).parts[:-1]}
    return bool(folders & OTHER_FOLDERS)


def _may_be_cloud(file: Path) -> bool:
    is_hidden = file.name.startswith(".")
    is_other_table = file.name.lower() in OTHER_TABLES
    is_named_so = file.suffix.lower() in CLOUD_SUFFIXES and not is_hidden and not is_other_table
    return is_named_so and file.is_file()
