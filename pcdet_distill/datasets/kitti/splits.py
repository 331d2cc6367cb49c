"""Draw ImageSets/{train,val,trainval,test}.txt for a KITTI folder that has none."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...errors import ConfigError, DataError
from ...whole_files import whole_file
from .folder import check_root, split_file

SPLITS = ("train", "val", "trainval", "test")


def make_split(root: Path, fraction: float, seed: int = 0) -> dict[str, int]:
    """Write split files: ``fraction`` of the frames of ``training/velodyne`` for training.

    The rest is for validation. KITTI's frames are taken from drives. A random split puts frames of
    one drive on both sides, so its validation numbers are too good. To compare with published
    numbers, use the usual split.

    Returns:
        the number of frames of each split.
    """
    root = check_root(root)
    if not 0 < fraction < 1:
        raise ConfigError(
            f"--make_split {fraction}: expected the share of training frames, between 0 and 1"
        )
    for name in SPLITS:
        path = split_file(root, name)
        if path.exists():
            raise DataError(f"{path}: exists already; remove it first to draw another split")
    frames = _frames_of(root / "training")
    if len(frames) < 2:
        raise DataError(
            f"{root / 'training' / 'velodyne'}: {len(frames)} .bin files are too few for a split"
        )
    order = np.random.RandomState(seed).permutation(len(frames))
    num_train = min(max(round(fraction * len(frames)), 1), len(frames) - 1)
    splits = {
        "train": sorted(frames[index] for index in order[:num_train]),
        "val": sorted(frames[index] for index in order[num_train:]),
        "trainval": frames,
        "test": _frames_of(root / "testing"),
    }
    for name, frame_ids in splits.items():
        _write(split_file(root, name), frame_ids)
    return {name: len(frame_ids) for name, frame_ids in splits.items()}


def _frames_of(folder: Path) -> list[str]:
    """Names of the point files in ``training`` or ``testing``, sorted."""
    return sorted(path.stem for path in (folder / "velodyne").glob("*.bin"))


def _write(path: Path, frame_ids: list[str]) -> None:
    """Write a split file whole or not at all."""
    try:
        path.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise DataError(f"{path.parent}: this folder cannot be made: {error}") from None
    try:
        with whole_file(path) as unfinished:
            unfinished.write_text("".join(f"{frame_id}\n" for frame_id in frame_ids))
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error}") from None
