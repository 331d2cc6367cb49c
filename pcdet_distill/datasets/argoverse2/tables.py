"""Tables of a log: labelled boxes and poses of the vehicle, from feather files by pyarrow.

A box is in the vehicle's frame at its time: x forward, y left, z up, the origin on the ground below
the rear axle's middle. That frame is the LiDAR frame of this package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...config import nearest
from ...errors import DataError, first_line
from ...evaluation.nuscenes.quaternions import rotation_matrices
from ..readers.content import check_head
from ..readers.extras import needed_for

QUATERNION = ("qw", "qx", "qy", "qz")
CENTRE = ("tx_m", "ty_m", "tz_m")
SIZE = ("length_m", "width_m", "height_m")
TIME = "timestamp_ns"
MAX_TIME_GAP_NS = 20_000_000  # poses come every 5 ms


@dataclass(frozen=True)
class Labels:
    """The boxes of one sweep.

    Attributes:
        names: (M,) str, written as in OpenPCDet's infos: ``Regular_vehicle``.
        boxes: (M, 7) float64.
        num_points: (M,) int32 points inside.
        track_ids: (M,) str; the same object has the same one in all sweeps of a log.
    """

    names: np.ndarray
    boxes: np.ndarray
    num_points: np.ndarray
    track_ids: np.ndarray

    def where(self, mask: np.ndarray) -> Labels:
        """Some of the boxes."""
        return Labels(
            self.names[mask], self.boxes[mask], self.num_points[mask], self.track_ids[mask]
        )


class Annotations:
    """All labels of a log."""

    def __init__(self, path: Path) -> None:
        self.path = path
        columns = (*CENTRE, *SIZE, *QUATERNION, TIME, "category", "num_interior_pts", "track_uuid")
        table = read_table(path, columns)
        self.timestamps_ns = table[TIME]
        centres = _stacked(table, CENTRE)
        sizes = _stacked(table, SIZE)
        rotation = _rotations(table, path)
        # The yaw of the rotated x axis; boxes are upright but for rounding.
        heading = np.arctan2(rotation[:, 1, 0], rotation[:, 0, 0])
        boxes = np.concatenate([centres, sizes, heading[:, None]], axis=1)
        _check_boxes(boxes, path)
        self.labels = Labels(
            names=np.array([capitalised(name) for name in table["category"]], dtype=str),
            boxes=boxes,
            num_points=table["num_interior_pts"].astype(np.int32),
            track_ids=table["track_uuid"].astype(str),
        )

    def check_times(self, sweeps_ns: Sequence[int]) -> None:
        """Refuse sweeps of which none has a label at its time: they are of another log."""
        if not np.isin(sweeps_ns, self.timestamps_ns).any():
            raise DataError(
                f"{self.path}: labels none of the {len(sweeps_ns)} sweeps beside it; its times are "
                f"{self.timestamps_ns.min()} to {self.timestamps_ns.max()} ns, and sweeps are "
                f"named by theirs, such as {sweeps_ns[0]}"
            )

    def at(self, timestamp_ns: int) -> Labels:
        """The labels of one sweep."""
        return self.labels.where(self.timestamps_ns == timestamp_ns)


class Poses:
    """Where the vehicle was in the city."""

    def __init__(self, path: Path) -> None:
        self.path = path
        table = read_table(path, (*CENTRE, *QUATERNION, TIME))
        order = np.argsort(table[TIME], kind="stable")
        self.timestamps_ns = table[TIME][order]
        self.matrices = np.tile(np.eye(4), (len(order), 1, 1))
        self.matrices[:, :3, :3] = _rotations(table, path)[order]
        self.matrices[:, :3, 3] = _stacked(table, CENTRE)[order]

    def at(self, timestamp_ns: int) -> np.ndarray:
        """From the vehicle to the city (4, 4) at the nearest time."""
        gaps_ns = np.abs(self.timestamps_ns - timestamp_ns)
        nearest_row = int(gaps_ns.argmin())
        if gaps_ns[nearest_row] > MAX_TIME_GAP_NS:
            raise DataError(
                f"{self.path}: no pose within {MAX_TIME_GAP_NS / 1e6:g} ms of {timestamp_ns}, the "
                f"nearest is {gaps_ns[nearest_row] / 1e6:.0f} ms away"
            )
        matrix: np.ndarray = self.matrices[nearest_row]
        return matrix


def capitalised(category: str) -> str:
    """``Regular_vehicle`` of ``REGULAR_VEHICLE``, as OpenPCDet writes classes."""
    return str(category).lower().capitalize()


def read_table(path: Path, columns: Sequence[str]) -> dict[str, np.ndarray]:
    """These columns of a feather file.

    Raises:
        DataError: the file is missing, damaged, or lacks a column.
    """
    feather = needed_for(path, "pyarrow.feather")
    if not path.is_file():
        raise DataError(f"{path}: this table of the log does not exist")
    check_head(path, (".feather",))
    try:
        table = feather.read_table(path, memory_map=False)
        # Arrow trusts the lengths of texts in a file; a damaged one names memory that is not its.
        table.validate(full=True)
        found = {name: table[name].to_numpy() for name in columns if name in table.column_names}
    except Exception as error:  # pyarrow's errors have several bases
        raise DataError(f"{path}: truncated or damaged: {first_line(error)}") from None
    for name in columns:
        if name not in found:
            raise DataError(
                f"{path}: no column '{name}'{nearest(name, table.column_names)}; expected a table "
                "of Argoverse 2's sensor data set"
            )
    if len(found[columns[0]]) == 0:
        raise DataError(f"{path}: this table has no rows")
    return found


def _stacked(table: Mapping[str, np.ndarray], names: Sequence[str]) -> np.ndarray:
    return np.stack([table[name].astype(np.float64) for name in names], axis=1)


def _rotations(table: Mapping[str, np.ndarray], path: Path) -> np.ndarray:
    quaternions = _stacked(table, QUATERNION)
    lengths = np.linalg.norm(quaternions, axis=1, keepdims=True)
    if not (lengths > 0.5).all():
        raise DataError(f"{path}: a rotation {', '.join(QUATERNION)} is no unit quaternion")
    return rotation_matrices(quaternions / lengths)


def _check_boxes(boxes: np.ndarray, path: Path) -> None:
    wrong = ~np.isfinite(boxes).all(axis=1) | (boxes[:, 3:6] <= 0).any(axis=1)
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"{path}: row {row} is no box: {', '.join(CENTRE + SIZE)}, heading are "
            f"{', '.join(f'{value:g}' for value in boxes[row])}; expected finite numbers and "
            "sizes above 0"
        )
