"""Frames of data sets: KITTI's layout, nuScenes, and the data set that a yaml describes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...config.nuscenes_options import FEATURES
from ...datasets.custom.labels import LabelFile, LabelOptions
from ...datasets.custom.labels.kitti_text import read_kitti_text
from ...datasets.kitti.calibration import Calibration
from ...datasets.nuscenes.folder import NuScenesFolder
from ...datasets.nuscenes.infos import InfoMaker
from ...datasets.nuscenes.sweeps import read_frame
from ...datasets.readers import PointCloud, read_cloud_file
from ...errors import DataError
from ...evaluation.nuscenes.tables import Tables
from ...types import ConfigDict
from ..doctor.frames import dataset_of_split
from .loaded import FrameBoxes, LoadedFrame

HALVES = ("training", "testing")
KITTI_COLUMNS = ("x", "y", "z", "intensity")
TEST_VERSION = "test"  # ends the name of the version without annotations


class KittiFrames:
    """The frames of a folder in KITTI's layout, without info files.

    Args:
        root: holds ``training/velodyne``, or else ``testing/velodyne``.
        options: what the user says about the labels.
    """

    def __init__(self, root: Path, options: LabelOptions | None = None) -> None:
        half = next(name for name in HALVES if (root / name / "velodyne").is_dir())
        self.half = root / half
        self.title = f"{root.resolve().name}, {half}"
        self._options = options or LabelOptions()
        self.names = sorted(file.stem for file in (self.half / "velodyne").glob("*.bin"))
        if not self.names:
            raise DataError(
                f"{self.half / 'velodyne'}: holds no .bin file; expected KITTI's points"
            )

    @staticmethod
    def fits(root: Path) -> bool:
        """Whether a folder has KITTI's layout."""
        return any((root / half / "velodyne").is_dir() for half in HALVES)

    def choose(self, numbers: Sequence[int]) -> list[str]:
        """Say how many frames have no labels."""
        without = [number for number in numbers if not self._label_file(number).is_file()]
        return [f"{len(without)} of {len(numbers)} frames have no labels"] if without else []

    def _label_file(self, number: int) -> Path:
        return self.half / "label_2" / f"{self.names[number]}.txt"

    def load(self, number: int) -> LoadedFrame:
        """Points and, where labelled, all boxes but DontCare."""
        name = self.names[number]
        path = self.half / "velodyne" / f"{name}.bin"
        cloud = read_cloud_file(path, KITTI_COLUMNS)
        labels = None
        if self._label_file(number).is_file():
            file = LabelFile(self._label_file(number), name)
            entry = read_kitti_text([file], self._options).frames[name]
            labels = FrameBoxes(entry.boxes, entry.names)
        return LoadedFrame(cloud, labels, path, self._calibration(name))

    def _calibration(self, name: str) -> Calibration | None:
        """Of the frame; None where there is no file of it."""
        file = self.half / "calib" / f"{name}.txt"
        return Calibration.from_file(file) if file.is_file() else None


class NuScenesFrames:
    """The key frames of nuScenes' official tables, one sweep each.

    Args:
        folder: of the version.
    """

    def __init__(self, folder: NuScenesFolder) -> None:
        folder.check_tables()
        self.folder = folder
        self.title = f"nuScenes {folder.version}"
        tables = Tables(folder.clouds, folder.version)
        is_labelled = not folder.version.endswith(TEST_VERSION)
        self._maker = InfoMaker(tables, max_sweeps=1, labelled=is_labelled)
        self._samples: list[str] = []
        self.names: list[str] = []
        for token in tables.by_token("sample"):
            path = self._maker.lidar_path(token)
            if (folder.clouds / path).is_file():  # a part of the data set may be there alone
                self._samples.append(token)
                self.names.append(Path(path).stem)
        if not self.names:
            raise DataError(
                f"{folder.clouds}: none of the point files that its tables list is there"
            )

    @staticmethod
    def find(root: Path) -> NuScenesFolder | None:
        """The version in a folder that holds nuScenes; None for another folder."""
        candidates = [NuScenesFolder(root, path.name) for path in sorted(root.glob("v*"))]
        candidates.append(NuScenesFolder(root.parent, root.name))
        for folder in candidates:
            if (folder.tables / "sample.json").is_file():
                return folder
        return None

    def choose(self, numbers: Sequence[int]) -> list[str]:
        """Nothing has to be prepared."""
        return []

    def load(self, number: int) -> LoadedFrame:
        """The points of the key frame and its labelled boxes with their velocities."""
        info = self._maker.info(self._samples[number])
        points = read_frame(self.folder.clouds, info, 1)
        labels = None
        if "gt_boxes" in info:
            labels = FrameBoxes(info["gt_boxes"], info["gt_names"])
        return LoadedFrame(PointCloud(points, FEATURES), labels)


class DatasetFrames:
    """The frames of a split as the dataset of a yaml loads them: the same points as a detector's.

    Args:
        cfg: of an experiment or of a data set alone.
        split: ``train`` or ``val``.
        data_path: folder that takes the place of DATA_PATH; None for that of the yaml.
    """

    def __init__(self, cfg: ConfigDict, split: str, data_path: Path | None = None) -> None:
        data = dict(cfg.get("DATA_CONFIG") or cfg)
        if data_path is not None:
            data["DATA_PATH"] = str(data_path.resolve())
        classes = list(cfg.get("CLASS_NAMES") or data.get("CLASS_NAMES") or ())
        self.dataset = dataset_of_split(data, classes, Path(cfg["ROOT_DIR"]), split)
        self.title = f"{Path(data['DATA_PATH']).name}, {split}"
        self.names = [self.dataset.frame_name(number) for number in range(self.dataset.num_frames)]

    @staticmethod
    def fits(cfg: ConfigDict, folder: Path) -> bool:
        """Whether a folder holds the info files that the yaml names."""
        data = cfg.get("DATA_CONFIG") or cfg
        parts = [folder, folder / str(data.get("VERSION", ""))]
        for paths in dict(data.get("INFO_PATH") or {}).values():
            for path in [paths] if isinstance(paths, str) else paths:
                if any((part / path).is_file() for part in parts):
                    return True
        return False

    def choose(self, numbers: Sequence[int]) -> list[str]:
        """Nothing has to be prepared."""
        return []

    def load(self, number: int) -> LoadedFrame:
        """Points and all labelled boxes."""
        item: Mapping[str, Any] = self.dataset.frame_with_all_labels(number)
        features = tuple(self.dataset.point_feature_encoder.src_feature_list)
        labels = None
        if item.get("gt_boxes") is not None:
            labels = FrameBoxes(np.asarray(item["gt_boxes"]), np.asarray(item["gt_names"]))
        cloud = PointCloud(np.asarray(item["points"]), features)
        return LoadedFrame(cloud, labels, calib=item.get("calib"))
