"""Radius, peaks, best cells and losses of centre heatmaps, by hand."""

from __future__ import annotations

import math

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


def draw(shape: tuple[int, int, int], *peaks: tuple[int, int, int, int]) -> torch.Tensor:
    """Peaks (plane, x, y, radius) on empty heatmaps."""
    rows = torch.tensor(peaks)
    return draw_peaks(torch.zeros(shape), rows[:, 0], rows[:, 1:3], rows[:, 3])


def test_radius_by_hand() -> None:
    # 10 x 10, overlap 0.7, by the three cases for the corners of the other box:
    # both outside: (20 + sqrt(400 - 4 * 300/17)) / 2 = 19.07;
    # both inside: (40 + sqrt(1120)) / 2 = 36.73;
    # one of each: (-28 + sqrt(784 + 336)) / 2, the smallest.
    found = gaussian_radius(torch.tensor([10.0]), torch.tensor([10.0]), 0.7)
    assert found.item() == pytest.approx((-28 + math.sqrt(1120)) / 2, rel=1e-5)
    # 4 x 2, overlap 0.1: (-1.2 + sqrt(1.44 + 4 * 0.4 * 7.2)) / 2.
    found = gaussian_radius(torch.tensor([4.0]), torch.tensor([2.0]), 0.1)
    assert found.item() == pytest.approx((-1.2 + math.sqrt(12.96)) / 2, rel=1e-5) == 1.2


@given(st.floats(0.1, 100), st.floats(0.1, 100), st.floats(0.05, 0.9))
@settings(deadline=None)
def test_radius_does_not_depend_on_the_order_of_the_sides(
    length: float, width: float, overlap: float
) -> None:
    one = torch.tensor([length])
    other = torch.tensor([width])
    found = gaussian_radius(one, other, overlap)
    torch.testing.assert_close(found, gaussian_radius(other, one, overlap))
    assert found.item() >= 0


def test_peak_by_hand() -> None:
    found = draw((2, 9, 11), (1, 4, 3, 2))
    assert found[0].abs().sum() == 0
    sigma = 5 / 6
    assert found[1, 3, 4] == 1
    assert found[1, 3, 5].item() == pytest.approx(math.exp(-1 / (2 * sigma**2)))
    assert found[1, 5, 2].item() == pytest.approx(math.exp(-8 / (2 * sigma**2)))
    assert found[1, 1:6, 2:7].gt(0).all()
    assert found[1].gt(0).sum() == 25


def test_peak_is_cut_at_the_edge() -> None:
    found = draw((1, 6, 7), (0, 0, 5, 3))
    whole = draw((1, 20, 20), (0, 10, 10, 3))
    torch.testing.assert_close(found[0, 2:6, 0:4], whole[0, 7:11, 10:14])
    assert found.gt(0).sum() == 16


def test_where_peaks_meet_the_higher_value_stays() -> None:
    one = draw((1, 9, 12), (0, 4, 4, 3))
    other = draw((1, 9, 12), (0, 6, 5, 2))
    torch.testing.assert_close(
        draw((1, 9, 12), (0, 4, 4, 3), (0, 6, 5, 2)), torch.maximum(one, other)
    )


def test_no_peak() -> None:
    empty = torch.zeros(1, 4, 4)
    none = torch.zeros(0, dtype=torch.long)
    assert torch.equal(draw_peaks(empty, none, none.view(0, 2), none), empty)


def test_best_cells_over_all_classes() -> None:
    scores = torch.zeros(2, 3, 4, 5)
    scores[0, 2, 1, 3] = 0.9
    scores[0, 0, 3, 4] = 0.8
    scores[1, 1, 0, 0] = 0.7
    found = top_cells(scores, 2)
    assert found.scores[0].tolist() == pytest.approx([0.9, 0.8])
    assert found.scores[1, 0].item() == pytest.approx(0.7)
    assert found.classes[0].tolist() == [2, 0]
    assert found.cells[0].tolist() == [1 * 5 + 3, 3 * 5 + 4]
    assert found.classes[1, 0] == 1
    assert found.cells[1, 0] == 0
    assert top_cells(scores, 1000).scores.shape == (2, 60)


def test_gather_cells() -> None:
    feature_map = torch.arange(2 * 3 * 4 * 5.0).view(2, 3, 4, 5)
    found = gather_cells(feature_map, torch.tensor([[7, 0], [19, 7]]))
    assert torch.equal(found[0, 0], feature_map[0, :, 1, 2])
    assert torch.equal(found[1, 0], feature_map[1, :, 3, 4])


def test_focal_loss_by_hand() -> None:
    # A peak predicted 0.5, a neighbour of height 0.5 predicted 0.5, an empty cell predicted 0.2.
    logits = torch.tensor([0.0, 0.0, math.log(0.25)]).view(1, 1, 1, 3)
    loss = center_focal_loss(logits, torch.tensor([1, 0.5, 0]).view(1, 1, 1, 3))
    expected = -(math.log(0.5) * 0.25 + math.log(0.5) * 0.25 * 0.0625 + math.log(0.8) * 0.04)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_focal_loss_counts_peaks() -> None:
    logits = torch.randn(2, 3, 4, 5)
    target = torch.zeros(2, 3, 4, 5)
    without = center_focal_loss(logits, target)
    score = torch.sigmoid(logits)
    torch.testing.assert_close(without, -(torch.log(1 - score) * score**2).sum())
    target[0, 1, 2, 2] = target[1, 0, 0, 0] = 1
    hit = score[0, 1, 2, 2], score[1, 0, 0, 0]
    both = without + sum(torch.log(1 - p) * p**2 - torch.log(p) * (1 - p) ** 2 for p in hit)
    torch.testing.assert_close(center_focal_loss(logits, target), both / 2)


def test_focal_loss_of_certain_predictions_is_finite() -> None:
    logits = torch.tensor([-200.0, 200.0]).view(1, 1, 1, 2).requires_grad_()
    loss = center_focal_loss(logits, torch.tensor([1.0, 0]).view(1, 1, 1, 2))
    loss.backward()
    assert loss.item() == pytest.approx(-2 * math.log(1e-4), rel=1e-3)
    assert logits.grad.isfinite().all()


def test_regression_loss_by_hand() -> None:
    codes = torch.tensor([[[1.0, 2], [3, 4]], [[5, 6], [7, 8]]])
    target = torch.tensor([[[0.0, 0], [9, 9]], [[5, 9], [0, float("nan")]]])
    mask = torch.tensor([[True, False], [True, True]])
    # Differences 1, 2; (left out); 0, 3; 7, (nan): over three boxes.
    assert center_regression_loss(codes, target, mask).tolist() == pytest.approx([8 / 3, 5 / 3])


def test_regression_loss_without_boxes() -> None:
    codes = torch.randn(1, 3, 8, requires_grad=True)
    loss = center_regression_loss(
        codes, torch.full((1, 3, 8), float("nan")), torch.zeros(1, 3, dtype=torch.bool)
    )
    loss.sum().backward()
    assert loss.tolist() == [0.0] * 8
    assert codes.grad.abs().sum() == 0


def test_regression_loss_gradient_with_unmeasured_codes() -> None:
    codes = torch.ones(1, 1, 2, requires_grad=True)
    target = torch.tensor([[[0.0, float("nan")]]])
    center_regression_loss(codes, target, torch.ones(1, 1, dtype=torch.bool)).sum().backward()
    assert codes.grad.tolist() == [[[1.0, 0.0]]]
