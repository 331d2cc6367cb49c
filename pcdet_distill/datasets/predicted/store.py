"""PredictionStore: a folder with the predictions of every frame of a training split.

The folder holds parts, each an .npz file with some of the frames. A part is written under another
name and then renamed, so a part that exists is whole, and a build that was interrupted continues
with the missing ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...errors import DataError, first_line
from ...structures import AtLeast, Numbers, Structure, Texts, misfit_of
from ...whole_files import whole_file
from .frame import DETECTION_FIELDS, NO_OWNER, ROW_FIELDS, FramePredictions, join

PART = "this part of the teacher's stored predictions"
REMEDY = "delete it, and the next training computes it again"
COUNTS = Numbers("F", whole=True, least=0, most=2**31)
# The arrays of a part: F frames, N rows, D detections, L labelled boxes. A build adds further ones.
STORED_PART = Structure(
    frame_names=Texts("F"),
    row_counts=COUNTS,
    detection_counts=COUNTS,
    label_counts=COUNTS,
    label_centres=Numbers("L", 3),
    places=Numbers("N", 2),
    kinds=Numbers("N"),
    turns=Numbers("N"),
    logits=Numbers("N", AtLeast(1)),
    boxes=Numbers("N", AtLeast(7)),
    owners=Numbers("N", whole=True),
    detected_boxes=Numbers("D", AtLeast(7)),
    detected_scores=Numbers("D"),
    detected_labels=Numbers("D", whole=True),
    detected_owners=Numbers("D", whole=True),
)
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
    with whole_file(file) as partial, partial.open("wb") as stream:
        np.savez(stream, **arrays, **further)  # type: ignore[arg-type]


def read_part(file: Path) -> dict[str, np.ndarray]:
    """The arrays of a part, which fit each other."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive)
    except Exception as error:  # zip, zlib and numpy's parser of headers have errors of their own
        raise DataError(f"{file}: {PART} cannot be read ({first_line(error)}); {REMEDY}") from None
    misfit = misfit_of(arrays, STORED_PART)
    if misfit is not None:
        raise DataError(f"{file}: {PART} is damaged, {misfit}; {REMEDY}")
    for counts, rows in (("row_counts", "places"), ("detection_counts", "detected_scores")):
        if arrays[counts].sum() != len(arrays[rows]):
            raise DataError(
                f"{file}: {PART} is damaged, its {counts} are {arrays[counts].sum()} together, "
                f"expected {len(arrays[rows])} as {rows} has; {REMEDY}"
            )
    return arrays


class PredictionStore:
    """All parts of a folder, in memory.

    Worker processes that are started by a fork share this memory.

    Args:
        files: the parts.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        arrays = _joined(files)
        self._arrays = arrays
        self._number_of = {str(name): number for number, name in enumerate(arrays["frame_names"])}
        self._first_label = _starts(arrays["label_counts"])
        # Within a frame the predictions are sorted by owner: those of an object are a range.
        row_order, self._rows = self._by_owner("row_counts", "owners")
        detection_order, self._detections = self._by_owner("detection_counts", "detected_owners")
        fields = {name: arrays[name][row_order] for name in ROW_FIELDS}
        fields.update({name: arrays[name][detection_order] for name in DETECTION_FIELDS})
        self._all = FramePredictions(**fields)
        # Objects are looked up by place: sorted along x, candidates are a short range.
        self._centres = arrays["label_centres"]
        self._by_x = np.argsort(self._centres[:, 0], kind="stable")
        self._sorted_x = self._centres[self._by_x, 0]

    def _by_owner(self, count_name: str, owner_name: str) -> tuple[np.ndarray, _Ranges]:
        """The order of predictions by frame and owner, and where frames and labels are in it."""
        counts = self._arrays[count_name]
        owners = self._arrays[owner_name]
        frame_of = np.repeat(np.arange(len(counts)), counts)
        order = np.lexsort((owners, frame_of))
        # Numbers of labels grow with the frames. Predictions without owner stand half a number
        # before the first label of their frame.
        label_of = self._first_label[frame_of] + np.where(owners == NO_OWNER, -0.5, owners)
        labels = np.arange(len(self._arrays["label_centres"]))
        sorted_labels = label_of[order]
        ranges = _Ranges(
            frames=_starts(counts),
            first_of_label=np.searchsorted(sorted_labels, labels, side="left"),
            end_of_label=np.searchsorted(sorted_labels, labels, side="right"),
        )
        return order, ranges

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
        number = self._number_of[name]
        return self._all.select(self._rows.of_frame(number), self._detections.of_frame(number))

    def label_of(self, box: np.ndarray) -> int | None:
        """Number of the labelled box (7 + C,) among those of all frames; None if there is none."""
        centre = np.asarray(box[:3], dtype=np.float64)
        first, last = np.searchsorted(
            self._sorted_x, [centre[0] - SAME_PLACE_M, centre[0] + SAME_PLACE_M]
        )
        candidates = self._by_x[first:last]
        if len(candidates) == 0:
            return None
        distance = np.abs(self._centres[candidates] - centre).max(axis=1)
        nearest = int(np.argmin(distance))
        return int(candidates[nearest]) if distance[nearest] <= SAME_PLACE_M else None

    def of_objects(self, labels: Sequence[int], drops_m: np.ndarray) -> FramePredictions:
        """What belongs to some objects, each from its own frame.

        Args:
            labels: (K,) numbers that ``label_of`` has found.
            drops_m: (K,) how much lower each object is to stand.
        """
        rows, row_counts = self._rows.of_labels(labels)
        detections, detection_counts = self._detections.of_labels(labels)
        predictions = self._all.select(rows, detections)
        return predictions.lowered(
            np.repeat(drops_m, row_counts), np.repeat(drops_m, detection_counts)
        )


def _joined(files: Sequence[Path]) -> dict[str, np.ndarray]:
    """The arrays of all parts."""
    parts = [read_part(file) for file in files]
    joined = {}
    for name in parts[0]:
        try:
            joined[name] = np.concatenate([part[name] for part in parts])
        except (KeyError, ValueError):
            raise DataError(
                f"{files[0].parent}: the parts of the teacher's stored predictions differ in "
                f"{name}; delete this folder, and the next training computes them again"
            ) from None
    return joined


class _Ranges(NamedTuple):
    """Where the predictions of each frame, and of each labelled box, stand.

    Attributes:
        frames: (F + 1,) first prediction of each frame, and the end.
        first_of_label, end_of_label: (L,).
    """

    frames: np.ndarray
    first_of_label: np.ndarray
    end_of_label: np.ndarray

    def of_frame(self, number: int) -> slice:
        """The range of a frame."""
        return slice(int(self.frames[number]), int(self.frames[number + 1]))

    def of_labels(self, labels: Sequence[int]) -> tuple[np.ndarray, list[int]]:
        """The numbers of all predictions of some labels, and how many each label has."""
        ranges = [
            np.arange(self.first_of_label[label], self.end_of_label[label]) for label in labels
        ]
        numbers = np.concatenate([np.zeros(0, dtype=np.int64), *ranges])
        return numbers, [len(entry) for entry in ranges]


def _starts(counts: np.ndarray) -> np.ndarray:
    """(N + 1,) where each of N groups starts, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
