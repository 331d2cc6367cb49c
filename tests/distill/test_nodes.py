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
    """One node per (b, y, x); its feature is the number 100 b + 10 y + x."""
    coords = torch.tensor([(b, 0, y, x) for b, y, x in places], dtype=torch.float32).reshape(-1, 4)
    features = (coords[:, :1] * 100 + coords[:, 2:3] * 10 + coords[:, 3:]).repeat(1, channels)
    counts = torch.arange(1.0, len(places) + 1)
    return voxel_nodes(features, {"voxel_coords": coords, "voxel_num_points": counts}, grid)


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
    places = [
        (0, 0.6, -0.4, 0),
        (1, 2.6, 0.8, 0),
        (1, 2.9, 0.9, -1),
        (1, 2.7, 0.8, 0),
        (1, 0.6, -0.4, 0),
    ]
    batch_dict = {
        "voxel_coords": torch.tensor([[0.0, 0, 2, 1], [1, 0, 7, 5]]),
        "points": torch.tensor(places),
        **({} if counts is None else {"voxel_num_points": counts}),
    }
    assert voxel_nodes(torch.zeros(2, 1), batch_dict, GRID).saliency.tolist() == [1.0, 3.0]


def test_voxel_nodes_refuse_other_rows():
    with pytest.raises(DataError, match="3 rows, but voxel_coords has 2"):
        voxel_nodes(
            torch.zeros(3, 1),
            {"voxel_coords": torch.zeros(2, 4), "voxel_num_points": torch.ones(2)},
            GRID,
        )


def test_bev_nodes():
    feature = torch.arange(2 * 3 * 2 * 2, dtype=torch.float32).reshape(2, 3, 2, 2)
    nodes = bev_nodes(feature, {}, GRID.coarsen(4))
    assert len(nodes) == 8
    assert nodes.features[5].tolist() == [13.0, 17.0, 21.0]  # frame 1, y 0, x 1
    assert (nodes.batch_index[5].item(), nodes.cells[5].tolist()) == (1, [0, 0, 1])
    assert nodes.coords[5].tolist() == [3.0, -0.5, -1.0]
    assert nodes.saliency[5].item() == 21.0


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
    """Some of all places (b, y, x) of three frames, in any order."""
    everywhere = list(itertools.product(range(3), range(8), range(6)))
    order = rng.permutation(len(everywhere))
    return [everywhere[index] for index in order[: rng.randint(50, 120)]]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**16))
def test_shuffled_and_missing_rows_are_matched_by_place(seed):
    rng = np.random.RandomState(seed)
    student_places = random_places(rng)
    teacher_places = random_places(rng)
    student, teacher = match_nodes(pillars(student_places), pillars(teacher_places, channels=2))
    shared = set(student_places) & set(teacher_places)
    assert set(map(float, student.features)) == {100 * b + 10 * y + x for b, y, x in shared}
    assert torch.equal(student.features[:, 0], teacher.features[:, 0])
    assert torch.equal(student.batch_index, teacher.batch_index)
    assert torch.equal(student.cells, teacher.cells)
    in_order = [[y, x] for b, y, x in student_places if (b, y, x) in shared]
    assert student.cells[:, 1:].tolist() == in_order


def test_equal_rows_are_not_copied():
    places = [(0, 1, 1), (0, 2, 1), (1, 1, 1)]
    student = pillars(places)
    teacher = pillars(places, channels=3)
    matched = match_nodes(student, teacher)
    assert matched[0] is student
    assert matched[1] is teacher


def test_same_cell_of_another_frame_is_another_place():
    with pytest.raises(DataError, match="ranges overlap"):
        match_nodes(pillars([(0, 1, 1)]), pillars([(1, 1, 1)]))


def test_no_nodes_are_no_error():
    student, teacher = match_nodes(pillars([]), pillars([(0, 1, 1)]))
    assert len(student) == len(teacher) == 0


def test_different_grids_are_matched_in_metres():
    coarse = NodeGrid((1.0, 0.5, 4.0), (0.0, -1.0, -3.0), (3, 4, 1))
    # fine pillars (y, x) = (0..1, 0..1) lie in coarse pillar (0, 0); (2, 5) in coarse (1, 2),
    # absent for the teacher
    student = pillars([(0, 0, 0), (0, 1, 1), (0, 2, 5), (1, 1, 0), (2, 0, 0)])
    teacher = pillars([(1, 0, 0), (0, 3, 0), (0, 0, 0)], grid=coarse)
    matched_student, matched_teacher = match_nodes(student, teacher)
    assert matched_student.features[:, 0].tolist() == [0.0, 11.0, 110.0]
    assert matched_teacher.features[:, 0].tolist() == [0.0, 0.0, 100.0]


def test_gradients_pass_through_selection():
    features = torch.ones(3, 2, requires_grad=True)
    coords = torch.tensor([[0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 3, 3]])
    student = voxel_nodes(
        features, {"voxel_coords": coords, "voxel_num_points": torch.ones(3)}, GRID
    )
    matched, _ = match_nodes(student, pillars([(0, 3, 3), (0, 1, 1)]))
    matched.features.sum().backward()
    assert features.grad[:, 0].tolist() == [1.0, 0.0, 1.0]
