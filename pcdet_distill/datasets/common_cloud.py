"""The common cloud of a frame: the points of several sensors and sweeps, with columns that say so.

A teacher and a student that see different points share one item. It holds all points of both, so
every augmentation moves them once and alike, and an object of the database is pasted for both. Each
model then selects its own points by the columns (``processor/selection.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..config import CloudOptions, inside
from ..config.cloud_options import WHERE
from ..errors import ConfigError, DataError
from ..types import ConfigDict
from .beams import beam_numbers
from .point_files import read_points
from .processor import SELECTIONS

EARLIER = "_sweeps"  # ends the name of a folder of earlier sweeps


def read_cloud(half: Path, frame_id: str, options: CloudOptions) -> np.ndarray:
    """(N, C) float32 points of a frame with the columns of ``options.features``.

    Args:
        half: ``training`` or ``testing`` of a KITTI folder.
        frame_id: name of the frame.
        options: which points are joined.
    """
    clouds = []
    for number, folder in enumerate(options.folders):
        bit = float(1 << number)
        last = read_points(inside(half / folder, f"{frame_id}.bin", "frame"))
        clouds.append(_with_columns(last, options, bit, np.zeros(len(last))))
        if options.sweeps > 1:
            file = inside(half / (folder + EARLIER), f"{frame_id}.bin", "frame")
            earlier = _newest_sweeps(file, options.sweeps - 1)
            clouds.append(_with_columns(earlier[:, :4], options, bit, earlier[:, 4]))
    return clouds[0] if len(clouds) == 1 else np.concatenate(clouds)


def without_common_cloud(dataset_cfg: ConfigDict) -> ConfigDict:
    """The DATA_CONFIG for point files that hold just what the model sees, with its features."""
    if not dataset_cfg.get("COMMON_CLOUD"):
        return dataset_cfg
    encoding = dataset_cfg["POINT_FEATURE_ENCODING"]
    used = list(encoding["used_feature_list"])
    steps = [step for step in dataset_cfg["DATA_PROCESSOR"] if step["NAME"] not in SELECTIONS]
    return {
        **dataset_cfg,
        "COMMON_CLOUD": None,
        "POINT_FEATURE_ENCODING": {**encoding, "src_feature_list": used},
        "DATA_PROCESSOR": steps,
    }


def check_features(features: Sequence[str], options: CloudOptions) -> None:
    """Refuse a ``src_feature_list`` that is not what the cloud holds."""
    if tuple(features) != options.features:
        raise ConfigError(
            "DATA_CONFIG.POINT_FEATURE_ENCODING.src_feature_list: expected the columns of "
            f"{WHERE}, {list(options.features)}, found {list(features)}"
        )


def _with_columns(
    points: np.ndarray, options: CloudOptions, bit: float, age_s: np.ndarray
) -> np.ndarray:
    """Points (N, 4) with the further columns of the cloud."""
    columns = [points]
    if len(options.folders) > 1:
        columns.append(np.full((len(points), 1), bit))
    if options.sweeps > 1:
        columns.append(age_s[:, None])
    if options.beams != "none":
        columns.append(beam_numbers(points, options.beams)[:, None])
    return points if len(columns) == 1 else np.concatenate(columns, axis=1).astype(np.float32)


def _newest_sweeps(file: Path, count: int) -> np.ndarray:
    """(N, 5) the points of the ``count`` newest sweeps of a file of earlier ones."""
    points = read_points(file, num_features=5)
    ages_s = np.unique(points[:, 4])
    if len(ages_s) < count:
        raise DataError(
            f"{file}: holds {len(ages_s)} earlier sweeps, but {WHERE}.SWEEPS asks for {count}; "
            f"make the folder with '--sweeps {count + 1}'"
        )
    return points[points[:, 4] <= ages_s[count - 1]]
