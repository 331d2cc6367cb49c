"""Points in boxes: the margins, plain against compiled, and hull counts against half-spaces."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pcdet_distill.ops import points as point_ops
from pcdet_distill.ops.boxes import boxes_to_corners_3d

BOX = np.array([[10.0, -5, 1, 4, 2, 2, 0]], np.float32)


def inside(offset: tuple[float, float, float], box: np.ndarray = BOX) -> tuple[bool, bool, bool]:
    """Whether the point at that offset from the box centre is inside by each of the three rules."""
    point = (box[:, :3].astype(np.float64) + offset).astype(np.float32)
    by_device = point_ops.points_in_boxes(torch.from_numpy(point), torch.from_numpy(box))[0] == 0
    by_host = point_ops.points_in_boxes_mask(point, box)[0, 0] == 1
    by_hull = point_ops.count_points_in_corners(point, boxes_to_corners_3d(box))[0] == 1
    return bool(by_device), bool(by_host), bool(by_hull)


def test_the_three_margins() -> None:
    assert inside((0, 0, 0)) == (True, True, True)
    assert inside((2.005, 0, 0)) == (False, True, False)
    assert inside((0, 1.005, 0)) == (False, True, False)
    assert inside((2.02, 0, 0)) == (False, False, False)
    assert inside((1.999, 0.999, 0.999)) == (True, True, True)


def test_the_margin_of_the_device_is_a_hundredth_of_a_millimetre() -> None:
    at_zero = np.array([[0.0, 0, 0, 2, 2, 2, 0]], np.float32)  # where float32 resolves it
    assert inside((1 + 5e-6, 0, 0), at_zero)[0]
    assert inside((0, -1 - 5e-6, 0), at_zero)[0]
    assert not inside((1 + 3e-5, 0, 0), at_zero)[0]
    assert not inside((0, -1 - 3e-5, 0), at_zero)[0]


def test_height_is_inclusive() -> None:
    assert inside((0, 0, 1)) == (True, True, True)
    assert inside((0, 0, -1)) == (True, True, True)
    assert inside((0, 0, 1.005)) == (False, False, False)


def test_a_turned_box() -> None:
    turned = BOX.copy()
    turned[0, 6] = math.pi / 4
    along = math.sqrt(0.5) * 1.9
    assert inside((along, along, 0), turned) == (True, True, True)
    assert inside((along, -along, 0), turned) == (False, False, False)


def test_the_first_box_wins_and_outside_is_minus_one() -> None:
    boxes = torch.tensor([[0.0, 0, 0, 2, 2, 2, 0], [0.5, 0, 0, 2, 2, 2, 0]])
    points = torch.tensor([[0.2, 0, 0], [1.2, 0, 0], [9, 0, 0]])
    assert point_ops.points_in_boxes(points, boxes).tolist() == [0, 1, -1]


def test_batch_items_do_not_mix() -> None:
    points = torch.zeros(2, 1, 3)
    boxes = torch.tensor([[[0.0, 0, 0, 1, 1, 1, 0]], [[5.0, 0, 0, 1, 1, 1, 0]]])
    assert point_ops.points_in_boxes(points, boxes).tolist() == [[0], [-1]]


def test_plain_and_compiled_masks_agree(device: torch.device) -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(-5, 5, (2000, 4)).astype(np.float32)
    boxes = np.concatenate(
        (rng.uniform(-4, 4, (9, 3)), rng.uniform(1, 5, (9, 3)), rng.uniform(-4, 4, (9, 1))), axis=1
    )
    cloud = torch.from_numpy(points)
    cuboids = torch.from_numpy(boxes.astype(np.float32))
    plain = point_ops.points_in_boxes_plain(cloud.to(device), cuboids.to(device)).cpu()
    first = torch.where(plain.any(0), plain.int().argmax(0), -1)
    assert torch.equal(point_ops.points_in_boxes(cloud, cuboids), first)
    assert 100 < (first >= 0).sum() < 1900


def test_hull_counts_equal_half_spaces_in_any_frame() -> None:
    """Six inequalities, one for each face of a box that is turned to a camera's axes."""
    rng = np.random.default_rng(1)
    points = rng.uniform(-4, 4, (3000, 3)) @ np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]])
    boxes = np.concatenate(
        (rng.uniform(-3, 3, (6, 3)), rng.uniform(1, 4, (6, 3)), rng.uniform(-4, 4, (6, 1))), axis=1
    )
    corners = boxes_to_corners_3d(boxes) @ np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]])
    faces = ((0, 1, 2, 3), (4, 5, 6, 7), (0, 1, 4, 5), (2, 3, 6, 7), (0, 3, 4, 7), (1, 2, 5, 6))
    expected = []
    for cuboid in corners:
        centre = cuboid.mean(axis=0)
        outwards = [cuboid[list(face)].mean(axis=0) - centre for face in faces]
        expected.append(
            np.all([(points - centre) @ out <= out @ out for out in outwards], axis=0).sum()
        )
    assert point_ops.count_points_in_corners(points, corners).tolist() == expected
    assert min(expected) > 0


def test_empty_inputs() -> None:
    none = np.zeros((0, 4), np.float32)
    boxes = np.zeros((0, 7), np.float32)
    assert point_ops.points_in_boxes_mask(none, BOX).shape == (1, 0)
    assert point_ops.points_in_boxes_mask(np.zeros((3, 4), np.float32), boxes).shape == (0, 3)
    assert point_ops.points_in_boxes(torch.zeros(3, 3), torch.zeros(0, 7)).tolist() == [-1, -1, -1]
    assert point_ops.points_in_boxes(torch.zeros(0, 3), torch.from_numpy(BOX)).shape == (0,)
    assert point_ops.count_points_in_corners(none, boxes_to_corners_3d(BOX)).tolist() == [0]
    assert point_ops.count_points_in_corners(none, boxes_to_corners_3d(boxes)).shape == (0,)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_inputs_are_unchanged(dtype: type) -> None:
    points = np.ones((5, 4), dtype)
    boxes = BOX.astype(dtype)
    point_ops.points_in_boxes_mask(points, boxes)
    point_ops.count_points_in_corners(points, boxes_to_corners_3d(boxes))
    assert (points == 1).all()
    assert (boxes == BOX).all()
