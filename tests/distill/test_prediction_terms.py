"""Every loss between predictions, in a training step of every head that can be read."""

from __future__ import annotations

import pytest
import torch
from distillation_steps import losses_of_distillation
from head_pairs import batch_for, distiller

TERMS = {
    "LOGIT_BOX": {"NAME": "LogitBoxLoss"},
    "CONFIDENT": {"NAME": "PivotalLogitLoss"},
    "AROUND": {"NAME": "PivotalLogitLoss", "SELECT": "gaussian"},
    "RANKED": {"NAME": "PivotalLogitLoss", "SELECT": "rank", "NUM_POSITIONS": 50},
    "PLACES": {
        "NAME": "LocalisationLoss",
        "SCORE_THRESH": 0.0,
        "MAIN_IOU": 0.02,
        "VALUABLE_IOU": 0.01,
    },
    "CATEGORIES": {"NAME": "CategoryLogitLoss"},
    "DISPARITY": {"NAME": "DisparityLoss"},
    "RELATIONS": {"NAME": "HeadRelationLoss"},
}


def terms_of(slot):
    """TERMS between the heads in a slot."""
    return {name: {**term, "STUDENT": slot, "TEACHER": slot} for name, term in TERMS.items()}


@pytest.mark.parametrize(
    "student, teacher",
    [
        ("single", "single"),
        ("single", "wide"),
        ("multi", "multi"),
        ("single", "multi"),
        ("centre", "centre"),
        ("points", "points"),
    ],
)
def test_training_step(student, teacher):
    slot = "point_head" if student == "points" else "dense_head"
    model = distiller(student, teacher, terms_of(slot))
    ret, tb, _ = model(batch_for(student))
    ret["loss"].backward()
    for name in TERMS:
        assert tb[f"distill_{name.lower()}"] > 0 or name == "PLACES", name
    assert tb["distill_loss"].isfinite()
    head = getattr(model.student, slot)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())
    assert all(p.grad is None for p in model.teacher.model.parameters())


@pytest.mark.parametrize("kind", ["single", "multi", "centre"])
def test_a_step_makes_the_student_like_its_teacher(kind):
    """Twenty steps of distillation alone."""
    model = distiller(kind, kind, terms_of("dense_head"))
    seen = losses_of_distillation(model, batch_for(kind))
    assert seen[-1] < 0.6 * seen[0]


@pytest.mark.parametrize("kind", ["single", "centre"])
def test_bfloat16_step(kind):
    model = distiller(kind, kind, terms_of("dense_head"))
    expected = model(batch_for(kind))[1]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ret, tb, _ = model(batch_for(kind))
    ret["loss"].backward()
    assert ret["loss"].dtype == torch.float32
    for name in ("distill_logit_box", "distill_confident"):
        torch.testing.assert_close(tb[name], expected[name], rtol=0.1, atol=1e-3)
