"""A student that knows nothing: no default loss may crash, be zero, or be brought down by it.

The student's features are fresh random numbers in every step, so nothing can be learnt from them. A
loss whose adapters bring it to zero all the same has collapsed: it is low without any likeness.

A blind student may also learn the mean and the spread of each of its channels, together with the
adapters. It must stay far above a student that sees the teacher and is trained likewise.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch
from made_nodes import map_nodes, nodes_of_kind, tap
from made_predictions import predictions, with_gradients
from test_feature_losses import compared
from torch import nn

from pcdet_distill.distill.losses import DISTILL_LOSSES, MapLoss, PredictionLoss

STUDENT_CHANNELS = 4
WIDTH = 8  # channels of a student that could hold all that its teacher has
TEACHER_CHANNELS = 6
FRAMES = 2
SIDE = 12  # cells of one metre
STEPS = 150
SMALL_SIDE = 8
SHORT_STEPS = 60
KINDS = ("bev", "voxel", "point")
OF_MAPS = ("RegionMimicLoss", "SimilarityLoss")  # they ask for the taps of maps
LABELS = torch.tensor(
    [
        [[4.0, 4, 0, 4, 2, 1.5, 0.3, 1], [9.0, 8, 0, 1, 1, 1.7, 0, 2]],
        [[6.0, 7, 0, 4, 2, 1.5, -0.8, 1], [2.0, 9, 0, 2, 1, 1.7, 1, 3]],
    ]
)
NO_LABELS = torch.zeros(FRAMES, 1, 8)
FAR_LABELS = LABELS + torch.tensor([100.0, 0, 0, 0, 0, 0, 0, 0])
FEATURE_LOSSES = [
    name for name, loss in DISTILL_LOSSES.items() if not issubclass(loss, PredictionLoss)
]
PREDICTION_LOSSES = [name for name in DISTILL_LOSSES if name not in FEATURE_LOSSES]


def built(name, **changed):
    """A loss with all its defaults but ``changed``."""
    torch.manual_seed(0)
    sides = (tap(STUDENT_CHANNELS), tap(TEACHER_CHANNELS))
    cfg = DISTILL_LOSSES[name].with_input_keys({"NAME": name, **changed}, True)
    options = {key: value for key, value in cfg.items() if key != "NAME"}
    return DISTILL_LOSSES[name].from_config(options, *sides, "T").train()


class BlindFeatures(nn.Module):
    """Random features, of which each channel learns its mean and its spread."""

    def __init__(self):
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(WIDTH))
        self.spread = nn.Parameter(torch.ones(WIDTH))

    def forward(self, teacher):
        noise = torch.randn(len(teacher), WIDTH)
        return (noise * self.spread + self.mean).relu()


class SeeingFeatures(nn.Module):
    """One layer on the features of the teacher."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(TEACHER_CHANNELS, WIDTH)
        nn.init.orthogonal_(self.layer.weight)

    def forward(self, teacher):
        return self.layer(teacher).relu()


def feature_cases():
    """(name, kind) of every loss between features, with the kinds of nodes that it takes."""
    cases = []
    for name in FEATURE_LOSSES:
        is_of_maps = name in OF_MAPS or issubclass(DISTILL_LOSSES[name], MapLoss)
        cases += [(name, kind) for kind in (("bev",) if is_of_maps else KINDS)]
    return cases


def loss_after_training(name, kind, student):
    """Mean of the last losses of a student that is trained by this loss alone.

    A teacher of maps publishes class scores, those of pillars and points do not: so every SCORE
    that a loss has by default takes part.
    """
    torch.manual_seed(0)
    sides = (tap(WIDTH, kind), tap(TEACHER_CHANNELS, kind))
    cfg = DISTILL_LOSSES[name].with_input_keys({"NAME": name}, kind == "bev")
    options = {key: value for key, value in cfg.items() if key != "NAME"}
    loss = DISTILL_LOSSES[name].from_config(options, *sides, "T").train()
    model = student()
    optimizer = torch.optim.Adam([*loss.parameters(), *model.parameters()], lr=3e-2)
    values = []
    for _ in range(SHORT_STEPS):
        features = torch.randn(FRAMES * SMALL_SIDE**2, TEACHER_CHANNELS).relu()
        teacher = nodes_of_kind(kind, features, FRAMES, SMALL_SIDE)
        if kind == "bev":
            teacher = dataclasses.replace(teacher, objectness=torch.rand(len(teacher)))
        own = nodes_of_kind(kind, model(features), FRAMES, SMALL_SIDE)
        value = compared(loss, own, teacher, {"gt_boxes": LABELS})
        values.append(value.item())
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return sum(values[-10:]) / 10


