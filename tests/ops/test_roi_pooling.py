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


def float_tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))


def scene(seed: int, points: int = 200, boxes: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """Points (N, 3), features (N, 4) and boxes (R, 7) in a cube of 8 metres."""
    rng = np.random.default_rng(seed)
    sizes = rng.uniform(1, 5, (boxes, 3))
    headings = rng.uniform(-4, 4, (boxes, 1))
    centres = rng.uniform(-3, 3, (boxes, 3))
    rois = np.concatenate([centres, sizes, headings], axis=1)
    places = rng.uniform(-4, 4, (points, 3))
    features = rng.normal(size=(points, 4))
    return float_tensor(places), float_tensor(features), float_tensor(rois)


def in_box_frame(points: Tensor, box: Tensor) -> np.ndarray:
    """Points (N, 3) along, across and above the centre of a box, in float64."""
    cos = np.cos(float(box[6]))
    sin = np.sin(float(box[6]))
    x, y, z = (points - box[:3]).double().numpy().T
    return np.column_stack([cos * x + sin * y, cos * y - sin * x, z])


def inside_by_brute_force(points: Tensor, box: Tensor) -> list[int]:
    """The rows of the points in a box."""
    half_size = box[3:6].double().numpy() / 2
    is_inside = (np.abs(in_box_frame(points, box)) <= half_size).all(axis=1)
    return np.flatnonzero(is_inside).tolist()


# --- points in boxes


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), samples=st.integers(1, 40))
def test_points_in_rois_by_brute_force(seed: int, samples: int) -> None:
    """Coordinates and features of the points, repeated in turn until there are enough."""
    points, features, rois = scene(seed)
    pooled, empty = ops.roipoint_pool3d(
        points[None], features[None], rois[None], samples, (0.4, 0.2, 0.0)
    )
    assert pooled.shape == (1, 5, samples, 7)
    enlarge = torch.tensor([0, 0, 0, 0.4, 0.2, 0, 0])
    coords_and_features = torch.cat([points, features], dim=1)
    for number, box in enumerate(rois):
        members = inside_by_brute_force(points, box + enlarge)
        assert empty[0, number] == (not members)
        expected = torch.zeros(samples, 7)
        if members:
            in_turn = itertools.islice(itertools.cycle(members), samples)
            expected = coords_and_features[list(in_turn)]
        assert torch.equal(pooled[0, number], expected)


def test_points_in_rois_stay_in_their_frame() -> None:
    """The point of the second frame lies outside its box."""
    points = torch.tensor([[[0.0, 0, 0]], [[9.0, 0, 0]]])
    features = torch.ones(2, 1, 1)
    rois = torch.tensor([[UNIT_BOX], [UNIT_BOX]])
    pooled, empty = ops.roipoint_pool3d(points, features, rois, 2)
    assert empty.tolist() == [[False], [True]]
    of_first, of_second = pooled[:, 0].tolist()
    assert of_first == [[0, 0, 0, 1], [0, 0, 0, 1]]
    assert of_second == [[0, 0, 0, 0], [0, 0, 0, 0]]


# --- cells of boxes


@pytest.mark.parametrize("method, first, last", [("max", 3.0, -5.0), ("avg", 1.5, -5.5)])
def test_cells_by_hand(method: str, first: float, last: float) -> None:
    """Two points a cell at most: the third one of the first cell, of feature 100, is left out."""
    points = torch.tensor(
        [
            [-0.5, -0.5, -0.5],
            [-0.4, -0.4, -0.4],
            [0.5, 0.5, 0.5],
            [-0.3, -0.3, -0.3],
            [0.9, 0.6, 0.1],
        ]
    )
    features = torch.tensor([[0.0], [3.0], [-6.0], [100.0], [-5.0]])
    pooled = ops.roiaware_pool3d(torch.tensor([UNIT_BOX]), points, features, 2, 3, method)
    assert pooled.shape == (1, 2, 2, 2, 1)
    assert pooled.flatten().tolist() == [first, 0, 0, 0, 0, 0, 0, last]


