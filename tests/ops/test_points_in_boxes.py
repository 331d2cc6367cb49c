"""Points in boxes: the margins, plain against compiled, and hull counts against half-spaces."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch

from pcdet_distill.ops import points as point_ops
from pcdet_distill.ops.boxes import boxes_to_corners_3d

# At (10, -5, 1): 4 m long, 2 m wide, 2 m high.
BOX = np.array([[10.0, -5, 1, 4, 2, 2, 0]], np.float32)


class Found(NamedTuple):
    """Whether a point is inside by each of the three rules."""

    device: bool
    host: bool
    hull: bool


NOWHERE = Found(device=False, host=False, hull=False)
EVERYWHERE = Found(device=True, host=True, hull=True)
BY_HOST_ALONE = Found(device=False, host=True, hull=False)


def inside(offset: tuple[float, float, float], box: np.ndarray = BOX) -> Found:
    """Where the point at that offset from the box centre is inside."""
    centre = box[:, :3].astype(np.float64)
    point = (centre + offset).astype(np.float32)
    rows = point_ops.points_in_boxes(torch.from_numpy(point), torch.from_numpy(box))
    mask = point_ops.points_in_boxes_mask(point, box)
    counts = point_ops.count_points_in_corners(point, boxes_to_corners_3d(box))
    return Found(
        device=rows.tolist() == [0],
        host=mask.tolist() == [[1]],
        hull=counts.tolist() == [1],
    )


def random_boxes(
    rng: np.random.Generator, count: int, spread_m: float, largest_m: float
) -> np.ndarray:
    """(count, 7) boxes of at least 1 m, in float64."""
    centres = rng.uniform(-spread_m, spread_m, (count, 3))
    sizes = rng.uniform(1, largest_m, (count, 3))
    headings = rng.uniform(-4, 4, (count, 1))
    return np.concatenate((centres, sizes, headings), axis=1)


def test_the_three_margins() -> None:
    """The host's rule adds a centimetre to the sides, which end at 2 m and 1 m."""
    assert inside((0, 0, 0)) == EVERYWHERE
    assert inside((1.999, 0.999, 0.999)) == EVERYWHERE
    assert inside((2.005, 0, 0)) == BY_HOST_ALONE
    assert inside((0, 1.005, 0)) == BY_HOST_ALONE
    assert inside((2.02, 0, 0)) == NOWHERE


def test_the_margin_of_the_device_is_a_hundredth_of_a_millimetre() -> None:
    cube_at_zero = np.array([[0.0, 0, 0, 2, 2, 2, 0]], np.float32)  # where float32 resolves it
    assert inside((1 + 5e-6, 0, 0), cube_at_zero).device
    assert inside((0, -1 - 5e-6, 0), cube_at_zero).device
    assert not inside((1 + 3e-5, 0, 0), cube_at_zero).device
    assert not inside((0, -1 - 3e-5, 0), cube_at_zero).device


def test_height_is_inclusive() -> None:
    assert inside((0, 0, 1)) == EVERYWHERE
    assert inside((0, 0, -1)) == EVERYWHERE
    assert inside((0, 0, 1.005)) == NOWHERE


def test_a_turned_box() -> None:
    """Turned by 45 degrees, it reaches 2 m along the diagonal and 1 m across it."""
    turned = BOX.copy()
    turned[0, 6] = math.pi / 4
    step = 1.9 * math.sqrt(0.5)
    assert inside((step, step, 0), turned) == EVERYWHERE
    assert inside((step, -step, 0), turned) == NOWHERE


def test_the_first_box_wins_and_outside_is_minus_one() -> None:
    boxes = torch.tensor([[0.0, 0, 0, 2, 2, 2, 0], [0.5, 0, 0, 2, 2, 2, 0]])
    in_both = [0.2, 0, 0]
    in_the_second = [1.2, 0, 0]
    outside = [9, 0, 0]
    points = torch.tensor([in_both, in_the_second, outside])
    assert point_ops.points_in_boxes(points, boxes).tolist() == [0, 1, -1]


