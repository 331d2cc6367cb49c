"""Pooling in boxes and voxel queries against brute force and plain versions; gradients."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pcdet_distill.errors import ConfigError
from pcdet_distill.ops import roi_pooling as ops
from pcdet_distill.ops.voxel_query import (
    SearchRange,
    VoxelPlaces,
    voxel_query_plain,
)

UNIT_BOX = [0.0, 0.0, 0.0, 2.0, 2.0, 2.0, 0.0]


def scene(seed: int, points: int = 200, boxes: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """Points (N, 3), features (N, 4) and boxes (R, 7) in a cube of 8 metres."""
    rng = np.random.default_rng(seed)
    sizes = rng.uniform(1, 5, (boxes, 3))
    headings = rng.uniform(-4, 4, (boxes, 1))
    rois = np.concatenate([rng.uniform(-3, 3, (boxes, 3)), sizes, headings], axis=1)
    parts = rng.uniform(-4, 4, (points, 3)), rng.normal(size=(points, 4)), rois
    points_part, features_part, boxes_part = (part.astype(np.float32) for part in parts)
    return (
        torch.from_numpy(points_part),
        torch.from_numpy(features_part),
        torch.from_numpy(boxes_part),
    )


def local_places(points: Tensor, box: Tensor) -> np.ndarray:
    """Points in the frame of a box, by a rotation matrix in float64."""
    angle = float(box[6])
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    offset = (points - box[:3]).double().numpy()
    return np.concatenate([offset[:, :2] @ turn.T, offset[:, 2:]], axis=1)


def inside_by_brute_force(points: Tensor, box: Tensor) -> list[int]:
    local = local_places(points, box)
    return np.flatnonzero((np.abs(local) <= box[3:6].double().numpy() / 2).all(axis=1)).tolist()


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.integers(1, 40))
def test_points_in_rois_by_brute_force(seed: int, samples: int) -> None:
    points, features, rois = scene(seed)
    pooled, empty = ops.roipoint_pool3d(
        points[None], features[None], rois[None], samples, (0.4, 0.2, 0.0)
    )
    assert pooled.shape == (1, 5, samples, 7)
    for roi, box in enumerate(rois):
        members = inside_by_brute_force(points, box + torch.tensor([0, 0, 0, 0.4, 0.2, 0, 0]))
        assert empty[0, roi] == (not members)
        rows = [members[slot % len(members)] for slot in range(samples)] if members else []
        expected = torch.cat([points, features], dim=1)[rows] if rows else torch.zeros(samples, 7)
        assert torch.equal(pooled[0, roi], expected)


def test_points_in_rois_stay_in_their_frame() -> None:
    points = torch.tensor([[[0.0, 0, 0]], [[9.0, 0, 0]]])
    rois = torch.tensor([UNIT_BOX]).expand(2, 1, 7)
    pooled, empty = ops.roipoint_pool3d(points, points.new_ones(2, 1, 1), rois, 2)
    assert empty.tolist() == [[False], [True]]
    assert pooled[:, 0].tolist() == [[[0, 0, 0, 1]] * 2, [[0, 0, 0, 0]] * 2]


@pytest.mark.parametrize("method, expected", [("max", [3.0, -5.0]), ("avg", [1.5, -5.5])])
def test_cells_by_hand(method: str, expected: list[float]) -> None:
    """Of the three points in the first cell the third is one too many."""
    places = [
        [-0.5, -0.5, -0.5],
        [-0.4, -0.4, -0.4],
        [0.5, 0.5, 0.5],
        [-0.3, -0.3, -0.3],
        [0.9, 0.6, 0.1],
    ]
    points = torch.tensor(places)
    features = torch.tensor([[0.0], [3.0], [-6.0], [100.0], [-5.0]])
    pooled = ops.roiaware_pool3d(torch.tensor([UNIT_BOX]), points, features, 2, 3, method)
    assert pooled.shape == (1, 2, 2, 2, 1)
    assert pooled.flatten().tolist() == [expected[0], 0, 0, 0, 0, 0, 0, expected[1]]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.integers(2, 6))
def test_cells_by_brute_force(seed: int, limit: int) -> None:
    points, _, rois = scene(seed)
    sizes = (3, 2, 4)
    cell, point = ops.cell_members(rois, points, sizes, limit)
    members: dict[int, list[int]] = {}
    for roi, box in enumerate(rois):
        local = local_places(points, box)
        for row in inside_by_brute_force(points, box):
            cells = [
                min(
                    int((local[row, axis] / float(box[3 + axis]) + 0.5) * sizes[axis]),
                    sizes[axis] - 1,
                )
                for axis in range(3)
            ]
            key = ((roi * sizes[0] + cells[0]) * sizes[1] + cells[1]) * sizes[2] + cells[2]
            members.setdefault(key, []).append(row)
    expected = []
    for key in sorted(members):
        expected += [(key, row) for row in members[key][:limit]]
    assert list(zip(cell.tolist(), point.tolist())) == expected


@pytest.mark.parametrize("method", ["max", "avg"])
def test_gradients_of_cells(method: str) -> None:
    points, features, rois = scene(3, points=40)
    features = features.double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: ops.roiaware_pool3d(rois, points, x, 2, 4, method), features
    )


def test_gradient_of_a_tie_goes_to_the_first() -> None:
    points = torch.zeros(3, 3)
    features = torch.ones(3, 1, requires_grad=True)
    ops.roiaware_pool3d(torch.tensor([UNIT_BOX]), points, features, 1, 9, "max").sum().backward()
    assert features.grad.flatten().tolist() == [1, 0, 0]


@pytest.mark.parametrize("method", ["max", "avg"])
@pytest.mark.parametrize("points, boxes", [(0, 2), (5, 0), (0, 0)])
def test_nothing_to_pool(method: str, points: int, boxes: int) -> None:
    features = torch.ones(points, 2, requires_grad=True)
    rois = torch.tensor(UNIT_BOX).repeat(boxes, 1)
    pooled = ops.roiaware_pool3d(rois, torch.full((points, 3), 50.0), features, 2, 8, method)
    assert pooled.shape == (boxes, 2, 2, 2, 2)
    assert (pooled == 0).all()
    pooled.sum().backward()
    assert (features.grad == 0).all()
    both, empty = ops.roipoint_pool3d(
        torch.full((1, points, 3), 50.0), torch.ones(1, points, 2), rois[None], 4
    )
    assert both.shape == (1, boxes, 4, 5)
    assert (both == 0).all()
    assert empty.all()


def test_unknown_pool_method() -> None:
    with pytest.raises(ConfigError, match="'median'"):
        ops.roiaware_pool3d(torch.zeros(0, 7), torch.zeros(0, 3), torch.zeros(0, 1), 2, 8, "median")


SHAPE = (4, 5, 6)
VOXEL_M = 0.5


def random_voxels(seed: int, share: float = 0.4) -> tuple[Tensor, Tensor]:
    """Occupied cells (N, 4) of two frames in random order, and their centres (N, 3) x, y, z."""
    rng = np.random.default_rng(seed)
    cells = np.array(list(itertools.product(range(2), *map(range, SHAPE))))
    cells = rng.permutation(cells[rng.uniform(size=len(cells)) < share])
    return torch.from_numpy(cells), torch.from_numpy(
        ((cells[:, [3, 2, 1]] + 0.5) * VOXEL_M).astype(np.float32)
    )


def voxels_by_brute_force(
    reach: tuple[int, ...],
    radius: float,
    slots: int,
    cells: Tensor,
    places: Tensor,
    cell: list[int],
    place: Tensor,
) -> list[int]:
    rows = {tuple(key): row for row, key in enumerate(cells.tolist())}
    hits = []
    for step in itertools.product(*(range(-far, far + 1) for far in reach)):
        row = rows.get((cell[0], *(index + move for index, move in zip(cell[1:], step))))
        if row is not None:
            square = (places[row] - place).square()
            if square[0] + square[1] + square[2] <= np.float32(radius) ** 2:
                hits.append(row)
    return hits[:slots]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 8), st.floats(0.3, 2.0))
def test_voxels_by_brute_force(seed: int, slots: int, radius: float) -> None:
    """Queries lie inside and a little outside the grid."""
    cells, places = random_voxels(seed)
    rng = np.random.default_rng(seed + 1)
    centres = torch.from_numpy(rng.uniform(-1, 3.5, (15, 3)).astype(np.float32))
    frame = torch.from_numpy(rng.integers(0, 2, (15, 1)))
    query = torch.cat([frame, (centres.flip(1) / VOXEL_M).floor().long()], dim=1)
    reach = (1, 2, 2)
    rows, found = ops.voxel_query(reach, radius, slots, places, cells, SHAPE, centres, query)
    for number in range(len(query)):
        hits = voxels_by_brute_force(
            reach, radius, slots, cells, places, query[number].tolist(), centres[number]
        )
        assert found[number] == len(hits)
        assert rows[number].tolist() == hits + [hits[0] if hits else 0] * (slots - len(hits))
    within = SearchRange(reach, np.float32(radius) * np.float32(radius), slots)
    voxels = VoxelPlaces.of(places, cells)
    queries = VoxelPlaces.of(centres, query)
    plain = voxel_query_plain(voxels, SHAPE, queries, within)
    assert torch.equal(plain[0], rows)
    assert torch.equal(plain[1], found)


def test_voxels_without_neighbours() -> None:
    no_cells = torch.zeros(0, 4).long()
    no_places = torch.zeros(0, 3)
    query = torch.tensor([[0, 1, 1, 1]])
    centre = torch.zeros(1, 3)

    def query_compiled(places: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
        return ops.voxel_query((1, 1, 1), 1.0, 3, no_places, no_cells, SHAPE, places, cells)

    def query_plain(places: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
        voxels = VoxelPlaces.of(no_places, no_cells)
        queries = VoxelPlaces.of(places, cells)
        return voxel_query_plain(voxels, SHAPE, queries, SearchRange((1, 1, 1), np.float32(1), 3))

    for function in (query_compiled, query_plain):
        rows, found = function(centre, query)
        assert rows.tolist() == [[0, 0, 0]]
        assert found.tolist() == [0]
        rows, found = function(centre[:0], query[:0])
        assert rows.shape == (0, 3)
        assert found.shape == (0,)