def cell_in_box(place: np.ndarray, box_size: np.ndarray, cells: tuple[int, int, int]) -> int:
    """The cell of a place in the frame of a box; a place on the upper face is in the last one."""
    index = []
    for offset, size, count in zip(place, box_size, cells):
        share = offset / size + 0.5  # 0 at the lower face, 1 at the upper one
        index.append(min(int(share * count), count - 1))
    x, y, z = index
    return (x * cells[1] + y) * cells[2] + z


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), limit=st.integers(2, 6))
def test_cells_by_brute_force(seed: int, limit: int) -> None:
    points, _, rois = scene(seed)
    cells = (3, 2, 4)
    cell_rows, point_rows = ops.cell_members(rois, points, cells, limit)
    members: dict[int, list[int]] = {}
    for number, box in enumerate(rois):
        places = in_box_frame(points, box)
        box_size = box[3:6].double().numpy()
        for row in inside_by_brute_force(points, box):
            cell = number * 3 * 2 * 4 + cell_in_box(places[row], box_size, cells)
            members.setdefault(cell, []).append(row)
    expected = []
    for cell in sorted(members):
        for row in members[cell][:limit]:
            expected.append((cell, row))
    assert list(zip(cell_rows.tolist(), point_rows.tolist())) == expected


def test_cells_of_a_batch_are_those_of_its_frames() -> None:
    """Three frames, the second one without points; rows and boxes count over the batch."""
    sizes = (3, 2, 4)
    scenes = [scene(5), scene(6), scene(7)]
    frames = [scenes[0][0], scenes[1][0][:0], scenes[2][0]]
    rois = torch.stack([boxes for _, _, boxes in scenes])
    counts = [len(points) for points in frames]
    found = ops.stack_cell_members(rois, torch.cat(frames), counts, sizes, 3)
    expected = []
    cells_of_frame = rois.shape[1] * 3 * 2 * 4
    first_point = 0
    for number, (points, boxes) in enumerate(zip(frames, rois)):
        cell, point = ops.cell_members(boxes, points, sizes, 3)
        expected += zip((cell + number * cells_of_frame).tolist(), (point + first_point).tolist())
        first_point += len(points)
    assert expected
    assert list(zip(found.cell.tolist(), found.point.tolist())) == expected
    assert found.shape == (3 * rois.shape[1], 3, 2, 4)


@pytest.mark.parametrize("method", ["max", "avg"])
def test_gradients_of_cells(method: str) -> None:
    points, features, rois = scene(3, points=40)
    features = features.double().requires_grad_()

    def pool(features: Tensor) -> Tensor:
        return ops.roiaware_pool3d(rois, points, features, 2, 4, method)

    assert torch.autograd.gradcheck(pool, features)


def test_gradient_of_a_tie_goes_to_the_first() -> None:
    points = torch.zeros(3, 3)
    features = torch.ones(3, 1, requires_grad=True)
    pooled = ops.roiaware_pool3d(torch.tensor([UNIT_BOX]), points, features, 1, 9, "max")
    pooled.sum().backward()
    assert features.grad.flatten().tolist() == [1, 0, 0]


NO_POINTS_OR_BOXES = [(0, 2), (5, 0), (0, 0)]


def far_points(count: int) -> Tensor:
    return torch.full((count, 3), 50.0)


@pytest.mark.parametrize("method", ["max", "avg"])
@pytest.mark.parametrize("points, boxes", NO_POINTS_OR_BOXES)
def test_no_cell_has_a_point(method: str, points: int, boxes: int) -> None:
    features = torch.ones(points, 2, requires_grad=True)
    rois = torch.tensor(UNIT_BOX).repeat(boxes, 1)
    pooled = ops.roiaware_pool3d(rois, far_points(points), features, 2, 8, method)
    assert pooled.shape == (boxes, 2, 2, 2, 2)
    assert (pooled == 0).all()
    pooled.sum().backward()
    assert (features.grad == 0).all()


@pytest.mark.parametrize("points, boxes", NO_POINTS_OR_BOXES)
def test_no_box_has_a_point(points: int, boxes: int) -> None:
    rois = torch.tensor(UNIT_BOX).repeat(boxes, 1)
    features = torch.ones(1, points, 2)
    pooled, empty = ops.roipoint_pool3d(far_points(points)[None], features, rois[None], 4)
    assert pooled.shape == (1, boxes, 4, 5)
    assert (pooled == 0).all()
    assert empty.all()


def test_unknown_pool_method() -> None:
    with pytest.raises(ConfigError, match="'median'"):
        ops.roiaware_pool3d(torch.zeros(0, 7), torch.zeros(0, 3), torch.zeros(0, 1), 2, 8, "median")


# --- voxels near a place

