"""Cubes of points by Triton against the plain versions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from triton_inputs import features, ragged, same

from pcdet_distill.models.model_utils.vector_pool_modules import (
    LOCAL_AGGREGATIONS,
    CubeCells,
    PointSets,
)
from pcdet_distill.ops import dispatch
from pcdet_distill.ops.stacks import Stack
from pcdet_distill.ops.vector_pool import (
    CUBE_PAIRS,
    FIRST_IN_CELLS,
    THREE_IN_CUBES,
    cell_offsets,
    cube_pairs_plain,
    first_in_cells_plain,
    three_nn_in_cubes_plain,
)

RAGGED = [([1], [1]), ([300, 0, 7, 2, 1], [9, 4, 0, 6, 3]), ([0, 600], [3, 2]), ([5], [0])]
Sizes = tuple[list[int], list[int]]


def stacks(sizes: Sizes, on_grid: bool, device: torch.device) -> tuple[Stack, Stack]:
    """Points and centres. On a grid many points lie exactly on a cube's surface or coincide."""
    points = ragged(1, sizes[0], device, on_grid=on_grid)
    centres = ragged(2, sizes[1], device, on_grid=on_grid)
    return points, centres


@pytest.mark.parametrize("sizes", RAGGED)
@pytest.mark.parametrize("on_grid", [False, True])
@pytest.mark.parametrize(("shape", "limit"), [((3, 3, 3), 1000), ((1, 1, 1), 40), ((2, 1, 3), 2)])
def test_three_nearest(
    sizes: Sizes,
    on_grid: bool,
    shape: tuple[int, int, int],
    limit: int,
    device: torch.device,
) -> None:
    points, centres = stacks(sizes, on_grid, device)
    offsets = cell_offsets(1.0, shape, device)
    found = THREE_IN_CUBES.triton_form()(points, centres, offsets, 2.0, limit)
    same(found, three_nn_in_cubes_plain(points, centres, offsets, 2.0, limit))


@pytest.mark.parametrize("sizes", RAGGED)
@pytest.mark.parametrize("on_grid", [False, True])
@pytest.mark.parametrize(("shape", "limit"), [((3, 3, 3), 27), ((1, 1, 1), 1), ((2, 1, 3), 4)])
def test_first_in_cells(
    sizes: Sizes,
    on_grid: bool,
    shape: tuple[int, int, int],
    limit: int,
    device: torch.device,
) -> None:
    points, centres = stacks(sizes, on_grid, device)
    rows = FIRST_IN_CELLS.triton_form()(points, centres, 1.5, shape, limit)
    same((rows,), (first_in_cells_plain(points, centres, 1.5, shape, limit),))


@pytest.mark.parametrize("sizes", RAGGED)
@pytest.mark.parametrize("on_grid", [False, True])
@pytest.mark.parametrize("limit", [1, 5, 1000])
def test_pairs(sizes: Sizes, on_grid: bool, limit: int, device: torch.device) -> None:
    points, centres = stacks(sizes, on_grid, device)
    pairs = CUBE_PAIRS.triton_form()(points, centres, 1.5, limit)
    same(pairs, cube_pairs_plain(points, centres, 1.5, limit))


def test_empty_cubes(device: torch.device) -> None:
    points = ragged(3, [40], device, on_grid=False)
    far = Stack.of_counts(torch.full((3, 3), 100.0, device=device), [3])
    offsets = cell_offsets(1.0, (2, 2, 2), device)
    distance, rows, found = THREE_IN_CUBES.triton_form()(points, far, offsets, 2.0, 9)
    assert distance.isinf().all() and not rows.any() and not found.any()
    assert (FIRST_IN_CELLS.triton_form()(points, far, 2.0, (2, 2, 2), 8) == -1).all()
    assert [len(side) for side in CUBE_PAIRS.triton_form()(points, far, 2.0, 9)] == [0, 0]


@pytest.mark.parametrize("kind", LOCAL_AGGREGATIONS)
def test_vectors_of_cells_and_their_gradients(
    kind: str, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole local aggregation, forward and backward, as plain and as Triton's operators."""
    points, centres = stacks(([80, 0, 9], [12, 2, 3]), False, device)
    sizes = points.sizes, centres.sizes
    cells = CubeCells([2, 2, 1], 1.0, 20)

    def run(kernels: str) -> tuple[Tensor, Tensor]:
        monkeypatch.setenv(dispatch.VARIABLE, kernels)
        inputs = features(4, len(points), 5, torch.float32, device).requires_grad_()
        sets = PointSets(points.xyz, sizes[0], centres.xyz, sizes[1], inputs)
        vectors, _ = LOCAL_AGGREGATIONS[kind].run(sets, cells)
        vectors.square().sum().backward()
        assert inputs.grad is not None
        return vectors.detach(), inputs.grad

    for found, expected in zip(run("triton"), run("plain"), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
