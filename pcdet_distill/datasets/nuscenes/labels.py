"""Annotations as boxes with velocities in the coordinates of the LiDAR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import DataError
from ...evaluation.nuscenes.protocol import CATEGORY_CLASS
from ...evaluation.nuscenes.quaternions import rotation_matrices
from ...evaluation.nuscenes.tables import Tables
from ...evaluation.nuscenes.truth import velocity_of
from .poses import move

Row = Mapping[str, Any]
IGNORED = "ignore"
# Categories that the ten classes leave out. OpenPCDet keeps their boxes under this name: pasted
# objects must not collide with them. A category of one's own keeps its name, as a class.
IGNORED_CATEGORIES = frozenset(
    {
        "animal",
        "human.pedestrian.personal_mobility",
        "human.pedestrian.stroller",
        "human.pedestrian.wheelchair",
        "movable_object.debris",
        "movable_object.pushable_pullable",
        "static_object.bicycle_rack",
        "vehicle.emergency.ambulance",
        "vehicle.emergency.police",
    }
)


def class_of_category(category: str) -> str:
    """The class name of one of nuScenes' categories."""
    if category in IGNORED_CATEGORIES:
        return IGNORED
    return CATEGORY_CLASS.get(category, category)


class Labels:
    """The annotations of all samples.

    Args:
        tables: the official tables.
    """

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self._of_sample: dict[str, list[Row]] = {}
        for row in tables.by_token("sample_annotation").values():
            self._of_sample.setdefault(row["sample_token"], []).append(row)

    def of_sample(self, token: str, ref_from_global: np.ndarray) -> dict[str, np.ndarray]:
        """The entries of an info that describe its boxes; those without any point are left out.

        Args:
            token: of the sample.
            ref_from_global: (4, 4) into the coordinates of the LiDAR.
        """
        rows = [row for row in self._of_sample.get(token, ()) if _num_points(row) > 0]
        turn = ref_from_global[:3, :3]
        of_world = [velocity_of(self.tables, row) for row in rows]
        velocity = np.array(of_world).reshape(-1, 3) @ turn.T
        boxes = _boxes(rows, ref_from_global, velocity)
        self._check_boxes(rows, boxes)
        return {
            "gt_boxes": boxes,
            "gt_boxes_velocity": velocity,
            "gt_names": np.array([self._class_of(row) for row in rows], dtype=str),
            "gt_boxes_token": np.array([row["token"] for row in rows], dtype=str),
            "num_lidar_pts": np.array([row["num_lidar_pts"] for row in rows], dtype=np.int64),
            "num_radar_pts": np.array([row["num_radar_pts"] for row in rows], dtype=np.int64),
        }

    def _check_boxes(self, rows: Sequence[Row], boxes: np.ndarray) -> None:
        """Refuse boxes without a place, a size or a heading. Velocities may be NaN."""
        is_box = np.isfinite(boxes[:, :7]).all(axis=1) & (boxes[:, 3:6] > 0).all(axis=1)
        for row, holds in zip(rows, is_box):
            if holds:
                continue
            raise DataError(
                f"{self.tables.path('sample_annotation')}: the annotation {row['token']} is no box "
                f"(translation {row['translation']}, size {row['size']}, rotation "
                f"{row['rotation']}); expected finite numbers and positive sizes"
            )

    def _class_of(self, row: Row) -> str:
        instance = self.tables.row("instance", row["instance_token"])
        category = self.tables.row("category", instance["category_token"])
        return class_of_category(category["name"])


def _num_points(row: Row) -> int:
    return row["num_lidar_pts"] + row["num_radar_pts"]


def _boxes(rows: Sequence[Row], ref_from_global: np.ndarray, velocity: np.ndarray) -> np.ndarray:
    """(N, 9) x, y, z, dx, dy, dz, heading, vx, vy."""
    if not rows:
        return np.zeros((0, 9))
    centres = move(np.array([row["translation"] for row in rows], float), ref_from_global)
    sizes = np.array([row["size"] for row in rows], dtype=np.float64)  # width, length, height
    turns = ref_from_global[:3, :3] @ rotation_matrices(np.array([row["rotation"] for row in rows]))
    # The heading is the direction of the box's own x axis, seen from above.
    headings = np.arctan2(turns[:, 1, 0], turns[:, 0, 0])
    parts = [centres, sizes[:, [1, 0, 2]], headings[:, None], velocity[:, :2]]
    return np.concatenate(parts, axis=1)
