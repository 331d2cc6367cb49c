"""Losses against literal numbers and torch's own."""

from __future__ import annotations

from math import log

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pcdet_distill.models.model_utils.losses import (
    SigmoidFocalClassificationLoss,
    WeightedCrossEntropyLoss,
    WeightedL1Loss,
    WeightedSmoothL1Loss,
    corner_loss_lidar,
)

# The logit whose probability is 3 / (1 + 3) = 0.75.
LOGIT_OF_75_PERCENT = log(3)

# --- Focal loss: alpha (1 - p)^gamma (-log p) for the right class, with alpha 0.25, gamma 2.


def test_focal_loss_literal() -> None:
    logits = torch.full((1, 1, 2), LOGIT_OF_75_PERCENT)
    target = torch.tensor([[[1.0, 0.0]]])
    loss = SigmoidFocalClassificationLoss()(logits, target, torch.ones(1, 1))
    # Positive: 0.25 * 0.25² * -log 0.75. Negative: 0.75 * 0.75² * -log 0.25.
    assert loss[0, 0].tolist() == pytest.approx([0.004495032, 0.584842934], rel=1e-5)


def test_focal_loss_with_weights_and_without_gamma() -> None:
    logits = torch.full((1, 2, 1), LOGIT_OF_75_PERCENT)
    target = torch.ones(1, 2, 1)
    weights = torch.tensor([[1.0, 3.0]])
    focal_loss = SigmoidFocalClassificationLoss(gamma=0.0, alpha=0.5)
    loss = focal_loss(logits, target, weights)
    # With gamma 0 it is half the cross entropy, times the weight.
    cross_entropy = -log(0.75)
    expected = [0.5 * 1 * cross_entropy, 0.5 * 3 * cross_entropy]
    assert loss.flatten().tolist() == pytest.approx(expected, rel=1e-5)


def test_focal_loss_of_certain_predictions_is_finite() -> None:
    logits = torch.tensor([[[-200.0, 200.0, 0.3]]], dtype=torch.float64, requires_grad=True)
    target = torch.tensor([[[1.0, 0.0, 1.0]]], dtype=torch.float64)
    weights = torch.ones(1, 1, dtype=torch.float64)
    loss = SigmoidFocalClassificationLoss()(logits, target, weights)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(logits.grad).all()


def test_gradients_of_focal_loss_equal_finite_differences() -> None:
    logits = torch.randn(1, 4, 2, dtype=torch.float64, requires_grad=True)
    target = (torch.rand(1, 4, 2) > 0.5).double()
    weights = torch.ones(1, 4, dtype=torch.float64)

    def focal_loss(logits: Tensor) -> Tensor:
        return SigmoidFocalClassificationLoss()(logits, target, weights)

    assert torch.autograd.gradcheck(focal_loss, (logits,))


# --- Smooth L1 and L1


def test_smooth_l1_literal() -> None:
    prediction = torch.tensor([[0.05, 1.0]])
    target = torch.zeros(1, 2)
    weight = torch.tensor([2.0])
    loss = WeightedSmoothL1Loss()(prediction, target, weight)
    # beta is 1/9. Below it 0.5 d² / beta, above it |d| - beta / 2; both times the weight 2.
    below_beta = 2 * 0.5 * 0.05**2 * 9
    above_beta = 2 * (1 - 1 / 18)
    assert loss[0].tolist() == pytest.approx([below_beta, above_beta], rel=1e-5)


def test_code_weights_of_smooth_l1_scale_the_difference() -> None:
    smooth_l1 = WeightedSmoothL1Loss(beta=1.0, code_weights=[1.0, 3.0])
    loss = smooth_l1(torch.tensor([[0.5, 0.5]]), torch.zeros(1, 2))
    # 0.5 * 0.5² below beta; the difference 3 * 0.5 lies above beta: 1.5 - 0.5.
    assert loss[0].tolist() == pytest.approx([0.125, 1.0])


def test_code_weights_of_l1_scale_the_difference() -> None:
    l1 = WeightedL1Loss(code_weights=[1.0, 3.0])
    loss = l1(torch.tensor([[0.5, -0.5]]), torch.zeros(1, 2))
    assert loss[0].tolist() == pytest.approx([0.5, 1.5])


@pytest.mark.parametrize("loss_class", [WeightedSmoothL1Loss, WeightedL1Loss])
def test_nan_targets_have_zero_loss_and_gradient(loss_class: type) -> None:
    prediction = torch.ones(1, 2, requires_grad=True)
    target = torch.tensor([[float("nan"), 0.0]])
    loss = loss_class()(prediction, target)
    loss.sum().backward()
    assert loss[0, 0] == 0
    assert prediction.grad[0].tolist() == [0, 1]


# --- Cross entropy and corners


def test_cross_entropy_equals_torch() -> None:
    logits = torch.randn(6, 3)
    labels = torch.arange(6) % 3
    weights = torch.rand(6)
    expected = F.cross_entropy(logits, labels, reduction="none") * weights
    one_hot = F.one_hot(labels, 3).float()
    found = WeightedCrossEntropyLoss()(logits, one_hot, weights)
    torch.testing.assert_close(found, expected)


def test_corner_loss_of_a_shifted_box() -> None:
    box = torch.tensor([[0.0, 0, 0, 4, 2, 1, 0.3]])
    shifted = box.clone()
    shifted[0, 2] += 3.0
    # Every corner is 3 m away: Huber's |d| - 1/2.
    assert corner_loss_lidar(box, shifted).item() == pytest.approx(3 - 0.5)


def test_corner_loss_does_not_tell_front_from_back() -> None:
    box = torch.tensor([[0.0, 0, 0, 4, 2, 1, 0.3]])
    turned = box.clone()
    turned[0, 6] += torch.pi
    assert corner_loss_lidar(box, turned).item() == pytest.approx(0.0, abs=1e-6)
