"""Box geometry and IoU: hand-made cases, exact polygons, invariances, plain against compiled."""

from __future__ import annotations

import math

import exact_polygons
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pcdet_distill.ops import boxes as box_ops

IOU_FUNCTIONS = (
    box_ops.boxes_overlap_bev,
    box_ops.boxes_overlap_bev_plain,
    box_ops.boxes_iou_bev,
    box_ops.boxes_iou3d,
    box_ops.boxes_bev_aligned_iou,
    box_ops.boxes3d_nearest_bev_iou,
)
# The corner margin of 1 cm may change an IoU this much when edges nearly coincide. This holds for
# boxes of 1.5 m and more; with half a metre a change of 0.09 has been seen.
MARGIN_TOLERANCE = 0.04


def random_boxes(count: int, seed: int, spread_m: float = 4.0) -> Tensor:
    rng = np.random.default_rng(seed)
    """Boxes (count, 7) whose centres lie within a few metres."""
    centre = rng.uniform(-spread_m, spread_m, (count, 3)) * (1, 1, 0.2)
    size = rng.uniform(0.6, 4.5, (count, 3))
    heading = rng.uniform(-7, 7, (count, 1))
    boxes = np.concatenate((centre, size, heading), axis=1)
    return torch.from_numpy(boxes.astype(np.float32))


def box(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float32)


SMALL = st.floats(-3, 3, width=32)
SIZE = st.floats(1.5, 5, width=32)
BOX = st.tuples(SMALL, SMALL, SMALL, SIZE, SIZE, SIZE, st.floats(-7, 7, width=32)).map(
    lambda values: box(*values)
)


def test_iou_of_hand_made_boxes() -> None:
    """Cubes of 2 metres, one shifted by half its length and half its height."""
    cube = box(0, 0, 0, 2, 2, 2, 0)
    shifted = box(1, 0, 1, 2, 2, 2, 0)
    # On the ground: 2 of each one's 4 square metres. In space: 2 of each one's 8 cubic metres.
    shared = 2
    assert box_ops.boxes_overlap_bev(cube, shifted).item() == pytest.approx(shared, abs=1e-5)
    iou_bev = shared / (4 + 4 - shared)
    assert box_ops.boxes_iou_bev(cube, shifted).item() == pytest.approx(iou_bev, abs=1e-5)
    iou_3d = shared / (8 + 8 - shared)
    assert box_ops.boxes_iou3d(cube, shifted).item() == pytest.approx(iou_3d, abs=1e-5)


def test_a_square_turned_by_45_degrees_shares_an_octagon() -> None:
    square = box(0, 0, 0, 2, 2, 2, 0)
    turned = box(0, 0, 0, 2, 2, 2, math.pi / 4)
    octagon = 8 * (math.sqrt(2) - 1)  # area of the regular octagon around a circle of radius 1
    assert box_ops.boxes_overlap_bev(square, turned).item() == pytest.approx(octagon, abs=1e-4)
    assert box_ops.boxes_bev_aligned_iou(square, turned).item() == pytest.approx(1)


def test_boxes_above_each_other_share_no_volume() -> None:
    low = box(0, 0, 0, 2, 2, 1, 0.3)
    high = box(0, 0, 1.5, 2, 2, 1, 0.3)
    assert box_ops.boxes_iou_bev(low, high).item() == pytest.approx(1, abs=1e-4)
    assert box_ops.boxes_iou3d(low, high).item() == 0


def test_far_boxes_do_not_overlap() -> None:
    here = box(0, 0, 0, 4, 2, 1, 0.1)
    there = box(4.5, 0, 0, 4, 2, 1, 0.1)
    assert box_ops.boxes_overlap_bev(here, there).item() == 0
    assert box_ops.boxes_overlap_bev_plain(here, there).item() == 0


