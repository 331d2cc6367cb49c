"""Every yaml file of cfgs/nuscenes_distill builds, is as small as it says, and trains a step."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from small_nuscenes import make_batch, nuscenes_config, random_scene, spec_of

from pcdet_distill.checkpoint import save_checkpoint
from pcdet_distill.distill import build_distiller
from pcdet_distill.models import build_network
from pcdet_distill.models.dense_heads.detection_head import convolutions_of
from pcdet_distill.models.dense_heads.voxelnext_head import sparse_convolutions_of

FOLDER = Path(__file__).parents[2] / "cfgs/nuscenes_distill"
FILES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
PLAIN = [name for name in FILES if name.endswith(("_2x", "_4x"))]
DISTILLED = [name for name in FILES if name not in PLAIN]
# term -> queries, neighbours and width of the published code (mvx_two_stage.py).
PUBLISHED = (256, 128, 64)
TEACHERS = {
    "pp_multihead": "cbgs_pp_multihead",
    "dyn_pp_centerpoint": "cbgs_dyn_pp_centerpoint",
    "second_multihead": "cbgs_second_multihead",
    "voxel01_centerpoint": "cbgs_voxel01_res3d_centerpoint",
    "voxel0075_centerpoint": "cbgs_voxel0075_res3d_centerpoint",
    "pillar0075_centerpoint": "cbgs_pillar0075_res2d_centerpoint",
    "voxelnext": "cbgs_voxel0075_voxelnext",
    "transfusion": "transfusion_lidar",
}


def built(cfg):
    """A detector, untrained."""
    torch.manual_seed(0)
    return build_network(cfg.MODEL, len(cfg.CLASS_NAMES), spec_of(cfg))


def size_of(model):
    """Number of its parameters."""
    return sum(tensor.numel() for tensor in model.parameters())


def make_confident(model):
    """Scores near 0.5: those of an untrained head are near 0.01, and no box would be compared."""
    for path in model.dense_head.score_taps():
        branch = model.dense_head.get_submodule(path)
        last = (convolutions_of(branch) or sparse_convolutions_of(branch))[-1]
        torch.nn.init.zeros_(last.bias)


def teacher_file(name):
    """The yaml file of the teacher of a student's file."""
    detector = next(prefix for prefix in TEACHERS if name.startswith(prefix))
    return f"nuscenes_models/{TEACHERS[detector]}.yaml"


@pytest.mark.parametrize("name", PLAIN)
def test_size(name):
    """2x and 4x count parameters, as in Table 4 of the paper. Biases and anchors do not shrink."""
    student = size_of(built(nuscenes_config(f"nuscenes_distill/{name}.yaml")))
    teacher = size_of(built(nuscenes_config(teacher_file(name))))
    factor = float(name.rpartition("_")[2].removesuffix("x"))
    assert teacher / student == pytest.approx(factor, rel=0.05)


@pytest.mark.parametrize("name", ["transfusion_2x", "transfusion_4x"])
def test_a_student_without_a_distilled_form_trains_a_step(name):
    cfg = nuscenes_config(f"nuscenes_distill/{name}.yaml")
    assert not any(other.startswith(name) for other in DISTILLED)
    model = built(cfg).train()
    batch = make_batch(spec_of(cfg), [random_scene(0), random_scene(1)])
    loss = model(batch)[0]["loss"]
    loss.backward()
    assert torch.isfinite(loss)
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("name", DISTILLED)
def test_trains_a_step(name, tmp_path):
    cfg = nuscenes_config(f"nuscenes_distill/{name}.yaml")
    assert f"cfgs/{teacher_file(name)}" == cfg.DISTILL.TEACHER.CFG_FILE
    teacher_cfg = nuscenes_config(teacher_file(name))
    teacher = built(teacher_cfg)
    make_confident(teacher)
    checkpoint = tmp_path / "teacher.pth"
    save_checkpoint({"model_state": teacher.state_dict()}, checkpoint)
    mode = cfg.DISTILL.TEACHER.get("MODE", "eval")
    cfg.DISTILL.TEACHER = {"MODEL": teacher_cfg.MODEL, "MODE": mode}
    spec = spec_of(cfg)
    model = build_distiller(cfg, built(cfg), spec, teacher_ckpt=checkpoint)
    batch = make_batch(spec, [random_scene(0), random_scene(1)])
    if model.student_init is not None:
        model.init_student([batch], logging.getLogger("test"))
    check_terms(name, model)
    ret, tb, _ = model.train()(batch)
    ret["loss"].backward()
    assert torch.isfinite(ret["loss"])
    for key, _ in model.head.named_terms():
        assert tb[f"distill_{key.lower()}"] > 0, key
    gradients = [parameter.grad for parameter in model.student.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


def check_terms(name, model):
    """What a file of this name compares."""
    terms = dict(model.head.named_terms())
    if name.endswith("_init"):
        assert not terms
        assert model.student_init is not None
    elif name.endswith("_logitbox"):
        assert set(terms) == {"LOGIT_BOX"}
    else:
        (term,) = terms.values()
        options = term.loss.options
        is_official = name.endswith("_official")
        assert model.teacher.mode == ("train" if is_official else "eval")
        assert options.teacher_adapter == ("trained" if is_official else "frozen")
        if is_official:
            found = (options.num_nodes, options.num_neighbors, options.embed_dim)
            assert found == PUBLISHED
            assert options.weighting == "none"


def test_every_student_of_table_4_has_every_form():
    forms = ("", "_init", "_logitbox", "_pointdistiller", "_pointdistiller_official")
    for detector in ("pp_multihead", "dyn_pp_centerpoint"):
        for size in ("2x", "4x"):
            for form in forms:
                assert f"{detector}_{size}{form}" in FILES
