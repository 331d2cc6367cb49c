"""PredictionInput: the predictions of student and teacher, brought together.

Rows meet by frame, place and kind: anchors of the same class, size and heading, cells of the same classes, points. On
grids of different cells a student's site takes the nearest of the teacher's within half of the larger cell. Columns
meet by the names of their classes, in the student's order; what only one side predicts is left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError
from .nodes import NodeFeatures, match_nodes
from .prediction_readers import prediction_reader
from .predictions import ABSENT_LOGIT, PredictionGrid, PredictionReader, Predictions
from .tap_source import TapSource
from .term_inputs import TermInput

PLACE_MARGIN_M = 1e-3


class PredictionInput(TermInput):
    """A head's predictions, in the rows and columns that it shares with the other side.

    Args:
        reader: of the head.
        rows: (M,) the sites that the other side has too; None for all of them.
        columns: of the student's classes, in its order, -1 for those that this side does not predict; None for all
            of them as they are.
        silent: columns of classes that the other side does not predict.
    """

    def __init__(
        self,
        reader: PredictionReader,
        rows: Tensor | None = None,
        columns: list[int] | None = None,
        silent: list[int] | None = None,
    ) -> None:
        self.info = self.reader = reader
        self.paths = reader.paths
        self.rows, self.columns, self.silent = rows, columns, silent or []

    @property
    def needs_batch(self) -> bool:
        """Where the sites are not those of every frame."""
        return self.reader.grid() is None

    @classmethod
    def pair(
        cls, cfg: Mapping[str, Any], student: TapSource, teacher: TapSource, where: str
    ) -> tuple[PredictionInput, PredictionInput]:
        """STUDENT and TEACHER name the slots of their heads."""
        if cfg.get("NODES") is not None:
            raise ConfigError(
                f"{where}.NODES: {cfg['NAME']} compares predictions, not nodes; leave it out"
            )
        own = prediction_reader(student, cfg["STUDENT"], f"{where}.STUDENT")
        theirs = prediction_reader(teacher, cfg["TEACHER"], f"{where}.TEACHER")
        columns = _columns_of(own.class_names, theirs.class_names, where)
        own_rows, their_rows = _match_grids(own, theirs, where)
        silent = [number for number, column in enumerate(columns or []) if column < 0]
        return cls(own, own_rows, silent=silent), cls(theirs, their_rows, columns)

    def read(
        self, features: Mapping[str, Any], batch_dict: Mapping[str, Any], *, detached: bool
    ) -> Predictions:
        """The predictions of a batch."""
        if detached:
            features = {path: _detached(features[path]) for path in self.paths}
        if self.rows is not None:
            self.rows = self.rows.to(_device_of(features[self.paths[0]]))
        found = self.reader.read(features, batch_dict, self.rows)
        if self.columns is None:
            return found
        with_absent = torch.nn.functional.pad(found.logits, (0, 1), value=ABSENT_LOGIT)  # column -1
        return dataclasses.replace(found, logits=with_absent[:, self.columns])

    def match(self, student: Predictions, teacher: Predictions) -> tuple[Predictions, Predictions]:
        """Row i of both is the same place of the same frame; classes that one side does not predict stay silent."""
        if self.reader.grid() is None:
            student, teacher = _match_points(student, teacher)
        if self.silent:
            absent = torch.zeros_like(student.logits, dtype=torch.bool)
            absent[:, self.silent] = True
            student = dataclasses.replace(
                student, logits=student.logits.masked_fill(absent, ABSENT_LOGIT)
            )
        silent = student.logits.detach() == ABSENT_LOGIT
        return student, dataclasses.replace(
            teacher, logits=teacher.logits.masked_fill(silent, ABSENT_LOGIT)
        )

    def __str__(self) -> str:
        return f"{self.reader.path} ({', '.join(self.reader.class_names)})"


def _detached(feature: Any) -> Any:
    """A captured tensor, or a dict of them, without its history."""
    if isinstance(feature, Mapping):
        return {key: value.detach() for key, value in feature.items()}
    return feature.detach()


def _device_of(feature: Any) -> torch.device:
    return next(iter(feature.values())).device if isinstance(feature, Mapping) else feature.device


def _columns_of(student: list[str], teacher: list[str], where: str) -> list[int] | None:
    """For each class of the student the teacher's column, -1 where it has none; None when they are the same."""
    if student == teacher:
        return None
    if not set(student) & set(teacher):
        raise ConfigError(
            f"{where}: the student predicts {', '.join(student)}, the teacher {', '.join(teacher)}: "
            "no class in common"
        )
    return [teacher.index(name) if name in teacher else -1 for name in student]


