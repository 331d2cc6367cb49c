"""CategoryLogitLoss: positions by hand, values and gradients against numpy."""

from __future__ import annotations

import numpy as np
import numpy_methods as plain
import pytest
import torch
from made_predictions import predictions, with_gradients
from test_numpy_methods import (
    CODES,
    FRAMES,
    LOGITS,
    REFERENCES,
    TEACHER_CODES,
    TEACHER_LOGITS,
    agrees,
    built,
    prediction_pair,
)

from pcdet_distill.distill.losses.category_logit import CategoryLogitLoss, CategoryLogitOptions
from pcdet_distill.distill.predictions import ABSENT_LOGIT

UPRIGHT_CODES = CODES * np.array([1, 1, 1, 1, 1, 1, 0])  # boxes stand along the axes
POSITIONS = 3


def category_logits(logits, proposal_logits, iou_power):
    """``proposal_logits`` choose the positions: they are constants."""
    losses = []
    for column in range(logits.shape[1]):
        rows = plain.highest(proposal_logits[:, column], FRAMES, POSITIONS)
        for frame in np.unique(FRAMES):
            of_frame = [row for row in rows if FRAMES[row] == frame]
            losses.append(np.mean([divergence(logits, row, column, iou_power) for row in of_frame]))
    return np.mean(losses)


def divergence(logits, row, column, iou_power):
    iou = plain.overlap(UPRIGHT_CODES[row] + REFERENCES[row], TEACHER_CODES[row] + REFERENCES[row])
    target = plain.sigmoid(TEACHER_LOGITS[row, column]) * iou**iou_power
    score = plain.sigmoid(logits[row, column])
    return plain.cross_entropy(score, target) - plain.cross_entropy(target, target)


@pytest.mark.parametrize("proposals", ["student", "teacher", "both"])
@pytest.mark.parametrize("iou_power", [0, 0.5, 2])
def test_against_numpy(proposals, iou_power):
    chosen_by = {
        "student": LOGITS,
        "teacher": TEACHER_LOGITS,
        "both": np.maximum(LOGITS, TEACHER_LOGITS),
    }[proposals]
    loss = built(
        "CategoryLogitLoss", PROPOSALS=proposals, NUM_POSITIONS=POSITIONS, IOU_POWER=iou_power
    )
    agrees(
        loss,
        lambda leaf: prediction_pair(leaf, torch.tensor(UPRIGHT_CODES)),
        lambda logits: category_logits(logits, chosen_by, iou_power),
        LOGITS,
        relative=2e-4 if iou_power else 1e-9,  # overlaps are computed in float32
    )


BOX = [0.0, 0, 0, 4, 2, 1.5, 0]


def loss_of(student, teacher, **options):
    loss = CategoryLogitLoss(options=CategoryLogitOptions(**options))
    return loss(student, teacher, {})


def test_a_student_like_its_teacher_has_no_loss():
    scores = [[0.9, 0.2], [0.3, 0.6]]
    student = predictions(scores, [BOX, BOX])
    assert loss_of(student, student).item() == pytest.approx(0, abs=1e-6)


def test_a_proposal_with_a_wrong_box_is_scored_lower():
    """Moved by 2 of its 4 metres, its IoU is 1/3: the target falls from 0.9 to 0.3."""
    moved = [2.0, *BOX[1:]]
    student = with_gradients(predictions([[0.5]], [moved]))
    loss_of(student, predictions([[0.9]], [BOX]), iou_power=1.0).backward()
    assert student.logits.grad.item() == pytest.approx(0.5 - 0.3, abs=1e-4)
    assert student.codes.grad is None


def test_each_class_has_its_own_positions():
    student = with_gradients(predictions([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]], [BOX] * 3))
    teacher = predictions([[0.5, 0.5]] * 3, [BOX] * 3)
    loss_of(student, teacher, num_positions=1).backward()
    assert student.logits.grad.nonzero().tolist() == [[0, 0], [2, 1]]


def test_an_absent_class_is_not_compared():
    student = predictions([[0.9, 0.1], [0.8, 0.2]], [BOX, BOX])
    student.logits[:, 1] = ABSENT_LOGIT
    teacher = predictions([[0.5, 0.5], [0.5, 0.5]], [BOX, BOX])
    teacher.logits[:, 1] = ABSENT_LOGIT
    both_classes = loss_of(student, teacher)
    first = loss_of(predictions([[0.9], [0.8]], [BOX, BOX]), predictions([[0.5]] * 2, [BOX] * 2))
    assert both_classes.item() == pytest.approx(first.item())


def test_a_box_too_large_for_a_number_has_no_overlap():
    student = with_gradients(predictions([[0.5]], [[0.0, 0, 0, float("inf"), 2, 1.5, 0]]))
    value = loss_of(student, predictions([[0.9]], [BOX]))
    value.backward()
    assert value.isfinite()
    assert student.logits.grad.item() > 0.49
