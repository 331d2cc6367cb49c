"""Cells of points by Triton against PyTorch, and whole voxels of a batch by it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pcdet_distill.ops import dispatch
from pcdet_distill.ops.batch_voxels import VoxelRule, voxelize_batch
from pcdet_distill.ops.point_groups import (
    OUTSIDE,
    POINT_KEYS,
    PointGrid,
    group_points,
    point_keys_plain,
)


def grid_of(
    axes: tuple[int, ...], device: torch.device, cells: tuple[int, int, int] = (8, 10, 2)
) -> PointGrid:
    """Edges whose quotients are rounded: 0.3 / 0.1 is not 3."""
    origin = torch.tensor([0.0, -1.0, 0.0], device=device)
    return PointGrid(origin, torch.tensor([0.1, 0.3, 0.7], device=device), cells, axes)


def points_of(seed: int, count: int, device: torch.device) -> Tensor:
    """(count, 6) frame, x, y, z, ... as every second column; ties on borders, NaN, infinite."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(count, 12, generator=generator) * 3 - 1
    points = torch.round(points, decimals=1)
    points[:, 0] = torch.randint(0, 3, (count,), generator=generator).sort().values
    points[::13, 4] = math.nan
    points[5::31, 2] = -math.inf
    return points.to(device)[:, ::2]


@pytest.mark.parametrize("axes", [(2, 1, 0), (0, 1, 2), (0, 1)])
@pytest.mark.parametrize("count", [0, 1, 700])
def test_keys(axes: tuple[int, ...], count: int, device: torch.device) -> None:
    points = points_of(1, count, device)
    grid = grid_of(axes, device)
    found = POINT_KEYS.triton_form()(points, grid)
    assert torch.equal(found, point_keys_plain(points, grid))


def test_keys_above_32_bits(device: torch.device) -> None:
    """3000 x 2000 x 4000 cells; frame 2 starts at 4.8e10."""
    grid = grid_of((2, 1, 0), device, cells=(3000, 2000, 4000))
    points = torch.tensor([[2, 299.95, 598.9, 2799.7], [0, 0.05, -0.9, 0.1]], device=device)
    found = POINT_KEYS.triton_form()(points, grid)
    assert found.tolist() == [3 * 3000 * 2000 * 4000 - 1, 0]
    assert torch.equal(found, point_keys_plain(points, grid))


def test_voxels_of_a_batch(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    points = points_of(2, 500, device)
    rule = VoxelRule([0, -1, 0, 0.8, 2, 1.4], [0.1, 0.3, 0.7], 3, 20)
    monkeypatch.setenv(dispatch.VARIABLE, "triton")
    found = voxelize_batch(points, 4, rule)
    monkeypatch.setenv(dispatch.VARIABLE, "plain")
    expected = voxelize_batch(points, 4, rule)
    assert (found.coords[:, 0].bincount() == 20).any()
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_groups_of_points(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    points = points_of(3, 300, device)
    grid = grid_of((0, 1), device)
    monkeypatch.setenv(dispatch.VARIABLE, "triton")
    found = group_points(points, grid)
    monkeypatch.setenv(dispatch.VARIABLE, "plain")
    for one, other in zip(found, group_points(points, grid), strict=True):
        assert torch.equal(one, other)
    assert OUTSIDE in point_keys_plain(points, grid)
