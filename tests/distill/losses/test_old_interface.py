"""Losses written for version 0.1 still train, with a warning that names the new interface."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from made_nodes import BEV, nodes, tap
from made_predictions import predictions
from small_model import make_batch, random_scene, small_model
from test_distiller import distiller
from toy_detectors import toy_batch

from pcdet_distill.distill import (
    DISTILL_LOSSES,
    Distiller,
    DistillHead,
    DistillLoss,
    GraphDistillLoss,
    TapSource,
    Teacher,
)
from pcdet_distill.distill.losses.base import read_options
from pcdet_distill.distill.losses.graph_options import GraphOptions
from pcdet_distill.distill.losses.logit_box import LogitBoxLoss, LogitBoxOptions
from pcdet_distill.errors import ConfigError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@dataclasses.dataclass(frozen=True)
class PeakOptions:
    gain: float = 1.0  # GAIN in yaml


class PeakLoss(DistillLoss):
    """As docs/methods.md of version 0.1 shows it."""

    def __init__(self, options=PeakOptions()):
        super().__init__()
        self.options = options

    @classmethod
    def from_config(cls, cfg, student, teacher, where):
        return cls(read_options(PeakOptions(), cfg, where))

    def forward(self, student, teacher, batch_dict):
        if len(student) == 0:
            return self.nothing(student.features)
        own = student.features.amax(dim=1)
        theirs = teacher.features.amax(dim=1)
        self.logs["teacher"] = theirs.mean()
        return (self.options.gain * own - theirs).square().mean()


class ScoreLoss(DistillLoss):
    """An old loss between predictions."""

    sees = "predictions"

    @classmethod
    def from_config(cls, cfg, student, teacher, where):
        assert student.class_names == teacher.class_names
        return cls()

    def forward(self, student, teacher, batch_dict):
        return (student.logits.sigmoid() - teacher.logits.sigmoid()).square().mean()


class AllLabels(DistillLoss):
    """An old loss without a loss: it changes labels."""

    sees = "labels"
    labels_frames = True

    @classmethod
    def from_config(cls, cfg, student, teacher, where):
        assert (student, teacher, dict(cfg)) == (None, None, {})
        return cls()

    def prepare(self, batch_dict, teacher):
        batch_dict["gt_boxes"] = torch.ones(2, 1, 8)
        self.logs["frames"] = 2


@pytest.fixture(autouse=True)
def in_the_table(monkeypatch):
    for loss in (PeakLoss, ScoreLoss, AllLabels):
        monkeypatch.setitem(DISTILL_LOSSES, loss.__name__, loss)


def term(name, tap_or_slot=BEV, **options):
    return {"NAME": name, "STUDENT": tap_or_slot, "TEACHER": tap_or_slot, **options}


def test_a_loss_between_nodes_trains_a_step():
    with pytest.warns(DeprecationWarning, match="derive PeakLoss from NodeLoss, MapLoss or Pred"):
        model = distiller({"PEAKS": term("PeakLoss", GAIN=2.0)})
    loss, logs, _ = model(toy_batch())
    loss["loss"].backward()
    assert logs["distill_peaks"] > 0
    assert logs["distill_peaks_teacher"].isfinite()
    assert model.head.terms["PEAKS"].loss.options.gain == 2
    assert model.student.backbone_2d.conv.weight.grad is not None


def test_a_loss_between_predictions_trains_a_step():
    student = small_model(seed=0)
    teacher = small_model(seed=1)
    head = DistillHead.from_config(
        {"SCORES": term("ScoreLoss", "dense_head")},
        TapSource.of("student", student, student.dataset),
        TapSource.of("teacher", teacher, teacher.dataset),
    )
    model = Distiller(student, Teacher(teacher), head).train()
    loss, logs, _ = model(make_batch([random_scene(0), random_scene(1)]))
    loss["loss"].backward()
    assert logs["distill_scores"] > 0


def test_a_loss_that_changes_labels_becomes_a_batch_transform():
    with pytest.warns(DeprecationWarning, match="derive AllLabels from BatchTransform"):
        model = distiller({"LABELS": {"NAME": "AllLabels"}})
    seen = []
    model.student.vfe.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0]["gt_boxes"])
    )
    _, logs, _ = model({**toy_batch(), "gt_boxes": torch.zeros(2, 1, 8)})
    assert seen[0].sum() == 16
    assert logs["distill_labels_frames"] == 2
    assert logs["distill_loss"] == 0
    assert [transform.labels_frames for _, transform in model.head.named_transforms()] == [True]


def test_no_nodes_give_a_loss_of_zero():
    empty = nodes(torch.zeros(0, 2).requires_grad_(), [])
    with pytest.warns(DeprecationWarning, match="nothing is now DistillLoss.zero_loss"):
        loss = PeakLoss()(empty, empty, {})
    loss.backward()
    assert loss == 0
    assert empty.features.grad is not None


def test_an_unknown_kind_of_input_is_named(monkeypatch):
    monkeypatch.setattr(PeakLoss, "sees", "prediction")
    with pytest.raises(
        ConfigError, match="PEAKS.NAME: 'sees' of PeakLoss: .*did you mean 'predictions'"
    ):
        distiller({"PEAKS": term("PeakLoss")})


def test_old_options_are_checked():
    with pytest.raises(ConfigError, match="PEAKS: unknown key 'GIAN'; did you mean 'GAIN'"):
        distiller({"PEAKS": term("PeakLoss", GIAN=1)})
    with pytest.raises(ConfigError, match="PEAKS.GAIN: expected a number above 0, found -1"):
        distiller({"PEAKS": term("PeakLoss", GAIN=-1)})
    limits = {"gain": (0.0, 1.0)}
    assert read_options(PeakOptions(), {"GAIN": 0}, "T", ranges=limits).gain == 0
    with pytest.raises(ConfigError, match="T.GAIN: expected a number from 0 to 1, found 2"):
        read_options(PeakOptions(), {"GAIN": 2}, "T", ranges=limits)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("GraphDistillLoss", "nodes"),
        ("AttentionNonlocalLoss", "nodes"),
        ("LogitBoxLoss", "predictions"),
        ("PeakLoss", "nodes"),
    ],
)
def test_sees_of_every_kind_of_loss(name, expected):
    with pytest.warns(DeprecationWarning, match=f"{name}.sees is now {name}.inputs"):
        assert DISTILL_LOSSES[name].sees == expected


def test_old_forms_of_constructors():
    options = GraphOptions(embed_dim=4)
    with pytest.warns(DeprecationWarning, match="takes the TapInfo of each side"):
        loss = GraphDistillLoss(3, 6, options)
    assert loss.student_adapter.weight.shape == (4, 6)
    assert loss.options == GraphDistillLoss(tap(3), tap(6), options).options
    with pytest.warns(DeprecationWarning, match=r"now LogitBoxLoss\(options=options\)"):
        loss = LogitBoxLoss(LogitBoxOptions(box_weight=0.0))
    assert loss.options.box_weight == 0
    student = predictions([[0.5, -1.0]], [[0.0] * 7])
    assert loss(student, student, {}) == 0
