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

# 8 x 6 cells of 1.0 x 0.5 m on the ground, 10 voxels of 0.4 m high: a tap of stride 2 of voxels
# half as wide
GRID = NodeGrid((0.5, 0.25, 0.4), (0.0, -1.0, -3.0), (16, 12, 10)).coarsen(2, layers=10)


def points(places, channels=1):
    """One node per (b, x, y, z), whose feature is its row number."""
    coords = torch.tensor(places, dtype=torch.float32).reshape(-1, 4)
    rows = torch.arange(float(len(coords)))[:, None].repeat(1, channels)
    return point_nodes(rows, {"point_coords": coords}, None)


def cloud(seed, count=60, frames=2):
    generator = torch.Generator().manual_seed(seed)
    places = torch.rand(count, 3, generator=generator) * 20
    return torch.cat(
        [torch.randint(0, frames, (count, 1), generator=generator).float(), places], dim=1
    )


def test_point_nodes():
    coords = torch.tensor([[0.0, 1, 2, 3], [1, 4, 5, 6]])
    nodes = point_nodes(torch.tensor([[1.0, -2.0], [-3.0, -4.0]]), {"point_coords": coords}, None)
    assert nodes.batch_index.tolist() == [0, 1]
    assert nodes.batch_index.dtype == torch.int64
    assert nodes.coords.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert nodes.saliency.tolist() == [
        1.0,
        -3.0,
    ]
    assert nodes.grid is None
    assert nodes.cells is None
    with pytest.raises(DataError, match="1 rows, but point_coords has 2"):
        point_nodes(torch.zeros(1, 3), {"point_coords": coords}, None)


def test_equal_points_are_not_copied_even_with_a_duplicate():
    places = [(0, 1, 1, 1), (0, 1, 1, 1), (1, 2, 2, 2)]
    student = points(places)
    teacher = points(places, channels=3)
    matched = match_nodes(student, teacher)
    assert matched[0] is student
    assert matched[1] is teacher


def test_two_samples_of_one_cloud_are_matched():
    everything = cloud(0)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    student = points(everything[order[:40]].tolist())
    teacher = points(everything[order[20:]].tolist())
    matched_student, matched_teacher = match_nodes(student, teacher)
    assert torch.equal(matched_student.coords, matched_teacher.coords)
    assert torch.equal(matched_student.batch_index, matched_teacher.batch_index)
    assert matched_student.features[:, 0].tolist() == list(range(20, 40))
    assert matched_teacher.features[:, 0].tolist() == list(range(20))


def test_points_are_matched_within_reach_in_their_frame():
    student = points([(0, 0, 0, 0), (0, 5, 5, 5), (1, 0, 0, 0), (0, 0, 0, 0.3)])
    teacher = points([(0, 5.2, 5, 5), (0, 0.08, -0.08, 0.08), (1, 0.04, 0, 0), (0, 0.02, 0.2, 0)])
    matched_student, matched_teacher = match_nodes(student, teacher)
    assert matched_student.features[:, 0].tolist() == [0, 2]
    assert matched_teacher.features[:, 0].tolist() == [1, 2]
    with pytest.raises(DataError, match="ranges overlap"):
        match_nodes(points([(0, 0, 0, 0)]), points([(0, 9, 9, 9), (1, 0, 0, 0)]))


def test_negative_zero_is_zero():
    student, teacher = match_nodes(
        points([(0, -0.0, 1, 1), (0, 3, 3, 3)]), points([(0, 2, 2, 2), (0, 0.0, 1, 1)])
    )
    assert student.features[:, 0].tolist() == [0]
    assert teacher.features[:, 0].tolist() == [1]


