"""The files of a folder in OpenPCDet's layout of own data; errors name them.

ImageSets/train.txt, val.txt        one frame a line
points/FRAME.npy                    (N, C) float32
labels/FRAME.txt                    x y z dx dy dz heading name, one box a line
custom_infos_{train,val}.pkl, custom_dbinfos_train.pkl, gt_database/
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...commands import command_text
from ...config import inside
from ...errors import DataError, first_line
from ..text_structures import read_frame_list
from .labels.base import FrameLabels
from .labels.openpcdet_text import read_openpcdet_text

LAYOUT = "ImageSets/{train,val}.txt, points/*.npy, labels/*.txt"
POINTS = "points"
LABELS = "labels"
SPLITS = "ImageSets"
DATASET_YAML = "dataset_configs/custom_dataset.yaml"


class CustomFolder:
    """Reads the frames of a folder of own data."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def split_file(self, split: str) -> Path:
        """Where the list of a split's frames is."""
        return self.root / SPLITS / f"{split}.txt"

    def points_file(self, frame_id: str) -> Path:
        """Where the points of a frame are."""
        return inside(self.root / POINTS, f"{frame_id}.npy", "frame of a split or of the infos")

    def labels_file(self, frame_id: str) -> Path:
        """Where the boxes of a frame are."""
        return inside(self.root / LABELS, f"{frame_id}.txt", "frame of a split or of the infos")

    def frame_ids(self, split: str) -> list[str]:
        """The frames that ``ImageSets/<split>.txt`` lists; their names may hold spaces."""
        return read_frame_list(
            self.split_file(split),
            missing="this split file does not exist; it lists the names of points/*.npy, one a "
            f"line; '{convert_command()}' makes the whole folder from your own files",
        )

    def points(self, frame_id: str, num_features: int | None = None) -> np.ndarray:
        """(N, C) float32 points of a frame.

        Args:
            num_features: the number of columns that is expected; None for any.
        """
        path = self.points_file(frame_id)
        try:
            points = np.load(path, allow_pickle=False)
        except FileNotFoundError:
            raise DataError(
                f"{path}: this point file does not exist; {self.root / SPLITS} lists its frame"
            ) from None
        except Exception as error:  # numpy's parser of headers can raise almost anything
            raise DataError(f"{path}: not a readable .npy array ({first_line(error)})") from None
        _check_points(points, path, num_features)
        points = points.astype(np.float32, copy=False)
        num_bad = len(points) - int(np.isfinite(points).all(axis=1).sum())
        if num_bad:
            raise DataError(
                f"{path}: {num_bad} of {len(points)} points hold NaN or infinity; "
                f"'{convert_command()}' drops such points"
            )
        return points

    def labels(self, frame_id: str) -> FrameLabels:
        """The labelled boxes of a frame."""
        path = self.labels_file(frame_id)
        if not path.is_file():
            raise DataError(
                f"{path}: this label file does not exist; a frame without objects has an empty one"
            )
        return read_openpcdet_text(path)


def _check_points(points: np.ndarray, path: Path, num_features: int | None) -> None:
    """Refuse an array that is no (N, C) list of points with the expected number of columns."""
    if points.ndim != 2 or points.shape[1] < 3 or points.dtype.kind not in "fiu":
        raise DataError(
            f"{path}: expected numbers of shape (N, 3 or more), found {points.dtype} {points.shape}"
        )
    if num_features is not None and points.shape[1] != num_features:
        raise DataError(
            f"{path}: its points have {points.shape[1]} columns, but "
            f"POINT_FEATURE_ENCODING.src_feature_list names {num_features}"
        )


def check_root(root: Path) -> Path:
    """``root`` itself, or a DataError that says where a folder of own data comes from."""
    root = Path(root)
    if not (root / POINTS).is_dir():
        problem = f"has no folder {POINTS}/" if root.is_dir() else "this folder does not exist"
        raise DataError(
            f"{root}: {problem}; expected OpenPCDet's layout of own data ({LAYOUT}); "
            f"'{convert_command()}' makes it from your own files"
        )
    return root


def convert_command() -> str:
    """The command that makes such a folder from clouds and labels of other formats."""
    return command_text("data", "custom", "DIR", "--out", "OUT")


def create_infos_command(root: Path) -> str:
    """The command that makes the info files of the folder ``root``."""
    return command_text("data", "custom_infos", DATASET_YAML, "--set", "DATA_PATH", root)
