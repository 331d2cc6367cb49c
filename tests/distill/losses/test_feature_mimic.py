"""FeatureMimicLoss: half the mean squared difference after the adapter."""

from __future__ import annotations

import pytest
from made_nodes import identity, nodes, tap

from pcdet_distill.distill.losses.feature_mimic import FeatureMimicLoss

STUDENT = nodes([[1, 1], [3, 0]])
TEACHER = nodes([[0, 1], [1, 1]])


def test_the_value_by_hand():
    """Differences 1, 0, 2 and -1."""
    loss = FeatureMimicLoss(tap(2), tap(2))
    identity(loss.adapter)
    expected = (1 + 0 + 4 + 1) / 4 / 2
    assert loss(STUDENT, TEACHER, {}).item() == pytest.approx(expected)


def test_the_adapter_has_a_bias():
    """With a bias of 1 the differences are 2, 1, 3 and 0."""
    loss = FeatureMimicLoss(tap(2), tap(2))
    identity(loss.adapter)
    loss.adapter.bias.data += 1
    expected = (4 + 1 + 9 + 0) / 4 / 2
    assert loss(STUDENT, TEACHER, {}).item() == pytest.approx(expected)