def test_nearest_bev_iou_turns_boxes_to_the_nearest_axis() -> None:
    """A box of 4 m by 2 m that lies across another shares 4 of 8 square metres with it."""
    along = box(0, 0, 0, 4, 2, 1, 0)
    nearly_along = box(0, 0, 0, 4, 2, 1, math.pi - 0.3)
    nearly_across = box(0, 0, 0, 4, 2, 1, math.pi / 2 + 0.3)
    iou_along = box_ops.boxes3d_nearest_bev_iou(along, nearly_along).item()
    iou_across = box_ops.boxes3d_nearest_bev_iou(along, nearly_across).item()
    assert iou_along == pytest.approx(1)
    assert iou_across == pytest.approx(4 / (8 + 8 - 4))


@pytest.mark.parametrize("overlap", [box_ops.boxes_overlap_bev, box_ops.boxes_overlap_bev_plain])
def test_rotated_overlap_is_close_to_exact_clipping(overlap) -> None:
    boxes_a = random_boxes(60, 0)
    boxes_b = random_boxes(50, 1)
    got = overlap(boxes_a, boxes_b).numpy()
    exact = exact_polygons.overlap_matrix(boxes_a.numpy(), boxes_b.numpy())
    difference = np.abs(got - exact)
    assert np.quantile(difference, 0.9) < 1e-4
    assert difference.max() < 0.1
    assert (exact > 0.1).sum() > 300


def test_plain_and_compiled_overlaps_agree(device: torch.device) -> None:
    boxes_a = random_boxes(120, 2)
    boxes_b = random_boxes(90, 3)
    plain = box_ops.boxes_overlap_bev_plain(boxes_a.to(device), boxes_b.to(device)).cpu()
    compiled = box_ops.boxes_overlap_bev(boxes_a, boxes_b)
    torch.testing.assert_close(plain, compiled, atol=1e-4, rtol=1e-4)


def test_plain_overlap_does_not_depend_on_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes_a = random_boxes(30, 4)
    boxes_b = random_boxes(20, 5)
    whole = box_ops.boxes_overlap_bev_plain(boxes_a, boxes_b)
    monkeypatch.setattr(box_ops, "PAIRS_PER_CHUNK", 7)
    assert torch.equal(box_ops.boxes_overlap_bev_plain(boxes_a, boxes_b), whole)


def test_plain_and_compiled_aligned_iou_are_equal_to_the_bit() -> None:
    boxes_a = random_boxes(200, 6)
    boxes_b = random_boxes(33, 7)

    def rectangles(boxes: Tensor) -> Tensor:
        centre = boxes[:, :2]
        half_size = boxes[:, 3:5] / 2
        return torch.cat((centre - half_size, centre + half_size), dim=1)

    plain = box_ops.aligned_iou_plain(rectangles(boxes_a), rectangles(boxes_b), min_union=1e-8)
    assert torch.equal(box_ops.boxes_bev_aligned_iou(boxes_a, boxes_b), plain)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(BOX, BOX)
def test_iou_is_symmetric_and_bounded(box_a: Tensor, box_b: Tensor) -> None:
    for function in (box_ops.boxes_iou_bev, box_ops.boxes_iou3d, box_ops.boxes3d_nearest_bev_iou):
        there = function(box_a, box_b).item()
        back = function(box_b, box_a).item()
        assert there == pytest.approx(back, abs=MARGIN_TOLERANCE)
        assert 0 <= there <= 1 + MARGIN_TOLERANCE


@settings(max_examples=150, deadline=None, derandomize=True)
@given(BOX, BOX)
def test_rotated_iou_agrees_with_exact_polygons(box_a: Tensor, box_b: Tensor) -> None:
    exact = exact_polygons.iou_bev(box_a[0].numpy(), box_b[0].numpy())
    assert box_ops.boxes_iou_bev(box_a, box_b).item() == pytest.approx(exact, abs=MARGIN_TOLERANCE)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(BOX, BOX, st.floats(-4, 4, width=32), SMALL, SMALL)
def test_iou_is_the_same_in_a_moved_scene(box_a, box_b, angle_rad, shift_x, shift_y) -> None:
    moved = []
    for one in (box_a, box_b):
        turned = one.clone()
        centre = one[None, :, :3]
        turned[:, :3] = box_ops.rotate_points_along_z(centre, torch.tensor([angle_rad]))[0]
        turned[:, 0] += shift_x
        turned[:, 1] += shift_y
        turned[:, 6] += angle_rad
        moved.append(turned)
    moved_a, moved_b = moved
    for function in (box_ops.boxes_iou_bev, box_ops.boxes_iou3d):
        before = function(box_a, box_b).item()
        after = function(moved_a, moved_b).item()
        assert after == pytest.approx(before, abs=MARGIN_TOLERANCE)


