"""What the three kinds of losses do before a loss computes: nothing to compare, precision."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from made_nodes import map_nodes, nodes, tap
from made_predictions import predictions, with_gradients

from pcdet_distill.distill.losses import MapLoss, NodeLoss, PredictionLoss
from pcdet_distill.distill.losses.imitation import ImitationLoss

KINDS = [NodeLoss, MapLoss, PredictionLoss]


def recording(kind):
    """A loss of this kind that keeps what ``compute`` is given, and with which autocast."""

    class Recording(kind):
        def __init__(self):
            super().__init__()
            self.calls = []

        def compute(self, student, teacher, batch_dict):
            self.calls.append((student, teacher, torch.is_autocast_enabled("cpu")))
            self.logs["count"] = 1.0
            part = getattr(student, "features", getattr(student, "logits", student))
            return part.sum()

    return Recording()


def pair_of(kind, count):
    """Student and teacher with ``count`` rows or frames."""
    if kind is NodeLoss:
        return nodes(torch.rand(count, 2).requires_grad_()), nodes(torch.rand(count, 3))
    if kind is MapLoss:
        return torch.rand(count, 2, 4, 4).requires_grad_(), torch.rand(count, 3, 4, 4)
    made = [predictions(torch.rand(count, 2), torch.rand(count, 7)) for _ in range(2)]
    return with_gradients(made[0]), made[1]


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_pair_the_loss_is_zero_and_computes_nothing(kind):
    loss = recording(kind)
    loss(*pair_of(kind, 2), {})
    assert loss.logs == {"count": 1}
    value = loss(*pair_of(kind, 0), {})
    assert len(loss.calls) == 1
    assert loss.logs == {}  # not those of the last batch
    assert value == 0
    value.backward()


@pytest.mark.parametrize("kind", KINDS)
def test_losses_are_computed_without_autocast(kind):
    loss = recording(kind)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss(*pair_of(kind, 2), {})
    assert [is_on for _, _, is_on in loss.calls] == [False]


def test_nodes_of_half_precision_become_float32():
    half = map_nodes(torch.rand(1, 2, 3, 3))
    half = dataclasses.replace(
        half,
        features=half.features.half(),
        saliency=half.saliency.half(),
        objectness=torch.rand(9).half(),
    )
    loss = recording(NodeLoss)
    loss(half, half, {})
    for side in loss.calls[0][:2]:
        assert side.features.dtype == torch.float32
        assert side.saliency.dtype == torch.float32
        assert side.objectness.dtype == torch.float32
        assert torch.equal(side.cells, half.cells)


def test_maps_of_half_precision_become_float32_and_doubles_stay():
    loss = recording(MapLoss)
    loss(torch.rand(1, 2, 3, 3).half(), torch.rand(1, 2, 3, 3).double(), {})
    student, teacher, _ = loss.calls[0]
    assert student.dtype == torch.float32
    assert teacher.dtype == torch.float64


@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_without_compute_says_so(kind):
    class Forgotten(kind):
        pass

    with pytest.raises(NotImplementedError, match="Forgotten does not define compute"):
        Forgotten()(*pair_of(kind, 1), {})


def test_a_loss_may_replace_forward_itself():
    class Own(NodeLoss):
        def forward(self, student, teacher, batch_dict):
            return student.features.sum()

    student, teacher = pair_of(NodeLoss, 3)
    assert Own()(student, teacher, {}) == student.features.sum()


def test_imitation_without_an_adapter_has_no_parameters():
    assert list(ImitationLoss(tap(2), tap(3), adapted=False).parameters()) == []
    assert len(list(ImitationLoss(tap(2), tap(3)).parameters())) == 2


def test_imitation_learns_its_statistics_while_training_alone():
    loss = ImitationLoss(tap(2), tap(1))
    teacher = torch.tensor([[1.0], [3.0]])
    loss.eval().observe(teacher, torch.ones(2))
    assert loss.statistics.steps == 0
    loss.train().observe(teacher, torch.ones(2))
    torch.testing.assert_close(loss.target(teacher), torch.tensor([[-1.0], [1.0]]))
