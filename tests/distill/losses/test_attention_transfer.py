"""AttentionTransferLoss: values computed by hand."""

from __future__ import annotations

from math import sqrt

import pytest
from made_nodes import nodes

from pcdet_distill.distill.losses.attention_transfer import (
    AttentionTransferLoss,
    AttentionTransferOptions,
)

STUDENT = nodes([[1, 1], [0, 0], [3, 0]])
TEACHER = nodes([[0, 0, 1], [0, 0, 0], [0, 0, 1]])


def test_attention_of_squares_by_hand():
    """Attention is the sum of squares over channels: (2, 0, 9) and (1, 0, 1).

    Divided by their lengths sqrt(85) and sqrt(2), the squared distance is 2 - 2 cos.
    """
    cosine = (2 * 1 + 9 * 1) / sqrt(85 * 2)
    value = AttentionTransferLoss()(STUDENT, TEACHER, {})
    assert value.item() == pytest.approx(2 - 2 * cosine, abs=1e-6)


def test_attention_of_absolute_values_by_hand():
    """With POWER 1: (2, 0, 3) of length sqrt(13), and (1, 0, 1)."""
    cosine = (2 * 1 + 3 * 1) / sqrt(13 * 2)
    loss = AttentionTransferLoss(options=AttentionTransferOptions(power=1.0))
    assert loss(STUDENT, TEACHER, {}).item() == pytest.approx(2 - 2 * cosine, abs=1e-6)


def test_attention_of_each_frame_is_its_own():
    """A second frame on which both agree halves the mean over the frames."""
    loss = AttentionTransferLoss()
    alone = loss(nodes([[1.0], [2.0]]), nodes([[2.0], [1.0]]), {})
    frames = [0, 0, 1, 1]
    student = nodes([[1.0], [2.0], [5.0], [5.0]], frames)
    teacher = nodes([[2.0], [1.0], [7.0], [7.0]], frames)
    assert loss(student, teacher, {}).item() == pytest.approx(alone.item() / 2)