def test_a_box_overlaps_itself_after_half_and_quarter_turns() -> None:
    boxes = random_boxes(40, 8)
    half_turn = boxes.clone()
    half_turn[:, 6] += math.pi
    with_itself = box_ops.boxes_iou_bev(boxes, half_turn).diagonal()
    assert with_itself.numpy() == pytest.approx(1, abs=1e-3)
    # After a quarter turn length and width change places.
    quarter_turn = boxes.clone()
    quarter_turn[:, 3] = boxes[:, 4]
    quarter_turn[:, 4] = boxes[:, 3]
    quarter_turn[:, 6] += math.pi / 2
    with_itself = box_ops.boxes_iou3d(boxes, quarter_turn).diagonal()
    assert with_itself.numpy() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("function", IOU_FUNCTIONS)
def test_empty_inputs(function, device: torch.device) -> None:
    some = random_boxes(3, 9).to(device)
    none = torch.zeros(0, 7, device=device)
    assert function(some, none).shape == (3, 0)
    assert function(none, some).shape == (0, 3)
    assert function(none, none).shape == (0, 0)


@pytest.mark.parametrize("function", IOU_FUNCTIONS)
def test_inputs_are_unchanged_and_further_columns_ignored(function) -> None:
    boxes_a = random_boxes(12, 10)
    boxes_b = random_boxes(9, 11)
    before_a = boxes_a.clone()
    before_b = boxes_b.clone()
    result = function(boxes_a, boxes_b)
    assert torch.equal(boxes_a, before_a)
    assert torch.equal(boxes_b, before_b)
    with_further_columns = torch.cat((boxes_a, torch.ones(12, 2)), dim=1).requires_grad_()
    assert torch.equal(function(with_further_columns, boxes_b.double()), result)


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    boxes_a = random_boxes(80, 12)
    boxes_b = random_boxes(70, 13)
    threads = torch.get_num_threads()
    results = []
    for count in (1, 2):
        torch.set_num_threads(count)
        results.append([function(boxes_a, boxes_b) for function in IOU_FUNCTIONS])
    torch.set_num_threads(threads)
    for by_one_thread, by_two_threads in zip(*results):
        assert torch.equal(by_one_thread, by_two_threads)


def test_boxes_that_are_not_finite_leave_the_others_unchanged() -> None:
    boxes = random_boxes(4, 14)
    broken = boxes.clone()
    broken[1, 0] = math.nan
    broken[2, 3] = math.inf
    for function in (box_ops.boxes_iou_bev, box_ops.boxes3d_nearest_bev_iou):
        expected = function(boxes, boxes)
        found = function(broken, boxes)
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[3], expected[3])


@pytest.mark.parametrize("offset, low, high", [(0.5, -math.pi / 2, math.pi / 2), (0.0, 0, math.pi)])
def test_limit_period_keeps_the_direction(offset: float, low: float, high: float) -> None:
    """Angles half a turn apart have the same tangent."""
    angles = np.linspace(-20, 20, 401)
    limited = box_ops.limit_period(angles, offset, math.pi)
    assert limited.min() >= low - 1e-9
    assert limited.max() <= high + 1e-9
    np.testing.assert_allclose(np.tan(limited), np.tan(angles), rtol=1e-6)


def test_limit_period_of_a_tensor() -> None:
    limited = box_ops.limit_period(torch.tensor([4.0]))
    assert torch.is_tensor(limited)
    assert limited.item() == pytest.approx(4 - math.pi)


@pytest.mark.parametrize("as_tensor", [True, False])
def test_rotation_turns_x_towards_y_and_keeps_further_columns(as_tensor: bool) -> None:
    points = np.array([[[1.0, 0.0, 5.0, 0.25]]], np.float32)
    angle = np.array([math.pi / 2], np.float32)
    if as_tensor:
        turned = box_ops.rotate_points_along_z(torch.from_numpy(points), torch.from_numpy(angle))
        assert isinstance(turned, Tensor)
    else:
        turned = box_ops.rotate_points_along_z(points, angle)
        assert isinstance(turned, np.ndarray)
    np.testing.assert_allclose(np.asarray(turned), [[[0, 1, 5, 0.25]]], atol=1e-6)


