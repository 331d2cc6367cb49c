"""Points in boxes and RoI point pooling by Triton against their plain versions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from triton_inputs import places

from pcdet_distill.ops.points import FIRST_BOX, INSIDE_BOXES, first_box_plain, points_in_boxes_plain
from pcdet_distill.ops.roi_pooling import FIRST_MEMBERS, first_members_plain

COUNTS = [(1, 1), (0, 3), (3, 0), (300, 9), (513, 17)]


def some_boxes(seed: int, count: int, device: torch.device, *, on_grid: bool) -> Tensor:
    """Boxes (count, 7) as a view of a wider tensor; on a grid, points lie on their faces."""
    centres = places(seed, count, device, on_grid=on_grid)
    sizes = places(seed + 1, count, device, on_grid=on_grid).abs() + 0.5
    if on_grid:
        sizes = sizes.ceil() * 2
    heading = places(seed + 2, count, device, on_grid=on_grid)[:, :1]
    return torch.cat([centres, sizes, heading, heading], dim=1)[:, :7]


@pytest.mark.parametrize(("num_points", "num_boxes"), COUNTS)
@pytest.mark.parametrize("on_grid", [False, True])
def test_mask(num_points: int, num_boxes: int, on_grid: bool, device: torch.device) -> None:
    points = places(1, num_points, device, on_grid=on_grid)
    boxes = some_boxes(2, num_boxes, device, on_grid=on_grid)
    found = INSIDE_BOXES.triton_form()(points, boxes)
    assert torch.equal(found, points_in_boxes_plain(points, boxes))


@pytest.mark.parametrize(("num_points", "num_boxes"), COUNTS)
@pytest.mark.parametrize("on_grid", [False, True])
def test_first_box(num_points: int, num_boxes: int, on_grid: bool, device: torch.device) -> None:
    """Two frames, whose boxes differ."""
    points = places(3, 2 * num_points, device, on_grid=on_grid).view(2, num_points, 3)
    boxes = some_boxes(4, 2 * num_boxes, device, on_grid=on_grid).reshape(2, num_boxes, 7)
    found = FIRST_BOX.triton_form()(points, boxes)
    assert torch.equal(found, first_box_plain(points, boxes))


@pytest.mark.parametrize(("num_points", "num_boxes"), COUNTS)
@pytest.mark.parametrize("limit", [1, 6, 700])
def test_first_members(num_points: int, num_boxes: int, limit: int, device: torch.device) -> None:
    """Two frames; the used places are compared, and the counts."""
    points = places(5, 2 * num_points, device, on_grid=False).view(2, num_points, 3)
    boxes = some_boxes(6, 2 * num_boxes, device, on_grid=False).reshape(2, num_boxes, 7)
    rows, found = FIRST_MEMBERS.triton_form()(points, boxes, limit)
    plain_rows, plain_found = first_members_plain(points, boxes, limit)
    assert torch.equal(found, plain_found)
    used = torch.arange(limit, device=device) < found.unsqueeze(-1)
    assert torch.equal(rows[used], plain_rows[used])


def test_members_beyond_the_first_tile(device: torch.device) -> None:
    """Only the last 10 of 3000 points lie in the box."""
    points = torch.full((1, 3000, 3), 50.0, device=device)
    points[0, -10:] = 0
    boxes = torch.tensor([[[0.0, 0, 0, 2, 2, 2, 0.3]]], device=device)
    rows, found = FIRST_MEMBERS.triton_form()(points, boxes, 4)
    assert rows.tolist() == [[[2990, 2991, 2992, 2993]]]
    assert found.tolist() == [[4]]
