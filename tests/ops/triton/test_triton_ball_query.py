"""Ball query by Triton against its plain version."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from triton_inputs import ragged, same

from pcdet_distill.ops.point_sampling import BALL_QUERY, ball_query_plain
from pcdet_distill.ops.rows import fill_with_first
from pcdet_distill.ops.stacks import Stack

RAGGED = [([1], [1]), ([300, 0, 7, 1], [9, 4, 0, 17]), ([0, 600], [3, 2]), ([5], [0])]


def filled(found: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Rows whose unused places repeat the first one, and how many were found."""
    rows, count = found
    return fill_with_first(rows, count), count


@pytest.mark.parametrize("sizes", RAGGED)
@pytest.mark.parametrize("limit", [1, 5, 300])
@pytest.mark.parametrize("on_grid", [False, True])
def test_ragged_items(
    sizes: tuple[list[int], list[int]], limit: int, on_grid: bool, device: torch.device
) -> None:
    """On a grid many points lie exactly on the surface, which is outside."""
    points = ragged(1, sizes[0], device, on_grid=on_grid)
    centres = ragged(2, sizes[1], device, on_grid=on_grid)
    found = BALL_QUERY.triton_form()(1.0, limit, points, centres)
    same(filled(found), ball_query_plain(1.0, limit, points, centres))


def test_empty_balls(device: torch.device) -> None:
    points = ragged(3, [40], device, on_grid=False)
    far = Stack.of_counts(torch.full((3, 3), 100.0, device=device), [3])
    rows, found = BALL_QUERY.triton_form()(1.0, 4, points, far)
    assert not rows.any() and not found.any()
