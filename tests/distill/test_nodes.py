"""Nodes from voxels and BEV maps, and how they are matched by place."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdet_distill.distill.node_converters import bev_nodes, voxel_nodes
from pcdet_distill.distill.node_matching import match_nodes
from pcdet_distill.distill.nodes import NodeGrid, grid_of
from pcdet_distill.errors import DataError

GRID = NodeGrid((0.5, 0.25, 4.0), (0.0, -1.0, -3.0), (6, 8, 1))


def pillars(places, channels=1, grid=GRID):
    """One node per (frame, y, x); its feature is the number 100 frame + 10 y + x."""
    rows = [(frame, 0, y, x) for frame, y, x in places]
    coords = torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)
    frame, _, y, x = coords.T
    number = 100 * frame + 10 * y + x
    features = number[:, None].repeat(1, channels)
    counts = torch.arange(1.0, len(places) + 1)
    return voxel_nodes(features, {"voxel_coords": coords, "voxel_num_points": counts}, grid)


def numbers(nodes):
    """The numbers that ``pillars`` gives as features."""
    return nodes.features[:, 0].tolist()


def test_voxel_nodes_place_and_saliency():
    nodes = pillars([(0, 2, 1), (1, 7, 5)])
    assert nodes.batch_index.tolist() == [0, 1]
    assert nodes.batch_index.dtype == torch.int64
    assert nodes.cells.tolist() == [[0, 2, 1], [0, 7, 5]]
    assert nodes.coords.tolist() == [[0.75, -0.375, -1.0], [2.75, 0.875, -1.0]]
    assert nodes.saliency.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("counts", [None, torch.ones(5)])
def test_points_are_counted_without_voxel_num_points(counts):
    """OpenPCDet's dynamic pillars: three points in one pillar, one in another, one outside."""
    points = [
        (0, 0.6, -0.4, 0),
        (1, 2.6, 0.8, 0),
        (1, 2.9, 0.9, -1),
        (1, 2.7, 0.8, 0),
        (1, 0.6, -0.4, 0),
    ]
    batch_dict = {
        "voxel_coords": torch.tensor([[0.0, 0, 2, 1], [1, 0, 7, 5]]),
        "points": torch.tensor(points),
    }
    if counts is not None:
        batch_dict["voxel_num_points"] = counts
    nodes = voxel_nodes(torch.zeros(2, 1), batch_dict, GRID)
    assert nodes.saliency.tolist() == [1.0, 3.0]


def test_voxel_nodes_refuse_other_rows():
    batch_dict = {"voxel_coords": torch.zeros(2, 4), "voxel_num_points": torch.ones(2)}
    with pytest.raises(DataError, match="3 rows, but voxel_coords has 2"):
        voxel_nodes(torch.zeros(3, 1), batch_dict, GRID)


def test_bev_nodes():
    """Two frames of 2 x 2 cells with 3 channels; node 5 is the cell y 0, x 1 of frame 1."""
    feature = torch.arange(2 * 3 * 2 * 2, dtype=torch.float32).reshape(2, 3, 2, 2)
    nodes = bev_nodes(feature, {}, GRID.coarsen(4))
    assert len(nodes) == 8
    assert nodes.batch_index[5] == 1
    assert nodes.cells[5].tolist() == [0, 0, 1]
    assert nodes.features[5].tolist() == feature[1, :, 0, 1].tolist()
    assert nodes.features[5].tolist() == [13.0, 17.0, 21.0]
    assert nodes.coords[5].tolist() == [3.0, -0.5, -1.0]
    assert nodes.saliency[5] == 21.0


def test_grid_of_spec():
    spec = SimpleNamespace(
        voxel_size=[0.16, 0.16, 4],
        grid_size=np.array([432, 496, 1]),
        point_cloud_range=np.array([0, -39.68, -3, 69.12, 39.68, 1], dtype=np.float32),
    )
    assert grid_of(spec) == NodeGrid((0.16, 0.16, 4.0), (0.0, -39.68, -3.0), (432, 496, 1))
    assert grid_of(spec).coarsen(4).size == (108, 124, 1)
    assert grid_of(SimpleNamespace(voxel_size=None, grid_size=None)) is None


def random_places(rng):
    """Some of all places (frame, y, x) of three frames, in any order."""
    everywhere = list(itertools.product(range(3), range(8), range(6)))
    order = rng.permutation(len(everywhere))
    count = rng.randint(50, 120)
    return [everywhere[number] for number in order[:count]]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**16))
def test_shuffled_and_missing_rows_are_matched_by_place(seed):
    rng = np.random.RandomState(seed)
    student_places = random_places(rng)
    teacher_places = random_places(rng)
    student, teacher = match_nodes(pillars(student_places), pillars(teacher_places, channels=2))
    # The shared places, in the student's order.
    shared = [place for place in student_places if place in set(teacher_places)]
    assert numbers(student) == [100 * frame + 10 * y + x for frame, y, x in shared]
    assert student.cells.tolist() == [[0, y, x] for _, y, x in shared]
    assert numbers(teacher) == numbers(student)
    assert torch.equal(student.batch_index, teacher.batch_index)
    assert torch.equal(student.cells, teacher.cells)


def test_equal_rows_are_not_copied():
    places = [(0, 1, 1), (0, 2, 1), (1, 1, 1)]
    student = pillars(places)
    teacher = pillars(places, channels=3)
    matched_student, matched_teacher = match_nodes(student, teacher)
    assert matched_student is student
    assert matched_teacher is teacher


def test_same_cell_of_another_frame_is_another_place():
    with pytest.raises(DataError, match="ranges overlap"):
        match_nodes(pillars([(0, 1, 1)]), pillars([(1, 1, 1)]))


def test_no_nodes_are_no_error():
    student, teacher = match_nodes(pillars([]), pillars([(0, 1, 1)]))
    assert len(student) == 0
    assert len(teacher) == 0


def test_different_grids_are_matched_in_metres():
    """Fine pillars (y, x) from (0, 0) to (1, 1) lie in the coarse pillar (0, 0).

    (2, 5) lies in the coarse pillar (1, 2), which the teacher does not have.
    """
    coarse = NodeGrid((1.0, 0.5, 4.0), (0.0, -1.0, -3.0), (3, 4, 1))
    student = pillars([(0, 0, 0), (0, 1, 1), (0, 2, 5), (1, 1, 0), (2, 0, 0)])
    teacher = pillars([(1, 0, 0), (0, 3, 0), (0, 0, 0)], grid=coarse)
    matched_student, matched_teacher = match_nodes(student, teacher)
    assert numbers(matched_student) == [0, 11, 110]
    assert numbers(matched_teacher) == [0, 0, 100]


def test_gradients_pass_through_selection():
    features = torch.ones(3, 2, requires_grad=True)
    coords = torch.tensor([[0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 3, 3]])
    batch_dict = {"voxel_coords": coords, "voxel_num_points": torch.ones(3)}
    student = voxel_nodes(features, batch_dict, GRID)
    matched, _ = match_nodes(student, pillars([(0, 3, 3), (0, 1, 1)]))
    matched.features.sum().backward()
    assert features.grad[:, 0].tolist() == [1.0, 0.0, 1.0]