def sparse(indices, shape, features=None):
    indices = torch.tensor(indices, dtype=torch.int32)
    rows = torch.arange(float(len(indices)))[:, None] if features is None else features
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
    tensor = sparse([[0, 0, 0, 0], [1, 0, 0, 0], [1, 4, 5, 7], [0, 1, 0, 0]], [5, 6, 8])
    points = torch.tensor(
        [
            [0, 0.1, -0.9, -2.9],
            [0, 0.9, -0.6, -2.3],
            [0, 0.5, -0.8, -2.1],  # two low, one above
            [1, 7.9, 1.9, 0.9],
            [1, 8.1, 1.9, 0.9],
            [1, 7.9, 1.9, 1.1],
            [1, -0.1, -0.9, -2.9],
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
    fine = sparse_nodes(
        sparse([[0, 3, 1, 1], [0, 3, 4, 6], [1, 0, 0, 0]], [10, 6, 8]), NO_POINTS, GRID
    )
    coarse = sparse_nodes(
        sparse([[1, 0, 0, 0], [0, 1, 0, 0]], [5, 3, 4]),
        NO_POINTS,
        NodeGrid((2.0, 1.0, 0.4), (0.0, -1.0, -3.0), (4, 3, 10)),
    )
    student, teacher = match_nodes(fine, coarse)
    assert student.features[:, 0].tolist() == [0, 2]
    assert teacher.features[:, 0].tolist() == [1, 0]
    student, teacher = match_nodes(coarse, fine)
    assert student.features[:, 0].tolist() == [0, 1]
    assert teacher.features[:, 0].tolist() == [2, 0]


def test_maps_of_other_strides_are_matched_cell_by_cell():
    sizes = ((1, 6), (2, 3))
    fine, coarse = (
        NodeGrid((size, size, 4.0), (0.0, 0.0, -3.0), (cells, cells, 1)) for size, cells in sizes
    )
    number = [
        bev_nodes(torch.arange(float(cells**2)).view(1, 1, cells, cells), {}, grid)
        for cells, grid in ((6, fine), (3, coarse))
    ]
    student, teacher = match_nodes(*number)
    assert student.features[:, 0].tolist() == list(range(36))
    assert teacher.features[:7, 0].tolist() == [0, 0, 1, 1, 2, 2, 0]
    shifted = bev_nodes(
        torch.zeros(1, 1, 3, 3), {}, NodeGrid((2.0, 2.0, 4.0), (4.0, 4.0, -3.0), (3, 3, 1))
    )
    student, _ = match_nodes(number[0], shifted)
    assert student.features[:, 0].tolist() == [
        28,
        29,
        34,
        35,
    ]  # a partner stands no farther than half of a large cell


def test_detach():
    features = torch.ones(1, 2, requires_grad=True)
    nodes = point_nodes(features, {"point_coords": torch.zeros(1, 4)}, None)
    assert nodes.features.requires_grad
    assert not nodes.detach().features.requires_grad


def proposed(places):
    coords = torch.tensor(places, dtype=torch.float32)
    return roi_nodes(torch.arange(float(len(coords)))[:, None], {"roi_point_coords": coords}, None)


def test_roi_nodes_leave_padding_out_and_reach_farther():
    nodes = proposed([(0, 1, 1, 1), (-1, 0, 0, 0), (1, 2, 2, 2)])
    assert nodes.batch_index.tolist() == [0, 1]
    assert nodes.features[:, 0].tolist() == [0, 2]
    places = {"roi_point_coords": torch.zeros(2, 4)}
    assert roi_nodes(torch.tensor([[1.0, 3.0], [-2.0, -5.0]]), places, None).saliency.tolist() == [
        3.0,
        -2.0,
    ]
    student, teacher = match_nodes(nodes, proposed([(1, 2.25, 1.8, 2.1), (0, 1, 1, 1.35)]))
    assert student.features[:, 0].tolist() == [2]
    assert teacher.features[:, 0].tolist() == [0]
    with pytest.raises(DataError, match="1 rows, but roi_point_coords has 2"):
        roi_nodes(torch.zeros(1, 1), {"roi_point_coords": torch.zeros(2, 4)}, None)


def test_proposals_may_have_no_place_in_common():
    student, teacher = match_nodes(proposed([(0, 1, 1, 1)]), proposed([(0, 9, 9, 9)]))
    assert len(student) == len(teacher) == 0