def test_batch_items_do_not_mix() -> None:
    points = torch.zeros(2, 1, 3)
    boxes_of_first = [[0.0, 0, 0, 1, 1, 1, 0]]
    boxes_of_second = [[5.0, 0, 0, 1, 1, 1, 0]]
    boxes = torch.tensor([boxes_of_first, boxes_of_second])
    assert point_ops.points_in_boxes(points, boxes).tolist() == [[0], [-1]]


def test_plain_and_compiled_masks_agree(device: torch.device) -> None:
    rng = np.random.default_rng(0)
    points = torch.from_numpy(rng.uniform(-5, 5, (2000, 4)).astype(np.float32))
    boxes = torch.from_numpy(random_boxes(rng, 9, 4, 5).astype(np.float32))
    plain = point_ops.points_in_boxes_plain(points.to(device), boxes.to(device)).cpu()
    is_in_any = plain.any(dim=0)
    first_box = torch.where(is_in_any, plain.int().argmax(dim=0), -1)
    assert torch.equal(point_ops.points_in_boxes(points, boxes), first_box)
    assert 100 < is_in_any.sum() < 1900


# The corners of each of the six faces of a box.
FACES = (
    [0, 1, 2, 3],
    [4, 5, 6, 7],
    [0, 1, 4, 5],
    [2, 3, 6, 7],
    [0, 3, 4, 7],
    [1, 2, 5, 6],
)


def count_by_half_spaces(points: np.ndarray, corners: np.ndarray) -> int:
    """How many points (N, 3) lie within all six faces of a box with corners (8, 3)."""
    centre = corners.mean(axis=0)
    is_inside = np.ones(len(points), dtype=bool)
    for face in FACES:
        to_face = corners[face].mean(axis=0) - centre
        is_inside &= (points - centre) @ to_face <= to_face @ to_face
    return int(is_inside.sum())


def test_hull_counts_equal_half_spaces_in_any_frame() -> None:
    """Points and boxes are turned to a camera's axes: right, down, ahead."""
    to_camera = np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]])
    rng = np.random.default_rng(1)
    points = rng.uniform(-4, 4, (3000, 3)) @ to_camera
    corners = boxes_to_corners_3d(random_boxes(rng, 6, 3, 4)) @ to_camera
    expected = [count_by_half_spaces(points, of_box) for of_box in corners]
    assert point_ops.count_points_in_corners(points, corners).tolist() == expected
    assert min(expected) > 0


def test_no_points() -> None:
    no_points = np.zeros((0, 4), np.float32)
    corners = boxes_to_corners_3d(BOX)
    rows = point_ops.points_in_boxes(torch.zeros(0, 3), torch.from_numpy(BOX))
    assert rows.shape == (0,)
    assert point_ops.points_in_boxes_mask(no_points, BOX).shape == (1, 0)
    assert point_ops.count_points_in_corners(no_points, corners).tolist() == [0]


def test_no_boxes() -> None:
    no_boxes = np.zeros((0, 7), np.float32)
    points = np.zeros((3, 4), np.float32)
    rows = point_ops.points_in_boxes(torch.zeros(3, 3), torch.zeros(0, 7))
    assert rows.tolist() == [-1, -1, -1]
    assert point_ops.points_in_boxes_mask(points, no_boxes).shape == (0, 3)
    no_corners = boxes_to_corners_3d(no_boxes)
    assert point_ops.count_points_in_corners(points[:0], no_corners).shape == (0,)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_inputs_are_unchanged(dtype: type) -> None:
    points = np.ones((5, 4), dtype)
    boxes = BOX.astype(dtype)
    point_ops.points_in_boxes_mask(points, boxes)
    point_ops.count_points_in_corners(points, boxes_to_corners_3d(boxes))
    assert (points == 1).all()
    assert (boxes == BOX).all()
