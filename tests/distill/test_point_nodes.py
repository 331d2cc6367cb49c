"""Nodes from points and sparse tensors, and how they are matched in metres."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from pcdet_distill.distill.node_converters import bev_nodes, point_nodes, roi_nodes, sparse_nodes
from pcdet_distill.distill.node_matching import match_nodes
from pcdet_distill.distill.nodes import NodeGrid
from pcdet_distill.errors import DataError
from pcdet_distill.ops.sparse_conv import SparseConvTensor

# 8 x 6 cells of 1.0 x 0.5 m on the ground, and 10 layers of 0.4 m: a tap of stride 2 over voxels
# that are half as wide.
GRID = NodeGrid((0.5, 0.25, 0.4), (0.0, -1.0, -3.0), (16, 12, 10)).coarsen(2, layers=10)


def points(places, channels=1):
    """One node per (b, x, y, z), whose feature is its row number."""
    coords = torch.tensor(places, dtype=torch.float32).reshape(-1, 4)
    rows = torch.arange(float(len(coords)))[:, None].repeat(1, channels)
    return point_nodes(rows, {"point_coords": coords}, None)


def numbers(nodes):
    """The row numbers that ``points``, ``sparse`` and ``proposed`` give as features."""
    return nodes.features[:, 0].tolist()


def cloud(seed, count=60, frames=2):
    """Random points (N, 4) as frame, x, y, z."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.rand(count, 3, generator=generator) * 20
    frame = torch.randint(0, frames, (count, 1), generator=generator)
    return torch.cat([frame.float(), places], dim=1)


def test_point_nodes():
    """The saliency is the largest channel."""
    coords = torch.tensor([[0.0, 1, 2, 3], [1, 4, 5, 6]])
    features = torch.tensor([[1.0, -2.0], [-3.0, -4.0]])
    nodes = point_nodes(features, {"point_coords": coords}, None)
    assert nodes.batch_index.tolist() == [0, 1]
    assert nodes.batch_index.dtype == torch.int64
    assert nodes.coords.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert nodes.saliency.tolist() == [1.0, -3.0]
    assert nodes.grid is None
    assert nodes.cells is None


def test_point_nodes_need_a_row_for_each_point():
    with pytest.raises(DataError, match="1 rows, but point_coords has 2"):
        point_nodes(torch.zeros(1, 3), {"point_coords": torch.zeros(2, 4)}, None)


def test_equal_points_are_not_copied_even_with_a_duplicate():
    places = [(0, 1, 1, 1), (0, 1, 1, 1), (1, 2, 2, 2)]
    student = points(places)
    teacher = points(places, channels=3)
    matched_student, matched_teacher = match_nodes(student, teacher)
    assert matched_student is student
    assert matched_teacher is teacher


def test_two_samples_of_one_cloud_are_matched():
    """The last 20 of the student's points are the first 20 of the teacher's."""
    shuffled = cloud(0)[torch.randperm(60, generator=torch.Generator().manual_seed(1))]
    student = points(shuffled[:40].tolist())
    teacher = points(shuffled[20:].tolist())
    matched_student, matched_teacher = match_nodes(student, teacher)
    assert torch.equal(matched_student.coords, matched_teacher.coords)
    assert torch.equal(matched_student.batch_index, matched_teacher.batch_index)
    assert numbers(matched_student) == list(range(20, 40))
    assert numbers(matched_teacher) == list(range(20))


def test_points_are_matched_within_reach_in_their_frame():
    student = points([(0, 0, 0, 0), (0, 5, 5, 5), (1, 0, 0, 0), (0, 0, 0, 0.3)])
    teacher = points([(0, 5.2, 5, 5), (0, 0.08, -0.08, 0.08), (1, 0.04, 0, 0), (0, 0.02, 0.2, 0)])
    matched_student, matched_teacher = match_nodes(student, teacher)
    assert numbers(matched_student) == [0, 2]
    assert numbers(matched_teacher) == [1, 2]


