"""Furthest point sampling by Triton against its plain version."""

from __future__ import annotations

import pytest
import torch
from triton_inputs import ragged

from pcdet_distill.ops.point_sampling import FURTHEST_POINTS, stack_furthest_points_plain
from pcdet_distill.ops.stacks import Stack

RAGGED = [[1], [37, 0, 64, 1, 5], [0, 130], [0, 0]]


@pytest.mark.parametrize("sizes", RAGGED)
@pytest.mark.parametrize("threads", [1, 16, 64])
@pytest.mark.parametrize("on_grid", [False, True])
def test_ragged_items(sizes: list[int], threads: int, on_grid: bool, device: torch.device) -> None:
    points = ragged(1, sizes, device, on_grid=on_grid)
    samples = [7 + 2 * item for item in range(len(sizes))]
    found = FURTHEST_POINTS.triton_form()(points, samples, threads)
    assert torch.equal(found, stack_furthest_points_plain(points, samples, threads))


@pytest.mark.parametrize("on_grid", [False, True])
def test_items_that_do_not_fit_into_registers(
    on_grid: bool, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tiles of 64 lanes pass over items of 300, of no and of 65 points."""
    kernels = pytest.importorskip("pcdet_distill.ops.accelerated.triton.furthest_points")
    monkeypatch.setattr(kernels, "MAX_IN_REGISTERS", 32)
    monkeypatch.setattr(kernels, "TILE", 64)
    points = ragged(2, [300, 0, 65], device, on_grid=on_grid)
    found = kernels.furthest_points(points, [40, 3, 80], 32)
    assert torch.equal(found, stack_furthest_points_plain(points, [40, 3, 80], 32))


def test_no_samples(device: torch.device) -> None:
    points = ragged(3, [4, 4], device, on_grid=False)
    assert FURTHEST_POINTS.triton_form()(points, [0, 2], 4).tolist() == (
        stack_furthest_points_plain(points, [0, 2], 4).tolist()
    )
    nothing = Stack.of_counts(torch.zeros(0, 3, device=device), [])
    assert FURTHEST_POINTS.triton_form()(nothing, [], 4).shape == (0,)
