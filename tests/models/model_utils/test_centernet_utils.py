"""Radius, peaks, best cells and losses of centre heatmaps, by hand."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdet_distill.models.model_utils.center_losses import center_focal_loss, center_regression_loss
from pcdet_distill.models.model_utils.centernet_utils import (
    draw_peaks,
    gather_cells,
    gaussian_radius,
    top_cells,
)

NAN = float("nan")


class Peak(NamedTuple):
    """A Gaussian peak on one plane of a heatmap, in cells."""

    plane: int
    x: int
    y: int
    radius: int


def draw(shape: tuple[int, int, int], *peaks: Peak) -> torch.Tensor:
    """Heatmaps (planes, H, W) with these peaks and zeros elsewhere."""
    rows = torch.tensor(peaks)
    planes = rows[:, 0]
    centres = rows[:, 1:3]
    radii = rows[:, 3]
    return draw_peaks(torch.zeros(shape), planes, centres, radii)


# --- Radius: how far a centre may move until the two boxes overlap less than asked.


def radius_of(length: float, width: float, overlap: float) -> float:
    """``gaussian_radius`` of one box."""
    return gaussian_radius(torch.tensor([length]), torch.tensor([width]), overlap).item()


def test_radius_of_a_square_by_hand() -> None:
    # 10 x 10 cells, overlap 0.7. Three cases, by where the corners of the other box lie:
    # both outside: (20 + sqrt(400 - 4 * 300 / 17)) / 2 = 19.07;
    # both inside: (40 + sqrt(1120)) / 2 = 36.73;
    # one of each: (-28 + sqrt(784 + 336)) / 2 = 2.73. The smallest counts.
    expected = (-28 + math.sqrt(1120)) / 2
    assert radius_of(10, 10, overlap=0.7) == pytest.approx(expected, rel=1e-5)


def test_radius_of_a_rectangle_by_hand() -> None:
    # 4 x 2 cells, overlap 0.1, one corner inside and one outside:
    # (-1.2 + sqrt(1.44 + 4 * 0.4 * 7.2)) / 2 = (-1.2 + 3.6) / 2.
    assert radius_of(4, 2, overlap=0.1) == pytest.approx(1.2, rel=1e-5)


@given(st.floats(0.1, 100), st.floats(0.1, 100), st.floats(0.05, 0.9))
@settings(deadline=None)
def test_radius_does_not_depend_on_the_order_of_the_sides(
    length: float, width: float, overlap: float
) -> None:
    one = torch.tensor([length])
    other = torch.tensor([width])
    found = gaussian_radius(one, other, overlap)
    swapped = gaussian_radius(other, one, overlap)
    torch.testing.assert_close(found, swapped)
    assert found.item() >= 0


# --- Peaks


def test_peak_by_hand() -> None:
    found = draw((2, 9, 11), Peak(plane=1, x=4, y=3, radius=2))
    # The peak is 5 cells wide and its sigma a sixth of that.
    sigma = 5 / 6
    height_at_1 = math.exp(-1 / (2 * sigma**2))
    height_at_2_2 = math.exp(-8 / (2 * sigma**2))

    other_plane, plane = found
    assert other_plane.abs().sum() == 0
    assert plane[3, 4] == 1
    assert plane[3, 5].item() == pytest.approx(height_at_1)
    assert plane[5, 2].item() == pytest.approx(height_at_2_2)


def test_peak_covers_a_square() -> None:
    plane = draw((2, 9, 11), Peak(plane=1, x=4, y=3, radius=2))[1]
    square = plane[1:6, 2:7]
    assert square.gt(0).all()
    assert plane.gt(0).sum() == 25


def test_peak_is_cut_at_the_edge() -> None:
    cut = draw((1, 6, 7), Peak(plane=0, x=0, y=5, radius=3))[0]
    whole = draw((1, 20, 20), Peak(plane=0, x=10, y=10, radius=3))[0]
    # Rows above the peak and its own; columns from the peak to the right.
    torch.testing.assert_close(cut[2:6, 0:4], whole[7:11, 10:14])
    assert cut.gt(0).sum() == 16


def test_where_peaks_meet_the_higher_value_stays() -> None:
    shape = (1, 9, 12)
    first = Peak(plane=0, x=4, y=4, radius=3)
    second = Peak(plane=0, x=6, y=5, radius=2)
    together = draw(shape, first, second)
    expected = torch.maximum(draw(shape, first), draw(shape, second))
    torch.testing.assert_close(together, expected)


def test_no_peak_leaves_the_heatmap_empty() -> None:
    empty = torch.zeros(1, 4, 4)
    none = torch.zeros(0, dtype=torch.long)
    no_centres = none.view(0, 2)
    assert torch.equal(draw_peaks(empty, none, no_centres, none), empty)


# --- Cells


def test_best_cells_over_all_classes() -> None:
    width = 5
    scores = torch.zeros(2, 3, 4, width)
    scores[0, 2, 1, 3] = 0.9
    scores[0, 0, 3, 4] = 0.8
    scores[1, 1, 0, 0] = 0.7
    found = top_cells(scores, 2)

    assert found.scores[0].tolist() == pytest.approx([0.9, 0.8])
    assert found.classes[0].tolist() == [2, 0]
    assert found.cells[0].tolist() == [1 * width + 3, 3 * width + 4]

    assert found.scores[1, 0].item() == pytest.approx(0.7)
    assert found.classes[1, 0] == 1
    assert found.cells[1, 0] == 0


def test_of_equal_scores_the_earlier_cells_come_first() -> None:
    scores = torch.full((2, 2, 30, 40), -1.0)
    scores[1, 1, 7, 9] = 2.0
    found = top_cells(scores, 50)
    assert found.cells[0].tolist() == list(range(50))
    assert found.cells[1].tolist() == [7 * 40 + 9, *range(49)]
    assert found.classes[1].tolist() == [1] + [0] * 49


def test_best_cells_are_at_most_all_cells() -> None:
    scores = torch.zeros(2, 3, 4, 5)
    assert top_cells(scores, 1000).scores.shape == (2, 3 * 4 * 5)


def test_gathered_cells_are_columns_of_the_map() -> None:
    feature_map = torch.arange(2 * 3 * 4 * 5.0).view(2, 3, 4, 5)
    # Cell 7 is row 1, column 2; cell 19 is row 3, column 4.
    cells = torch.tensor([[7, 0], [19, 7]])
    found = gather_cells(feature_map, cells)
    assert torch.equal(found[0, 0], feature_map[0, :, 1, 2])
    assert torch.equal(found[1, 0], feature_map[1, :, 3, 4])


# --- Focal loss: (1 - p)^2 log p at a peak, (1 - height)^4 p^2 log(1 - p) elsewhere.


def test_focal_loss_by_hand() -> None:
    # A peak predicted 0.5, a neighbour of height 0.5 predicted 0.5, an empty cell predicted 0.2.
    logits = torch.tensor([0.0, 0.0, math.log(0.25)]).view(1, 1, 1, 3)
    target = torch.tensor([1, 0.5, 0]).view(1, 1, 1, 3)
    loss = center_focal_loss(logits, target)

    peak = 0.5**2 * math.log(0.5)
    neighbour = 0.5**4 * 0.5**2 * math.log(0.5)
    empty = 0.2**2 * math.log(0.8)
    assert loss.item() == pytest.approx(-(peak + neighbour + empty), rel=1e-5)


def test_focal_loss_without_peaks_is_the_sum_over_empty_cells() -> None:
    logits = torch.randn(2, 3, 4, 5)
    score = torch.sigmoid(logits)
    expected = -(torch.log(1 - score) * score**2).sum()
    torch.testing.assert_close(center_focal_loss(logits, torch.zeros(2, 3, 4, 5)), expected)


def test_focal_loss_is_divided_by_the_number_of_peaks() -> None:
    logits = torch.randn(2, 3, 4, 5)
    target = torch.zeros(2, 3, 4, 5)
    expected_sum = center_focal_loss(logits, target)
    for peak in [(0, 1, 2, 2), (1, 0, 0, 0)]:
        target[peak] = 1
        # The cell no longer costs what an empty cell costs, but what a peak costs.
        score = torch.sigmoid(logits[peak])
        as_empty = -torch.log(1 - score) * score**2
        as_peak = -torch.log(score) * (1 - score) ** 2
        expected_sum = expected_sum - as_empty + as_peak
    torch.testing.assert_close(center_focal_loss(logits, target), expected_sum / 2)


def test_focal_loss_of_certain_predictions_is_finite() -> None:
    logits = torch.tensor([-200.0, 200.0]).view(1, 1, 1, 2).requires_grad_()
    target = torch.tensor([1.0, 0]).view(1, 1, 1, 2)
    loss = center_focal_loss(logits, target)
    loss.backward()
    # Both cells are wrong; scores are clamped to 1e-4 and 1 - 1e-4.
    assert loss.item() == pytest.approx(-2 * math.log(1e-4), rel=1e-3)
    assert logits.grad.isfinite().all()


# --- Regression loss: L1 by code, the mean over boxes. NaN marks a code that is not measured.


def test_regression_loss_by_hand() -> None:
    codes = torch.tensor([[[1.0, 2], [3, 4]], [[5, 6], [7, 8]]])
    target = torch.tensor([[[0.0, 0], [9, 9]], [[5, 9], [0, NAN]]])
    mask = torch.tensor([[True, False], [True, True]])
    found = center_regression_loss(codes, target, mask)
    # Three boxes count; the second of the first frame is masked.
    first_code = (1 + 0 + 7) / 3
    second_code = (2 + 3 + 0) / 3
    assert found.tolist() == pytest.approx([first_code, second_code])


def test_regression_loss_without_boxes_is_zero_and_has_a_gradient() -> None:
    codes = torch.randn(1, 3, 8, requires_grad=True)
    target = torch.full((1, 3, 8), NAN)
    no_box = torch.zeros(1, 3, dtype=torch.bool)
    loss = center_regression_loss(codes, target, no_box)
    loss.sum().backward()
    assert loss.tolist() == [0.0] * 8
    assert codes.grad.abs().sum() == 0


def test_regression_loss_has_no_gradient_at_unmeasured_codes() -> None:
    codes = torch.ones(1, 1, 2, requires_grad=True)
    target = torch.tensor([[[0.0, NAN]]])
    one_box = torch.ones(1, 1, dtype=torch.bool)
    center_regression_loss(codes, target, one_box).sum().backward()
    assert codes.grad.tolist() == [[[1.0, 0.0]]]
