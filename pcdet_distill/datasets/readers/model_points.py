"""The points of a cloud as a trained model expects them, and what may be wrong with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from ...errors import DataError
from .cloud import PointCloud
from .columns import SCALE_NOTE
from .names import INTENSITY, PLACE, TIMESTAMP
from .table import read_cloud_file

# The scale of the intensities that DATA_CONFIG.DATASET's frames have.
SCALE_OF_DATASET = {"KittiDataset": 1.0, "NuScenesDataset": 255.0, "Argo2Dataset": 255.0}
# Where own data in the layout of a dataset may have another one.
FRAMES_OF_DATASET = {"KittiDataset": "training/velodyne/*.bin", "CustomDataset": "points/*.npy"}
MOST_SECONDS = 10.0  # of the sweeps of a frame


@dataclass(frozen=True)
class ModelInput:
    """What a model's points are.

    Attributes:
        features: the columns that the model was trained with, ``src_feature_list``.
        dataset: DATA_CONFIG.DATASET.
        divide_intensity: what the intensities of the clouds are divided by.
        data_path: folder of the training data. If it is there, one of its frames shows the scale
            of the intensities.
        fill_missing: the value of columns that a cloud lacks, with a warning; None refuses it.
        flag: how a message writes the names of options: ``--`` for those of a command.
    """

    features: Sequence[str]
    dataset: str = ""
    divide_intensity: float = 1.0
    data_path: Path | None = None
    fill_missing: float | None = None
    flag: str = "--"

    def points(self, cloud: PointCloud, where: str) -> tuple[np.ndarray, list[str]]:
        """(N, len(features)) float32 the points, and warnings.

        Points with NaN or infinity are left out.

        Raises:
            DataError: a column is missing, or no point is left.
        """
        note = self._note(cloud)
        warnings = [note] if note else []
        cloud = self._with_scale(self._with_time(cloud, warnings))
        if INTENSITY in self.features:
            warnings += self._doubts_of_intensity(cloud)
        cloud = self._filled(cloud, warnings)
        points = cloud.select(self.features, where)
        good = np.isfinite(points).all(axis=1)
        num_bad = len(points) - int(good.sum())
        if len(points) == 0:
            warnings.append("it holds no points")
        elif num_bad == len(points):
            raise DataError(f"{where}: all its points hold NaN or infinity")
        elif num_bad:
            warnings.append(f"{num_bad} of {len(points)} points hold NaN or infinity, left out")
            points = points[good]
        return points, warnings

    def _note(self, cloud: PointCloud) -> str:
        """The reader's note, without the scale of the intensities where the model's is known."""
        if self._learnt[0] is None:
            return cloud.note
        sentences = cloud.note.split("; ")
        return "; ".join(one for one in sentences if not one.startswith(SCALE_NOTE))

    def _filled(self, cloud: PointCloud, warnings: list[str]) -> PointCloud:
        """A cloud with every column of the model, where missing ones may be filled."""
        missing = [name for name in self.features if name not in (*PLACE, *cloud.features)]
        if self.fill_missing is None or not missing:
            return cloud
        warnings.append(
            f"it has no {', '.join(missing)}, which the model reads: {self.fill_missing:g} stands "
            f"in, and boxes may be worse; its columns are {', '.join(cloud.features)}"
        )
        for name in missing:
            cloud = _with_column(cloud, name, self.fill_missing)
        return cloud

    def _with_scale(self, cloud: PointCloud) -> PointCloud:
        if self.divide_intensity == 1.0 or INTENSITY not in cloud.features:
            return cloud
        points = cloud.points.copy()
        points[:, cloud.features.index(INTENSITY)] /= self.divide_intensity
        return replace(cloud, points=points)

    def _with_time(self, cloud: PointCloud, warnings: list[str]) -> PointCloud:
        """A cloud with the time lag of its sweep, if the model reads one.

        Such a model was trained with earlier sweeps; the points of the newest have a lag of 0.
        """
        if TIMESTAMP not in self.features:
            return cloud
        if TIMESTAMP in cloud.features:
            times = cloud.points[:, cloud.features.index(TIMESTAMP)]
            finite = times[np.isfinite(times)]
            is_too_old = len(finite) > 0 and np.abs(finite).max() > MOST_SECONDS
            if is_too_old and self.fill_missing is not None and _like_rings(finite):
                warnings.append(
                    f"its timestamps are whole numbers up to {finite.max():g}, like rings, so its "
                    "points count as one sweep, at 0 s"
                )
                return _with_column(cloud, TIMESTAMP, 0.0)
            if is_too_old:
                warnings.append(
                    f"timestamp reaches {np.abs(finite).max():g}, expected seconds since the sweep "
                    "(a ring number?)"
                )
            return cloud
        warnings.append("it has no timestamp, so its points count as one sweep, at 0 s")
        return _with_column(cloud, TIMESTAMP, 0.0)

    def _doubts_of_intensity(self, cloud: PointCloud) -> list[str]:
        """A warning if the clouds have another scale of intensity than the training data."""
        learnt, place = self._learnt
        found = cloud.intensity_scale
        if learnt is None or found is None or learnt == found:
            return []
        return [
            f"its intensities look like 0..{found:g}, but those of {place} are 0..{learnt:g}, "
            f"which makes detections wrong; {self.flag}divide_intensity {found / learnt:g} "
            "converts them"
        ]

    @property
    def learnt_intensity_scale(self) -> float | None:
        """1, 255 or 65535: the scale of the training data's intensities; None if not known."""
        return self._learnt[0] if INTENSITY in self.features else None

    @cached_property
    def _learnt(self) -> tuple[float | None, str]:
        """The scale of the training data's intensities, and where it is seen."""
        pattern = FRAMES_OF_DATASET.get(self.dataset)
        if self.data_path is not None and pattern is not None:
            for frame in self.data_path.glob(pattern):
                try:
                    return read_cloud_file(frame, self.features).intensity_scale, str(frame)
                except DataError:
                    break
        return SCALE_OF_DATASET.get(self.dataset), self.dataset


def _with_column(cloud: PointCloud, name: str, value: float) -> PointCloud:
    """A cloud whose column ``name`` holds ``value``, in place of its own column if it has one."""
    if name in cloud.features:
        points = cloud.points.copy()
        points[:, cloud.features.index(name)] = value
        return replace(cloud, points=points)
    column = np.full((len(cloud.points), 1), value, np.float32)
    points = np.concatenate([cloud.points, column], axis=1)
    return replace(cloud, points=points, features=(*cloud.features, name))


def _like_rings(values: np.ndarray) -> bool:
    """Whether times (N,) are the numbers of beams: whole and not negative."""
    return bool((values == np.round(values)).all() and values.min() >= 0)