@pytest.mark.parametrize(("name", "kind"), feature_cases())
def test_a_blind_student_stays_far_above_one_that_sees(name, kind):
    blind = loss_after_training(name, kind, BlindFeatures)
    seeing = loss_after_training(name, kind, SeeingFeatures)
    assert seeing < 0.6 * blind


def noise_map(channels):
    """Behind a ReLU, as the maps of a backbone."""
    return torch.randn(FRAMES, channels, SIDE, SIDE).relu()


def teacher_nodes():
    nodes = map_nodes(noise_map(TEACHER_CHANNELS))
    return dataclasses.replace(nodes, objectness=torch.rand(len(nodes)))


def loss_of_noise(loss, teacher, labels):
    """The loss of a student of random features, and these."""
    features = noise_map(STUDENT_CHANNELS).requires_grad_()
    value = compared(loss, map_nodes(features), teacher, {"gt_boxes": labels})
    return value, features


@pytest.mark.parametrize("name", FEATURE_LOSSES)
def test_features_that_are_noise_have_a_loss_and_a_gradient(name):
    loss = built(name)
    value, features = loss_of_noise(loss, teacher_nodes(), LABELS)
    value.backward()
    assert value.isfinite()
    assert value > 1e-4
    assert features.grad.isfinite().all()
    assert features.grad.abs().sum() > 0


def trained_on_noise(loss):
    """Means of the first and the last ten losses, while the loss's own parameters are trained."""
    parameters = list(loss.parameters())
    optimizer = torch.optim.Adam(parameters, lr=1e-2) if parameters else None
    values = []
    for _ in range(STEPS if parameters else 20):
        value, _ = loss_of_noise(loss, teacher_nodes(), LABELS)
        values.append(value.item())
        if optimizer is not None:
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
    return sum(values[:10]) / 10, sum(values[-10:]) / 10


@pytest.mark.parametrize("name", FEATURE_LOSSES)
def test_training_cannot_bring_the_loss_of_noise_down(name):
    """The mean of a target can be learnt without its features. What is left is its variance."""
    first, last = trained_on_noise(built(name))
    assert last > 0.1 * first


def test_the_published_graph_loss_does_collapse():
    """It is the control: a loss whose two adapters may agree on a constant.

    ``benchmarks/collapse.py`` has it for pillars and points too.
    """
    first, last = trained_on_noise(built("GraphDistillLoss", PRESET="official"))
    assert last < 0.001 * first


@pytest.mark.parametrize("labels", [NO_LABELS, FAR_LABELS], ids=["none", "far away"])
@pytest.mark.parametrize("name", FEATURE_LOSSES)
def test_features_under_labels_that_carry_nothing(name, labels):
    value, features = loss_of_noise(built(name), teacher_nodes(), labels)
    value.backward()
    assert value.isfinite()
    assert features.grad.isfinite().all()


def anchors():
    """(cells, 7) an anchor at the centre of every cell."""
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    centres = torch.stack([x.flatten(), y.flatten()], dim=1) + 0.5
    shape = torch.tensor([0, 4, 2, 1.5, 0]).expand(len(centres), 5)
    return torch.cat([centres, shape], dim=1).float()


def noise_predictions(spread):
    """Random scores of three classes and random codes at every anchor of every frame."""
    references = anchors().repeat(FRAMES, 1)
    frames = torch.arange(FRAMES).repeat_interleave(SIDE * SIDE).tolist()
    scores = torch.randn(len(references), 3).mul(2).sigmoid()
    codes = torch.randn(len(references), 7) * spread
    return predictions(scores, codes, frames, references[:, :3], references)


