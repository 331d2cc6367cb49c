"""PointDistiller's students: each yaml builds, with published settings or ours, and trains."""

from __future__ import annotations

import pytest
import torch
from small_model import make_batch, random_scene
from small_point_rcnn import point_batch

from pcdet_distill.checkpoint import save_checkpoint
from pcdet_distill.config import find_file, load_config
from pcdet_distill.datasets.spec import DataSpec
from pcdet_distill.distill import build_distiller
from pcdet_distill.models import build_network

STUDENTS = (
    "pointpillar_4x",
    "pointpillar_16x",
    "second_4x",
    "second_16x",
    "pointrcnn_8x",
    "pointrcnn_16x",
)
NAMES = [
    *(f"{student}_pointdistiller" for student in STUDENTS),
    *(f"{student}_pointdistiller_official" for student in STUDENTS),
]
# Where the scenes of small_model lie, in whole cells of the coarsest map.
RANGES = {
    "pointpillar": [0, -8, -3, 15.36, 7.36, 1],
    "second": [0, -8, -3, 16, 8, 1],
    "pointrcnn": [0, -8, -3, 16, 8, 1],
}
VOXELS = {"pointpillar": [0.16, 0.16, 4], "second": [0.05, 0.05, 0.1]}
# term -> queries, neighbours, width. The published code runs with these; it ignores some values of
# its config files.
PUBLISHED = {
    "pointpillar_4x": {"LOCAL_GRAPH": (6000, 128, 32)},
    "pointpillar_16x": {"LOCAL_GRAPH": (6000, 128, 16)},
    "second_4x": {"LOCAL_GRAPH_0": (256, 128, 32), "LOCAL_GRAPH_1": (256, 128, 32)},
    "second_16x": {"LOCAL_GRAPH_0": (256, 128, 32), "LOCAL_GRAPH_1": (256, 128, 32)},
    "pointrcnn_8x": {"LOCAL_GRAPH": (6000, 128, 45)},
    "pointrcnn_16x": {"LOCAL_GRAPH": (6000, 128, 32)},
}
# Channels of teacher and student. Ours compares a map of the backbone of PointPillars too, as the
# published code does of SECOND.
BLOCKS = {"pointpillar_4x": [(128, 64)], "pointpillar_16x": [(128, 32)]}
WIDTHS = {
    "pointpillar_4x": [(64, 32)],
    "pointpillar_16x": [(64, 16)],
    "second_4x": [(128, 64), (256, 128)],
    "second_16x": [(128, 32), (256, 64)],
    "pointrcnn_8x": [(128, 45)],
    "pointrcnn_16x": [(128, 32)],
}


def scenes(limits):
    """Two scenes, as far as they lie in the range."""
    for points, boxes in (random_scene(0), random_scene(1)):
        yield points[(points[:, 0] < limits[3]) & (points[:, 1] < limits[4])], boxes


def with_fewer_points(model):
    """PointRCNN with KITTI's widths, but few points and proposals."""
    model.BACKBONE_3D.SA_CONFIG.NPOINTS = [64, 32, 16, 8]
    model.ROI_HEAD.ROI_POINT_POOL.NUM_SAMPLED_POINTS = 16
    model.ROI_HEAD.SA_CONFIG.NPOINTS = [8, 4, -1]
    model.ROI_HEAD.TARGET_CONFIG.ROI_PER_IMAGE = 8
    model.ROI_HEAD.NMS_CONFIG.TRAIN.NMS_POST_MAXSIZE = 16


def distiller(repo, tmp_path, name):
    """The distiller of a file, on a small range, with an untrained teacher, and a batch for it."""
    detector = name.split("_")[0]
    cfg = load_config(
        repo / f"cfgs/kitti_distill/{name}.yaml",
        ["DATA_CONFIG.POINT_CLOUD_RANGE", RANGES[detector]],
    )
    teacher_cfg = load_config(find_file(cfg.DISTILL.TEACHER.CFG_FILE, near=repo / "cfgs"))
    if detector == "pointrcnn":
        with_fewer_points(cfg.MODEL)
        with_fewer_points(teacher_cfg.MODEL)
    cfg.DISTILL.TEACHER = {"MODEL": teacher_cfg.MODEL, "MODE": cfg.DISTILL.TEACHER.MODE}
    spec = DataSpec.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES)
    torch.manual_seed(0)
    student, teacher = (build_network(model, 3, spec) for model in (cfg.MODEL, teacher_cfg.MODEL))
    save_checkpoint({"model_state": teacher.state_dict()}, tmp_path / "teacher.pth")
    frames = list(scenes(RANGES[detector]))
    batch = point_batch(frames) if detector == "pointrcnn" else make_batch(frames, VOXELS[detector])
    return build_distiller(cfg, student, spec, teacher_ckpt=tmp_path / "teacher.pth"), batch


@pytest.mark.parametrize("name", NAMES)
def test_builds_and_trains_a_step(repo, tmp_path, name):
    model, batch = distiller(repo, tmp_path, name)
    student = name.split("_pointdistiller")[0]
    official = name.endswith("official")
    terms = dict(model.head.named_terms())
    local = [term for key, term in terms.items() if key.startswith("LOCAL_GRAPH")]
    channels = [(term.teacher.info.channels, term.student.info.channels) for term in local]
    expected = WIDTHS if official else {**WIDTHS, **BLOCKS}
    assert channels == expected[student]
    assert model.teacher.mode == ("train" if official else "eval")
    if official:
        found = {key: term.loss.options for key, term in terms.items()}
        assert {
            key: (options.num_nodes, options.num_neighbors, options.embed_dim)
            for key, options in found.items()
        } == PUBLISHED[student]
        assert all(
            term.weight == 1.0 and term.loss.options.teacher_adapter == "trained" for term in local
        )
    else:
        assert local == list(terms.values())
        assert sum(term.schedule.start for term in local) == 0.2
        assert all(term.schedule.share is not None for term in local)
        assert all(term.loss.options.score == "objectness" for term in local)
    ret, tb, _ = model.train()(batch)
    ret["loss"].backward()
    assert torch.isfinite(ret["loss"])
    for key, term in terms.items():
        assert tb[f"distill_{key.lower()}"] > 0
        assert any(
            parameter.grad is not None and parameter.grad.abs().sum() > 0
            for parameter in term.parameters()
        )