def _names(sites: PredictionGrid) -> set[str]:
    """Classes of the sites; those of a class agnostic head's anchors too."""
    return {part for key in sites.kind_keys for part in key if isinstance(part, str)}


def _shared_kinds(sites: PredictionGrid, shared: set[str]) -> list[tuple]:
    """``kind_keys`` without the classes that only one side predicts; an empty one for a kind of such classes alone."""
    keys = []
    for key in sites.kind_keys:
        kept = tuple(part for part in key if not isinstance(part, str) or part in shared)
        keys.append(kept if any(isinstance(part, str) for part in kept) else ())
    return keys


def _match_grids(
    student: PredictionReader, teacher: PredictionReader, where: str
) -> tuple[Tensor | None, Tensor | None]:
    """The sites (M,) of both that stand at one place and are of one kind; None, None when all do, in one order."""
    own, theirs = student.grid(), teacher.grid()
    if (own is None) != (theirs is None):
        raise ConfigError(
            f"{where}: {student.path} of the student predicts {_what(own)}, {teacher.path} of the "
            f"teacher {_what(theirs)}; their predictions cannot be compared"
        )
    if own is None or theirs is None:
        return None, None
    shared = _names(own) & _names(theirs)
    own_keys, their_keys = _shared_kinds(own, shared), _shared_kinds(theirs, shared)
    if (
        own_keys == their_keys
        and all(own_keys)
        and torch.equal(own.kinds, theirs.kinds)
        and own.places_m.shape == theirs.places_m.shape
        and torch.allclose(own.places_m, theirs.places_m, rtol=0, atol=PLACE_MARGIN_M)
    ):
        return None, None
    pairs = []
    for number, key in enumerate(own_keys):
        if key and key in their_keys:
            own_rows = torch.nonzero(own.kinds == number).flatten()
            their_rows = torch.nonzero(theirs.kinds == their_keys.index(key)).flatten()
            first, second = _nearest_on_grid(own.places_m[own_rows], theirs.places_m[their_rows])
            pairs.append(torch.stack([own_rows[first], their_rows[second]]))
    matched = torch.cat(pairs, dim=1) if pairs else torch.empty(2, 0, dtype=torch.long)
    if matched.shape[1] == 0:
        raise ConfigError(
            f"{where}: no prediction of {student.path} has its like in the teacher's {teacher.path}: "
            f"{own.kind_keys[0]} against {theirs.kind_keys[0]}"
        )
    order = matched[0].argsort()
    return matched[0][order], matched[1][order]


def _what(sites: PredictionGrid | None) -> str:
    return "for points" if sites is None else "on a grid"


def _nearest_on_grid(own: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of places (M, 2) and of the nearest of (N, 2), which fill a grid, within half a cell of the coarser grid."""
    within = torch.ones(len(own), dtype=torch.bool)
    places = []
    for axis in (0, 1):
        lines, index = torch.unique(_rounded(theirs[:, axis]), return_inverse=True)
        wanted = _rounded(own[:, axis])
        reach = max(_spacing(lines), _spacing(torch.unique(wanted))) / 2 + PLACE_MARGIN_M
        after = torch.searchsorted(lines, wanted).clamp(max=len(lines) - 1)
        before = (after - 1).clamp_min(0)
        chosen = torch.where(
            (lines[after] - wanted).abs() < (wanted - lines[before]).abs(), after, before
        )
        within &= (lines[chosen] - wanted).abs() <= reach
        places.append((chosen, index, len(lines)))
    (x, their_x, width), (y, their_y, height) = places
    table = torch.full((width * height,), -1, dtype=torch.long)
    table[their_y * width + their_x] = torch.arange(len(theirs))
    found = table[y * width + x]
    rows = torch.nonzero(within & (found >= 0)).flatten()
    return rows, found[rows]


def _rounded(metres: Tensor) -> Tensor:
    """Float64 without the noise of float32."""
    return (metres.double() / PLACE_MARGIN_M).round() * PLACE_MARGIN_M


def _spacing(lines: Tensor) -> float:
    return float(lines.diff().amax()) if len(lines) > 1 else 0.0


def _match_points(student: Predictions, teacher: Predictions) -> tuple[Predictions, Predictions]:
    """Predictions for points of one cloud, brought together by place."""
    own, theirs = (
        NodeFeatures(
            torch.arange(len(side), device=side.coords.device)[:, None],
            side.batch_index,
            side.coords,
            side.coords.new_zeros(len(side)),
        )
        for side in (student, teacher)
    )
    if torch.equal(own.batch_index, theirs.batch_index) and torch.equal(own.coords, theirs.coords):
        return student, teacher
    own, theirs = match_nodes(own, theirs)
    return student.select(own.features[:, 0]), teacher.select(theirs.features[:, 0])
