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
PADDING = [0.0] * 8


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
    cells = map_nodes(torch.zeros(2, 1, 4, 6))
    boxes = torch.tensor([[BOX, PADDING], [PADDING, PADDING]])
    weights = box_weights(cells.coords, cells.batch_index, boxes)
    expected = torch.zeros(2, 4, 6)
    # Centres on the border, at x 0.5 and 4.5 and at y 0.5 and 2.5, are just inside.
    expected[0, 0:3, 0:5] = 1
    assert torch.equal(weights.view(2, 4, 6), expected)


# At the centre of the box, half its length along it and above, half its width across it, far away.
PLACES = torch.tensor([[2.5, 1.5, 0], [4.5, 1.5, 9], [2.5, 2.5, 0], [14.5, 1.5, 0]])


@pytest.mark.parametrize("sigma, at_the_border", [(0.5, exp(-0.5)), (0.25, exp(-2))])
def test_gaussian_mask(sigma, at_the_border):
    """Half the length is one or two sigma; heights do not count, nor objects of another frame."""
    coords = torch.cat([PLACES, PLACES[:1]])
    frames = torch.tensor([0, 0, 0, 0, 1])
    boxes = torch.tensor([[BOX], [PADDING]])
    weights = gaussian_weights(coords, frames, boxes, sigma)
    assert weights.tolist() == pytest.approx([1, at_the_border, at_the_border, 0, 0])


def test_gaussian_mask_of_a_turned_and_a_second_box():
    """The third place is now half as far out as the border, along the box: 1/2 sigma."""
    turned_box = [*BOX[:6], torch.pi / 2, 1]
    box_at_the_second_place = [4.5, 1.5, 0, 1, 1, 1, 0, 1]
    boxes = torch.tensor([[turned_box, box_at_the_second_place]])
    weights = gaussian_weights(PLACES[:3], torch.zeros(3, dtype=torch.long), boxes, 0.5)
    assert weights.tolist() == pytest.approx([1, 1, exp(-(0.5**2) / 2)], abs=1e-5)


STUDENT = nodes([[1, 0], [0, 2], [5, 5]], coords=[[2.5, 1.5, 0], [4.4, 1.5, 0], [50, 0, 0]])
TEACHER = nodes(
    [[3, 0], [1, 1], [1, 1]],
    coords=STUDENT.coords,
    saliency=[4.0, 2.0, -1.0],
    objectness=[0.9, 0.3, 0.0],
)
BATCH = {"gt_boxes": torch.tensor([[BOX]])}
# The mean squared difference of each node.
SQUARES = [(4 + 0) / 2, (1 + 1) / 2, (16 + 16) / 2]


def weighted(weights):
    """The mean of SQUARES with these weights."""
    total = 0.0
    for weight, square in zip(weights, SQUARES):
        total += weight * square
    return pytest.approx(total / sum(weights), rel=1e-5)


@pytest.mark.parametrize(
    "options, weights",
    [
        ({"mask": "box", "background": 0.0}, [1, 1, 0]),
        ({"mask": "box", "background": 0.5}, [1 + 0.5, 1 + 0.5, 0.5]),
        # The second node is 1.9 m from the centre of a box 4 m long.
        (
            {"mask": "gaussian", "sigma": 0.3, "background": 0.0},
            [1, exp(-((1.9 / 4 / 0.3) ** 2) / 2), 0],
        ),
        ({"mask": "score", "score": "objectness", "background": 0.1}, [0.9 + 0.1, 0.3 + 0.1, 0.1]),
        # Saliency is divided by its largest value, and negative values are zero.
        ({"mask": "score", "score": "saliency", "background": 0.0}, [4 / 4, 2 / 4, 0]),
    ],
)
def test_masks_and_background(options, weights):
    assert imitation(**options)(STUDENT, TEACHER, BATCH).item() == weighted(weights)


def test_nodes_without_scores_of_the_head_are_an_error():
    without_objectness = nodes([[0, 0], [0, 0], [0, 0]])
    with pytest.raises(DataError, match="objectness"):
        imitation(mask="score")(STUDENT, without_objectness, BATCH)


def test_targets_are_standardised():
    loss = imitation(mean=(1.0, 0.0), spread=(2.0, 0.5), mask="box", background=0.0)
    # Targets (1, 0) and (0, 2).
    assert loss(STUDENT, TEACHER, BATCH).item() == pytest.approx(0, abs=1e-6)


def test_statistics_are_weighted():
    """Values 1 and 3, and one of weight 0: mean 2, standard deviation 1."""
    statistics = ChannelStatistics(1)
    statistics.update(torch.tensor([[1.0], [3.0], [100.0]]), torch.tensor([1.0, 1.0, 0.0]))
    assert statistics.standardise(torch.tensor([[1.0], [4.0]])).tolist() == [[-1.0], [2.0]]


def test_statistics_are_averaged_over_the_first_20_steps():
    """The first two steps have the means 2 and 4, and the mean squares 5 and 16."""
    statistics = ChannelStatistics(1)
    statistics.update(torch.tensor([[1.0], [3.0]]), torch.ones(2))
    statistics.update(torch.tensor([[4.0], [4.0]]), torch.ones(2))
    assert statistics.mean.item() == 3
    assert statistics.square.item() == pytest.approx((5 + 16) / 2)
    for _ in range(40):
        statistics.update(torch.zeros(1, 1), torch.ones(1))
    assert statistics.mean.item() == pytest.approx((2 + 4) / 20)


def test_without_statistics_values_stay_as_they_are():
    assert ChannelStatistics(1).standardise(torch.tensor([[2.0]])).item() == 2


def test_a_constant_channel_stays_finite():
    statistics = ChannelStatistics(1)
    statistics.update(torch.full((4, 1), 7.0), torch.ones(4))
    assert statistics.standardise(torch.full((1, 1), 7.0)).abs().item() < 1


def test_training_learns_the_statistics():
    loss = imitation(mask="box", background=0.0).train()
    loss(STUDENT, TEACHER, BATCH)
    assert loss.statistics.mean.tolist() == [2.0, 0.5]
    assert loss.statistics.steps == 1


def test_no_object_and_no_background():
    student = nodes(torch.ones(3, 2).requires_grad_())
    loss = imitation(mask="box", background=0.0)
    value = loss(student, TEACHER, {"gt_boxes": torch.tensor([[PADDING]])})
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