def test_points_without_any_partner_are_an_error():
    """The one at the same place is of another frame."""
    with pytest.raises(DataError, match="ranges overlap"):
        match_nodes(points([(0, 0, 0, 0)]), points([(0, 9, 9, 9), (1, 0, 0, 0)]))


def test_negative_zero_is_zero():
    student = points([(0, -0.0, 1, 1), (0, 3, 3, 3)])
    teacher = points([(0, 2, 2, 2), (0, 0.0, 1, 1)])
    student, teacher = match_nodes(student, teacher)
    assert numbers(student) == [0]
    assert numbers(teacher) == [1]


def sparse(indices, shape):
    """A tensor of two frames whose features are row numbers."""
    indices = torch.tensor(indices, dtype=torch.int32)
    rows = torch.arange(float(len(indices)))[:, None]
    return SparseConvTensor(rows, indices, shape, 2)


NO_POINTS = {"points": torch.zeros(0, 4)}


@pytest.mark.parametrize(
    "layers, z, height", [(11, 9, 0.8), (10, 9, 0.8), (5, 4, 0.6), (2, 1, 0.0), (1, 0, -1.0)]
)
def test_sparse_nodes_stand_in_the_middle_of_their_cells(layers, z, height):
    nodes = sparse_nodes(sparse([[1, z, 3, 2]], [layers, 6, 8]), NO_POINTS, GRID)
    assert nodes.batch_index.tolist() == [1]
    assert nodes.cells.tolist() == [[z, 3, 2]]
    torch.testing.assert_close(nodes.coords, torch.tensor([[2.5, 0.75, height]]))
    assert nodes.grid.size == (8, 6, layers)


def test_sparse_nodes_of_two_axes():
    nodes = sparse_nodes(sparse([[1, 3, 2]], [6, 8]), NO_POINTS, GRID)
    assert nodes.cells.tolist() == [[0, 3, 2]]
    torch.testing.assert_close(nodes.coords, torch.tensor([[2.5, 0.75, -1.0]]))


def test_sparse_saliency_is_the_number_of_points():
    """Five layers of 0.8 m from z = -3 up."""
    tensor = sparse([[0, 0, 0, 0], [1, 0, 0, 0], [1, 4, 5, 7], [0, 1, 0, 0]], [5, 6, 8])
    points = torch.tensor(
        [
            [0, 0.1, -0.9, -2.9],  # in the first cell
            [0, 0.9, -0.6, -2.3],  # in the first cell
            [0, 0.5, -0.8, -2.1],  # in the cell above it
            [1, 7.9, 1.9, 0.9],  # in the last cell of frame 1
            [1, 8.1, 1.9, 0.9],  # outside the grid along x
            [1, 7.9, 1.9, 1.1],  # outside the grid along z
            [1, -0.1, -0.9, -2.9],  # outside the grid along x
        ]
    )
    nodes = sparse_nodes(tensor, {"points": points}, GRID)
    assert nodes.saliency.tolist() == [2, 0, 1, 1]


def test_spconv_tensors_are_read_too():
    theirs = SimpleNamespace(
        features=torch.ones(1, 3),
        indices=torch.tensor([[0, 1, 2, 3]], dtype=torch.int32),
        spatial_shape=[11, 6, 8],
        batch_size=1,
    )
    assert sparse_nodes(theirs, NO_POINTS, GRID).cells.tolist() == [[1, 2, 3]]


