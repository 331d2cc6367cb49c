"""Read the clouds of a data set alike: the same columns in all of them, and no NaN."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...config import nearest
from ...datasets.readers import UNNAMED_SUFFIXES, PointCloud, read_cloud_file
from ...errors import ConfigError, DataError

PLACE = ("x", "y", "z")
# Columns that mean the same on every sensor and in every frame, so a model may see them. A ring
# number or a time depends on the sensor; the user asks for them by --features.
SEEN_BY_DEFAULT = (*PLACE, "intensity", "elongation")
MOSTLY_BAD = 0.5


@dataclass(frozen=True)
class CloudPlan:
    """What every cloud of the data set has to be.

    Attributes:
        example: a cloud that has it, for messages.
        file_columns: names or number of the columns of files that do not name them.
        file_features: the columns of every file.
        features: those that are stored; x, y, z first.
        intensity_scale: what intensities are divided by.
        notes: what was found out, for the user.
    """

    example: Path
    file_columns: tuple[str, ...] | int | None
    file_features: tuple[str, ...]
    features: tuple[str, ...]
    intensity_scale: float = 1.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReadCloud:
    """A cloud that fits the plan: points (N, C) float32 without NaN, and what was done to it."""

    points: np.ndarray
    num_bad: int
    offset: tuple[float, float, float]
    note: str


def plan_clouds(
    first: Path, columns: Sequence[str], features: Sequence[str], intensity_scale: float
) -> CloudPlan:
    """What all clouds have to be like, by the first of them and the user's words.

    Args:
        columns: names of the columns of a file that does not name them.
        features: columns to store; empty for all.
    """
    if intensity_scale <= 0:
        raise ConfigError(f"--intensity_scale {intensity_scale:g}: expected a number above 0")
    if columns and tuple(columns[:3]) != PLACE:
        raise ConfigError(f"--columns {' '.join(columns)}: expected x y z first")
    cloud = read_cloud_file(first, tuple(columns) or None)
    if features:
        _check_features(features, cloud.features, first)
    file_columns: tuple[str, ...] | int | None = None
    if first.suffix.lower() in UNNAMED_SUFFIXES:
        # The number is settled once: a guess for each file could differ.
        file_columns = tuple(columns) or len(cloud.features)
    return CloudPlan(
        example=first,
        file_columns=file_columns,
        file_features=cloud.features,
        features=tuple(features) or cloud.features,
        intensity_scale=intensity_scale,
        notes=(f"{first}: {cloud.note}",) if cloud.note else (),
    )


def _check_features(features: Sequence[str], found: Sequence[str], path: Path) -> None:
    if tuple(features[:3]) != PLACE:
        raise ConfigError(f"--features {' '.join(features)}: expected x y z first")
    for name in features:
        if name not in found:
            raise ConfigError(
                f"--features: '{name}' is no column of {path}{nearest(name, found)} (its columns: "
                f"{', '.join(found)})"
            )


def read_planned(path: Path, plan: CloudPlan) -> ReadCloud:
    """A cloud with the columns of the plan, or a DataError that names the file."""
    is_unnamed = path.suffix.lower() in UNNAMED_SUFFIXES
    cloud = read_cloud_file(path, plan.file_columns if is_unnamed else None)
    return fit_to_plan(cloud, path, plan)


def fit_to_plan(cloud: PointCloud, path: Path, plan: CloudPlan) -> ReadCloud:
    """The columns of the plan, without points that hold NaN."""
    missing = [name for name in plan.features if name not in cloud.features]
    if missing:
        common = [name for name in plan.features if name in cloud.features]
        reason = f" ({cloud.note})" if cloud.note else ""
        raise DataError(
            f"{path}: its columns are {', '.join(cloud.features)}{reason}, those of "
            f"{plan.example} are {', '.join(plan.file_features)}; "
            f"'--features {' '.join(common)}' stores what both have"
        )
    points = cloud.select(plan.features, str(path))
    good = np.isfinite(points).all(axis=1)
    num_bad = len(points) - int(good.sum())
    if num_bad > MOSTLY_BAD * len(points):
        _refuse_bad_columns(points, plan.features, path)
    points = points[good] if num_bad else points
    if "intensity" in plan.features and plan.intensity_scale != 1:
        points = points.copy()
        points[:, plan.features.index("intensity")] /= plan.intensity_scale
    return ReadCloud(points, num_bad, cloud.offset, cloud.note)


def _refuse_bad_columns(points: np.ndarray, features: Sequence[str], path: Path) -> None:
    """Refuse a cloud of which most points would be dropped, with the column that is to blame.

    Sensors mark beams without return by NaN in x, y and z; those points may be most of a cloud.
    """
    has_place = np.isfinite(points[:, :3]).all(axis=1)
    if not has_place.any():
        raise DataError(f"{path}: no point has finite x, y and z")
    for column, name in enumerate(features):
        share = 1 - float(np.isfinite(points[has_place, column]).mean())
        if share > MOSTLY_BAD:
            raise DataError(
                f"{path}: column '{name}' is NaN or infinite in {share:.0%} of the points; name "
                "the columns to keep by --features"
            )


def usual_features(features: Sequence[str], is_constant: Sequence[bool]) -> list[str]:
    """The columns that the model sees when the user names none."""
    constant = dict(zip(features, is_constant))
    seen = [name for name in SEEN_BY_DEFAULT if name in features]
    return [name for name in seen if name in PLACE or not constant[name]]
