"""Points by cell against a dictionary."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pcdet_distill.ops.point_groups import OUTSIDE, PointGrid, group_points, point_keys_plain

ORIGIN = (0.0, -1.0, 0.0)
SIZE = (0.5, 0.4, 1.0)
CELLS = (8, 10, 2)


def grid_of(axes: tuple[int, ...], device: torch.device) -> PointGrid:
    origin = torch.tensor(ORIGIN, device=device)
    return PointGrid(origin, torch.tensor(SIZE, device=device), CELLS, axes)


def points_of(seed: int, count: int, frames: int = 3) -> Tensor:
    """(count, 6) frame, x, y, z, ... with ties on borders, some outside or NaN."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(count, 6, generator=generator) * 6 - 1
    points = torch.round(points, decimals=1)
    points[:, 0] = torch.randint(0, frames, (count,), generator=generator).sort().values
    points[::13, 2] = math.nan
    return points


def slow_groups(points: Tensor, axes: tuple[int, ...]) -> dict[tuple[int, ...], list[int]]:
    """Rows of the points of each frame and cell."""
    places = torch.floor((points[:, 1:4] - torch.tensor(ORIGIN)) / torch.tensor(SIZE))
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, place in enumerate(places.tolist()):
        on_axes = [0 <= place[axis] < CELLS[axis] for axis in axes]
        if all(on_axes):
            cell = [int(place[axis]) for axis in axes]
            groups.setdefault((int(points[row, 0]), *cell), []).append(row)
    return groups


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 1, 0), (0, 1)])
@pytest.mark.parametrize("count", [0, 1, 400])
def test_groups(axes: tuple[int, ...], count: int, device: torch.device) -> None:
    points = points_of(1, count)
    expected = slow_groups(points, axes)
    groups = group_points(points.to(device), grid_of(axes, device))
    cells = [tuple(cell) for cell in groups.cells.tolist()]
    assert cells == sorted(expected)
    assert groups.counts.tolist() == [len(expected[cell]) for cell in cells]
    rows = groups.rows.split(groups.counts.tolist())
    assert [part.tolist() for part in rows] == [expected[cell] for cell in cells]
    every = torch.arange(len(cells), device=device)
    assert torch.equal(groups.owner, every.repeat_interleave(groups.counts))


def test_an_axis_left_out_has_no_end(device: torch.device) -> None:
    points = torch.tensor([[0, 1.0, 0.0, 900.0], [2, 1.0, 0.0, -900.0], [0, 1.0, 900.0, 0.0]])
    keys = point_keys_plain(points.to(device), grid_of((0, 1), device))
    assert keys.tolist() == [22, 2 * 80 + 22, OUTSIDE]
