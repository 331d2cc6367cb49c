"""PivotalLogitLoss: numbers worked out by hand, and every way to choose the positions."""

from __future__ import annotations

from math import exp

import pytest
import torch
from made_predictions import predictions, with_gradients

from pcdet_distill.distill.losses.pivotal_logit import PivotalLogitLoss, PivotalLogitOptions
from pcdet_distill.errors import ConfigError

FRAMES = [0, 0, 0, 1]
TEACHER = predictions(
    [[0.6, 0.1], [0.3, 0.2], [0.05, 0.01], [0.2, 0.9]],
    [[0.0, 2.0], [1.0, 1.0], [5.0, 5.0], [0, 0]],
    FRAMES,
    coords=[[0.0, 0, 0], [2, 0, 0], [4, 0, 0], [0, 1, 0]],
)
STUDENT = predictions(
    [[0.5, 0.3], [0.3, 0.6], [0.9, 0.9], [0.2, 0.9]],
    [[1.0, 2.0], [1.0, 4.0], [0.0, 0.0], [2, 2]],
    FRAMES,
)
# Of each position: the sum of squared differences of its scores; and the mean absolute difference
# of its codes, times the teacher's confidence, which is its best score.
SCORE_TERMS = [0.1**2 + 0.2**2, 0.4**2, 0.85**2 + 0.89**2, 0.0]
BOX_TERMS = [0.5 * 0.6, 1.5 * 0.3, 5 * 0.05, 2 * 0.9]
BOXES = torch.tensor(
    [[[0.0, 0, 0, 4.0, 2.0, 1.5, 0, 1]], [[0.0, 0, 0, 4.0, 2.0, 1.5, 1.5707964, 1]]]
)


def loss_of(student=STUDENT, **options):
    loss = PivotalLogitLoss(options=PivotalLogitOptions(**options))
    return loss(student, TEACHER, {"gt_boxes": BOXES}).item()


def weighted(weights, classes=1.0, boxes=1.0):
    """The mean over positions with these weights."""
    total = 0.0
    for weight, score_term, box_term in zip(weights, SCORE_TERMS, BOX_TERMS):
        total += weight * (classes * score_term + boxes * box_term)
    return pytest.approx(total / sum(weights), abs=1e-5)


def test_confidence():
    assert loss_of() == weighted([1, 1, 0, 1])
    assert loss_of() == pytest.approx(0.92, abs=1e-5)
    assert loss_of(score_thresh=0.5) == weighted([1, 0, 0, 1])
    assert loss_of(cls_weight=2.0) == weighted([1, 1, 0, 1], classes=2)
    assert loss_of(box_weight=0.0) == weighted([1, 1, 0, 1], boxes=0)


def test_top_k_of_each_frame():
    assert loss_of(select="top_k", num_positions=2) == weighted([1, 1, 0, 1])
    assert loss_of(select="top_k", num_positions=1) == weighted([1, 0, 0, 1])
    assert loss_of(select="top_k", num_positions=50) == weighted([1, 1, 1, 1])


def test_rank():
    assert loss_of(select="rank", num_positions=2) == weighted([1, 0.5, 0, 1])
    assert loss_of(select="rank", num_positions=4) == weighted([1, 0.75, 0.5, 1])


def test_gaussian():
    """0, 2 and 4 m along a box 4 m long, and 1 m along a turned one: 0, 1/2, 1 and 1/4 lengths."""
    one_sigma = exp(-(1**2) / 2)
    two_sigma = exp(-(2**2) / 2)
    half_sigma = exp(-(0.5**2) / 2)
    assert loss_of(select="gaussian", sigma=0.5) == weighted([1, one_sigma, two_sigma, half_sigma])


def test_a_narrow_gaussian():
    """Half a length is 2.5 sigma then; a whole one is too far to count."""
    half_length = exp(-(2.5**2) / 2)
    quarter_length = exp(-(1.25**2) / 2)
    expected = weighted([1, half_length, 0, quarter_length])
    assert loss_of(select="gaussian", sigma=0.2) == expected


@pytest.mark.parametrize("select", ["confidence", "top_k", "rank", "gaussian"])
def test_no_position_gives_a_loss_of_zero(select):
    rows = 0 if select in ("top_k", "rank") else 2
    student = with_gradients(predictions(torch.full((rows, 2), 0.5), torch.zeros(rows, 2)))
    teacher = predictions(torch.full((rows, 2), 0.05), torch.ones(rows, 2))
    loss = PivotalLogitLoss(options=PivotalLogitOptions(select=select))
    value = loss(student, teacher, {"gt_boxes": torch.zeros(1, 2, 8)})
    value.backward()
    assert value.item() == 0
    assert student.logits.grad is not None
    assert student.codes.grad is not None


@pytest.mark.parametrize(
    "options, words",
    [
        ({"SELECT": "topk"}, "T.SELECT: unknown value 'topk'; did you mean 'top_k'"),
        ({"SCORE_THRESH": 2}, "T.SCORE_THRESH: expected a number from 0 to 1"),
        ({"NUM_POSITIONS": 0}, "T.NUM_POSITIONS: expected a whole number above 0"),
    ],
)
def test_refused(options, words):
    with pytest.raises(ConfigError) as error:
        PivotalLogitLoss.from_config(options, None, None, "T")
    assert words in str(error.value)