def test_sparse_nodes_of_another_stride_are_matched_in_metres():
    """Fine node 0 lies in coarse node 1, and fine node 2 in coarse node 0; fine node 1 in none."""
    fine_tensor = sparse([[0, 3, 1, 1], [0, 3, 4, 6], [1, 0, 0, 0]], [10, 6, 8])
    coarse_tensor = sparse([[1, 0, 0, 0], [0, 1, 0, 0]], [5, 3, 4])
    coarse_grid = NodeGrid((2.0, 1.0, 0.4), (0.0, -1.0, -3.0), (4, 3, 10))
    fine = sparse_nodes(fine_tensor, NO_POINTS, GRID)
    coarse = sparse_nodes(coarse_tensor, NO_POINTS, coarse_grid)
    student, teacher = match_nodes(fine, coarse)
    assert numbers(student) == [0, 2]
    assert numbers(teacher) == [1, 0]
    student, teacher = match_nodes(coarse, fine)
    assert numbers(student) == [0, 1]
    assert numbers(teacher) == [2, 0]


def numbered_map(cells, size_m, corner_m=0.0):
    """A square map, whose cells are numbered along x and then along y."""
    grid = NodeGrid((size_m, size_m, 4.0), (corner_m, corner_m, -3.0), (cells, cells, 1))
    return bev_nodes(torch.arange(float(cells**2)).view(1, 1, cells, cells), {}, grid)


def test_maps_of_other_strides_are_matched_cell_by_cell():
    fine = numbered_map(cells=6, size_m=1.0)
    coarse = numbered_map(cells=3, size_m=2.0)
    student, teacher = match_nodes(fine, coarse)
    assert numbers(student) == list(range(36))
    assert numbers(teacher)[:7] == [0, 0, 1, 1, 2, 2, 0]


def test_cells_outside_of_the_other_map_have_no_partner():
    """A partner stands no farther than half of a large cell: the four cells beyond 4 m remain."""
    fine = numbered_map(cells=6, size_m=1.0)
    shifted = numbered_map(cells=3, size_m=2.0, corner_m=4.0)
    student, _ = match_nodes(fine, shifted)
    assert numbers(student) == [28, 29, 34, 35]


def test_detach():
    features = torch.ones(1, 2, requires_grad=True)
    nodes = point_nodes(features, {"point_coords": torch.zeros(1, 4)}, None)
    assert nodes.features.requires_grad
    assert not nodes.detach().features.requires_grad


def proposed(places):
    coords = torch.tensor(places, dtype=torch.float32)
    return roi_nodes(torch.arange(float(len(coords)))[:, None], {"roi_point_coords": coords}, None)


def test_roi_nodes_leave_padding_out():
    """Padding has frame -1."""
    nodes = proposed([(0, 1, 1, 1), (-1, 0, 0, 0), (1, 2, 2, 2)])
    assert nodes.batch_index.tolist() == [0, 1]
    assert numbers(nodes) == [0, 2]


def test_saliency_of_roi_nodes_is_their_largest_channel():
    features = torch.tensor([[1.0, 3.0], [-2.0, -5.0]])
    nodes = roi_nodes(features, {"roi_point_coords": torch.zeros(2, 4)}, None)
    assert nodes.saliency.tolist() == [3.0, -2.0]


def test_roi_nodes_reach_farther_than_points():
    """The pair of frame 1 is 0.34 m apart. That of frame 0 is 0.35 m apart, which is too far."""
    student = proposed([(0, 1, 1, 1), (1, 2, 2, 2)])
    teacher = proposed([(1, 2.25, 1.8, 2.1), (0, 1, 1, 1.35)])
    student, teacher = match_nodes(student, teacher)
    assert numbers(student) == [1]
    assert numbers(teacher) == [0]


def test_roi_nodes_need_a_row_for_each_point():
    with pytest.raises(DataError, match="1 rows, but roi_point_coords has 2"):
        roi_nodes(torch.zeros(1, 1), {"roi_point_coords": torch.zeros(2, 4)}, None)


def test_proposals_may_have_no_place_in_common():
    student, teacher = match_nodes(proposed([(0, 1, 1, 1)]), proposed([(0, 9, 9, 9)]))
    assert len(student) == 0
    assert len(teacher) == 0
