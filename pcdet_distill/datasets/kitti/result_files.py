"""KITTI's result files, one a frame, read back: OpenPCDet's ``final_result/data/<frame>.txt``.

``predictions.result_text`` writes them. A line has sixteen fields, the last of which is the score.
Boxes are in camera coordinates, so the calibration of the frame moves them into LiDAR's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...errors import DataError
from .calibration import Calibration
from .camera_boxes import boxes_camera_to_lidar

NUM_FIELDS = 16
NUM_LABEL_FIELDS = 15
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
    for number, line in enumerate(_read_text(path).splitlines(), start=1):
        fields = line.split()
        if not fields or fields[0] == "DontCare":
            continue
        rows.append(_numbers(fields, f"{path}, line {number}"))
        names.append(fields[0])
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


def _numbers(fields: list[str], where: str) -> list[float]:
    """The fifteen numbers behind the class."""
    if len(fields) == NUM_LABEL_FIELDS:
        raise DataError(
            f"{where}: is a label without a score; expected the 16 fields of a detection"
        )
    if len(fields) != NUM_FIELDS:
        raise DataError(f"{where}: a detection has 16 fields, this line has {len(fields)}")
    try:
        numbers = [float(field) for field in fields[1:]]
    except ValueError as error:
        raise DataError(f"{where}: all fields after the class must be numbers ({error})") from None
    if not np.isfinite(numbers).all():
        raise DataError(f"{where}: the detection holds NaN or infinity; expected finite numbers")
    return numbers


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(
            f"{path}: does not exist; a frame without detections has an empty file"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a result file ({error})") from None
