"""PredictionInput: predictions in the rows and classes that student and teacher share."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import ConfigError
from ..types import BatchDict, ConfigDict
from .prediction_matching import match_classes, match_grids, match_points
from .prediction_readers import prediction_reader
from .predictions import ABSENT_LOGIT, PredictionReader, Predictions
from .tap_source import Features, TapSource
from .term_inputs import TermInput
from .unsure import UNSURE_ZONE


class PredictionInput(TermInput[Predictions]):
    """A head's predictions, in the rows and columns that it shares with the other side.

    Args:
        reader: of the head.
        rows: (M,) the positions that the other side has too; None for all of them.
        columns: for each class of the student the column of its logits on this side, -1 for a class
            that this side does not predict; None if both sides have the same columns.
        unshared: columns of classes that the other side does not predict.
    """

    info: PredictionReader

    def __init__(
        self,
        reader: PredictionReader,
        rows: Tensor | None = None,
        columns: list[int] | None = None,
        unshared: list[int] | None = None,
    ) -> None:
        self.info = reader
        self.reader = reader
        self.paths = reader.paths
        self.rows = rows
        self.columns = columns
        self.unshared = unshared or []

    @property
    def needs_batch(self) -> bool:
        """Points are at other positions in every frame, and these are in the batch."""
        return self.reader.grid() is None

    @classmethod
    def pair(
        cls, cfg: ConfigDict, student: TapSource, teacher: TapSource, where: str
    ) -> tuple[PredictionInput, PredictionInput]:
        """STUDENT and TEACHER name the slots of their heads."""
        if cfg.get("NODES") is not None:
            raise ConfigError(
                f"{where}.NODES: {cfg['NAME']} compares predictions, not nodes; leave it out"
            )
        student_reader = prediction_reader(student, cfg["STUDENT"], f"{where}.STUDENT")
        teacher_reader = prediction_reader(teacher, cfg["TEACHER"], f"{where}.TEACHER")
        columns = match_classes(student_reader.class_names, teacher_reader.class_names, where)
        student_rows, teacher_rows = match_grids(student_reader, teacher_reader, where)
        unshared = [number for number, column in enumerate(columns or []) if column < 0]
        return (
            cls(student_reader, student_rows, unshared=unshared),
            cls(teacher_reader, teacher_rows, columns),
        )

    def read(self, features: Features, batch_dict: BatchDict, *, detached: bool) -> Predictions:
        """The predictions of a batch, with the student's columns."""
        if detached:
            features = {path: _detach(features[path]) for path in self.paths}
        if self.rows is not None:
            self.rows = self.rows.to(_device_of(features[self.paths[0]]))
        predictions = self.reader.read(features, batch_dict, self.rows)
        logits = self.in_students_classes(predictions.logits)
        return dataclasses.replace(predictions, logits=logits)

    def in_students_classes(self, logits: Tensor) -> Tensor:
        """Logits (N, classes of this side) as (N, student's classes)."""
        if self.columns is None:
            return logits
        # Column -1 is the added one, for classes that this side does not predict.
        with_absent = functional.pad(logits, (0, 1), value=ABSENT_LOGIT)
        return with_absent[:, self.columns]

    def match(self, student: Predictions, teacher: Predictions) -> tuple[Predictions, Predictions]:
        """Row i of both is the same position of the same frame.

        A class that one side does not predict, anywhere or at a position, is absent on both sides:
        the student is not taught that such objects do not exist.
        """
        if self.reader.grid() is None:
            student, teacher = match_points(student, teacher)
        if self.unshared:
            is_unshared = torch.zeros_like(student.logits, dtype=torch.bool)
            is_unshared[:, self.unshared] = True
            student = without_logits(student, is_unshared)
        is_absent = student.logits.detach() == ABSENT_LOGIT
        return student, without_logits(teacher, is_absent)

    def leave_out_unsure(
        self, student: Predictions, teacher: Predictions, batch_dict: BatchDict
    ) -> tuple[Predictions, Predictions]:
        """Without the positions of unlabelled frames at which the teacher is unsure."""
        zone = batch_dict.get(UNSURE_ZONE)
        return (student, teacher) if zone is None else zone.leave_out(student, teacher)

    def __str__(self) -> str:
        return f"{self.reader.path} ({', '.join(self.reader.class_names)})"


def without_logits(predictions: Predictions, is_absent: Tensor) -> Predictions:
    """The predictions without the logits (N, classes) that ``is_absent`` marks."""
    logits = predictions.logits.masked_fill(is_absent, ABSENT_LOGIT)
    return dataclasses.replace(predictions, logits=logits)


def _detach(output: Tensor | dict[str, Tensor]) -> Tensor | dict[str, Tensor]:
    """A captured tensor, or a dict of them, without its history."""
    if isinstance(output, Tensor):
        return output.detach()
    return {key: value.detach() for key, value in output.items()}


def _device_of(output: Tensor | dict[str, Tensor]) -> torch.device:
    if isinstance(output, Tensor):
        return output.device
    return next(iter(output.values())).device