SHAPE = (4, 5, 6)
VOXEL_M = 0.5


def random_voxels(seed: int, share: float = 0.4) -> tuple[Tensor, Tensor]:
    """Occupied cells (N, 4) of two frames in random order, and their centres (N, 3) x, y, z."""
    rng = np.random.default_rng(seed)
    all_cells = np.array(list(itertools.product(range(2), range(4), range(5), range(6))))
    is_occupied = rng.uniform(size=len(all_cells)) < share
    cells = rng.permutation(all_cells[is_occupied])
    _, z, y, x = cells.T
    centres = (np.column_stack([x, y, z]) + 0.5) * VOXEL_M
    return torch.from_numpy(cells), float_tensor(centres)


def steps_of(reach: int) -> range:
    return range(-reach, reach + 1)


def voxels_by_brute_force(
    voxels: VoxelPlaces, cell: list[int], place: Tensor, within: SearchRange
) -> list[int]:
    """Rows of the first voxels within reach of a cell and of a place, in ascending z, y, x."""
    row_of_cell = {tuple(coords): row for row, coords in enumerate(voxels.coords.tolist())}
    frame, z, y, x = cell
    steps_z, steps_y, steps_x = (steps_of(reach) for reach in within.reach)
    hits = []
    for step_z, step_y, step_x in itertools.product(steps_z, steps_y, steps_x):
        row = row_of_cell.get((frame, z + step_z, y + step_y, x + step_x))
        if row is None:
            continue
        along_x, along_y, along_z = (voxels.centres[row] - place).square()
        if along_x + along_y + along_z <= within.radius_squared:
            hits.append(row)
    return hits[: within.num_neighbors]


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), slots=st.integers(1, 8), radius=st.floats(0.3, 2.0))
def test_voxels_by_brute_force(seed: int, slots: int, radius: float) -> None:
    """Queries lie inside and a little outside the grid."""
    cells, places = random_voxels(seed)
    rng = np.random.default_rng(seed + 1)
    centres = float_tensor(rng.uniform(-1, 3.5, (15, 3)))
    frame = torch.from_numpy(rng.integers(0, 2, (15, 1)))
    cell_zyx = (centres.flip(1) / VOXEL_M).floor().long()
    query_cells = torch.cat([frame, cell_zyx], dim=1)
    reach = (1, 2, 2)
    rows, found = ops.voxel_query(reach, radius, slots, places, cells, SHAPE, centres, query_cells)

    voxels = VoxelPlaces.of(places, cells)
    queries = VoxelPlaces.of(centres, query_cells)
    within = SearchRange(reach, np.float32(radius) * np.float32(radius), slots)
    for number in range(len(queries)):
        cell = query_cells[number].tolist()
        hits = voxels_by_brute_force(voxels, cell, centres[number], within)
        filler = hits[0] if hits else 0
        assert found[number] == len(hits)
        assert rows[number].tolist() == hits + [filler] * (slots - len(hits))

    plain_rows, plain_found = voxel_query_plain(voxels, SHAPE, queries, within)
    assert torch.equal(plain_rows, rows)
    assert torch.equal(plain_found, found)


def query_compiled(places: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
    """Look for neighbours where there are no voxels."""
    no_places = torch.zeros(0, 3)
    no_cells = torch.zeros(0, 4).long()
    return ops.voxel_query((1, 1, 1), 1.0, 3, no_places, no_cells, SHAPE, places, cells)


def query_plain(places: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
    no_voxels = VoxelPlaces.of(torch.zeros(0, 3), torch.zeros(0, 4).long())
    within = SearchRange((1, 1, 1), np.float32(1), 3)
    return voxel_query_plain(no_voxels, SHAPE, VoxelPlaces.of(places, cells), within)


@pytest.mark.parametrize("query", [query_compiled, query_plain])
def test_a_place_without_voxels_has_no_neighbours(query) -> None:
    rows, found = query(torch.zeros(1, 3), torch.tensor([[0, 1, 1, 1]]))
    assert rows.tolist() == [[0, 0, 0]]
    assert found.tolist() == [0]


@pytest.mark.parametrize("query", [query_compiled, query_plain])
def test_no_places_have_no_neighbours(query) -> None:
    rows, found = query(torch.zeros(0, 3), torch.zeros(0, 4).long())
    assert rows.shape == (0, 3)
    assert found.shape == (0,)
