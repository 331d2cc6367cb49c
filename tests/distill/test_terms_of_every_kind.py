"""A graph term on every kind of tap, between detectors of equal and of different architecture."""

from __future__ import annotations

import pytest
import torch
from small_model import random_scene
from small_point_rcnn import point_batch, point_spec, small_point_rcnn
from small_second import second_batch, second_spec, small_second
from small_two_stage import (
    part_a2_config,
    pv_rcnn_config,
    pv_rcnn_plusplus_config,
    voxel_rcnn_config,
)

from pcdet_distill.distill import Distiller, DistillHead, TapSource, Teacher

SCENES = [random_scene(0), random_scene(1)]
ROI = "roi_head@roi_point_features"


def second(config=None):
    """Makers of detectors on voxels."""
    return lambda seed: small_second(config and config(), seed)


def points(seed):
    return small_point_rcnn(seed=seed)


ON_VOXELS = (second_batch, second_spec)
ON_POINTS = (point_batch, point_spec)
# name -> kind, student, its tap, teacher, its tap, batch and data
PAIRS = {
    "sparse": ("sparse", second(), "backbone_3d.conv3", second(), "backbone_3d.conv3", ON_VOXELS),
    "sparse, other stride": (
        "sparse",
        second(),
        "backbone_3d.conv3",
        second(),
        "backbone_3d.conv2",
        ON_VOXELS,
    ),
    "encoded": (
        "sparse",
        second(),
        "backbone_3d@encoded_spconv_tensor",
        second(pv_rcnn_config),
        "backbone_3d@encoded_spconv_tensor",
        ON_VOXELS,
    ),
    "bev, other stride": (
        "bev",
        second(),
        "backbone_2d.blocks.0",
        second(),
        "backbone_2d.blocks.1",
        ON_VOXELS,
    ),
    "keypoints": (
        "point",
        second(pv_rcnn_config),
        "pfe@point_features",
        second(pv_rcnn_config),
        "pfe@point_features",
        ON_VOXELS,
    ),
    "keypoints near proposals": (
        "point",
        second(pv_rcnn_plusplus_config),
        "pfe@point_features",
        second(pv_rcnn_plusplus_config),
        "pfe@point_features",
        ON_VOXELS,
    ),
    "keypoints of other detectors": (
        "point",
        second(pv_rcnn_config),
        "pfe@point_features",
        second(pv_rcnn_plusplus_config),
        "pfe@point_features",
        ON_VOXELS,
    ),
    "points": (
        "point",
        points,
        "point_head.cls_layers",
        points,
        "point_head.cls_layers",
        ON_POINTS,
    ),
    "roi": ("roi", second(pv_rcnn_config), ROI, second(pv_rcnn_config), ROI, ON_VOXELS),
    "roi, other head": (
        "roi",
        second(pv_rcnn_config),
        ROI,
        second(voxel_rcnn_config),
        ROI,
        ON_VOXELS,
    ),
    "roi, vector pooling": (
        "roi",
        second(pv_rcnn_plusplus_config),
        ROI,
        second(pv_rcnn_plusplus_config),
        ROI,
        ON_VOXELS,
    ),
    "roi, occupied cells": (
        "roi",
        second(part_a2_config),
        ROI,
        second(part_a2_config),
        ROI,
        ON_VOXELS,
    ),
    "roi of points": ("roi", points, ROI, points, ROI, ON_POINTS),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_step(name):
    kind, make_student, student_tap, make_teacher, teacher_tap, (make_batch, make_spec) = PAIRS[
        name
    ]
    # Untrained detectors propose nothing in common, unless their first stages are the same.
    student = make_student(0)
    teacher = make_teacher(0 if kind == "roi" else 1)
    term = {
        "NAME": "GraphDistillLoss",
        "STUDENT": student_tap,
        "TEACHER": teacher_tap,
        "NODES": kind,
        "NUM_NODES": 20,
        "NUM_NEIGHBORS": 4,
        "EMBED_DIM": 4,
    }
    head = DistillHead.from_config(
        {"TERM": term},
        TapSource.of("student", student, make_spec()),
        TapSource.of("teacher", teacher, make_spec()),
    )
    model = Distiller(student, Teacher(teacher, "train" if kind == "roi" else "eval"), head).train()
    ret, tb, _ = model(make_batch(SCENES))
    assert float(tb["distill_term"]) > 0.05
    ret["loss"].backward()
    weight = head.terms["TERM"].loss.student_adapter.weight
    assert weight.grad is not None
    assert torch.isfinite(weight.grad).all()
    assert weight.grad.abs().sum() > 0
