"""KITTI's label files, of any classes: boxes in camera coordinates, one file a frame.

A line has fifteen fields: type, truncation, occlusion, alpha, image box (4), height, width, length,
location (3, the middle of the bottom), rotation_y. A score may follow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ....errors import DataError
from ....structures import Text
from ...kitti.calibration import Calibration
from ...kitti.camera_boxes import boxes_camera_to_lidar
from ...kitti.object3d import DONT_CARE, SIZES, label_line
from ...text_structures import Unread, number_of, numbered_lines
from .base import FrameLabels, LabelRow, LabelSet, read_text
from .files import LabelFile, LabelOptions

DEFAULT = "default"
# A camera at the LiDAR that looks along x: camera x is -y, y is -z, z is x.
DEFAULT_AXES = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0]], dtype=np.float32)
FIELDS = (*SIZES, "x", "y", "z", "rotation_y")
LABEL_LINE = label_line(Text(), of_image=Unread())


def read_kitti_text(files: Sequence[LabelFile], options: LabelOptions) -> LabelSet:
    """The labels of KITTI files, moved into LiDAR coordinates."""
    frames = {}
    notes = [_note(options)]
    for file in files:
        rows = _rows(file.path, file, options)
        frames[file.frame] = FrameLabels.from_rows(rows)
    return LabelSet(frames, tuple(note for note in notes if note))


def _note(options: LabelOptions) -> str:
    if options.lidar_frame:
        return "KITTI labels: locations and angles were taken as LiDAR coordinates"
    if options.calib == DEFAULT:
        return "KITTI labels: moved by a camera at the LiDAR that looks along its x axis"
    return ""


def _rows(path: Path, file: LabelFile, options: LabelOptions) -> list[LabelRow]:
    calib = None
    rows = []
    for where, line in numbered_lines(path, read_text(path)):
        fields = line.split()
        if fields[0] == DONT_CARE:
            continue
        _refuse_name_of_two_words(fields, where)
        values = LABEL_LINE.read(line, where)
        box_values = [values[field] for field in FIELDS]
        if options.lidar_frame:
            box = _lidar_box(box_values, z_is_centre=options.box_z == "centre")
        else:
            calib = calib or _calibration(path, file, options)
            box = _camera_box(box_values, calib)
        rows.append(LabelRow(fields[0], box, None, where))
    return rows


def _refuse_name_of_two_words(fields: Sequence[str], where: str) -> None:
    """A class such as 'Fork lift' moves all fields by one, so every number would be misread."""
    if len(fields) > 1 and isinstance(number_of(fields[1]), str):
        raise DataError(
            f"{where}: the second field is '{fields[1]}', expected the number of the truncation; a "
            f"class name holds no spaces (write '{fields[0]}_{fields[1]}')"
        )


def _lidar_box(values: Sequence[float], *, z_is_centre: bool) -> list[float]:
    """The box of a line whose location and angle are the LiDAR's."""
    height, width, length, x, y, z, heading = values
    if not z_is_centre:
        z += height / 2
    return [x, y, z, length, width, height, heading]


def _camera_box(values: Sequence[float], calib: Calibration) -> list[float]:
    """The box of a line in camera coordinates."""
    height, width, length, x, y, z, rotation_y = values
    camera = np.array([[x, y, z, length, height, width, rotation_y]], dtype=np.float64)
    box: list[float] = boxes_camera_to_lidar(camera, calib)[0].tolist()
    box[6] = math.remainder(box[6], 2 * math.pi)
    return box


def _calibration(path: Path, file: LabelFile, options: LabelOptions) -> Calibration:
    """The calibration that belongs to a label file."""
    if options.calib == DEFAULT:
        return default_calibration()
    if options.calib and Path(options.calib).is_file():
        return Calibration.from_file(Path(options.calib))
    folder = Path(options.calib) if options.calib else path.parent.parent / "calib"
    calib_file = folder / f"{path.stem}.txt"
    if not calib_file.is_file():
        raise DataError(
            f"{path}: KITTI labels are in camera coordinates, and {calib_file} does not exist; "
            "give --calib FILE or FOLDER, --calib default for a camera at the LiDAR that looks "
            "along x, or --lidar_frame if locations and angles are the LiDAR's"
        )
    return Calibration.from_file(calib_file)


def default_calibration() -> Calibration:
    """A camera at the LiDAR that looks along its x axis."""
    return Calibration(np.eye(3, 4), np.eye(3), DEFAULT_AXES)


def named_calibration(calib: str, stem: str) -> Calibration | None:
    """The calibration of a frame that ``--calib`` names; None where it is empty or has none."""
    if not calib:
        return None
    if calib == DEFAULT:
        return default_calibration()
    path = Path(calib)
    file = path / f"{stem}.txt" if path.is_dir() else path
    if path.is_dir() and not file.is_file():
        return None
    return Calibration.from_file(file)
