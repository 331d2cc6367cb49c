"""MapInput: maps of both sides on the student's grid, whatever their strides and ranges are."""

from __future__ import annotations

import dataclasses

import torch
from made_nodes import BEV, map_nodes, tap
from test_distiller import BEV as GRAPH_TERM
from test_distiller import distiller
from toy_detectors import toy_batch

from pcdet_distill.distill import TapSource
from pcdet_distill.distill.node_converters import bev_nodes
from pcdet_distill.distill.nodes import NodeGrid, as_map
from pcdet_distill.distill.term_inputs import MapInput

TERM = {"NAME": "AttentionNonlocalLoss", "STUDENT": BEV, "TEACHER": BEV}
CELLS = torch.arange(2 * 3 * 4 * 5, dtype=torch.float32).view(2, 3, 4, 5)


def grid(width, height, cell_m=1.0, origin_m=(0.0, 0.0, 0.0)):
    return NodeGrid((cell_m, cell_m, 4.0), origin_m, (width, height, 1))


def map_pair(student_grid, teacher_grid):
    """The inputs of both sides for maps on these grids."""
    student = TapSource("student", {BEV: tap(3)}, student_grid)
    teacher = TapSource("teacher", {BEV: tap(3)}, teacher_grid)
    return MapInput.pair(TERM, student, teacher, "T")


def matched(student_grid, student_map, teacher_grid, teacher_map):
    own, other = map_pair(student_grid, teacher_grid)
    student = own.read({BEV: student_map}, {}, detached=False)
    teacher = other.read({BEV: teacher_map}, {}, detached=True)
    return own.match(student, teacher)


def test_maps_on_one_grid_stay_as_they_are():
    same = grid(5, 4)
    student, teacher = matched(same, CELLS, same, CELLS + 1)
    assert torch.equal(student, CELLS)
    assert torch.equal(teacher, CELLS + 1)


def test_a_map_of_some_of_its_cells():
    """Cells in any order come back to their places; the others are zero."""
    nodes = map_nodes(CELLS)
    kept = torch.tensor([39, 0, 7, 25])
    some = as_map(nodes.select(kept[[1, 2, 3, 0]]))
    is_kept = torch.zeros(40, dtype=torch.bool)
    is_kept[kept] = True
    expected = CELLS * is_kept.view(2, 1, 4, 5)
    # one of them is 0
    assert torch.equal(some, expected)
    assert expected[:, 0].count_nonzero() == 3


def test_a_map_that_lacks_one_cell():
    nodes = map_nodes(CELLS + 1)
    some = as_map(nodes.select(torch.arange(1, 40)))
    expected = (CELLS + 1).clone()
    expected[0, :, 0, 0] = 0
    assert torch.equal(some, expected)


def test_a_teacher_with_a_smaller_range():
    """The student's cells outside of it are zero on both sides."""
    teacher_map = torch.rand(2, 3, 2, 3)
    student, teacher = matched(
        grid(5, 4), CELLS + 1, grid(3, 2, origin_m=(1.0, 2.0, 0.0)), teacher_map
    )
    inside = torch.zeros(4, 5, dtype=torch.bool)
    inside[2:4, 1:4] = True
    assert torch.equal(student, (CELLS + 1) * inside)
    assert torch.equal(teacher[:, :, 2:4, 1:4], teacher_map)
    assert teacher.shape == CELLS.shape
    assert torch.equal(teacher, teacher * inside)


def test_a_teacher_with_finer_cells():
    """Each cell of the student takes the nearest of the teacher's."""
    teacher_map = torch.rand(2, 3, 12, 15)
    student, teacher = matched(grid(5, 4), CELLS, grid(15, 12, cell_m=1 / 3), teacher_map)
    assert torch.equal(student, CELLS)
    assert torch.equal(teacher, teacher_map[:, :, 1::3, 1::3])  # the middle one of 3 x 3


def test_no_frame():
    nodes = bev_nodes(torch.zeros(0, 3, 4, 5), {}, grid(5, 4))
    assert as_map(nodes).shape == (0, 3, 4, 5)


def test_half_precision_stays():
    nodes = map_nodes(CELLS)
    nodes = dataclasses.replace(nodes, features=nodes.features.half())
    assert as_map(nodes.select(torch.arange(20))).dtype == torch.float16


def test_a_loss_over_maps_trains_a_step():
    paths = {key: GRAPH_TERM[key] for key in ("STUDENT", "TEACHER")}
    model = distiller({"MAP": {"NAME": "AttentionNonlocalLoss", **paths}})
    loss, logs, _ = model(toy_batch())
    loss["loss"].backward()
    assert logs["distill_map"] > 0
    assert model.student.backbone_2d.conv.weight.grad.abs().sum() > 0
