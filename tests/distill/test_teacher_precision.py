"""TEACHER.PRECISION: another number format for the teacher alone."""

from __future__ import annotations

import pytest
import torch
from small_model import make_batch, model_config, random_scene, small_model
from small_second import second_batch, small_second

from pcdet_distill.distill import Distiller, DistillHead, TapSource, Teacher
from pcdet_distill.errors import ConfigError

MAP = "backbone_2d@spatial_features_2d"
TERMS = {
    "MAP": {"NAME": "FeatureMimicLoss", "STUDENT": MAP, "TEACHER": MAP},
    "SCORES": {
        "NAME": "LogitBoxLoss",
        "STUDENT": "dense_head",
        "TEACHER": "dense_head",
        "SCORE_THRESH": 0.0,
    },
}


def pillars_batch():
    return make_batch([random_scene(0), random_scene(1)])


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_half_precision_is_near_and_is_not_equal(precision: str) -> None:
    model = small_model(model_config(12), seed=1)
    batch = pillars_batch()
    exact = Teacher(model).features(batch, [MAP])[MAP]
    half = Teacher(model, precision=precision).features(batch, [MAP])[MAP]
    assert half.dtype == torch.float32
    error = (half - exact).norm() / exact.norm()
    assert 1e-6 < error < 0.02


def test_sparse_features_are_float32_again() -> None:
    model = small_second(seed=1)
    batch = second_batch([random_scene(0), random_scene(1)])
    path = "backbone_3d.conv2"
    exact = Teacher(model).features(batch, [path])[path].features
    half = Teacher(model, precision="bfloat16").features(batch, [path])[path].features
    assert half.dtype == torch.float32
    assert (half - exact).norm() / exact.norm() < 0.05


def test_the_student_keeps_its_own_precision() -> None:
    losses = {}
    gradients = {}
    for precision in ("training", "bfloat16"):
        student = small_model(seed=0)
        teacher = Teacher(small_model(model_config(12), seed=1), precision=precision)
        head = DistillHead.from_config(
            TERMS,
            TapSource.of("student", student, student.dataset),
            TapSource.of("teacher", teacher.model, teacher.model.dataset),
        )
        torch.manual_seed(0)
        model = Distiller(student, teacher, head).train()
        ret, logs, _ = model(pillars_batch())
        ret["loss"].backward()
        losses[precision] = logs
        gradients[precision] = student.dense_head.conv_cls.weight.grad
        assert gradients[precision].dtype == torch.float32
    # The detection loss does not know of the teacher.
    assert losses["training"]["rpn_loss_cls"] == losses["bfloat16"]["rpn_loss_cls"]
    plain, half = (losses[name]["distill_scores"] for name in losses)
    assert plain != half
    assert half == pytest.approx(plain.item(), rel=0.05)


def test_float32_inside_a_mixed_precision_training() -> None:
    model = small_model(model_config(12), seed=1)
    batch = pillars_batch()
    exact = Teacher(model).features(batch, [MAP])[MAP]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        as_training = Teacher(model).features(batch, [MAP])[MAP]
        full = Teacher(model, precision="float32").features(batch, [MAP])[MAP]
    assert as_training.dtype == torch.bfloat16
    torch.testing.assert_close(full, exact)


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"PRECISION: unknown value 'float17'.*'float16'"):
        Teacher(small_model(), precision="float17")
