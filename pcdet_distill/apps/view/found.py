"""Boxes that were found: by a detector that runs now, or read from files of results."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ...config import nearest
from ...datasets.custom.labels.kitti_text import named_calibration
from ...datasets.kitti.result_files import read_result_file, result_files
from ...datasets.safe_pickle import load_plain_pickle
from ...errors import DataError
from .loaded import FrameBoxes, LoadedFrame

if TYPE_CHECKING:
    from ...inference import Detector

HOW_TO_MAKE = "it is the result.pkl that 'pcdet-distill test' writes"
BOX_WIDTH = 7
BOX_WIDTHS = (BOX_WIDTH, BOX_WIDTH + 2)  # without and with velocities
# What other programs call the entries of a frame, the usual name first.
NAMES_OF = {
    "frame_id": ("frame_id", "frame", "name_of_frame"),
    "boxes": ("boxes_lidar", "boxes", "pred_boxes"),
    "scores": ("score", "scores", "pred_scores"),
    "names": ("name", "names", "pred_names"),
}


class BoxFinder(Protocol):
    """Gives the boxes of a frame."""

    def boxes_of(self, name: str, frame: LoadedFrame) -> FrameBoxes | None:
        """Its boxes; None for a frame that was not looked at."""


class DetectorBoxes:
    """The boxes of a detector. It looks at each frame when that is asked for."""

    def __init__(self, detector: Detector, columns: Sequence[str] | None) -> None:
        self.detector = detector
        self._reads_file = columns is None

    def boxes_of(self, name: str, frame: LoadedFrame) -> FrameBoxes:
        """Detect in the file, whose columns the detector knows, or in the points."""
        points = frame.file if frame.file is not None and self._reads_file else frame.cloud
        (found,) = self.detector.stream(points)
        return FrameBoxes(found.boxes, found.names, found.scores)


class ResultBoxes:
    """The boxes of a file of results.

    Args:
        path: result.pkl of an evaluation, or a .json file with the same entries.

    Attributes:
        frames: boxes by the name of the frame.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        content = _read(path)
        self.frames: dict[str, FrameBoxes] = {}
        for number, entry in enumerate(content):
            name, boxes = _entry(entry, f"{path}, entry {number}")
            self.frames.setdefault(name, boxes)
        if not self.frames:
            raise DataError(f"{path}: holds no frames; expected {HOW_TO_MAKE}")

    def boxes_of(self, name: str, frame: LoadedFrame) -> FrameBoxes | None:
        """What the file says about the frame."""
        return self.frames.get(name)

    def check(self, names: Sequence[str]) -> None:
        """Refuse a file of results of other frames."""
        _refuse_other_frames(self.path, self.frames, names)


class TextBoxes:
    """The boxes of KITTI's result files, one file a frame, as OpenPCDet's final_result/data.

    Args:
        folder: of the files.
        calib: what ``--calib`` says; empty to take the calibration of the data set.

    Attributes:
        frames: files by the name of the frame.
    """

    def __init__(self, folder: Path, calib: str = "") -> None:
        self.path = folder
        self._calib = calib
        self.frames = result_files(folder)
        if not self.frames:
            raise DataError(
                f"{folder}: holds no KITTI result files; expected a .txt a frame, with 16 fields a "
                "line, as in final_result/data"
            )

    def boxes_of(self, name: str, frame: LoadedFrame) -> FrameBoxes | None:
        """What the file of the frame says."""
        if name not in self.frames:
            return None
        calib = named_calibration(self._calib, name) or frame.calib
        found = read_result_file(self.frames[name], calib)
        return FrameBoxes(found["boxes_lidar"], found["name"], found["score"])

    def check(self, names: Sequence[str]) -> None:
        """Refuse a folder with results of other frames."""
        _refuse_other_frames(self.path, self.frames, names)


StoredBoxes = ResultBoxes | TextBoxes


def stored_boxes(path: Path, calib: str = "") -> StoredBoxes:
    """The boxes of a file of results, or of a folder of KITTI's result files."""
    return TextBoxes(path, calib) if path.is_dir() else ResultBoxes(path)


def _refuse_other_frames(path: Path, frames: Collection[str], names: Sequence[str]) -> None:
    if not set(names) & set(frames):
        raise DataError(
            f"{path}: holds results of other frames, such as '{next(iter(frames))}'; the frames "
            f"here are called '{names[0]}'"
        )


def _read(path: Path) -> list[Any]:
    """The entries of a file of results, one for each frame."""
    if path.suffix.lower() == ".json":
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from None
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: no valid JSON ({error})") from None
    else:
        content = load_plain_pickle(path, HOW_TO_MAKE)
    if isinstance(content, Mapping):
        content = [{"frame_id": name, **_block(entry)} for name, entry in content.items()]
    if not isinstance(content, list):
        raise DataError(f"{path}: expected a list with an entry for each frame; {HOW_TO_MAKE}")
    return content


def _block(entry: object) -> dict[str, Any]:
    return dict(entry) if isinstance(entry, Mapping) else {}


def _entry(entry: object, where: str) -> tuple[str, FrameBoxes]:
    """The name and the boxes of a frame."""
    block = _block(entry)
    found = {}
    for key, keys in NAMES_OF.items():
        present = [name for name in keys if name in block]
        if not present:
            raise DataError(
                f"{where}: has no '{keys[0]}'{nearest(keys[0], block)}; expected {HOW_TO_MAKE}"
            )
        found[key] = block[present[0]]
    try:
        names = np.asarray(found["names"], dtype=str).reshape(-1)
        scores = np.asarray(found["scores"], dtype=np.float64).reshape(-1)
        boxes = np.asarray(found["boxes"], dtype=np.float64)
        boxes = boxes.reshape(len(names), -1) if len(names) else np.zeros((0, BOX_WIDTH))
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: its boxes are no numbers, one row a name ({error})") from None
    if len(scores) != len(names) or boxes.shape[1] not in BOX_WIDTHS:
        raise DataError(
            f"{where}: has {len(names)} names, {len(scores)} scores and boxes of {boxes.shape}; "
            "expected M, M and (M, 7) or (M, 9)"
        )
    return str(found["frame_id"]), FrameBoxes(boxes, names, scores)
