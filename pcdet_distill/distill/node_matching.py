"""Which nodes of a teacher belong to which of its student.

They are matched by place, never by row number: the order of rows depends on voxelizer and device.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import torch
from torch import Tensor

from ..errors import DataError
from ..ops.constants import constant
from ..ops.knn import knn
from ..ops.rulebook import cell_keys
from .nodes import NodeFeatures, NodeGrid

PLACE_MARGIN_M = 1e-4
KEY_FACTOR = 0x5851F42D4C957F2D  # an odd multiplier that spreads the bits of a key


def match_nodes(student: NodeFeatures, teacher: NodeFeatures) -> tuple[NodeFeatures, NodeFeatures]:
    """The nodes that both have at the same place of the same frame, row by row.

    On one common grid two nodes match when their cells are equal. Otherwise a student node takes
    the nearest teacher node that is near enough along every axis: within half of the larger cell,
    or ``reach_m`` of nodes without a grid.
    """
    if len(student) == 0 or len(teacher) == 0:
        no_rows = student.batch_index.new_zeros(0)
        return student.select(no_rows), teacher.select(no_rows)
    student_rows, teacher_rows = _matching_rows(student, teacher)
    if len(student_rows) == 0 and not (student.may_miss or teacher.may_miss):
        raise DataError(
            "distillation: no node of the student is at the place of one of the teacher; "
            "do their ranges overlap?"
        )
    all_match = len(student_rows) == len(student) == len(teacher)
    if all_match and torch.equal(student_rows, teacher_rows):
        return student, teacher  # without copies
    return student.select(student_rows), teacher.select(teacher_rows)


def with_objectness(nodes: NodeFeatures, class_scores: Iterable[NodeFeatures]) -> NodeFeatures:
    """``nodes`` with the largest class score at their places, 0 where no score is near enough.

    Args:
        nodes: of a detector.
        class_scores: of its heads; the features are logits.
    """
    objectness = nodes.features.new_zeros(len(nodes), dtype=torch.float32)
    for scores in class_scores:
        if len(nodes) == 0 or len(scores) == 0:
            continue
        rows, score_rows = _matching_rows(nodes, scores)
        best_class = scores.features.detach().float().amax(dim=1).sigmoid()
        objectness[rows] = torch.maximum(objectness[rows], best_class[score_rows])
    return dataclasses.replace(nodes, objectness=objectness)


def points_in_cells(nodes: NodeFeatures, points: Tensor) -> Tensor:
    """How many of ``points`` (P, 1 + C) (b, x, y, z, ...) lie in the cell of each node (N,)."""
    assert nodes.grid is not None
    cells = nodes.grid.cells_at(points[:, 1:4])
    is_inside = nodes.grid.contains(cells)
    keys = _keys_in_grid(nodes.grid, points[is_inside, 0].long(), cells[is_inside])
    _, rows = _match_keys(keys, _keys_of_cells(nodes))
    return torch.bincount(rows, minlength=len(nodes)).to(points.dtype)


def _matching_rows(student: NodeFeatures, teacher: NodeFeatures) -> tuple[Tensor, Tensor]:
    """Rows (M,) of the student's nodes that have a match, in order, and of these matches (M,)."""
    if student.grid is not None and student.grid == teacher.grid:
        return _match_keys(_keys_of_cells(student), _keys_of_cells(teacher))
    if len(student) == len(teacher) and _have_equal_places(student, teacher):
        rows = torch.arange(len(student), device=student.coords.device)
        return rows, rows
    return _match_metres(student, teacher)


def _have_equal_places(student: NodeFeatures, teacher: NodeFeatures) -> bool:
    """Whether row i of both is the same place, for all rows."""
    same_frame = student.batch_index == teacher.batch_index
    same_coords = (student.coords == teacher.coords).all(dim=1)
    return bool((same_frame & same_coords).all())


def _keys_of_cells(nodes: NodeFeatures) -> Tensor:
    """One integer (N,) per frame and cell."""
    assert nodes.grid is not None and nodes.cells is not None
    return _keys_in_grid(nodes.grid, nodes.batch_index, nodes.cells)


