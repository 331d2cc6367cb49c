"""What prediction losses read of a cached teacher: rows at the student's own positions."""

from __future__ import annotations

import dataclasses
from math import pi

import torch
from torch import Tensor

from ...datasets.predicted import PREDICTED
from ...errors import ConfigError, DataError
from ...ops.boxes import limit_period
from ...types import BatchDict
from ..distill_head import DistillHead
from ..prediction_input import PredictionInput, without_logits
from ..predictions import ABSENT_LOGIT, Predictions
from ..tap_source import Features
from .files import TeacherCache, background_logits
from .paint import MovedRows, PaintedRows, Painter

HEADING = 6


class StudentBesideCache(PredictionInput):
    """A student's predictions, matched with those of a cached teacher at the same positions."""

    @classmethod
    def like(cls, other: PredictionInput) -> StudentBesideCache:
        """The same input."""
        return cls(other.reader, other.rows, other.columns, other.unshared)

    def match(self, student: Predictions, teacher: Predictions) -> tuple[Predictions, Predictions]:
        """As with a teacher that runs; a class that the teacher has not seen is absent on both."""
        student, teacher = super().match(student, teacher)
        return without_logits(student, teacher.logits == ABSENT_LOGIT), teacher


class StoredPredictionInput(PredictionInput):
    """The stored predictions of a teacher, painted on the positions of the student.

    Args:
        teacher: the input that would read the teacher if it ran.
        student: the student's input.
        cache: has the logits where nothing is stored, as soon as it has been prepared.
        where: key path of the term, for errors.
    """

    def __init__(
        self, teacher: PredictionInput, student: PredictionInput, cache: TeacherCache, where: str
    ) -> None:
        super().__init__(teacher.reader, None, teacher.columns)
        self.paths = ()
        self.student_reader = student.reader
        self.student_rows = student.rows
        student_grid = student.reader.grid()
        teacher_grid = teacher.reader.grid()
        if student_grid is None or teacher_grid is None:
            raise ConfigError(
                f"{where}: DISTILL.TEACHER.CACHE stores predictions of a grid of anchors or cells, "
                f"and {teacher.reader.path} predicts for points, which differ from frame to frame; "
                "leave CACHE out"
            )
        self.cache = cache
        self._places: Predictions | None = None
        self.painter = Painter(student_grid, student.rows, teacher_grid, where)

    @property
    def needs_batch(self) -> bool:
        """The rows are in the batch, not in features."""
        return False

    @torch.no_grad()
    def read(self, features: Features, batch_dict: BatchDict, *, detached: bool) -> Predictions:
        """Rows at all positions of the student, by frame."""
        if PREDICTED not in batch_dict:
            raise DataError(
                f"the batch has no '{PREDICTED}' entry, but DISTILL.TEACHER.CACHE is set; call "
                "distiller.prepare_data() before the first batch is loaded"
            )
        stored = batch_dict[PREDICTED]
        matrices = stored["matrix"]
        if len(self.painter.background) == 0:
            background = background_logits(self.cache.store)
            self.painter.set_background(self.in_students_classes(background))
        self.painter.to(matrices.device)
        with torch.autocast(matrices.device.type, enabled=False):
            painted = self.painter.paint(self._moved_rows(stored), len(matrices))
            return self._at_all_positions(painted, matrices)

    def _moved_rows(self, stored: BatchDict) -> MovedRows:
        """The rows of a batch. Loading has made all numbers float32."""
        return MovedRows(
            frame_index=stored["frame_index"].long(),
            places=stored["places"],
            axes=stored["axes"],
            kinds=stored["kinds"].long(),
            turns=stored["turns"],
            logits=self.in_students_classes(stored["logits"]),
            boxes=stored["boxes"],
            is_pasted=stored["is_pasted"] > 0,
        )

    def _at_all_positions(self, painted: PaintedRows, matrices: Tensor) -> Predictions:
        """Background everywhere, and what is painted on it."""
        frames = len(matrices)
        places = self._places_of(frames, matrices.device)
        is_unseen = ~self.painter.seen(matrices)
        logits = self.painter.background_of_all.repeat(frames, 1)
        logits.masked_fill_(is_unseen.reshape(-1, 1), ABSENT_LOGIT)
        logits[painted.slots] = painted.logits
        references = places.references[painted.slots]
        boxes = painted.boxes
        if places.form.opposite_headings_are_equal:
            boxes = _nearest_heading(boxes, references)
        painted_codes = places.form.encode(boxes, references, painted.logits)
        codes = logits.new_zeros(len(logits), painted_codes.shape[1])
        codes[painted.slots] = painted_codes
        return dataclasses.replace(places, logits=logits, codes=codes)

    def _places_of(self, frames: int, device: torch.device) -> Predictions:
        """The places of all positions of ``frames`` frames, made once; logits and codes follow."""
        places = self._places
        if places is None or len(places) != frames * self.painter.lattice.positions:
            positions = self.student_reader.positions(self.student_rows, device)
            numbers = torch.arange(frames, device=device)
            nothing = torch.zeros(frames * self.painter.lattice.positions, 0, device=device)
            places = Predictions(
                logits=nothing,
                codes=nothing,
                batch_index=numbers.repeat_interleave(self.painter.lattice.positions),
                coords=positions.coords.repeat(frames, 1),
                references=positions.references.repeat(frames, 1),
                form=positions.form,
            )
            self._places = places
        return places


def _nearest_heading(boxes: Tensor, references: Tensor) -> Tensor:
    """Boxes with the one of two opposite headings that is nearer to their anchor's.

    A head with a direction classifier regresses the heading modulo half a circle, and learns the
    one near its anchor. The direction is another output, which is not distilled.
    """
    anchor_heading = references[:, HEADING]
    turn = limit_period(boxes[:, HEADING] - anchor_heading, 0.5, pi)
    heading = (anchor_heading + turn)[:, None]
    return torch.cat([boxes[:, :HEADING], heading, boxes[:, HEADING + 1 :]], dim=1)


def use_stored_predictions(head: DistillHead, cache: TeacherCache) -> None:
    """Let every term that compares predictions read the stored ones; others stay as they are."""
    for name, term in head.named_terms():
        if isinstance(term.teacher, PredictionInput) and isinstance(term.student, PredictionInput):
            where = f"DISTILL.TERMS.{name}"
            stored = StoredPredictionInput(term.teacher, term.student, cache, where)
            term.student = StudentBesideCache.like(term.student)
            term.teacher = stored
