"""Small students and teachers with every kind of head, for tests of what compares predictions."""

from __future__ import annotations

import torch
from small_center import center_config
from small_model import make_batch, model_config, random_scene, small_model
from small_multi_head import multi_model_config
from small_point_rcnn import point_batch, small_point_rcnn, two_scenes

from pcdet_distill.distill import Distiller, DistillHead, TapSource, Teacher

MAKERS = {
    "single": lambda seed: small_model(seed=seed),
    "multi": lambda seed: small_model(multi_model_config(), seed=seed),
    "centre": lambda seed: small_model(
        center_config([["Car"], ["Pedestrian", "Cyclist"]]), seed=seed
    ),
    "wide": lambda seed: small_model(model_config(12), seed=seed),
    "points": lambda seed: small_point_rcnn(seed=seed),
}


def bolder(model):
    """A teacher that is sure of something."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") and parameter.numel() and parameter.flatten()[0] < -1:
                parameter += 3.5
    return model


def distiller(student, teacher, terms):
    """A distiller of two kinds of MAKERS, with these DISTILL.TERMS."""
    student = MAKERS[student](0)
    teacher = bolder(MAKERS[teacher](1))
    head = DistillHead.from_config(
        terms,
        TapSource.of("student", student, student.dataset),
        TapSource.of("teacher", teacher, teacher.dataset),
    )
    return Distiller(student, Teacher(teacher), head).train()


def batch_for(kind):
    """Two frames for a model of this kind."""
    if kind == "points":
        return point_batch(two_scenes())
    return make_batch([random_scene(0), random_scene(1)])
