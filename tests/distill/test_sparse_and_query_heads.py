"""Distillation of VoxelNeXt and TransFusion-L: features and labels, but no predictions."""

from __future__ import annotations

import copy
import logging

import pytest
import torch
from easydict import EasyDict
from small_nuscenes import (
    make_batch,
    random_scene,
    spec_of,
    transfusion_config,
    voxelnext_config,
)

from pcdet_distill.checkpoint import save_checkpoint
from pcdet_distill.distill import build_distiller
from pcdet_distill.errors import ConfigError
from pcdet_distill.models import build_network

CONFIGS = {
    "voxelnext": voxelnext_config,
    "transfusion": transfusion_config,
}


def graph(tap, kind):
    """A term that compares a feature, around the places in which the teacher sees objects."""
    return {
        "NAME": "GraphDistillLoss",
        "STUDENT": tap,
        "TEACHER": tap,
        "NODES": kind,
        "SCORE": "objectness",
        "NUM_NODES": 32,
        "NUM_NEIGHBORS": 4,
    }


def distiller(name, tmp_path, terms, init="NONE", student_cfg=None):
    """The distiller of a detector and itself, or a narrower one, with an untrained teacher."""
    cfg = CONFIGS[name]()
    torch.manual_seed(0)
    teacher = build_network(cfg.MODEL, 10, spec_of(cfg))
    save_checkpoint({"model_state": teacher.state_dict()}, tmp_path / "teacher.pth")
    student_cfg = student_cfg or copy.deepcopy(cfg)
    student_cfg.DISTILL = EasyDict(
        TEACHER={"MODEL": cfg.MODEL, "MODE": "eval"}, TERMS=terms, INIT_STUDENT=init
    )
    spec = spec_of(student_cfg)
    student = build_network(student_cfg.MODEL, 10, spec)
    model = build_distiller(student_cfg, student, spec, teacher_ckpt=tmp_path / "teacher.pth")
    return model, make_batch(spec, [random_scene(0), random_scene(1)])


@pytest.mark.parametrize(
    ("name", "tap", "kind"),
    [
        ("voxelnext", "backbone_3d.conv6", "sparse"),
        ("voxelnext", "backbone_3d.shared_conv", "sparse"),
        ("transfusion", "backbone_2d.blocks.1", "bev"),
        ("transfusion", "dense_head.shared_conv", "bev"),
    ],
)
def test_features(name, tap, kind, tmp_path):
    model, batch = distiller(name, tmp_path, {"GRAPH": graph(tap, kind)})
    ret, tb_dict, _ = model.train()(batch)
    ret["loss"].backward()
    assert torch.isfinite(ret["loss"])
    assert tb_dict["distill_graph"] > 0


@pytest.mark.parametrize("name", CONFIGS)
def test_the_teachers_boxes_as_labels(name, tmp_path):
    model, batch = distiller(name, tmp_path, {"LABELS": {"NAME": "TeacherLabels"}})
    ret, _, _ = model.train()(batch)
    ret["loss"].backward()
    assert torch.isfinite(ret["loss"])


@pytest.mark.parametrize("name", CONFIGS)
def test_predictions_have_no_common_places(name, tmp_path):
    term = {"NAME": "LogitBoxLoss", "STUDENT": "dense_head", "TEACHER": "dense_head"}
    with pytest.raises(ConfigError, match="predictions of .*Head cannot be read"):
        distiller(name, tmp_path, {"LOGIT": term})


def test_a_narrow_voxelnext_is_initialised(tmp_path):
    narrow = voxelnext_config()
    narrow.MODEL.BACKBONE_3D.NUM_FILTERS = [2, 2, 4, 4, 8]
    narrow.MODEL.DENSE_HEAD.SHARED_CONV_CHANNEL = 8
    narrow.MODEL.DENSE_HEAD.INPUT_FEATURES = 8
    model, batch = distiller("voxelnext", tmp_path, {}, "SLICE", narrow)
    before = model.student.backbone_3d.conv6[0][0].weight.clone()
    model.init_student([batch], logging.getLogger("test"))
    after = model.student.backbone_3d.conv6[0][0].weight
    kept = {round(value, 6) for value in after.flatten().tolist()}
    of_teacher = model.teacher.model.backbone_3d.conv6[0][0].weight.flatten().tolist()
    assert not torch.equal(before, after)
    assert kept <= {round(value, 6) for value in of_teacher}


def test_attention_cannot_be_sliced(tmp_path):
    narrow = transfusion_config("MODEL.DENSE_HEAD.HIDDEN_CHANNEL", 8)
    model, batch = distiller("transfusion", tmp_path, {}, "SLICE", narrow)
    with pytest.raises(ConfigError, match="of a MultiheadAttention to keep is unknown"):
        model.init_student([batch], logging.getLogger("test"))
