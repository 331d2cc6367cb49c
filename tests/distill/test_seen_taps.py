"""What distill() finds on a batch equals what the package's detectors publish of their taps."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from small_center import voxel_config
from small_model import make_batch, random_scene, small_model
from small_pillarnet import pillarnet_config
from small_point_rcnn import point_batch, small_point_rcnn
from small_second import second_batch, small_second
from small_two_stage import (
    part_a2_config,
    pv_rcnn_config,
    pv_rcnn_plusplus_config,
    voxel_rcnn_config,
)

from pcdet_distill.distill import distill

SCENES = [random_scene(0), random_scene(1)]
DETECTORS = {
    "PointPillar": lambda: (small_model(), make_batch(SCENES)),
    "SECOND": lambda: (small_second(), second_batch(SCENES)),
    "CenterPoint": lambda: (small_second(voxel_config()), second_batch(SCENES)),
    "PillarNet": lambda: (small_second(pillarnet_config()), second_batch(SCENES)),
    "PointRCNN": lambda: (small_point_rcnn(), point_batch(SCENES)),
    "PVRCNN": lambda: (small_second(pv_rcnn_config()), second_batch(SCENES)),
    "PVRCNNPlusPlus": lambda: (small_second(pv_rcnn_plusplus_config()), second_batch(SCENES)),
    "VoxelRCNN": lambda: (small_second(voxel_rcnn_config()), second_batch(SCENES)),
    "PartA2": lambda: (small_second(part_a2_config()), second_batch(SCENES)),
}


@pytest.mark.parametrize("name", DETECTORS)
def test_seen_as_published(name, monkeypatch):
    (model, batch) = DETECTORS[name]()
    (teacher, _) = DETECTORS[name]()
    published = model.taps()
    for detector in (model, teacher):
        monkeypatch.setattr(detector, "taps", None)  # a detector that says nothing of itself
    terms = {
        f"T{number}": {"NAME": "GraphDistillLoss", "STUDENT": path, "TEACHER": path}
        for number, path in enumerate(published)
    }
    found = distill(model, teacher, terms, example_batch=batch).head.named_terms()
    seen = {term.student.info.path: term.student.info for _, term in found}
    if (
        name == "PartA2"
    ):  # its points are the centres of its voxels: either name leads to the same places
        seen = {
            path: dataclasses.replace(tap, kind=published[path].kind, stride=published[path].stride)
            if (tap.kind, published[path].kind) == ("voxel", "point")
            else tap
            for path, tap in seen.items()
        }
    assert seen == published
    assert torch.is_grad_enabled()
