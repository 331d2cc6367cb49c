"""LogitBoxLoss against numbers worked out by hand, and in a training step of every kind of head."""

from __future__ import annotations

from math import log

import pytest
import torch
from made_predictions import predictions, with_gradients

from pcdet_distill.distill.losses.logit_box import LogitBoxLoss, LogitBoxOptions
from pcdet_distill.errors import ConfigError

TEACHER = predictions([[0.5, 0.02], [0.8, 0.2], [0.05, 0.01]], [[0.0, 1.0], [2.0, 0.0], [9.0, 9.0]])
STUDENT = ([[0.5, 0.02], [0.5, 0.5], [0.05, 0.25]], [[0.0, 1.5], [2.01, 0.0], [0.0, 0.0]])


def kl(student, teacher):
    """Kullback-Leibler divergence of two coins."""
    return teacher * log(teacher / student) + (1 - teacher) * log((1 - teacher) / (1 - student))


def test_golden_numbers():
    """Two positions are above 0.1, by which both sums are divided.

    Scores differ in three places, of which one is at no such position.
    Codes differ by 0.5, beyond beta = 1/9, at confidence 0.5, and by 0.01, within it, at 0.8.
    """
    beta = 1 / 9
    logits = (kl(0.5, 0.8) + kl(0.5, 0.2) + kl(0.25, 0.01)) / 2
    beyond_beta = 0.5 - beta / 2
    within_beta = 0.01**2 / (2 * beta)
    boxes = (0.5 * beyond_beta + 0.8 * within_beta) / 2
    assert logits == pytest.approx(0.314078, abs=1e-6)
    assert boxes == pytest.approx(0.111291, abs=1e-6)
    loss = LogitBoxLoss()
    value = loss(predictions(*STUDENT), TEACHER, {})
    assert value.item() == pytest.approx(0.425369, abs=1e-5)
    assert loss.logs["positions"] == 2
    assert loss.logs["logit"].item() == pytest.approx(logits, abs=1e-5)
    assert loss.logs["box"].item() == pytest.approx(boxes, abs=1e-6)


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"logit_weight": 0.0}, 0.111291),
        ({"box_weight": 0.0}, 0.314078),
        ({"logit_weight": 3.0}, 1.053525),
        ({"box_weight": 2.0}, 0.536660),
        ({"score_thresh": 0.6}, 2 * 0.314078 + 0.8 * 0.5 * 0.01**2 * 9),
    ],
)
def test_every_option_acts(options, expected):
    loss = LogitBoxLoss(options=LogitBoxOptions(**options))
    value = loss(predictions(*STUDENT), TEACHER, {})
    assert value.item() == pytest.approx(expected, abs=1e-5)


def test_codes_are_compared_as_the_student_writes_them():
    """A teacher whose anchors stand elsewhere: the box counts, not the code."""
    codes = torch.tensor(STUDENT[1])
    teacher = predictions(STUDENT[0], codes - 3, references=torch.full_like(codes, 3.0))
    value = LogitBoxLoss()(predictions(*STUDENT), teacher, {})
    assert value.item() == pytest.approx(0, abs=1e-6)


def test_zero_and_flat_when_both_agree():
    student = with_gradients(predictions([[0.5, 0.02], [0.8, 0.2]], [[0.0, 1.0], [2.0, 0.0]]))
    teacher = predictions([[0.5, 0.02], [0.8, 0.2]], [[0.0, 1.0], [2.0, 0.0]])
    loss = LogitBoxLoss()(student, teacher, {})
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert student.logits.grad.abs().max() < 1e-6
    assert student.codes.grad.abs().max() < 1e-6


@pytest.mark.parametrize("rows", [2, 0])
def test_no_confident_position_gives_a_loss_of_zero(rows):
    student = with_gradients(predictions(torch.full((rows, 2), 0.5), torch.zeros(rows, 2)))
    teacher = predictions(torch.full((rows, 2), 0.05), torch.ones(rows, 2))
    loss = LogitBoxLoss()(student, teacher, {})
    loss.backward()
    assert loss.item() == 0
    assert student.logits.grad.sum() == 0
    assert student.codes.grad.sum() == 0


def test_extreme_logits_stay_finite():
    student = with_gradients(predictions([[0.5], [0.5]], [[0.0], [0.0]]))
    teacher = predictions([[0.5], [0.5]], [[0.0], [0.0]])
    student.logits.data = torch.tensor([[-80.0], [80.0]])
    teacher.logits.data = torch.tensor([[80.0], [-80.0]])
    loss = LogitBoxLoss()(student, teacher, {})
    loss.backward()
    assert loss.item() == pytest.approx(160)
    assert student.logits.grad.isfinite().all()


@pytest.mark.parametrize(
    "options, words",
    [
        ({"SCORE_TRESH": 0.1}, "T: unknown key 'SCORE_TRESH'; did you mean 'SCORE_THRESH'"),
        ({"SCORE_THRESH": 1.5}, "T.SCORE_THRESH: expected a number from 0 to 1, found 1.5"),
        ({"BOX_WEIGHT": -1}, "T.BOX_WEIGHT: expected a number from 0 up, found -1"),
    ],
)
def test_refused_options(options, words):
    with pytest.raises(ConfigError) as error:
        LogitBoxLoss.from_config(options, None, None, "T")
    assert words in str(error.value)


def test_options_from_yaml():
    block = {"SCORE_THRESH": 0.3, "LOGIT_WEIGHT": 0, "BOX_WEIGHT": 2}
    built = LogitBoxLoss.from_config(block, None, None, "T")
    expected = LogitBoxOptions(score_thresh=0.3, logit_weight=0.0, box_weight=2.0)
    assert built.options == expected
