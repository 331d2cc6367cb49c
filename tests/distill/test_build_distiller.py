"""build_distiller with the yaml files of the project and real PointPillars."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from easydict import EasyDict

from pcdet_distill.checkpoint import save_checkpoint
from pcdet_distill.config import load_config
from pcdet_distill.datasets.spec import DataSpec
from pcdet_distill.distill import build_distiller
from pcdet_distill.errors import CheckpointError, ConfigError, DataError
from pcdet_distill.models import build_network

DISTILLED = "cfgs/synthetic/recipes/graph_scores.yaml"
SMALL = [0, -6.4, -3, 12.8, 6.4, 1]
PILLARS = {
    "NAME": "GraphDistillLoss",
    "STUDENT": "vfe@pillar_features",
    "TEACHER": "vfe@pillar_features",
    "NODES": "voxel",
    "NUM_NODES": 64,
    "NUM_NEIGHBORS": 8,
    "EMBED_DIM": 16,
}


def network(cfg):
    spec = DataSpec.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES)
    return build_network(cfg.MODEL, len(cfg.CLASS_NAMES), spec), spec


@pytest.fixture
def setup(repo, tmp_path):
    """The quickstart's student on a small range, and a checkpoint of an untrained teacher."""
    cfg = load_config(repo / DISTILLED)
    cfg.DISTILL.TERMS = EasyDict(LOCAL_GRAPH=PILLARS)
    cfg.DATA_CONFIG.POINT_CLOUD_RANGE = SMALL
    text = (repo / "cfgs/synthetic/pointpillar_teacher.yaml").read_text()
    teacher_yaml = tmp_path / "teacher.yaml"
    teacher_yaml.write_text(
        text.replace(
            "_BASE_CONFIG_: cfgs/synthetic/dataset.yaml",
            f"_BASE_CONFIG_: cfgs/synthetic/dataset.yaml\n    POINT_CLOUD_RANGE: {SMALL}",
        )
    )
    cfg.DISTILL.TEACHER.CFG_FILE = str(teacher_yaml)
    torch.manual_seed(0)
    teacher, _ = network(load_config(teacher_yaml))
    save_checkpoint({"model_state": teacher.state_dict()}, tmp_path / "teacher.pth")
    return cfg, *network(cfg), tmp_path / "teacher.pth"


