"""Losses against literal numbers and torch's own."""

from __future__ import annotations

from math import log

import pytest
import torch
import torch.nn.functional as F

from pcdet_distill.models.model_utils.losses import (
    SigmoidFocalClassificationLoss,
    WeightedCrossEntropyLoss,
    WeightedL1Loss,
    WeightedSmoothL1Loss,
    corner_loss_lidar,
)


def test_focal_loss_literal() -> None:
    # The logit log(3) has p = 0.75. A positive costs 0.25 * 0.25² * -log 0.75, a negative
    # 0.75 * 0.75² * -log 0.25.
    logits = torch.full((1, 1, 2), log(3))
    loss = SigmoidFocalClassificationLoss()(logits, torch.tensor([[[1.0, 0.0]]]), torch.ones(1, 1))
    assert loss[0, 0].tolist() == pytest.approx([0.004495032, 0.584842934], rel=1e-5)


def test_focal_loss_weights_and_gamma() -> None:
    logits = torch.full((1, 2, 1), log(3))
    target = torch.ones(1, 2, 1)
    loss = SigmoidFocalClassificationLoss(gamma=0.0, alpha=0.5)(
        logits, target, torch.tensor([[1.0, 3.0]])
    )
    assert loss.flatten().tolist() == pytest.approx([0.5 * -log(0.75), 1.5 * -log(0.75)], rel=1e-5)


def test_focal_loss_stays_finite_and_has_right_gradients() -> None:
    logits = torch.tensor([[[-200.0, 200.0, 0.3]]], dtype=torch.float64, requires_grad=True)
    target = torch.tensor([[[1.0, 0.0, 1.0]]], dtype=torch.float64)
    loss = SigmoidFocalClassificationLoss()(logits, target, torch.ones(1, 1, dtype=torch.float64))
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(logits.grad).all()
    some = torch.randn(1, 4, 2, dtype=torch.float64, requires_grad=True)
    target = (torch.rand(1, 4, 2) > 0.5).double()
    assert torch.autograd.gradcheck(
        lambda x: SigmoidFocalClassificationLoss()(
            x, target, torch.ones(1, 4, dtype=torch.float64)
        ),
        (some,),
    )


def test_smooth_l1_literal() -> None:
    prediction = torch.tensor([[0.05, 1.0]])
    loss = WeightedSmoothL1Loss()(prediction, torch.zeros(1, 2), torch.tensor([2.0]))
    # 0.5 * 0.05^2 * 9 below beta = 1/9, |d| - beta / 2 above; both times 2
    assert loss[0].tolist() == pytest.approx([2 * 0.01125, 2 * (1 - 1 / 18)], rel=1e-5)


def test_code_weights_scale_the_difference() -> None:
    loss = WeightedSmoothL1Loss(beta=1.0, code_weights=[1.0, 3.0])(
        torch.tensor([[0.5, 0.5]]), torch.zeros(1, 2)
    )
    assert loss[0].tolist() == pytest.approx([0.125, 1.0])
    loss = WeightedL1Loss(code_weights=[1.0, 3.0])(torch.tensor([[0.5, -0.5]]), torch.zeros(1, 2))
    assert loss[0].tolist() == pytest.approx([0.5, 1.5])


@pytest.mark.parametrize("loss_class", [WeightedSmoothL1Loss, WeightedL1Loss])
def test_nan_targets_have_zero_loss(loss_class: type) -> None:
    prediction = torch.ones(1, 2, requires_grad=True)
    loss = loss_class()(prediction, torch.tensor([[float("nan"), 0.0]]))
    loss.sum().backward()
    assert loss[0, 0] == 0
    assert prediction.grad[0].tolist() == [0, 1]


def test_cross_entropy_equals_torch() -> None:
    logits = torch.randn(6, 3)
    labels = torch.arange(6) % 3
    weights = torch.rand(6)
    expected = F.cross_entropy(logits, labels, reduction="none") * weights
    torch.testing.assert_close(
        WeightedCrossEntropyLoss()(logits, F.one_hot(labels, 3).float(), weights), expected
    )


def test_corner_loss_of_shifted_and_turned_boxes() -> None:
    box = torch.tensor([[0.0, 0, 0, 4, 2, 1, 0.3]])
    shifted = box.clone()
    turned = box.clone()
    shifted[0, 2] += 3.0
    turned[0, 6] += torch.pi
    assert corner_loss_lidar(box, shifted).item() == pytest.approx(2.5)  # |3| - 1/2 at each corner
    assert corner_loss_lidar(box, turned).item() == pytest.approx(0.0, abs=1e-6)