def _keys_in_grid(grid: NodeGrid, batch_index: Tensor, cells: Tensor) -> Tensor:
    """One integer (N,) per frame (N,) and cell (N, 3) z, y, x inside ``grid``."""
    width, height, depth = grid.size
    indices = torch.cat([batch_index.unsqueeze(1), cells], dim=1)
    return cell_keys(indices, (depth, height, width))


def _match_keys(student_keys: Tensor, teacher_keys: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of equal keys, in the student's order; no two keys of the teacher are equal."""
    if torch.equal(student_keys, teacher_keys):
        rows = torch.arange(len(student_keys), device=student_keys.device)
        return rows, rows
    if len(teacher_keys) == 0:
        return teacher_keys, teacher_keys
    ordered, order = torch.sort(teacher_keys)
    position = torch.searchsorted(ordered, student_keys).clamp_(max=len(ordered) - 1)
    student_rows = torch.nonzero(ordered[position] == student_keys).flatten()
    return student_rows, order[position[student_rows]]


def _match_metres(student: NodeFeatures, teacher: NodeFeatures) -> tuple[Tensor, Tensor]:
    """Rows of each student node with a teacher node near enough, and of that teacher node.

    The search for the nearest of many nodes is slow. It is left out where the nearest one follows
    from the grid or from equal coordinates, and where the student is beyond the teacher's range.
    """
    reaches = [_reach_m(student), _reach_m(teacher)]
    reach_m = constant(reaches, student.coords.device).amax(dim=0)
    reach_m += PLACE_MARGIN_M
    match = _matches_without_search(student, teacher)
    lowest = teacher.coords.amin(dim=0) - reach_m
    highest = teacher.coords.amax(dim=0) + reach_m
    is_beyond = ((student.coords < lowest) | (student.coords > highest)).any(dim=1)
    searched = torch.nonzero((match < 0) & ~is_beyond).flatten()
    has_frame = torch.isin(student.batch_index[searched], teacher.batch_index)
    searched = searched[has_frame]
    nearest = knn(
        student.coords[searched],
        teacher.coords,
        1,
        query_batch=student.batch_index[searched],
        point_batch=teacher.batch_index,
    )
    match[searched] = nearest[:, 0]
    rows = torch.nonzero(match >= 0).flatten()
    distance = (student.coords[rows] - teacher.coords[match[rows]]).abs()
    rows = rows[(distance <= reach_m).all(dim=1)]
    return rows, match[rows]


def _matches_without_search(student: NodeFeatures, teacher: NodeFeatures) -> Tensor:
    """The nearest teacher node (N,) where it is known without a search, else -1.

    On a grid it is the cell around the place, if the teacher has it. Of points it is the same
    point.
    """
    if teacher.grid is not None:
        cells = teacher.grid.cells_at(student.coords)
        is_inside = teacher.grid.contains(cells)
        student_keys = _keys_in_grid(teacher.grid, student.batch_index, cells)
        teacher_keys = _keys_of_cells(teacher)
    elif student.grid is None:
        student_keys = _keys_of_points(student)
        teacher_keys = _keys_of_points(teacher)
        is_inside = torch.ones_like(student_keys, dtype=torch.bool)
    else:
        return torch.full_like(student.batch_index, -1)
    rows, teacher_rows = _match_keys(student_keys, teacher_keys)
    match = torch.full_like(student.batch_index, -1)
    match[rows] = teacher_rows
    # The key of a cell outside of the grid may equal that of another cell.
    return torch.where(is_inside, match, -1)


def _keys_of_points(nodes: NodeFeatures) -> Tensor:
    """One integer (N,) per frame and place. Those of two places are equal only by chance."""
    coords = nodes.coords.float() + 0.0  # -0.0 becomes 0.0, which has other bits
    bits = coords.contiguous().view(torch.int32).long()
    key = nodes.batch_index
    for axis in range(3):
        key = (key * KEY_FACTOR) ^ bits[:, axis]
    return key


def _reach_m(nodes: NodeFeatures) -> tuple[float, float, float]:
    """How far along x, y, z a match may stand."""
    if nodes.grid is None:
        return nodes.reach_m, nodes.reach_m, nodes.reach_m
    width, depth, height = nodes.grid.cell_size_m
    return width / 2, depth / 2, height / 2