@pytest.mark.parametrize("name", PREDICTION_LOSSES)
@pytest.mark.parametrize("spread", [0.1, 100.0])
def test_predictions_that_are_noise_have_a_loss_and_a_gradient(name, spread):
    """A spread of 100 is a student whose boxes are nowhere."""
    torch.manual_seed(0)
    student = with_gradients(noise_predictions(spread))
    loss = DISTILL_LOSSES[name].from_config({}, None, None, "T")
    value = loss(student, noise_predictions(0.1), {"gt_boxes": LABELS})
    value.backward()
    assert value.isfinite()
    assert value > 1e-3
    reached = [part.grad for part in (student.logits, student.codes) if part.grad is not None]
    assert all(gradient.isfinite().all() for gradient in reached)
    assert sum(gradient.abs().sum() for gradient in reached) > 0


class BlindPredictions(nn.Module):
    """Random predictions, of which each column learns its mean and its spread."""

    def __init__(self):
        super().__init__()
        self.logit = nn.Parameter(torch.zeros(3))
        self.code = nn.Parameter(torch.zeros(7))
        self.logit_spread = nn.Parameter(torch.ones(3))
        self.code_spread = nn.Parameter(torch.full((7,), 0.1))

    def forward(self, teacher):
        logits = torch.randn_like(teacher.logits) * self.logit_spread + self.logit
        codes = torch.randn_like(teacher.codes) * self.code_spread + self.code
        return dataclasses.replace(teacher, logits=logits, codes=codes)


class SeeingPredictions(nn.Module):
    """Those of the teacher with small errors, and a mean that each column has to unlearn."""

    def __init__(self):
        super().__init__()
        self.logit = nn.Parameter(torch.ones(3))
        self.code = nn.Parameter(torch.full((7,), 0.1))

    def forward(self, teacher):
        logits = teacher.logits + 0.1 * torch.randn_like(teacher.logits) + self.logit
        codes = teacher.codes + 0.01 * torch.randn_like(teacher.codes) + self.code
        return dataclasses.replace(teacher, logits=logits, codes=codes)


def prediction_loss_after_training(name, student):
    """Mean of the last losses of predictions that are trained by this loss alone."""
    torch.manual_seed(0)
    loss = DISTILL_LOSSES[name].from_config({}, None, None, "T")
    model = student()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-2)
    values = []
    for _ in range(SHORT_STEPS):
        teacher = noise_predictions(0.1)
        teacher = dataclasses.replace(teacher, logits=teacher.logits - 3)  # mostly background
        value = loss(model(teacher), teacher, {"gt_boxes": LABELS})
        values.append(value.item())
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return sum(values[-10:]) / 10


@pytest.mark.parametrize("name", PREDICTION_LOSSES)
def test_blind_predictions_stay_far_above_seeing_ones(name):
    blind = prediction_loss_after_training(name, BlindPredictions)
    seeing = prediction_loss_after_training(name, SeeingPredictions)
    assert seeing < 0.1 * blind


@pytest.mark.parametrize("labels", [NO_LABELS, FAR_LABELS], ids=["none", "far away"])
@pytest.mark.parametrize("name", PREDICTION_LOSSES)
def test_predictions_under_labels_that_carry_nothing(name, labels):
    torch.manual_seed(0)
    student = with_gradients(noise_predictions(0.1))
    loss = DISTILL_LOSSES[name].from_config({}, None, None, "T")
    value = loss(student, noise_predictions(0.1), {"gt_boxes": labels})
    value.backward()
    assert value.isfinite()


@pytest.mark.parametrize("name", PREDICTION_LOSSES)
def test_a_teacher_that_is_sure_of_nothing(name):
    """All its scores are alike, far below every threshold."""
    student = with_gradients(noise_predictions(0.1))
    teacher = noise_predictions(0.1)
    teacher = dataclasses.replace(teacher, logits=torch.full_like(teacher.logits, -12.0))
    loss = DISTILL_LOSSES[name].from_config({}, None, None, "T")
    value = loss(student, teacher, {"gt_boxes": LABELS})
    value.backward()
    assert value.isfinite()
