"""Painting: a teacher's stored predictions, moved with the scene, on the student's own positions.

The teacher's scores are samples of a map, on the grid of its anchors or cells. The augmentation has
turned and scaled that grid. So the score at a position of the student is interpolated: with w_i the
bilinear weight of row i on the moved grid, v_i the share of the row that belongs to the kind of the
position, s_i its scores and b those of the background,

    s = (sum_i w_i v_i s_i + (1 - sum_i w_i v_i) b) / max(1, sum_i w_i v_i)

The four corners of a cell of the moved grid have weights that add up to 1. A corner that is not
stored counts as background.

An anchor answers to objects that lie along it. When the scene turns by 40 degrees, an object turns
away from the anchor that found it and towards the other one. So the shares v of the kinds follow
the angle between box and anchor, before and after the motion.

The box of a position is that of the row with the largest product of weight and score. It is encoded
relative to the position: decoded boxes move exactly.

``benchmarks/cached_targets.py`` compares this rule with a teacher that runs on the augmented frame.
Interpolated logits, in place of scores, lower the peaks: more of the objects that the teacher finds
are missed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from math import pi

import torch
from torch import Tensor

from ...errors import ConfigError
from ...ops.accelerated import paint_kernels
from ...ops.constants import constant_like
from ..prediction_matching import classes_of, restrict_kind
from ..predictions import ABSENT_LOGIT, PositionKind, PredictionGrid
from .build import headings_of_kinds, turn_from_anchor

PLACE_MARGIN_M = 1e-3
MOST_ABSENT_SCORE = 1e-9  # of ABSENT_LOGIT, with some room for rounding
SCORE_MARGIN = 1e-6  # so that logits stay finite
WHOLE_SHARE_RAD = 0.2 * pi  # up to this change of its angle to the box, an anchor keeps its row
NO_SHARE_RAD = 0.3 * pi  # and from this one on it has nothing of it
LEAST_WEIGHT = 1e-3  # smaller weights change no score that can be seen


@dataclasses.dataclass(frozen=True)
class MovedRows:
    """R rows of a batch.

    Attributes:
        frame_index: (R,) int64.
        places: (R, 2) metres.
        axes: (R, 2) the x axis of the row's own grid, with the length of its scaling.
        kinds: (R,) int64, the teacher's kind.
        turns: (R,) radians between box and anchor, before the motion.
        logits: (R, classes) in the student's classes.
        boxes: (R, 7 + C).
        is_pasted: (R,) bool, of objects that gt_sampling has pasted.
    """

    frame_index: Tensor
    places: Tensor
    axes: Tensor
    kinds: Tensor
    turns: Tensor
    logits: Tensor
    boxes: Tensor
    is_pasted: Tensor


@dataclasses.dataclass(frozen=True)
class PaintedRows:
    """What lies at P positions of a batch.

    Attributes:
        slots: (P,) int64, frame * positions + position; each once.
        logits: (P, classes).
        boxes: (P, 7 + C).
    """

    slots: Tensor
    logits: Tensor
    boxes: Tensor


class Lattice:
    """Positions of a head as lines along x and y, for each kind.

    Args:
        grid: the positions.
        rows: (M,) those that count; None for all.
    """

    def __init__(self, grid: PredictionGrid, rows: Tensor | None = None) -> None:
        places = grid.places_m.double()
        kinds = grid.kind_index
        if rows is not None:
            places = places[rows]
            kinds = kinds[rows]
        self.positions = len(places)
        self.kinds = kinds
        self.origin, self.pitch, index, self.size = _lines(places)
        self.cell_of = index[:, 1] * self.size[0] + index[:, 0]
        # Which position stands at (kind, y, x); -1 for none.
        self.table = torch.full((len(grid.kinds), self.size[1], self.size[0]), -1)
        self.table[kinds, index[:, 1], index[:, 0]] = torch.arange(self.positions)

    def cell_places(self) -> Tensor:
        """(columns * lines, 2) x, y of every crossing of lines, by line, then by column."""
        columns = torch.arange(self.size[0], device=self.origin.device)
        lines = torch.arange(self.size[1], device=self.origin.device)
        y, x = torch.meshgrid(lines, columns, indexing="ij")
        return self.origin + torch.stack([x, y], dim=-1).flatten(0, 1) * self.pitch

    def to(self, device: torch.device) -> None:
        """Move the tables, once."""
        if self.table.device != device:
            for name in ("kinds", "cell_of", "origin", "pitch", "table"):
                setattr(self, name, getattr(self, name).to(device))


def _lines(places: Tensor) -> tuple[Tensor, Tensor, Tensor, tuple[int, int]]:
    """Origin (2,), pitch (2,), index (M, 2) of every place, and number of lines along x and y."""
    origin = places.amin(dim=0)
    steps = []
    for axis in (0, 1):
        coordinates = torch.unique((places[:, axis] / PLACE_MARGIN_M).round()) * PLACE_MARGIN_M
        # Places of float32 differ in their last digits: the mean distance of the lines is exact.
        span = coordinates[-1] - coordinates[0]
        steps.append(span / (len(coordinates) - 1) if len(coordinates) > 1 else span + 1)
    pitch = torch.stack(steps)
    index = ((places - origin) / pitch).round().long()
    sizes = index.amax(dim=0) + 1
    return origin.float(), pitch.float(), index, (int(sizes[0]), int(sizes[1]))


class Painter:
    """Puts moved rows of a teacher's grid onto the positions of a student's.

    Args:
        student: the student's grid.
        rows: (M,) its positions that count; None for all.
        teacher: the teacher's grid.
        where: key path of the term, for errors.

    Attributes:
        background: (student's kinds, classes) logits where nothing is stored; see
            ``set_background``.
        background_of_all: (positions, classes) the same at every position.
    """

    def __init__(
        self,
        student: PredictionGrid,
        rows: Tensor | None,
        teacher: PredictionGrid,
        where: str,
    ) -> None:
        self.lattice = Lattice(student, rows)
        self.teacher_lattice = Lattice(teacher)
        shared = classes_of(student) & classes_of(teacher)
        student_kinds = [restrict_kind(kind, shared) for kind in student.kinds]
        teacher_kinds = [restrict_kind(kind, shared) for kind in teacher.kinds]
        # For each kind of the teacher the numbers of the student's kinds that it is painted on.
        counterparts = [_kinds_like(kind, student_kinds) for kind in teacher_kinds]
        if not any(counterparts):
            raise ConfigError(
                f"{where}: no prediction of the student has a counterpart among the teacher's: "
                f"{student.kinds[0]} against {teacher.kinds[0]}"
            )
        most = max(len(numbers) for numbers in counterparts)
        padded = [numbers + [-1] * (most - len(numbers)) for numbers in counterparts]
        self.targets = torch.tensor(padded)  # (teacher's kinds, most)
        self.headings = headings_of_kinds(student)
        self.background = torch.zeros(0, 0)
        self.background_of_all = torch.zeros(0, 0)
        self._compiled: paint_kernels.PaintGrids | None = None
        self._counterparts = counterparts
        self._num_student_kinds = len(student.kinds)

    def set_background(self, background: Tensor) -> None:
        """Set the logits (teacher's kinds, student's classes) of what is not stored."""
        self.background = _background_by_kind(
            self._counterparts, background, self._num_student_kinds
        )
        self.background_of_all = self.background[self.lattice.kinds]
        self._compiled = None

    def to(self, device: torch.device) -> None:
        """Move the tables, once."""
        self.lattice.to(device)
        self.teacher_lattice.to(device)
        for name in ("targets", "headings", "background", "background_of_all"):
            setattr(self, name, getattr(self, name).to(device))

    def paint(self, rows: MovedRows, frames: int) -> PaintedRows:
        """What the rows of a batch of ``frames`` frames say about the positions they reach."""
        if len(rows.places) and rows.places.device.type == "cpu":
            return self._paint_compiled(rows, frames)
        return self.paint_plain(rows)

    def _paint_compiled(self, rows: MovedRows, frames: int) -> PaintedRows:
        """``paint_plain`` by a compiled loop."""
        arrays = paint_kernels.PaintRows(
            frame_index=rows.frame_index.numpy(),
            places=rows.places.numpy(),
            axes=rows.axes.numpy(),
            kinds=rows.kinds.numpy(),
            turns=rows.turns.numpy(),
            headings=rows.boxes[:, 6].contiguous().numpy(),
            scores=rows.logits.sigmoid().numpy(),
            is_pasted=rows.is_pasted.numpy(),
        )
        limits = paint_kernels.PaintLimits(LEAST_WEIGHT, WHOLE_SHARE_RAD, NO_SHARE_RAD)
        slots, scores, best = paint_kernels.paint(arrays, self._kernel_grids(), limits, frames)
        boxes = rows.boxes[torch.from_numpy(best)]
        return PaintedRows(torch.from_numpy(slots), logits_of(torch.from_numpy(scores)), boxes)

    def _kernel_grids(self) -> paint_kernels.PaintGrids:
        if self._compiled is None:
            lattice = self.lattice
            self._compiled = paint_kernels.PaintGrids(
                origin=lattice.origin.double().numpy(),
                pitch=lattice.pitch.double().numpy(),
                table=lattice.table.numpy(),
                headings=self.headings.numpy(),
                background=self.background.sigmoid().numpy(),
                kind_of=lattice.kinds.numpy(),
                targets=self.targets.numpy(),
                row_pitch=self.teacher_lattice.pitch.double().numpy(),
            )
        return self._compiled

    def paint_plain(self, rows: MovedRows) -> PaintedRows:
        """``paint`` in plain torch."""
        slots, sources, weights = self._contributions(rows)
        # Rows of the scene and of a pasted object are samples of two different maps.
        is_pasted = rows.is_pasted[sources].long()
        keys, group = torch.unique(slots * 2 + is_pasted, return_inverse=True)
        row_scores = rows.logits.sigmoid()
        scores = self._interpolate(row_scores[sources], weights, group, keys // 2)
        strength = weights * row_scores[sources].amax(dim=1)
        best = strongest(strength, group, len(keys))
        # Where both reach, the larger score of each class counts, and the box of the surer one.
        all_slots, slot_group = torch.unique(keys // 2, return_inverse=True)
        merged = scores.new_zeros(len(all_slots), scores.shape[1])
        merged.scatter_reduce_(0, slot_group[:, None].expand_as(scores), scores, "amax")
        surer = strongest(scores.amax(dim=1), slot_group, len(all_slots))
        return PaintedRows(all_slots, logits_of(merged), rows.boxes[sources[best[surer]]])

    def _contributions(self, rows: MovedRows) -> tuple[Tensor, Tensor, Tensor]:
        """Slots (E,), rows (E,) and weights (E,) of everything that a row reaches."""
        lattice = self.lattice
        scale = rows.axes.norm(dim=1).amax() if len(rows.axes) else 1.0
        reach_m = float(self.teacher_lattice.pitch.amax() * scale) * 2**0.5
        cells = self._cells_around(rows.places, reach_m)  # (R, S, 2)
        offset = lattice.origin + cells * lattice.pitch - rows.places[:, None]
        weight = self._bilinear(offset, rows.axes)
        inside = (cells >= 0).all(dim=2)
        inside &= (cells < constant_like(lattice.size, cells)).all(dim=2)
        row, cell = torch.nonzero(inside & (weight > LEAST_WEIGHT), as_tuple=True)
        slots = []
        sources = []
        weights = []
        for column in range(self.targets.shape[1]):
            kind = self.targets[rows.kinds[row], column]
            share = self._share(rows, row, kind)
            x, y = cells[row, cell].unbind(dim=1)
            position = lattice.table[kind.clamp_min(0), y, x]
            whole = weight[row, cell] * share
            kept = (kind >= 0) & (position >= 0) & (whole > LEAST_WEIGHT)
            slots.append((rows.frame_index[row] * lattice.positions + position)[kept])
            sources.append(row[kept])
            weights.append(whole[kept])
        return torch.cat(slots), torch.cat(sources), torch.cat(weights)

    def _cells_around(self, places: Tensor, reach_m: float) -> Tensor:
        """(R, S, 2) int64 columns and lines of the student's grid within reach of each place."""
        lattice = self.lattice
        steps = (reach_m / lattice.pitch + 0.5).floor().long().tolist()
        x = torch.arange(-steps[0], steps[0] + 1, device=places.device)
        y = torch.arange(-steps[1], steps[1] + 1, device=places.device)
        around = torch.cartesian_prod(x, y)
        nearest = ((places - lattice.origin) / lattice.pitch).round().long()
        return nearest[:, None] + around

    def _bilinear(self, offset: Tensor, axes: Tensor) -> Tensor:
        """(R, S) weights of offsets (R, S, 2) in metres on the moved grid with ``axes`` (R, 2)."""
        pitch = self.teacher_lattice.pitch
        squared = axes.square().sum(dim=1, keepdim=True)
        along = (offset * axes[:, None]).sum(dim=2) / squared
        across = (offset[..., 1] * axes[:, :1] - offset[..., 0] * axes[:, 1:]) / squared
        weight_x = (1 - along.abs() / pitch[0]).clamp_min(0)
        weight_y = (1 - across.abs() / pitch[1]).clamp_min(0)
        return weight_x * weight_y

    def _share(self, rows: MovedRows, row: Tensor, kind: Tensor) -> Tensor:
        """(E,) how much of each row belongs to anchors of ``kind`` (E,)."""
        headings = self.headings[kind.clamp_min(0)]
        turn = turn_from_anchor(rows.boxes[row, 6], headings)
        return share_of_change((turn - rows.turns[row]).abs())

    def _interpolate(self, scores: Tensor, weights: Tensor, group: Tensor, slots: Tensor) -> Tensor:
        """(G, classes) scores of each group of contributions."""
        total = weights.new_zeros(len(slots)).index_add_(0, group, weights)
        weighted = scores.new_zeros(len(slots), scores.shape[1])
        weighted.index_add_(0, group, scores * weights[:, None])
        kinds = self.lattice.kinds[slots % self.lattice.positions]
        background = self.background[kinds].sigmoid()
        missing = (1 - total).clamp_min(0)[:, None]
        return (weighted + missing * background) / total.clamp_min(1)[:, None]

    def seen(self, matrices: Tensor) -> Tensor:
        """(B, positions) bool: which positions lie in the part of the scene the teacher has seen.

        A rotation brings places into the range that were outside of it, where the teacher says
        nothing.

        Args:
            matrices: (B, 4, 4) from the recorded to the augmented scene.
        """
        lattice = self.teacher_lattice
        inverse = torch.linalg.inv(matrices.double()).float()
        places = self.lattice.cell_places() @ inverse[:, :2, :2].transpose(1, 2)
        places = places + inverse[:, None, :2, 3]
        cells = (places - lattice.origin) / lattice.pitch
        last = constant_like(lattice.size, cells) - 0.5
        is_seen = ((cells >= -0.5) & (cells <= last)).all(dim=2)
        return is_seen[:, self.lattice.cell_of]


def logits_of(scores: Tensor) -> Tensor:
    """Logits of interpolated scores; ABSENT_LOGIT for a class that the teacher never predicts."""
    logits = torch.logit(scores.clamp(MOST_ABSENT_SCORE, 1 - SCORE_MARGIN))
    return logits.masked_fill(scores <= MOST_ABSENT_SCORE, ABSENT_LOGIT)


def share_of_change(change_rad: Tensor) -> Tensor:
    """(E,) the share of a row for anchors whose angle to the box has changed by ``change_rad``.

    Without a change the anchor is to the box what the row's own anchor was, and all of the row
    counts. After a quarter turn it is the other one of two crossed anchors. In between the share
    falls quickly around 45 degrees, as anchors are assigned to the objects that lie along them.
    """
    return ((NO_SHARE_RAD - change_rad) / (NO_SHARE_RAD - WHOLE_SHARE_RAD)).clamp(0, 1)


def _kinds_like(kind: PositionKind | None, kinds: Sequence[PositionKind | None]) -> list[int]:
    """Numbers of the kinds for the same classes and of the same size, whatever their heading."""
    found = []
    for number, other in enumerate(kinds):
        if kind is None or other is None:
            continue
        if other.classes == kind.classes and other.shape[:-1] == kind.shape[:-1]:
            found.append(number)
    return found


def _background_by_kind(
    counterparts: Sequence[Sequence[int]], background: Tensor, kinds: int
) -> Tensor:
    """(student's kinds, classes): the mean of the teacher's kinds that each corresponds to."""
    sums = background.new_zeros(kinds, background.shape[1])
    counts = background.new_zeros(kinds)
    for number, student_kinds in enumerate(counterparts):
        for kind in student_kinds:
            sums[kind] += background[number]
            counts[kind] += 1
    mean = sums / counts.clamp_min(1)[:, None]
    mean[counts == 0] = ABSENT_LOGIT
    return mean


def strongest(strength: Tensor, group: Tensor, groups: int) -> Tensor:
    """(groups,) number of the entry with the largest strength of each group; each has one."""
    order = strength.argsort(stable=True)
    by_group = order[group[order].argsort(stable=True)]
    counts = torch.bincount(group, minlength=groups)
    return by_group[counts.cumsum(0) - 1]
