"""HeadRelationLoss: positions by hand, values and gradients against numpy."""

from __future__ import annotations

import numpy as np
import numpy_methods as plain
import pytest
import torch
from made_predictions import predictions, with_gradients
from test_numpy_methods import FRAMES, TEACHER_CODES, TEACHER_LOGITS, both_agree, built

from pcdet_distill.distill.losses.head_relation import HeadRelationLoss, HeadRelationOptions


def attention(rows, temperature):
    logits = rows @ rows.T / (temperature * np.sqrt(rows.shape[1]))
    return np.array([plain.softmax(row) for row in logits])


def divergence(student, teacher, temperature):
    own = attention(student, temperature)
    theirs = attention(teacher, temperature)
    return (theirs * np.log(theirs / own)).sum(1).mean()


def head_relation(logits, codes, count, temperature, weights):
    rows = plain.highest(plain.sigmoid(TEACHER_LOGITS).max(1), FRAMES, count)
    losses = []
    for frame in np.unique(FRAMES):
        best = [row for row in rows if FRAMES[row] == frame]
        own = plain.sigmoid(logits[best]), codes[best]
        theirs = plain.sigmoid(TEACHER_LOGITS[best]), TEACHER_CODES[best]
        intra = sum(divergence(*pair, temperature) for pair in zip(own, theirs)) / 2
        inter = divergence(np.hstack(own), np.hstack(theirs), temperature)
        losses.append(weights[0] * intra + weights[1] * inter)
    return np.mean(losses)


@pytest.mark.parametrize(
    "count, temperature, weights", [(3, 0.1, (1.0, 1.0)), (100, 0.5, (2.0, 0.0))]
)
def test_against_numpy(count, temperature, weights):
    loss = built(
        "HeadRelationLoss",
        NUM_POSITIONS=count,
        TEMPERATURE=temperature,
        INTRA_WEIGHT=weights[0],
        INTER_WEIGHT=weights[1],
    )
    both_agree(
        loss, lambda logits, codes: head_relation(logits, codes, count, temperature, weights)
    )


def test_a_student_like_its_teacher_has_no_loss():
    same = predictions([[0.9, 0.2], [0.3, 0.6]], torch.randn(2, 7))
    assert HeadRelationLoss()(same, same, {}).item() == pytest.approx(0, abs=1e-6)


def test_positions_beyond_the_best_get_no_gradient():
    student = with_gradients(predictions([[0.5]] * 4, torch.randn(4, 7)))
    teacher = predictions([[0.1], [0.9], [0.2], [0.8]], torch.randn(4, 7))
    loss = HeadRelationLoss(options=HeadRelationOptions(num_positions=2))
    loss(student, teacher, {}).backward()
    assert student.codes.grad.abs().sum(dim=1).nonzero().flatten().tolist() == [1, 3]
