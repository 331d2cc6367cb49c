"""Computing a cache: the teacher runs once on every frame of the training split, as recorded."""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from collections.abc import Sequence
from math import pi
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...datasets.collate import collate_items
from ...datasets.dataset import DatasetTemplate, item_random_state
from ...datasets.item import Item
from ...datasets.predicted import FramePredictions, LabelledFrame, write_part
from ...datasets.predicted.frame import NO_OWNER
from ...datasets.predicted.motion import HEADING, inside_footprints
from ...datasets.view import PointView
from ...errors import DataError
from ...models import load_data_to_device
from ...ops.boxes import limit_period
from ...types import BatchDict
from ..predictions import PredictionGrid, PredictionReader, Predictions
from ..teacher import FrameBoxes, Teacher

FRAMES_PER_PART = 64
BATCH_SIZE = 2
# A prediction belongs to an object if it stands on it, or if its box does. Scores fall off within
# about a cell around an object, so the object is taken a little larger than it is labelled.
OWNER_MARGIN_M = 0.5
LOG_SECONDS = 30.0
NO_BOXES = np.zeros((0, 7), dtype=np.float32)


@dataclasses.dataclass(frozen=True)
class CacheBuilder:
    """Writes the parts of a cache.

    Attributes:
        teacher: runs.
        reader: reads the raw predictions of its head; None if only its detections are stored.
        dataset: gives the frames.
        view: processes their points for the teacher.
        threshold: rows whose best score exceeds it are stored.
    """

    teacher: Teacher
    reader: PredictionReader | None
    dataset: DatasetTemplate
    view: PointView
    threshold: float

    def part_files(self, folder: Path) -> list[Path]:
        """The files of all parts, whether they exist or not."""
        count = -(-self.dataset.num_frames // FRAMES_PER_PART)  # rounded up
        return [folder / f"part_{number:04d}.npz" for number in range(count)]

    def write_missing(
        self, folder: Path, device: torch.device, share: tuple[int, int], logger: logging.Logger
    ) -> None:
        """Compute the parts that do not exist yet.

        Args:
            folder: of the cache.
            device: where the teacher runs.
            share: number of this process and number of processes; each computes every n-th part.
            logger: receives a line now and then.
        """
        rank, size = share
        files = self.part_files(folder)
        own_numbers = list(range(len(files)))[rank::size]
        # Two trainings that start together compute the same cache. Each begins elsewhere, and
        # skips what the other one has written.
        first = os.getpid() % max(len(own_numbers), 1)
        logged = time.monotonic()
        for done, number in enumerate(own_numbers[first:] + own_numbers[:first], start=1):
            if not files[number].is_file():
                self._write_part(files[number], number, device)
            if time.monotonic() - logged > LOG_SECONDS:
                logged = time.monotonic()
                logger.info("teacher cache: %.0f %% computed", 100 * done / len(own_numbers))

    def _write_part(self, file: Path, number: int, device: torch.device) -> None:
        first = number * FRAMES_PER_PART
        last = min(first + FRAMES_PER_PART, self.dataset.num_frames)
        background = BackgroundSums(self.reader)
        frames: list[LabelledFrame] = []
        for start in range(first, last, BATCH_SIZE):
            numbers = range(start, min(start + BATCH_SIZE, last))
            frames += self._frames(numbers, device, background)
        if not frames:
            raise DataError(
                f"{self.dataset.root_path}: none of the {last - first} frames from "
                f"{self.dataset.frame_name(first)} on can be read, so there is nothing to predict"
            )
        write_part(file, frames, background.arrays())

    def _frames(
        self, numbers: Sequence[int], device: torch.device, background: BackgroundSums
    ) -> list[LabelledFrame]:
        """Some frames of the dataset with their predictions."""
        readable = {}
        for number in numbers:
            item = self.dataset.recorded_frame(number)
            if item is not None:
                readable[number] = item
        if not readable:
            return []
        numbers = list(readable)
        items = list(readable.values())
        raw, detections = self._run(numbers, items, device)
        frames = []
        for position, (number, item) in enumerate(zip(numbers, items)):
            boxes = np.asarray(item.get("gt_boxes", NO_BOXES), dtype=np.float64)
            rows = _no_rows(detections[position])
            if raw is not None and self.reader is not None:
                of_frame = raw.select(torch.nonzero(raw.batch_index == position).flatten())
                rows = rows_above(of_frame, self.reader, self.threshold)
                background.add(of_frame, self.threshold)
            predictions = with_owners(rows, detections[position], boxes)
            name = self.dataset.frame_name(number)
            frames.append(LabelledFrame(name, predictions, boxes[:, :3]))
        return frames

    @torch.no_grad()
    def _run(
        self, numbers: Sequence[int], items: Sequence[Item], device: torch.device
    ) -> tuple[Predictions | None, list[FrameBoxes]]:
        """Raw predictions and detections of some frames, with the teacher's own labels."""
        views = []
        for number, item in zip(numbers, items):
            random = item_random_state(self.dataset.seed, 0, number)
            views.append(dict(self.view.make(item["points"], random)))
        batch: BatchDict = collate_items(views)
        load_data_to_device(batch, device)
        paths = () if self.reader is None else self.reader.paths
        boxes, features = self.teacher.detect(batch, paths)
        rows = None if self.reader is None else self.reader.read(features, batch)
        return rows, boxes


class BackgroundSums:
    """Sums of the scores that are not stored, by kind of position.

    Their mean takes the place of each of them in training: a teacher is not equally sure of the
    background for every class.
    """

    def __init__(self, reader: PredictionReader | None) -> None:
        grid = None if reader is None else reader.grid()
        self.kind_index = torch.zeros(0, dtype=torch.long) if grid is None else grid.kind_index
        kinds = 0 if grid is None else len(grid.kinds)
        classes = 0 if reader is None else reader.channels
        self.scores = torch.zeros(kinds, classes, dtype=torch.float64)
        self.counts = torch.zeros(kinds, dtype=torch.float64)

    def add(self, of_frame: Predictions, threshold: float) -> None:
        """Count all rows of one frame that are not above the threshold."""
        is_below = (of_frame.scores() <= threshold).cpu()
        kinds = self.kind_index[is_below]
        scores = of_frame.logits.sigmoid().cpu().double()[is_below]
        self.scores.index_add_(0, kinds, scores)
        self.counts += torch.bincount(kinds, minlength=len(self.counts))

    def arrays(self) -> dict[str, np.ndarray]:
        """What a part stores of it."""
        return {
            "background_scores": self.scores[None].numpy(),
            "background_counts": self.counts[None].numpy(),
        }


def rows_above(
    of_frame: Predictions, reader: PredictionReader, threshold: float
) -> dict[str, np.ndarray]:
    """The stored fields, without owners, of the rows whose best score exceeds ``threshold``."""
    grid = reader.grid()
    assert grid is not None  # point heads have been refused
    above = torch.nonzero(of_frame.scores() > threshold).flatten()
    kept = of_frame.select(above)
    boxes = kept.boxes()
    kinds = grid.kind_index.to(above.device)[above]
    return {
        "places": kept.coords[:, :2].float().cpu().numpy(),
        "kinds": kinds.cpu().numpy().astype(np.int16),
        "turns": turn_from_anchor(boxes[:, HEADING], headings_of_kinds(grid)[kinds.cpu()])
        .float()
        .cpu()
        .numpy(),
        "logits": kept.logits.cpu().numpy().astype(np.float16),
        "boxes": boxes.float().cpu().numpy(),
    }


def headings_of_kinds(grid: PredictionGrid) -> Tensor:
    """(K,) heading of the anchors of each kind in radians; NaN for cells, which have none."""
    headings = [kind.shape[-1] if kind.shape else float("nan") for kind in grid.kinds]
    return torch.tensor(headings)


def turn_from_anchor(heading: Tensor, anchor_heading: Tensor) -> Tensor:
    """(N,) the angle from 0 to pi / 2 between boxes and anchors; 0 where the latter is NaN."""
    difference = limit_period(heading - anchor_heading.to(heading), 0.5, pi).abs()
    return torch.nan_to_num(difference, nan=0.0)


def _no_rows(detections: FrameBoxes) -> dict[str, np.ndarray]:
    """The fields of ``rows_above`` without any row."""
    width = detections["pred_boxes"].shape[1]
    return {
        "places": np.zeros((0, 2), np.float32),
        "kinds": np.zeros(0, np.int16),
        "turns": np.zeros(0, np.float32),
        "logits": np.zeros((0, 0), np.float16),
        "boxes": np.zeros((0, width), np.float32),
    }


def with_owners(
    rows: dict[str, np.ndarray], detections: FrameBoxes, labelled: np.ndarray
) -> FramePredictions:
    """Rows and detections of a frame with the labelled boxes (G, 7) that they belong to."""
    detected = detections["pred_boxes"].float().cpu().numpy()
    return FramePredictions(
        **rows,
        owners=owners_of(rows["places"], rows["boxes"][:, :2], labelled),
        detected_boxes=detected,
        detected_scores=detections["pred_scores"].float().cpu().numpy(),
        detected_labels=detections["pred_labels"].cpu().numpy().astype(np.int16),
        detected_owners=owners_of(detected[:, :2], detected[:, :2], labelled),
    )


def owners_of(places: np.ndarray, centres: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """(N,) int16 which labelled box each prediction belongs to, -1 for none.

    Of several boxes it is the one nearest to the centre of the predicted box.

    Args:
        places: (N, 2) where the predictions stand.
        centres: (N, 2) of their boxes.
        labelled: (G, 7) boxes.
    """
    if len(labelled) == 0:
        return np.full(len(places), NO_OWNER, dtype=np.int16)
    is_on = inside_footprints(places, labelled, OWNER_MARGIN_M)
    is_on |= inside_footprints(centres, labelled, OWNER_MARGIN_M)
    distance_m = np.linalg.norm(centres - labelled[:, None, :2], axis=2)
    distance_m[~is_on] = np.inf
    nearest = distance_m.argmin(axis=0)
    return np.where(is_on.any(axis=0), nearest, NO_OWNER).astype(np.int16)
