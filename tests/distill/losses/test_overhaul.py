"""OverhaulLoss: the partial distance and the margins, by hand."""

from __future__ import annotations

import pytest
import torch
from made_nodes import identity, nodes, tap

from pcdet_distill.distill.losses.overhaul import OverhaulLoss, partial_distance


def test_the_distance_is_zero_where_both_are_below_zero_and_the_student_lower():
    teacher = torch.tensor([[2.0, -1.0, -1.0, 0.0]])
    student = torch.tensor([[1.0, -3.0, 0.5, -2.0]])
    assert partial_distance(teacher, student).tolist() == [[1.0, 0.0, 2.25, 0.0]]


def overhaul(margin=None):
    """Adapter the identity; in eval mode with given margins."""
    loss = OverhaulLoss(tap(2), tap(2))
    identity(loss.adapter)
    if margin is not None:
        loss.eval()
        loss.margin.copy_(torch.tensor(margin))
    return loss


STUDENT = nodes([[1.0, -9.0], [0.0, -1.0], [-3.0, 1.0]])
TEACHER = nodes([[2.0, -4.0], [-1.0, -2.0], [-3.0, 0.0]])


def test_the_value_by_hand():
    """Margins -2 and -3 bound the teacher from below: (2, -3), (-1, -2), (-2, 0).

    Squared differences by rows: 1 and, the student being lower, 0; 1 and 1; 0, lower again, and 1.
    """
    value = overhaul(margin=[-2.0, -3.0])(STUDENT, TEACHER, {})
    expected = (1 + 0 + 1 + 1 + 0 + 1) / 6
    assert value.item() == pytest.approx(expected, rel=1e-4)  # batch norm has an epsilon


def test_margins_are_the_means_of_negative_values_over_the_first_steps():
    """The means are (-2, -3) and (-4, -1), so (-3, -2) after two steps, and fixed after 20."""
    two_rows = nodes([[1.0, -9.0], [0.0, -1.0]])
    loss = overhaul().train()
    loss(STUDENT, TEACHER, {})
    assert loss.margin.tolist() == pytest.approx([-2.0, -3.0])
    loss(two_rows, nodes([[-4.0, 0.0], [-4.0, -1.0]]), {})
    assert loss.margin.tolist() == pytest.approx([-3.0, -2.0])
    assert loss.steps == 2
    loss.steps.fill_(20)
    loss(two_rows, nodes([[-40.0, -9.0], [-4.0, -1.0]]), {})
    assert loss.margin.tolist() == pytest.approx([-3.0, -2.0])
