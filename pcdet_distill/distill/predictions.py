"""Predictions: what a dense head says in training, in one form for anchor heads, centre heads and point heads.

A head predicts at sites: anchors, cells of a heatmap, points. A row is one site of one frame: class logits, the codes
of a box, and all that turns the codes into the box. ``prediction_readers.py`` knows the heads and makes the rows,
``prediction_input.py`` brings the rows of a student and its teacher together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

ABSENT_LOGIT = (
    -30.0
)  # of a class that a head does not predict at a site: a score of zero, and finite in every formula


class BoxForm(Protocol):
    """How codes become boxes, and back.

    Attributes:
        name: heads whose forms have one name write comparable codes where their references are equal.
    """

    name: str

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
        coords: (N, 3) x, y, z in metres of the site; z is 0 for cells.
        references: (N, R) what codes are relative to: anchors (N, 7 + C), corners of cells (N, 2), points (N, 3).
        form: turns codes into boxes.
        directions: (N, bins) logits, where the head classifies directions.
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
        directions = None if self.directions is None else self.directions[rows]
        return Predictions(
            self.logits[rows],
            self.codes[rows],
            self.batch_index[rows],
            self.coords[rows],
            self.references[rows],
            self.form,
            directions,
        )

    def boxes(self) -> Tensor:
        """(N, 7 + C) decoded. Costs memory and time for every row: ``select`` first."""
        return self.form.decode(self.codes, self.references, self.logits, self.directions)

    def scores(self) -> Tensor:
        """(N,) probability of the best class."""
        return self.logits.amax(dim=1).sigmoid() if len(self) else self.logits.new_zeros(0)

    def codes_like(self, other: Predictions) -> Tensor:
        """Codes (N, code_size) of these boxes as ``other`` would have written them, row by row."""
        if self.form.name == other.form.name and torch.equal(self.references, other.references):
            return self.codes
        boxes = self.form.decode(self.codes, self.references, self.logits, None)
        return other.form.encode(boxes, other.references, self.logits)


@dataclasses.dataclass(frozen=True)
class PredictionGrid:
    """The sites of a head that are the same in every frame.

    Attributes:
        places_m: (A, 2) x, y.
        kinds: (A,) int64, index into ``kind_keys``.
        kind_keys: what must be equal for two sites to be the same: class, size, heading of anchors; classes of cells.
    """

    places_m: Tensor
    kinds: Tensor
    kind_keys: list[tuple]


class PredictionReader(Protocol):
    """One side: which taps hold a head's predictions, and how they are read.

    Attributes:
        path: the slot of the head.
        paths: the taps that ``read`` wants.
        class_names: of the columns of the logits, in their order; one name when the head is class agnostic.
    """

    path: str
    paths: tuple[str, ...]
    class_names: list[str]

    @property
    def channels(self) -> int:
        """Class columns."""

    def grid(self) -> PredictionGrid | None:
        """The sites of every frame; None when they differ from frame to frame (points)."""

    def read(
        self, features: Mapping[str, Any], batch_dict: Mapping[str, Any], rows: Tensor | None = None
    ) -> Predictions:
        """All predictions of a batch, or those of the sites ``rows`` (M,) of every frame."""
