"""Labelled boxes, bicycle racks and sensor poses of a split, from the official tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import DataError
from .boxes import NO_ATTRIBUTE, EvalBoxes, boxes_of_samples
from .protocol import CATEGORY_CLASS, RACK_CATEGORY
from .tables import Row, Tables

LIDAR = "LIDAR_TOP"
# A velocity is a difference of two labels; further apart in time than this it means nothing.
MAX_TIME_S = 1.5


@dataclass(frozen=True)
class Poses:
    """Where the LiDAR was at each of S samples.

    Attributes:
        sensor_rotation: quaternion from LiDAR to vehicle (S, 4).
        sensor_translation: metres (S, 3).
        ego_rotation: quaternion from vehicle to global coordinates (S, 4).
        ego_translation: metres (S, 3).
    """

    sensor_rotation: np.ndarray
    sensor_translation: np.ndarray
    ego_rotation: np.ndarray
    ego_translation: np.ndarray


@dataclass(frozen=True)
class Truth:
    """What the detections of a split are compared with.

    Attributes:
        tokens: the samples, in the order of the boxes.
        poses: of the LiDAR at these samples.
        boxes: labelled boxes of the ten classes.
        racks: bicycle racks.
    """

    tokens: tuple[str, ...]
    poses: Poses
    boxes: EvalBoxes
    racks: EvalBoxes


def read_poses(tables: Tables, tokens: Sequence[str]) -> Poses:
    """The poses of the LiDAR's key frames at the samples ``tokens``."""
    key_frames = _lidar_key_frames(tables)
    sensors = []
    egos = []
    for token in tokens:
        if token not in key_frames:
            raise DataError(
                f"{tables.path('sample_data')}: the sample '{token}' has no key frame of {LIDAR}"
            )
        frame = key_frames[token]
        sensors.append(tables.row("calibrated_sensor", frame["calibrated_sensor_token"]))
        egos.append(tables.row("ego_pose", frame["ego_pose_token"]))
    # The largest tables of the full data set; one row of two thousand was needed.
    tables.forget(["sample_data", "ego_pose"])
    return Poses(
        _column(sensors, "rotation", 4),
        _column(sensors, "translation", 3),
        _column(egos, "rotation", 4),
        _column(egos, "translation", 3),
    )


def read_truth(tables: Tables, tokens: Sequence[str]) -> Truth:
    """Labelled boxes and poses of the samples ``tokens``.

    Raises:
        DataError: a table lacks a row, or the version has no annotations.
    """
    poses = read_poses(tables, tokens)
    if not tables.by_token("sample_annotation"):
        raise DataError(
            f"{tables.path('sample_annotation')}: this version has no annotations, so nothing can "
            "be evaluated; send results_nusc.json to nuScenes' server"
        )
    labels = _Labels(tables)
    by_sample = labels.of_samples(tokens)
    boxes = []
    racks = []
    for token in tokens:
        rows = by_sample[token]
        boxes.append([labels.box(row) for row in rows if labels.class_of(row)])
        racks.append([labels.rack(row) for row in rows if labels.category(row) == RACK_CATEGORY])
    return Truth(tuple(tokens), poses, boxes_of_samples(boxes), boxes_of_samples(racks))


def _lidar_key_frames(tables: Tables) -> dict[str, Row]:
    """The row of sample_data of each sample's LiDAR key frame."""
    sensors = tables.by_token("sensor")
    is_lidar = {
        token: sensors.get(row["sensor_token"], {}).get("channel") == LIDAR
        for token, row in tables.by_token("calibrated_sensor").items()
    }
    frames = {}
    for row in tables.by_token("sample_data").values():
        if row["is_key_frame"] and is_lidar.get(row["calibrated_sensor_token"]):
            frames[row["sample_token"]] = row
    return frames


def _column(rows: Sequence[Row], key: str, width: int) -> np.ndarray:
    return np.array([row[key] for row in rows], dtype=np.float64).reshape(-1, width)


class _Labels:
    """The annotations with what other tables say about them."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.annotations = tables.by_token("sample_annotation")

    def of_samples(self, tokens: Sequence[str]) -> dict[str, list[Row]]:
        """The annotations of each sample, in the order of the table."""
        by_sample: dict[str, list[Row]] = {token: [] for token in tokens}
        for row in self.annotations.values():
            rows = by_sample.get(row["sample_token"])
            if rows is not None:
                rows.append(row)
        return by_sample

    def category(self, row: Row) -> str:
        """nuScenes' category of an annotation."""
        instance = self.tables.row("instance", row["instance_token"])
        return self.tables.row("category", instance["category_token"])["name"]

    def class_of(self, row: Row) -> str | None:
        """The class of an annotation; None where the benchmark has none."""
        return CATEGORY_CLASS.get(self.category(row))

    def box(self, row: Row) -> dict[str, Any]:
        """An annotation with the field names of result files."""
        return {
            **_placed(row),
            "velocity": velocity_of(self.tables, row)[:2],
            "num_pts": row["num_lidar_pts"] + row["num_radar_pts"],
            "detection_name": self.class_of(row),
            "attribute_name": self.attribute(row),
        }

    def rack(self, row: Row) -> dict[str, Any]:
        """A bicycle rack; of its fields only the place is used."""
        bicycle = {"detection_name": "bicycle", "attribute_name": NO_ATTRIBUTE}
        return {**_placed(row), **bicycle, "velocity": (0.0, 0.0)}

    def attribute(self, row: Row) -> str:
        """Name of the one attribute; empty without one."""
        tokens = row["attribute_tokens"]
        if len(tokens) > 1:
            raise DataError(
                f"{self.tables.path('sample_annotation')}: the annotation '{row['token']}' has "
                f"{len(tokens)} attributes, expected at most one"
            )
        return self.tables.row("attribute", tokens[0])["name"] if tokens else NO_ATTRIBUTE


def velocity_of(tables: Tables, row: Row) -> np.ndarray:
    """(3,) m/s in the world, by the object's labels before and after this one; NaN if unknown.

    Both are used where they exist, else one of them and the label itself.
    """
    annotations = tables.by_token("sample_annotation")
    before = annotations.get(row["prev"], row)
    after = annotations.get(row["next"], row)
    seconds = _time_s(tables, after) - _time_s(tables, before)
    has_both = before is not row and after is not row
    if not 0 < seconds <= (2 * MAX_TIME_S if has_both else MAX_TIME_S):
        return np.full(3, np.nan)
    return np.subtract(after["translation"], before["translation"]) / seconds


def _time_s(tables: Tables, row: Row) -> float:
    return 1e-6 * tables.row("sample", row["sample_token"])["timestamp"]


def _placed(row: Row) -> Mapping[str, Any]:
    return {key: row[key] for key in ("translation", "size", "rotation")}