def voxel_batch(spec, per_frame=120, frames=2, seed=0):
    """Random points inside random voxels or pillars, and a car."""
    generator = torch.Generator().manual_seed(seed)
    width, height, depth = spec.grid_size.tolist()
    cell = torch.tensor(spec.voxel_size)
    origin = torch.from_numpy(spec.point_cloud_range[:3])
    parts = []
    for frame in range(frames):
        cells = torch.randperm(width * height * depth, generator=generator)[:per_frame]
        rows = cells // width
        parts.append(
            torch.stack(
                [torch.full_like(cells, frame), rows // height, rows % height, cells % width], dim=1
            )
        )
    coords = torch.cat(parts).float()
    counts = torch.randint(1, 21, (len(coords),), generator=generator)
    inside = torch.rand(len(coords), 20, 3, generator=generator)
    points = (coords[:, [3, 2, 1]][:, None] + inside) * cell + origin
    voxels = torch.cat([points, torch.rand(len(coords), 20, 1, generator=generator)], dim=2)
    voxels *= (torch.arange(20) < counts[:, None])[..., None]
    boxes = torch.tensor([[[6.0, 1.0, -1.0, 3.9, 1.6, 1.56, 0.3, 1.0]]]).repeat(frames, 1, 1)
    return {
        "voxels": voxels,
        "voxel_coords": coords,
        "voxel_num_points": counts.float(),
        "gt_boxes": boxes,
        "batch_size": frames,
    }


@pytest.mark.parametrize("mode, preset", [("eval", "default"), ("train", "official")])
def test_pointpillar_learns_from_pointpillar(setup, mode, preset, caplog):
    cfg, student, spec, checkpoint = setup
    cfg.DISTILL.TEACHER.MODE = mode
    cfg.DISTILL.TERMS.LOCAL_GRAPH.PRESET = preset
    with caplog.at_level(logging.INFO):
        model = build_distiller(
            cfg, student, spec, teacher_ckpt=checkpoint, logger=logging.getLogger("test")
        ).train()
    assert (
        "student vfe@pillar_features (16 channels) learns from teacher vfe@pillar_features (32"
        in caplog.text
    )
    before = {name: value.clone() for name, value in model.teacher.model.state_dict().items()}
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        ret, tb, _ = model(voxel_batch(spec))
        optimizer.zero_grad()
        ret["loss"].backward()
        optimizer.step()
        losses.append(tb["distill_local_graph"])
    assert all(torch.isfinite(torch.tensor(losses)))
    assert losses[-1] < 0.9 * losses[0]
    assert all(
        torch.equal(value, before[name]) for name, value in model.teacher.model.state_dict().items()
    )
    assert set(model.checkpoint_state()["model_state"]) == set(network(cfg)[0].state_dict())
    predictions, _ = model.eval()(voxel_batch(spec))
    assert len(predictions) == 2


def without_frames(batch, *frames):
    """``batch`` with no pillar in some of its frames."""
    kept = ~torch.isin(batch["voxel_coords"][:, 0], torch.tensor(frames, dtype=torch.float32))
    return {key: value[kept] if key.startswith("voxel") else value for key, value in batch.items()}


@pytest.mark.parametrize("adapter", ["trained", "frozen", "none"])
@pytest.mark.parametrize("empty", [(), (0,), (1,), (0, 1)])
def test_every_parameter_gets_a_gradient_in_every_step(setup, adapter, empty):
    """In parallel training a process with empty frames must not block the others."""
    cfg, student, spec, checkpoint = setup
    scores = {
        **PILLARS,
        "STUDENT": "dense_head.conv_cls",
        "TEACHER": "dense_head.conv_cls",
        "NODES": "bev",
    }
    for term in (PILLARS, scores):
        options = {
            key: value for key, value in term.items() if adapter != "none" or key != "EMBED_DIM"
        }
        cfg.DISTILL.TERMS = {"TERM": {**options, "TEACHER_ADAPTER": adapter}}
        model = build_distiller(cfg, student, spec, teacher_ckpt=checkpoint).train()
        model.zero_grad(set_to_none=True)
        model(without_frames(voxel_batch(spec, per_frame=30), *empty))[0]["loss"].backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        assert all(p.grad is None for p in model.teacher.model.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_mixed_precision_step(setup, dtype):
    """The features are in half precision, the comparison is not.

    Class scores in half precision would choose other queries; the numbers of points are the same.
    """
    cfg, student, spec, checkpoint = setup
    cfg.DISTILL.TERMS["LOCAL_GRAPH"]["SCORE"] = "saliency"
    model = build_distiller(cfg, student, spec, teacher_ckpt=checkpoint).train()
    expected = model(voxel_batch(spec))[1]["distill_local_graph"]
    with torch.autocast("cpu", dtype=dtype):
        ret, tb, _ = model(voxel_batch(spec))
    ret["loss"].backward()
    torch.testing.assert_close(tb["distill_local_graph"], expected, rtol=0.01, atol=0)
    assert ret["loss"].dtype == torch.float32
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_bev_term_between_pointpillars(setup):
    cfg, student, spec, checkpoint = setup
    path = "backbone_2d@spatial_features_2d"
    cfg.DISTILL.TERMS = {
        "MAP": {
            "NAME": "GraphDistillLoss",
            "STUDENT": path,
            "TEACHER": path,
            "NODES": "bev",
            "NUM_NODES": 64,
            "NUM_NEIGHBORS": 8,
            "SCORE": "channel_max",
        }
    }
    model = build_distiller(cfg, student, spec, teacher_ckpt=checkpoint).train()
    ret, tb, _ = model(voxel_batch(spec))
    ret["loss"].backward()
    assert tb["distill_map"] > 0
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize(
    "name",
    [
        "pointpillar_4x_pointdistiller",
        "pointpillar_4x_pointdistiller_official",
        "pointpillar_16x_pointdistiller",
    ],
)
def test_kitti_yaml_files_build(repo, tmp_path, name):
    cfg = load_config(repo / f"cfgs/kitti_distill/{name}.yaml")
    teacher, _ = network(load_config(repo / "cfgs/kitti_models/pointpillar.yaml"))
    save_checkpoint({"model_state": teacher.state_dict()}, tmp_path / "teacher.pth")
    student, spec = network(cfg)
    model = build_distiller(cfg, student, spec, teacher_ckpt=tmp_path / "teacher.pth")
    term = model.head.terms["LOCAL_GRAPH"]
    is_official = "official" in name
    # The published form compares pillars, the default one the second block of the 2D backbone.
    teacher_channels = 64 if is_official else 128
    shrink = 4 if "16x" in name else 2  # of the widths: a sixteenth or a quarter of the parameters
    assert term.teacher.info.channels == teacher_channels
    assert term.student.info.channels == teacher_channels // shrink
    assert model.teacher.mode == ("train" if is_official else "eval")
    assert term.loss.options.mix_frames == is_official


def test_kitti_yaml_with_a_teacher_of_another_kind(repo, tmp_path):
    """PointPillars learns from PV-RCNN: cells of 0.64 m from cells of 0.8 m."""
    cfg = load_config(repo / "cfgs/kitti_distill/pointpillar_4x_pvrcnn_teacher.yaml")
    teacher, _ = network(load_config(repo / "cfgs/kitti_models/pv_rcnn.yaml"))
    save_checkpoint({"model_state": teacher.state_dict()}, tmp_path / "teacher.pth")
    student, spec = network(cfg)
    model = build_distiller(cfg, student, spec, teacher_ckpt=tmp_path / "teacher.pth")
    sides = model.head.terms["MAP_GRAPH"]
    assert sides.student.grid.cell_size_m == (0.64, 0.64, 4.0)
    assert sides.teacher.grid.cell_size_m == (0.8, 0.8, 4.0)
    assert sides.student.info.channels == 64
    assert sides.teacher.info.channels == 256
    anchors = len(student.dense_head.flat_anchors)
    assert len(model.head.terms["LOGIT_BOX"].student.rows) > 0.9 * anchors
    assert model.teacher.own_view


def refusal(setup, error, **changes):
    cfg, student, spec, checkpoint = setup
    with pytest.raises(error) as caught:
        build_distiller(cfg, student, spec, **{"teacher_ckpt": checkpoint, **changes})
    return str(caught.value)


def test_checkpoint_of_another_model(setup, tmp_path):
    save_checkpoint({"model_state": setup[1].state_dict()}, tmp_path / "student.pth")
    message = refusal(setup, CheckpointError, teacher_ckpt=tmp_path / "student.pth")
    assert "student.pth, as the teacher of " in message
    assert "vfe.pfn_layers.0.linear.weight" in message


def test_missing_checkpoint(setup, tmp_path):
    assert "--teacher_ckpt" in refusal(setup, ConfigError, teacher_ckpt=None)
    assert "nowhere.pth" in refusal(setup, CheckpointError, teacher_ckpt=tmp_path / "nowhere.pth")
    setup[0].DISTILL.TEACHER.CKPT = "nowhere.pth"
    assert "DISTILL.TEACHER.CKPT: nowhere.pth" in refusal(setup, ConfigError, teacher_ckpt=None)


def test_checkpoint_named_in_the_yaml(setup):
    cfg, student, spec, checkpoint = setup
    cfg.DISTILL.TEACHER.CKPT = str(checkpoint)
    assert build_distiller(cfg, student, spec).teacher.model.state_dict().keys()


def test_teacher_ckpt_takes_its_place(setup):
    cfg, student, spec, checkpoint = setup
    cfg.DISTILL.TEACHER.CKPT = "the_one_of_yesterday.pth"
    assert (
        build_distiller(cfg, student, spec, teacher_ckpt=checkpoint)
        .teacher.model.state_dict()
        .keys()
    )


def test_teacher_without_yaml(setup):
    setup[0].DISTILL.TEACHER.CFG_FILE = None
    message = refusal(setup, ConfigError)
    assert "DISTILL.TEACHER.CFG_FILE is missing" in message
    assert "teacher.pth was trained with" in message


def test_teacher_yaml_that_is_not_there(setup):
    setup[0].DISTILL.TEACHER.CFG_FILE = "cfgs/kitti_models/pointpilar.yaml"
    assert "DISTILL.TEACHER.CFG_FILE: cfgs/kitti_models/pointpilar.yaml: no such file" in refusal(
        setup, ConfigError
    )


def edit_teacher(setup, old, new):
    """Change the teacher's yaml."""
    file = Path(setup[0].DISTILL.TEACHER.CFG_FILE)
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


@pytest.mark.parametrize(
    "change",
    [
        ("-3, 12.8", "-3, 19.2"),
        (
            "DATA_CONFIG:",
            "DATA_CONFIG:\n"
            "    POINT_FEATURE_ENCODING: {encoding_type: absolute_coordinates_encoding, "
            "used_feature_list: [x, y, z], src_feature_list: [x, y, z, intensity]}",
        ),
    ],
)
def test_teacher_with_other_data_needs_a_batch_of_its_own(setup, change):
    """Said when it is missing; the dataset makes it (test_teacher_views.py)."""
    edit_teacher(setup, *change)
    cfg, student, spec, checkpoint = setup
    if "used_feature_list" in change[1]:
        model, _ = network(load_config(cfg.DISTILL.TEACHER.CFG_FILE))
        save_checkpoint({"model_state": model.state_dict()}, checkpoint)
    model = build_distiller(cfg, student, spec, teacher_ckpt=checkpoint).train()
    with pytest.raises(DataError, match="the batch has no 'teacher' entry"):
        model(voxel_batch(spec))


def test_teacher_of_other_places(setup):
    edit_teacher(setup, "[0, -6.4, -3, 12.8, 6.4, 1]", "[20, -6.4, -3, 32.8, 6.4, 1]")
    message = refusal(setup, ConfigError)
    assert (
        "POINT_CLOUD_RANGE [20.0, -6.4, -3.0, 32.8, 6.4, 1.0] does not overlap "
        "the student's [0.0, -6.4" in message
    )


def test_teacher_that_needs_numbers_the_points_do_not_hold(setup):
    edit_teacher(
        setup,
        "DATA_CONFIG:",
        "DATA_CONFIG:\n    POINT_FEATURE_ENCODING: {encoding_type: "
        "absolute_coordinates_encoding, used_feature_list: [x, y, z, elongation], "
        "src_feature_list: [x, y, z, elongation]}",
    )
    message = refusal(setup, ConfigError)
    assert "teacher.yaml" in message
    assert "hold x, y, z, intensity, so there is no 'elongation'" in message


def test_teacher_of_other_classes(setup):
    edit_teacher(
        setup,
        "CLASS_NAMES: ['Car', 'Pedestrian', 'Cyclist']",
        "CLASS_NAMES: ['Truck', 'Bus', 'Tram']",
    )
    message = refusal(setup, ConfigError)
    assert (
        "classes are Truck, Bus, Tram; "
        "expected one or more of the student's Car, Pedestrian, Cyclist" in message
    )


def test_teacher_described_in_the_same_file(setup, repo):
    cfg, student, spec, checkpoint = setup
    cfg.DISTILL.TEACHER.CFG_FILE = None
    cfg.DISTILL.TEACHER.MODEL = load_config(repo / "cfgs/synthetic/pointpillar_teacher.yaml").MODEL
    model = build_distiller(cfg, student, spec, teacher_ckpt=checkpoint)
    assert model.teacher.model.taps()["vfe@pillar_features"].channels == 32


@pytest.mark.parametrize("start", [None, "NONE", {"MODE": "NONE"}])
def test_a_student_is_not_initialised_by_default(setup, start):
    cfg, student, spec, checkpoint = setup
    if start is not None:
        cfg.DISTILL.INIT_STUDENT = start
    assert build_distiller(cfg, student, spec, teacher_ckpt=checkpoint).student_init is None


@pytest.mark.parametrize(
    "start, words",
    [
        ("NON", "DISTILL.INIT_STUDENT: unknown value 'NON'; did you mean 'NONE'"),
        (
            {"MODE": "SLICES"},
            "DISTILL.INIT_STUDENT.MODE: unknown value 'SLICES'; did you mean 'SLICE'",
        ),
        ({"MODE": "SLICE", "FRAME": 4}, "unknown key 'FRAME'; did you mean 'FRAMES'"),
        (
            {"MODE": "SLICE", "FRAMES": 0},
            "DISTILL.INIT_STUDENT.FRAMES: expected a whole number from 1 up, found 0",
        ),
        ({"MODE": "SLICE", "SELECT": "best"}, "DISTILL.INIT_STUDENT.SELECT: unknown value 'best'"),
        (
            {"MODE": "SLICE", "SEED": 1.5},
            "DISTILL.INIT_STUDENT.SEED: expected a whole number from 0 up, found 1.5",
        ),
    ],
)
def test_start_of_the_student(setup, start, words):
    setup[0].DISTILL.INIT_STUDENT = start
    assert words in refusal(setup, ConfigError)


def test_no_terms(setup):
    setup[0].DISTILL.TERMS = {}
    assert "DISTILL.TERMS: expected at least one term" in refusal(setup, ConfigError)


def test_unknown_keys(setup):
    setup[0].DISTILL.TEACHER.CHECKPOINT = "x"
    assert "DISTILL.TEACHER: unknown key 'CHECKPOINT'" in refusal(setup, ConfigError)
    del setup[0].DISTILL.TEACHER["CHECKPOINT"]
    setup[0].DISTILL.TERM = {}
    assert "DISTILL: unknown key 'TERM'; did you mean 'TERMS'" in refusal(setup, ConfigError)
