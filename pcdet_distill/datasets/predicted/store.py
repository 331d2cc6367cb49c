"""PredictionStore: a folder with the predictions of every frame of a training split.

The folder holds parts, each an .npz file with some of the frames. A part is written under another
name and then renamed, so a part that exists is whole, and a build that was interrupted continues
with the missing ones.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ...errors import DataError
from .frame import DETECTION_FIELDS, ROW_FIELDS, FramePredictions, join

SAME_PLACE_M = 0.02  # between an object of the database and its labelled box in the info files


class LabelledFrame:
    """What a part stores of one frame.

    Args:
        name: of the frame.
        predictions: of the teacher.
        centres: (G, 3) of the labelled boxes, by which objects of the database are found again.
    """

    def __init__(self, name: str, predictions: FramePredictions, centres: np.ndarray) -> None:
        self.name = name
        self.predictions = predictions
        self.centres = centres


def write_part(
    file: Path, frames: Sequence[LabelledFrame], further: Mapping[str, np.ndarray]
) -> None:
    """Write a part, whole or not at all.

    Args:
        file: where the part will be.
        frames: at least one.
        further: arrays to store beside the frames.
    """
    joined = join([frame.predictions for frame in frames])
    arrays = {name: getattr(joined, name) for name in (*ROW_FIELDS, *DETECTION_FIELDS)}
    arrays["frame_names"] = np.array([frame.name for frame in frames])
    arrays["row_counts"] = np.array([len(frame.predictions.places) for frame in frames])
    arrays["detection_counts"] = np.array(
        [len(frame.predictions.detected_scores) for frame in frames]
    )
    arrays["label_counts"] = np.array([len(frame.centres) for frame in frames])
    arrays["label_centres"] = np.concatenate([frame.centres for frame in frames])
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as stream:
            np.savez(stream, **arrays, **further)  # type: ignore[arg-type]
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def read_part(file: Path) -> dict[str, np.ndarray]:
    """The arrays of a part."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{file}: this part of the teacher's stored predictions cannot be read ({error}); "
            "delete it, and the next training computes it again"
        ) from None


class PredictionStore:
    """All parts of a folder, in memory.

    Worker processes that are started by a fork share this memory.

    Args:
        files: the parts.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        parts = [read_part(file) for file in files]
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        fields = {name: arrays[name] for name in (*ROW_FIELDS, *DETECTION_FIELDS)}
        self._all = FramePredictions(**fields)
        self._row_ends = np.cumsum(arrays["row_counts"])
        self._detection_ends = np.cumsum(arrays["detection_counts"])
        self._label_ends = np.cumsum(arrays["label_counts"])
        self._number_of = {str(name): number for number, name in enumerate(arrays["frame_names"])}
        # Objects are looked up by place: sorted along x, candidates are a short range.
        self._centres = arrays["label_centres"]
        self._by_x = np.argsort(self._centres[:, 0], kind="stable")
        self._sorted_x = self._centres[self._by_x, 0]
        self._arrays = arrays

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self._number_of)

    @property
    def rows(self) -> int:
        """Number of rows of all frames."""
        return len(self._all.places)

    def sum_of(self, name: str) -> np.ndarray:
        """The sum over all parts of a further array; each part stores it with a first axis of 1."""
        return self._arrays[name].sum(axis=0)

    def of_frame(self, name: str) -> FramePredictions:
        """The predictions of a frame."""
        if name not in self._number_of:
            raise DataError(
                f"frame {name} is not among the {self.frames} frames whose teacher's predictions "
                "are stored; delete that folder, and the next training computes them again"
            )
        return self._of_number(self._number_of[name])

    def of_object(self, box: np.ndarray) -> FramePredictions | None:
        """The predictions that belong to a labelled box (7 + C,), from its own frame.

        Returns:
            None if no frame has that box.
        """
        label = self._find_label(np.asarray(box[:3], dtype=np.float64))
        if label is None:
            return None
        number = int(np.searchsorted(self._label_ends, label, side="right"))
        first = self._label_ends[number - 1] if number else 0
        return self._of_number(number).of_owner(label - int(first))

    def _of_number(self, number: int) -> FramePredictions:
        rows = _range_of(self._row_ends, number)
        return self._all.select(rows, _range_of(self._detection_ends, number))

    def _find_label(self, centre: np.ndarray) -> int | None:
        """Number of the labelled box nearest to ``centre`` (3,), within SAME_PLACE_M."""
        first, last = np.searchsorted(
            self._sorted_x, [centre[0] - SAME_PLACE_M, centre[0] + SAME_PLACE_M]
        )
        candidates = self._by_x[first:last]
        if len(candidates) == 0:
            return None
        distance = np.abs(self._centres[candidates] - centre).max(axis=1)
        nearest = int(np.argmin(distance))
        return int(candidates[nearest]) if distance[nearest] <= SAME_PLACE_M else None


def _range_of(ends: np.ndarray, number: int) -> slice:
    """Where the entries of frame ``number`` stand."""
    return slice(int(ends[number - 1]) if number else 0, int(ends[number]))
