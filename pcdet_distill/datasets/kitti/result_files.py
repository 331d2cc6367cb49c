"""KITTI's result files, one a frame, read back: OpenPCDet's ``final_result/data/<frame>.txt``.

``predictions.result_text`` writes them. A line has sixteen fields, the last of which is the score.
Boxes are in camera coordinates, so the calibration of the frame moves them into LiDAR's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...errors import DataError
from ...structures import Text
from ..text_structures import Values, numbered_lines, read_text
from .calibration import Calibration
from .camera_boxes import boxes_camera_to_lidar
from .object3d import DONT_CARE, label_line

NUM_FIELDS = 16
NUM_LABEL_FIELDS = 15
DETECTION_LINE = label_line(Text())
SUFFIX = ".txt"


def result_files(folder: Path) -> dict[str, Path]:
    """The result files of a folder by the names of their frames, in order.

    Those of ``data`` or ``final_result/data`` in it count too. Empty where no file holds a
    detection: a run's folder has .txt files of other kinds.
    """
    for place in (folder, folder / "data", folder / "final_result" / "data"):
        files = sorted(place.glob(f"*{SUFFIX}"))
        if any(map(_begins_with_detection, files)):
            return {file.stem: file for file in files}
    return {}


def _begins_with_detection(path: Path) -> bool:
    """Whether the first line that holds anything has the fields of a detection."""
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            first = next((line for line in lines if line.strip()), "")
    except OSError:
        return False
    return len(first.split()) in (NUM_LABEL_FIELDS, NUM_FIELDS)


def read_result_file(path: Path, calib: Calibration | None) -> dict[str, np.ndarray]:
    """The detections of one frame, with the keys of ``prediction_anno``.

    Args:
        calib: of the frame; None where it is not known, which only a frame without detections
            allows.

    Raises:
        DataError: a line is no detection, or the calibration is needed and missing.
    """
    names = []
    rows = []
    missing = "does not exist; a frame without detections has an empty file"
    for where, line in numbered_lines(path, read_text(path, "a result file", missing)):
        if line.split()[0] != DONT_CARE:
            name, *numbers = _detection(line, where).values()
            names.append(name)
            rows.append(numbers)
    if rows and calib is None:
        raise DataError(
            f"{path}: its boxes are in camera coordinates, and the calibration of this frame is "
            "not known; expected --calib FILE or FOLDER, or --calib default for a camera at the "
            "LiDAR that looks along x"
        )
    return _anno(names, np.array(rows, dtype=np.float64).reshape(-1, NUM_LABEL_FIELDS), calib)


def _anno(names: list[str], rows: np.ndarray, calib: Calibration | None) -> dict[str, np.ndarray]:
    """The entries of the lines' numbers (K, 15), in the order of the file."""
    height, width, length = rows[:, 7], rows[:, 8], rows[:, 9]
    location = rows[:, 10:13]
    rotation_y = rows[:, 13]
    dimensions = np.stack([length, height, width], axis=1)
    camera = np.concatenate([location, dimensions, rotation_y[:, None]], axis=1)
    boxes = np.zeros((0, 7)) if calib is None else boxes_camera_to_lidar(camera, calib)
    return {
        "name": np.array(names, dtype=str),
        "truncated": rows[:, 0],
        "occluded": rows[:, 1],
        "alpha": rows[:, 2],
        "bbox": rows[:, 3:7],
        "dimensions": dimensions,
        "location": location,
        "rotation_y": rotation_y,
        "score": rows[:, 14],
        "boxes_lidar": boxes,
    }


def _detection(line: str, where: str) -> Values:
    """The fields of a line, which must have a score."""
    if len(line.split()) == NUM_LABEL_FIELDS:
        raise DataError(
            f"{where}: is a label without a score; expected the 16 fields of a detection"
        )
    return DETECTION_LINE.read(line, where)
