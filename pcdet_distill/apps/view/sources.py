"""What a path is: clouds, a recording, KITTI's layout, nuScenes, or the data set of a yaml."""

from __future__ import annotations

from pathlib import Path

from ...datasets.custom.labels import LabelOptions
from ...errors import ConfigError, DataError
from ...types import ConfigDict
from .clouds import CloudFrames
from .data_sets import DatasetFrames, KittiFrames, NuScenesFrames
from .loaded import FrameSource


def find_source(
    path: Path | None,
    cfg: ConfigDict | None,
    *,
    split: str,
    labels: Path | None,
    options: LabelOptions,
    columns: tuple[str, ...] | None,
    topic: str | None,
) -> FrameSource:
    """The frames of a path, or of the yaml's own DATA_PATH where there is none.

    Labels that the user names belong to clouds, so a folder is then read as a folder of clouds.
    """
    if path is None:
        if cfg is None:
            raise ConfigError("expected a folder, a file, or --cfg_file of a data set")
        return DatasetFrames(cfg, split)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if path.is_dir() and labels is None and columns is None:
        data_set = _data_set(path, cfg, split, options)
        if data_set is not None:
            return data_set
    return CloudFrames(path, labels, options, columns=columns, topic=topic)


def _data_set(
    folder: Path, cfg: ConfigDict | None, split: str, options: LabelOptions
) -> FrameSource | None:
    """The data set in a folder; None for a folder of clouds."""
    if cfg is not None and DatasetFrames.fits(cfg, folder):
        return DatasetFrames(cfg, split, folder)
    if KittiFrames.fits(folder):
        return KittiFrames(folder, options)
    nuscenes = NuScenesFrames.find(folder)
    return None if nuscenes is None else NuScenesFrames(nuscenes)