def test_corners_of_a_turned_box() -> None:
    corners = box_ops.boxes_to_corners_3d(np.array([[10.0, 20, 1, 4, 2, 2, math.pi / 2]]))
    expected = [
        [9, 22, 0],
        [11, 22, 0],
        [11, 18, 0],
        [9, 18, 0],
        [9, 22, 2],
        [11, 22, 2],
        [11, 18, 2],
        [9, 18, 2],
    ]
    np.testing.assert_allclose(corners[0], expected, atol=1e-6)
    assert box_ops.boxes_to_corners_3d(torch.zeros(0, 7)).shape == (0, 8, 3)


def test_enlarging_returns_a_copy() -> None:
    boxes = random_boxes(2, 15)
    before = boxes.clone()
    larger = box_ops.enlarge_box3d(boxes, (0.2, 0.4, 0.6))
    assert torch.equal(boxes, before)
    expected_size = boxes[:, 3:6] + torch.tensor([0.2, 0.4, 0.6])
    torch.testing.assert_close(larger[:, 3:6], expected_size)
    assert torch.equal(larger[:, :3], boxes[:, :3])
    assert torch.equal(larger[:, 6], boxes[:, 6])


def test_boxes_outside_the_range_by_centre_and_by_corners() -> None:
    limits = [0, -10, -2, 20, 10, 2]
    centre_on_the_border = [20, 10, 2, 4, 2, 1, 0]
    centre_just_outside = [20.1, 0, 0, 4, 2, 1, 0]
    far_outside = [25, 0, 0, 4, 2, 1, 0]
    boxes = np.array([centre_on_the_border, centre_just_outside, far_outside], np.float32)
    by_centre = box_ops.mask_boxes_outside_range(boxes, limits)
    assert by_centre.tolist() == [True, False, False]
    by_corner = box_ops.mask_boxes_outside_range(boxes, limits, 1, use_center_to_filter=False)
    assert by_corner.tolist() == [True, True, False]
    by_5_corners = box_ops.mask_boxes_outside_range(boxes, limits, 5, use_center_to_filter=False)
    assert by_5_corners.tolist() == [False, False, False]
    assert box_ops.mask_boxes_outside_range(boxes[:0], limits).shape == (0,)


def test_along_and_across_turn_back_what_the_heading_turned() -> None:
    boxes = np.array(
        [[5.0, 2.0, 0.0, 4.0, 2.0, 1.5, np.pi / 2], [0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0]]
    )
    places = np.array([[5.0, 4.0], [4.0, 2.0], [3.0, -1.0]])
    # The first box looks to the left: the first place is 2 m ahead, the second 1 m to its left.
    expected_along = [[2.0, 0.0, -3.0], [5.0, 4.0, 3.0]]
    expected_across = [[0.0, 1.0, 2.0], [4.0, 2.0, -1.0]]
    for kind in (np.asarray, torch.as_tensor):
        along, across = box_ops.along_and_across(kind(places), kind(boxes))
        np.testing.assert_allclose(along, expected_along, atol=1e-12)
        np.testing.assert_allclose(across, expected_across, atol=1e-12)


def test_arrays_are_rotated_to_the_bit_as_tensors_are() -> None:
    """Training frames are arrays, and the recorded ones were rotated as tensors."""
    random = np.random.RandomState(0)
    points = random.normal(0, 30, (2, 5000, 5)).astype(np.float32)
    angle = random.uniform(-3, 3, 2).astype(np.float32)
    before = points.copy()
    part = points[:, ::3, :4]  # not contiguous
    rotated = box_ops.rotate_points_along_z(part, angle)
    expected = box_ops.rotate_points_along_z(torch.from_numpy(part.copy()), torch.from_numpy(angle))
    np.testing.assert_array_equal(rotated, expected.numpy())
    np.testing.assert_array_equal(points, before)
