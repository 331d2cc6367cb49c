"""Which predictions of a teacher belong to which of its student.

Classes are matched by name. Positions of a grid are matched by place and kind: anchors of the same
class, size and heading, cells of the same classes. On grids of different cells a position of the
student takes the nearest of the teacher's within half of the larger cell. Points are matched by
place.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import ConfigError
from .node_matching import match_nodes
from .nodes import NodeFeatures
from .predictions import PositionKind, PredictionGrid, PredictionReader, Predictions

PLACE_MARGIN_M = 1e-3


def match_classes(student: list[str], teacher: list[str], where: str) -> list[int] | None:
    """For each class of the student the teacher's column, -1 if it has none.

    Returns:
        None if both have the same classes in the same order.
    """
    if student == teacher:
        return None
    if not set(student) & set(teacher):
        raise ConfigError(
            f"{where}: the student predicts {', '.join(student)}, the teacher "
            f"{', '.join(teacher)}: no class in common"
        )
    return [teacher.index(name) if name in teacher else -1 for name in student]


def match_grids(
    student: PredictionReader, teacher: PredictionReader, where: str
) -> tuple[Tensor | None, Tensor | None]:
    """Rows (M,) of the positions that both have, in the student's order.

    Returns:
        Rows of the student and of the teacher. None, None if both have the same positions in the
        same order, or predict for points.
    """
    student_grid = student.grid()
    teacher_grid = teacher.grid()
    if (student_grid is None) != (teacher_grid is None):
        raise ConfigError(
            f"{where}: {student.path} of the student predicts {_in_words(student_grid)}, "
            f"{teacher.path} of the teacher {_in_words(teacher_grid)}; their predictions cannot be "
            "compared"
        )
    if student_grid is None or teacher_grid is None:
        return None, None
    shared = classes_of(student_grid) & classes_of(teacher_grid)
    student_kinds = [restrict_kind(kind, shared) for kind in student_grid.kinds]
    teacher_kinds = [restrict_kind(kind, shared) for kind in teacher_grid.kinds]
    have_equal_kinds = student_kinds == teacher_kinds and None not in student_kinds
    if have_equal_kinds and _have_equal_positions(student_grid, teacher_grid):
        return None, None
    student_rows = []
    teacher_rows = []
    for number, kind in enumerate(student_kinds):
        if kind is not None and kind in teacher_kinds:
            own_rows = _rows_of_kind(student_grid, number)
            other_rows = _rows_of_kind(teacher_grid, teacher_kinds.index(kind))
            first, second = _match_nearest(
                student_grid.places_m[own_rows], teacher_grid.places_m[other_rows]
            )
            student_rows.append(own_rows[first])
            teacher_rows.append(other_rows[second])
    if not any(len(rows) for rows in student_rows):
        raise ConfigError(
            f"{where}: no prediction of {student.path} has a counterpart in the teacher's "
            f"{teacher.path}: {student_grid.kinds[0]} against {teacher_grid.kinds[0]}"
        )
    all_student_rows = torch.cat(student_rows)
    order = all_student_rows.argsort()
    return all_student_rows[order], torch.cat(teacher_rows)[order]


def match_points(student: Predictions, teacher: Predictions) -> tuple[Predictions, Predictions]:
    """Predictions for points of one cloud, matched by place."""
    student_nodes = _row_numbers_as_nodes(student)
    teacher_nodes = _row_numbers_as_nodes(teacher)
    same_frames = torch.equal(student_nodes.batch_index, teacher_nodes.batch_index)
    if same_frames and torch.equal(student_nodes.coords, teacher_nodes.coords):
        return student, teacher
    student_nodes, teacher_nodes = match_nodes(student_nodes, teacher_nodes)
    student_rows = student_nodes.features[:, 0]
    teacher_rows = teacher_nodes.features[:, 0]
    return student.select(student_rows), teacher.select(teacher_rows)


def _row_numbers_as_nodes(predictions: Predictions) -> NodeFeatures:
    """Nodes at the points, whose feature is their row number."""
    coords = predictions.coords
    return NodeFeatures(
        features=torch.arange(len(predictions), device=coords.device)[:, None],
        batch_index=predictions.batch_index,
        coords=coords,
        saliency=coords.new_zeros(len(predictions)),
    )


def _in_words(grid: PredictionGrid | None) -> str:
    return "for points" if grid is None else "on a grid"


def classes_of(grid: PredictionGrid) -> set[str]:
    """All classes of the positions. Anchors of a class agnostic head have classes too."""
    names: set[str] = set()
    for kind in grid.kinds:
        names.update(kind.classes)
    return names


def restrict_kind(kind: PositionKind, shared: set[str]) -> PositionKind | None:
    """The kind without classes that only one side predicts; None if none is left."""
    classes = tuple(name for name in kind.classes if name in shared)
    return PositionKind(classes, kind.shape) if classes else None


def _have_equal_positions(first: PredictionGrid, second: PredictionGrid) -> bool:
    """Whether two grids with the same kinds have the same positions in the same order."""
    if not torch.equal(first.kind_index, second.kind_index):
        return False
    if first.places_m.shape != second.places_m.shape:
        return False
    return torch.allclose(first.places_m, second.places_m, rtol=0, atol=PLACE_MARGIN_M)


def _rows_of_kind(grid: PredictionGrid, number: int) -> Tensor:
    return torch.nonzero(grid.kind_index == number).flatten()


class _AxisMatch(NamedTuple):
    """The lines of a grid along one axis, and which of them are nearest to some places.

    Attributes:
        nearest: (M,) line nearest to each place.
        is_near: (M,) whether it is near enough.
        line_of: (N,) line of each position of the grid.
        lines: number of lines.
    """

    nearest: Tensor
    is_near: Tensor
    line_of: Tensor
    lines: int


def _match_nearest(places: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
    """Match places (M, 2) with the nearest of the positions (N, 2), which fill a regular grid.

    On a grid the nearest position is the nearest line along x and along y: no search is needed.

    Returns:
        Rows of ``places`` with a position within half a cell of the coarser grid, and the rows of
        these positions.
    """
    x = _match_axis(places[:, 0], grid[:, 0])
    y = _match_axis(places[:, 1], grid[:, 1])
    row_of_cell = torch.full((x.lines * y.lines,), -1, dtype=torch.long)
    row_of_cell[y.line_of * x.lines + x.line_of] = torch.arange(len(grid))
    rows = row_of_cell[y.nearest * x.lines + x.nearest]
    matched = torch.nonzero(x.is_near & y.is_near & (rows >= 0)).flatten()
    return matched, rows[matched]


def _match_axis(places: Tensor, grid: Tensor) -> _AxisMatch:
    """Match coordinates (M,) with the lines of the coordinates (N,) of a grid."""
    lines, line_of = torch.unique(_rounded(grid), return_inverse=True)
    coordinates = _rounded(places)
    reach = max(_spacing(lines), _spacing(torch.unique(coordinates))) / 2 + PLACE_MARGIN_M
    after = torch.searchsorted(lines, coordinates).clamp(max=len(lines) - 1)
    before = (after - 1).clamp_min(0)
    is_after_nearer = (lines[after] - coordinates).abs() < (coordinates - lines[before]).abs()
    nearest = torch.where(is_after_nearer, after, before)
    is_near = (lines[nearest] - coordinates).abs() <= reach
    return _AxisMatch(nearest, is_near, line_of, len(lines))


def _rounded(metres: Tensor) -> Tensor:
    """Float64 without the noise of float32, so that equal coordinates are equal numbers."""
    return (metres.double() / PLACE_MARGIN_M).round() * PLACE_MARGIN_M


def _spacing(lines: Tensor) -> float:
    """Largest distance between neighbouring lines."""
    return float(lines.diff().amax()) if len(lines) > 1 else 0.0
