"""Detections as Argoverse 2's evaluation server and the package av2 read them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...evaluation.nuscenes.quaternions import around_z
from ..readers.extras import needed_for
from .tables import CENTRE, QUATERNION, SIZE, TIME

BOX_COLUMNS = 7


def detection_columns(uuid: str, anno: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The columns of the detections (K,) of one frame.

    Args:
        uuid: ``LOG/TIMESTAMP`` of the frame.
        anno: ``name``, ``score``, ``boxes_lidar`` (K, 7).
    """
    log_name, timestamp = uuid.split("/")
    boxes = np.asarray(anno["boxes_lidar"], dtype=np.float64)
    if boxes.size == 0:
        boxes = np.zeros((0, BOX_COLUMNS))
    rotations = around_z(boxes[:, 6])
    columns: dict[str, np.ndarray] = {}
    for place, name in enumerate((*CENTRE, *SIZE)):
        columns[name] = boxes[:, place]
    for place, name in enumerate(QUATERNION):
        columns[name] = rotations[:, place]
    columns["score"] = np.asarray(anno["score"], dtype=np.float64)
    columns["log_id"] = np.full(len(boxes), log_name)
    columns[TIME] = np.full(len(boxes), int(timestamp), dtype=np.int64)
    columns["category"] = np.array([str(name).upper() for name in anno["name"]], dtype=str)
    return columns


def write_detections(folder: Path, uuid: str, anno: Mapping[str, Any]) -> Path:
    """Write ``LOG_TIMESTAMP.feather`` with the detections of one frame; returns its path."""
    path = folder / f"{uuid.replace('/', '_')}.feather"
    arrow = needed_for(path, "pyarrow")
    feather = needed_for(path, "pyarrow.feather")
    columns = {}
    for name, values in detection_columns(uuid, anno).items():
        columns[name] = arrow.array(values)
    feather.write_feather(arrow.table(columns), path)
    return path
