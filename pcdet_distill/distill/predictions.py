"""Predictions: the raw outputs of anchor heads, centre heads and point heads in one form.

A head predicts at positions: anchors, cells of a heatmap, points. A row is one position of one
frame: class logits, the codes of a box, and what turns the codes into the box.
``prediction_readers.py`` makes the rows of one head. ``prediction_matching.py`` matches the rows
of a student with those of its teacher.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from ..moved import forward_names
from ..types import BatchDict
from .tap_source import Features

# Logit of a class that a head does not predict at a position: a score of zero, and finite in every
# formula.
ABSENT_LOGIT = -30.0


class BoxForm(Protocol):
    """How codes become boxes, and back.

    Attributes:
        name: codes of two forms with the same name are comparable where their references are equal.
        opposite_headings_are_equal: the codes hold the heading modulo half a circle.
    """

    name: str
    opposite_headings_are_equal: bool

    def decode(
        self, codes: Tensor, references: Tensor, logits: Tensor, directions: Tensor | None
    ) -> Tensor:
        """Boxes (N, 7 + C) of codes (N, code_size) at references (N, R)."""

    def encode(self, boxes: Tensor, references: Tensor, logits: Tensor) -> Tensor:
        """Codes (N, code_size) of boxes (N, 7 + C)."""


@dataclasses.dataclass(frozen=True)
class Predictions:
    """N predictions of a batch; at least float32.

    Attributes:
        logits: (N, classes).
        codes: (N, code_size), the box as the head encodes it.
        batch_index: (N,) int64, the frame of each row.
        coords: (N, 3) x, y, z in metres of the position; z is 0 for cells.
        references: (N, R) what codes are relative to: anchors (N, 7 + C), corners of cells (N, 2)
            or points (N, 3).
        form: turns codes into boxes.
        directions: (N, bins) logits, if the head classifies directions.
    """

    logits: Tensor
    codes: Tensor
    batch_index: Tensor
    coords: Tensor
    references: Tensor
    form: BoxForm
    directions: Tensor | None = None

    def __len__(self) -> int:
        return len(self.logits)

    def select(self, rows: Tensor) -> Predictions:
        """The rows (M,), in that order."""
        return dataclasses.replace(
            self,
            logits=self.logits[rows],
            codes=self.codes[rows],
            batch_index=self.batch_index[rows],
            coords=self.coords[rows],
            references=self.references[rows],
            directions=None if self.directions is None else self.directions[rows],
        )

    def boxes(self) -> Tensor:
        """(N, 7 + C) decoded. Costs memory and time for every row: ``select`` first."""
        return self.form.decode(self.codes, self.references, self.logits, self.directions)

    def scores(self) -> Tensor:
        """(N,) probability of the best class."""
        if len(self) == 0:
            return self.logits.new_zeros(0)
        return self.logits.amax(dim=1).sigmoid()

    def codes_like(self, other: Predictions) -> Tensor:
        """Codes (N, code_size) of these boxes relative to the references of ``other``, by row."""
        if self.form.name == other.form.name and torch.equal(self.references, other.references):
            return self.codes
        # Without directions: a code holds the heading as regressed, before it may be turned around.
        boxes = self.form.decode(self.codes, self.references, self.logits, None)
        return other.form.encode(boxes, other.references, self.logits)


@dataclasses.dataclass(frozen=True)
class PositionKind:
    """What must be equal for two positions at one place to be the same position.

    Attributes:
        classes: of an anchor its class, of a cell all classes that its head predicts.
        shape: of an anchor z, sizes and heading; empty for cells.
    """

    classes: tuple[str, ...]
    shape: tuple[float, ...] = ()

    def __str__(self) -> str:
        numbers = "".join(f", {number:g}" for number in self.shape)
        return f"{' and '.join(self.classes)}{numbers}"


@dataclasses.dataclass(frozen=True)
class PredictionGrid:
    """The positions of a head that are the same in every frame.

    Attributes:
        places_m: (A, 2) x, y.
        kind_index: (A,) int64, index into ``kinds``.
        kinds: the different kinds.
    """

    places_m: Tensor
    kind_index: Tensor
    kinds: Sequence[PositionKind]


@dataclasses.dataclass(frozen=True)
class Positions:
    """Where a head predicts, and how it encodes a box there.

    Attributes:
        coords: (A, 3) x, y, z in metres; z is 0 for cells.
        references: (A, R) what codes are relative to.
        form: turns codes into boxes.
    """

    coords: Tensor
    references: Tensor
    form: BoxForm


class PredictionReader(Protocol):
    """Makes rows of the raw predictions of one head.

    Attributes:
        path: slot of the head.
        paths: the taps that ``read`` needs.
        class_names: of the columns of the logits, in their order; one name for a class agnostic
            head.
    """

    path: str
    paths: tuple[str, ...]
    class_names: list[str]

    @property
    def channels(self) -> int:
        """Number of class columns."""

    def grid(self) -> PredictionGrid | None:
        """The positions of every frame; None if they differ from frame to frame (points)."""

    def positions(self, rows: Tensor | None, device: torch.device) -> Positions:
        """The positions of a grid, or the rows (M,) of them."""

    def read(
        self, features: Features, batch_dict: BatchDict, rows: Tensor | None = None
    ) -> Predictions:
        """All predictions of a batch, or those of the positions ``rows`` (M,) of every frame."""


# Old names, for one more version.
__getattr__ = forward_names(__name__, __name__, {"Sites": "PredictionGrid"})
