"""MaskedImitationLoss and its masks: numbers worked out by hand."""

from __future__ import annotations

from math import exp

import pytest
import torch
from made_nodes import identity, map_nodes, nodes, tap

from pcdet_distill.distill.losses.features import ChannelStatistics
from pcdet_distill.distill.losses.masked_imitation import (
    MaskedImitationLoss,
    MaskedImitationOptions,
)
from pcdet_distill.distill.losses.masks import box_weights, gaussian_weights
from pcdet_distill.errors import ConfigError, DataError

BOX = [2.5, 1.5, 0, 4, 2, 1.5, 0, 1]


def imitation(mean=(0.0, 0.0), spread=(1.0, 1.0), **options):
    """Adapter the identity, statistics fixed."""
    loss = MaskedImitationLoss(tap(2), tap(2), MaskedImitationOptions(**options)).eval()
    identity(loss.adapter)
    mean = torch.tensor(mean)
    spread = torch.tensor(spread)
    loss.statistics.mean.copy_(mean)
    loss.statistics.square.copy_(spread**2 + mean**2)
    return loss


def test_box_mask_seen_from_above():
    """Cells of a metre: those with their centre on the box, in its own frame only."""
    made = map_nodes(torch.zeros(2, 1, 4, 6))
    weights = box_weights(
        made.coords, made.batch_index, torch.tensor([[BOX, [0.0] * 8], [[0.0] * 8] * 2])
    )
    expected = torch.zeros(2, 4, 6)
    expected[0, 0:3, 0:5] = (
        1  # the centres on the border, at x 0.5 and 4.5 and at y 0.5 and 2.5, are just inside
    )
    assert torch.equal(weights.view(2, 4, 6), expected)


def test_gaussian_mask():
    coords = torch.tensor(
        [[2.5, 1.5, 0], [4.5, 1.5, 9], [2.5, 2.5, 0], [14.5, 1.5, 0], [2.5, 1.5, 0]]
    )
    frames = torch.tensor([0, 0, 0, 0, 1])
    boxes = torch.tensor([[BOX], [[0.0] * 8]])
    assert gaussian_weights(coords, frames, boxes, 0.5).tolist() == pytest.approx(
        [1, exp(-0.5), exp(-0.5), 0, 0]
    )
    assert gaussian_weights(coords, frames, boxes, 0.25).tolist() == pytest.approx(
        [1, exp(-2), exp(-2), 0, 0]
    )
    turned = torch.tensor([[[*BOX[:6], torch.pi / 2, 1], [4.5, 1.5, 0, 1, 1, 1, 0, 1]]])
    found = gaussian_weights(coords[:3], frames[:3], turned, 0.5).tolist()
    assert found == pytest.approx([1, 1, exp(-0.125)], abs=1e-5)


STUDENT = nodes([[1, 0], [0, 2], [5, 5]], coords=[[2.5, 1.5, 0], [4.4, 1.5, 0], [50, 0, 0]])
TEACHER = nodes(
    [[3, 0], [1, 1], [1, 1]],
    coords=STUDENT.coords,
    saliency=[4.0, 2.0, -1.0],
    objectness=[0.9, 0.3, 0.0],
)
BATCH = {"gt_boxes": torch.tensor([[BOX]])}
SQUARES = [(4 + 0) / 2, (1 + 1) / 2, (16 + 16) / 2]


def weighted(weights, squares=SQUARES):
    return pytest.approx(sum(w * s for w, s in zip(weights, squares)) / sum(weights), rel=1e-5)


def test_masks_and_background():
    assert imitation(mask="box", background=0.0)(STUDENT, TEACHER, BATCH).item() == weighted(
        [1, 1, 0]
    )
    assert imitation(mask="box", background=0.5)(STUDENT, TEACHER, BATCH).item() == weighted(
        [1.5, 1.5, 0.5]
    )
    side = exp(-((1.9 / 4 / 0.3) ** 2) / 2)
    loss = imitation(mask="gaussian", sigma=0.3, background=0.0)
    assert loss(STUDENT, TEACHER, BATCH).item() == weighted([1, side, 0])
    loss = imitation(mask="score", score="objectness", background=0.1)
    assert loss(STUDENT, TEACHER, BATCH).item() == weighted([1.0, 0.4, 0.1])
    loss = imitation(mask="score", score="saliency", background=0.0)
    assert loss(STUDENT, TEACHER, BATCH).item() == weighted([1.0, 0.5, 0.0])
    with pytest.raises(DataError, match="objectness"):
        imitation(mask="score")(STUDENT, nodes([[0, 0]] * 3), BATCH)


def test_targets_are_standardised():
    loss = imitation(mean=(1.0, 0.0), spread=(2.0, 0.5), mask="box", background=0.0)
    # Targets (1, 0) and (0, 2).
    assert loss(STUDENT, TEACHER, BATCH).item() == pytest.approx(0, abs=1e-6)


def test_statistics_are_weighted_averaged_and_then_fixed():
    statistics = ChannelStatistics(1)
    statistics.update(torch.tensor([[1.0], [3.0], [100.0]]), torch.tensor([1.0, 1.0, 0.0]))
    assert statistics.standardise(torch.tensor([[1.0], [4.0]])).tolist() == [[-1.0], [2.0]]
    statistics.update(torch.tensor([[4.0], [4.0]]), torch.ones(2))
    assert statistics.mean.item() == 3
    assert statistics.square.item() == pytest.approx((5 + 16) / 2)
    for _ in range(40):
        statistics.update(torch.zeros(1, 1), torch.ones(1))
    assert statistics.mean.item() == pytest.approx(6 / 20)
    assert ChannelStatistics(1).standardise(torch.tensor([[2.0]])).item() == 2
    constant = ChannelStatistics(1)
    constant.update(torch.full((4, 1), 7.0), torch.ones(4))
    assert constant.standardise(torch.full((1, 1), 7.0)).abs().item() < 1


def test_training_learns_the_statistics():
    loss = imitation(mask="box", background=0.0).train()
    loss(STUDENT, TEACHER, BATCH)
    assert loss.statistics.mean.tolist() == [2.0, 0.5]
    assert loss.statistics.steps == 1


def test_no_object_and_no_background():
    student = nodes(torch.ones(3, 2).requires_grad_())
    value = imitation(mask="box", background=0.0)(
        student, TEACHER, {"gt_boxes": torch.zeros(1, 1, 8)}
    )
    value.backward()
    assert value.item() == 0
    assert student.features.grad.abs().sum() == 0


@pytest.mark.parametrize(
    "options, words",
    [
        ({"MASK": "score"}, "T.SCORE is missing"),
        ({"MASK": "boxes"}, "T.MASK: unknown value 'boxes'; did you mean 'box'"),
        ({"BACKGROUND": 2}, "T.BACKGROUND: expected a number from 0 to 1"),
    ],
)
def test_refused(options, words):
    with pytest.raises(ConfigError) as error:
        MaskedImitationLoss.from_config(options, tap(2), tap(2), "T")
    assert words in str(error.value)
