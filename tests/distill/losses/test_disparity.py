"""DisparityLoss: regions by hand, values and gradients against numpy."""

from __future__ import annotations

import numpy as np
import numpy_methods as plain
import pytest
import torch
from made_predictions import predictions, with_gradients
from test_numpy_methods import (
    FRAMES,
    LOGITS,
    TEACHER_CODES,
    TEACHER_LOGITS,
    both_agree,
    built,
)

from pcdet_distill.distill.losses.disparity import DisparityLoss, DisparityOptions

CHOSEN_LOGITS = LOGITS  # the student that chooses; central differences must not move the choice


def disparity(logits, codes, count, threshold, weights):
    s = plain.sigmoid(CHOSEN_LOGITS)
    t = plain.sigmoid(TEACHER_LOGITS)
    is_proposal = np.maximum(s, t).max(1) > threshold
    by = np.where(is_proposal, np.abs(s - t).max(1), -1)
    rows = [row for row in plain.highest(by, FRAMES, count) if is_proposal[row]]
    sides = {"missed": [], "surplus": []}
    for row in rows:
        score = plain.sigmoid(logits[row])
        scores = plain.cross_entropy(score, t[row]) - plain.cross_entropy(t[row], t[row])
        gap = np.abs(codes[row] - TEACHER_CODES[row])
        smooth = np.where(gap < 1 / 9, gap**2 * 9 / 2, gap - 1 / 18)
        distance = weights[0] * scores.sum() + weights[1] * t[row].max() * smooth.sum()
        sides["missed" if t[row].max() > s[row].max() else "surplus"].append(distance)
    assert all(sides.values())
    return 0.5 * np.mean(sides["missed"]) + 0.5 * np.mean(sides["surplus"])


@pytest.mark.parametrize(
    "count, threshold, weights", [(3, 0.1, (1.0, 1.0)), (100, 0.6, (0.5, 2.0))]
)
def test_against_numpy(count, threshold, weights):
    loss = built(
        "DisparityLoss",
        NUM_REGIONS=count,
        SCORE_THRESH=threshold,
        LOGIT_WEIGHT=weights[0],
        BOX_WEIGHT=weights[1],
    )
    both_agree(loss, lambda logits, codes: disparity(logits, codes, count, threshold, weights))


def test_the_positions_that_differ_most_are_compared():
    student = predictions([[0.5], [0.9], [0.2], [0.05]], torch.zeros(4, 7))
    teacher = predictions([[0.6], [0.1], [0.9], [0.06]], torch.zeros(4, 7))
    loss = DisparityLoss(options=DisparityOptions(num_regions=2))
    rows, is_missed = loss.regions(student, teacher)
    assert sorted(zip(rows.tolist(), is_missed.tolist())) == [(1, False), (2, True)]


def test_one_missed_object_counts_as_much_as_all_false_alarms():
    student = with_gradients(predictions([[0.5]] * 10 + [[0.1]], torch.zeros(11, 7)))
    teacher = predictions([[0.1]] * 10 + [[0.5]], torch.zeros(11, 7))
    loss = DisparityLoss()
    loss(student, teacher, {}).backward()
    slopes = student.logits.grad[:, 0]
    assert loss.logs == {"missed": 1, "surplus": 10}
    assert slopes[:10].sum().item() == pytest.approx(-slopes[10].item())


def test_frames_without_a_proposal():
    student = with_gradients(predictions([[0.01]] * 3, torch.zeros(3, 7)))
    value = DisparityLoss()(student, predictions([[0.02]] * 3, torch.ones(3, 7)), {})
    value.backward()
    assert value.item() == 0
    assert student.logits.grad.abs().sum() == 0
    assert student.codes.grad.abs().sum() == 0
