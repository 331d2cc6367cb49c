"""INIT_STUDENT: SLICE. Which channels are copied where, and which norm statistics are measured."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from init_pairs import every_detector, initialised_pair, make_pair, narrow
from small_model import make_batch, random_scene
from small_second import second_config, small_second
from torch import nn

from pcdet_distill.checkpoint import save_checkpoint
from pcdet_distill.config import load_config
from pcdet_distill.datasets.spec import DataSpec
from pcdet_distill.distill import build_distiller, student_init
from pcdet_distill.distill.init import InitOptions, StudentInit, init_student
from pcdet_distill.distill.init.layers import find_layers, run_detector
from pcdet_distill.distill.init.plan import ChannelPlan
from pcdet_distill.distill.init.student import plan_channels
from pcdet_distill.distill.init.topology import find_narrower_layers
from pcdet_distill.distill.init.weights import copy_weights
from pcdet_distill.distill.teacher import Teacher
from pcdet_distill.models import build_network
from pcdet_distill.models.eval_mode import evaluating

OUTPUTS = ("batch_cls_preds", "batch_box_preds", "rois", "final_box_dicts")
BOTH_MODES = pytest.mark.parametrize("mode", ["SLICE", "RECONSTRUCT"])


@every_detector
def test_a_slice_predicts_what_the_teacher_does_with_its_other_channels_at_zero(name: str) -> None:
    """A channel that went to a wrong place would show in the predictions."""
    teacher, student, batches = make_pair(name)
    narrower = find_narrower_layers(teacher, student)
    with evaluating(teacher), evaluating(student):
        plan, _ = plan_channels(teacher, student, narrower, batches[0])
        generator = torch.Generator().manual_seed(3)
        for group in plan.groups:
            total = plan.flows[group].layer.out_channels
            shuffled = torch.randperm(total, generator=generator)
            plan.keep(group, shuffled[: plan.num_kept(group)].sort().values)
        copy_weights(teacher, student, plan)
        set_dropped_channels_to_zero(teacher, plan)
        expected = run_detector(teacher, batches[0])
        predicted = run_detector(student, batches[0])
    keys = [key for key in OUTPUTS if key in expected]
    assert narrower
    assert keys
    for key in keys:
        torch.testing.assert_close(predicted[key], expected[key], rtol=1e-4, atol=1e-4)


def set_dropped_channels_to_zero(teacher: nn.Module, plan: ChannelPlan) -> None:
    """Make the channels that the plan drops zero behind the norm and the ReLU."""
    names = list(plan.teacher_layers)
    for name, kept in plan.kept.items():
        layer = plan.teacher_layers[name]
        position = names.index(name)
        if position + 1 < len(names) and plan.teacher_layers[names[position + 1]].is_norm:
            layer = plan.teacher_layers[names[position + 1]]
        is_dropped = torch.ones(layer.out_channels, dtype=torch.bool)
        is_dropped[kept] = False
        layer.module.bias.data[is_dropped] = 0
        layer.module.weight.data.movedim(layer.out_axis, 0)[is_dropped] = 0


@every_detector
@BOTH_MODES
def test_a_student_of_equal_widths_gets_all_weights(name: str, mode: str) -> None:
    teacher, student, batches = make_pair(name, narrow_config=lambda config: config)
    teacher.global_step += 7
    init_student(teacher, student, batches, InitOptions(mode))
    state = student.state_dict()
    for key, value in teacher.state_dict().items():
        if key != "global_step":
            assert torch.equal(state[key], value), key
    assert int(state["global_step"]) == 0


@pytest.mark.parametrize("name", ["PointPillar", "SECOND", "PointRCNN"])
@BOTH_MODES
def test_nothing_but_the_students_weights_changes(name: str, mode: str) -> None:
    teacher, student, batches = make_pair(name)
    student.train()
    teacher.eval()
    state_before = copy.deepcopy(teacher.state_dict())
    rng_before = torch.get_rng_state()
    keys_before = set(batches[0])
    init_student(teacher, student, batches, InitOptions(mode))
    for key, value in teacher.state_dict().items():
        assert torch.equal(value, state_before[key]), key
    assert student.training
    assert not teacher.training
    for module in [*teacher.modules(), *student.modules()]:
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    assert torch.equal(torch.get_rng_state(), rng_before)
    assert set(batches[0]) == keys_before
    assert student(dict(batches[0]))[0]["loss"].isfinite()


@BOTH_MODES
def test_two_runs_give_equal_students(mode: str) -> None:
    first = initialised_pair("PointPillar", mode=mode)[1].state_dict()
    second = initialised_pair("PointPillar", mode=mode)[1].state_dict()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key


def test_the_first_layer_has_rows_of_the_teachers() -> None:
    teacher, student = initialised_pair("PointPillar")
    teacher_layer: Any = teacher.vfe.pfn_layers[0]
    student_layer: Any = student.vfe.pfn_layers[0]
    rows = []
    for row in student_layer.linear.weight:
        is_equal = (teacher_layer.linear.weight == row).all(dim=1)
        rows.append(int(torch.nonzero(is_equal)))
    assert rows == sorted(rows)
    assert len(set(rows)) == 4
    for key in ("weight", "bias", "running_mean", "running_var"):
        expected = getattr(teacher_layer.norm, key)[rows]
        assert torch.equal(getattr(student_layer.norm, key), expected)
    assert torch.equal(student.dense_head.conv_cls.bias, teacher.dense_head.conv_cls.bias)


@pytest.mark.parametrize("name", ["PointPillar", "two pillar layers", "SECOND", "PVRCNN"])
def test_norm_statistics_are_those_of_the_calibration_frames(name: str) -> None:
    """The oracle is PyTorch: with momentum 1 a norm takes over the statistics of the batch."""
    teacher, student, batches = make_pair(name)
    init_student(teacher, student, batches, InitOptions("SLICE"))
    measured = {}
    for key, value in student.state_dict().items():
        # The second stage was measured on the teacher's proposals, which the student alone has not.
        if "running" in key and "roi_head" not in key:
            measured[key] = value.clone()
    student.eval()
    # Nothing before these norms was dropped: their statistics are copied.
    copied = {
        "vfe.pfn_layers.0.norm",
        "backbone_3d.conv_input.1",
        "pfe.SA_rawpoints.mlps.0.1",
        "pfe.SA_rawpoints.mlps.1.1",
    }
    for layer in find_layers(student).values():
        if layer.is_norm and layer.name not in copied and "roi_head" not in layer.name:
            layer.module.train()
            layer.module.momentum = 1.0
    run_detector(student, batches[0])
    state = student.state_dict()
    for key, value in measured.items():
        torch.testing.assert_close(value, state[key], rtol=1e-3, atol=1e-4)


def test_norm_statistics_are_pooled_over_batches() -> None:
    teacher, student, _ = make_pair("PointPillar")
    batches = [make_batch([random_scene(seed)]) for seed in (0, 1)]
    init_student(teacher, student, batches, InitOptions("SLICE"))
    block: Any = student.backbone_2d.blocks[0]
    inputs: list[torch.Tensor] = []
    block[1].register_forward_hook(lambda _, __, output: inputs.append(output))
    student.eval()
    for batch in batches:
        run_detector(student, batch)
    all_cells = torch.cat(inputs).transpose(0, 1).flatten(1)
    norm = block[2]
    torch.testing.assert_close(norm.running_mean, all_cells.mean(dim=1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var, all_cells.var(dim=1), rtol=1e-4, atol=1e-5)


def test_a_student_can_be_the_teacher_of_a_smaller_one() -> None:
    teacher, middle, batches = make_pair("SECOND")
    init_student(teacher, middle, batches, InitOptions("SLICE"))
    smallest = small_second(narrow(narrow(second_config())), seed=2)
    init_student(middle, smallest, batches, InitOptions("SLICE"))
    middle_weight = middle.backbone_3d.conv_input[0].weight
    for row in smallest.backbone_3d.conv_input[0].weight:
        assert (middle_weight == row).flatten(1).all(dim=1).any()


def test_the_yaml_file_of_a_student_can_be_the_teachers(repo: Path, tmp_path: Path) -> None:
    file = repo / "cfgs/synthetic/pointpillar_student_init.yaml"
    overrides = ["MODEL.VFE.NUM_FILTERS", "[8]", "MODEL.MAP_TO_BEV.NUM_BEV_FEATURES", "8"]
    overrides += ["MODEL.BACKBONE_2D.NUM_FILTERS", "[8, 16, 32]"]
    overrides += ["MODEL.BACKBONE_2D.NUM_UPSAMPLE_FILTERS", "[16, 16, 16]"]
    middle_cfg = load_config(file)
    cfg = load_config(file, overrides)
    cfg.DISTILL.TEACHER.CFG_FILE = str(file)
    spec = DataSpec.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES)
    middle = build_network(middle_cfg.MODEL, 3, spec)
    smallest = build_network(cfg.MODEL, 3, spec)
    save_checkpoint({"model_state": middle.state_dict()}, tmp_path / "middle.pth")
    model = build_distiller(cfg, smallest, spec, teacher_ckpt=tmp_path / "middle.pth")
    assert model.student_init is not None
    assert model.student_init.frames == 24
    assert not model.head.named_terms()
    assert len(find_narrower_layers(model.teacher.model, model.student)) == 12


# Options


def all_weights(**options: str | int) -> torch.Tensor:
    """The weights of all layers of a student in one row."""
    _, student = initialised_pair("PointPillar", **options)
    weights = [layer.module.weight.detach().flatten() for layer in find_layers(student).values()]
    return torch.cat(weights)


@pytest.mark.parametrize(
    "usual, changed",
    [
        ({}, {"mode": "RECONSTRUCT"}),
        ({}, {"select": "qr"}),
        ({}, {"select": "random"}),
        ({}, {"samples": 3}),
        ({"samples": 3}, {"samples": 3, "seed": 5}),
        ({"select": "random"}, {"select": "random", "seed": 1}),
        (
            {"mode": "RECONSTRUCT", "select": "random"},
            {"mode": "RECONSTRUCT", "select": "random", "samples": 20},
        ),
    ],
)
def test_every_option_matters(usual: dict[str, Any], changed: dict[str, Any]) -> None:
    assert not torch.equal(all_weights(**usual), all_weights(**changed))


def test_options_from_a_block_and_from_a_word() -> None:
    block = {"MODE": "RECONSTRUCT", "FRAMES": 3, "SELECT": "qr", "SAMPLES": 50, "SEED": 4}
    assert InitOptions.from_config(block) == InitOptions("RECONSTRUCT", 3, "qr", 50, 4)
    assert InitOptions.from_config("SLICE") == InitOptions("SLICE", 24, "magnitude", 6000, 0)


def test_the_engine_reads_the_number_of_frames() -> None:
    assert StudentInit(InitOptions("SLICE", frames=7)).frames == 7


def test_student_init_takes_collated_batches(caplog: pytest.LogCaptureFixture) -> None:
    teacher, student, batches = make_pair("PointPillar")
    collated = {}
    for key, value in batches[0].items():
        collated[key] = value.numpy() if isinstance(value, torch.Tensor) else value
    student_init = StudentInit(InitOptions("RECONSTRUCT"))
    with caplog.at_level(logging.INFO):
        student_init(student, Teacher(teacher, "train"), [collated], logging.getLogger("test"))
    assert not any(isinstance(value, torch.Tensor) for value in collated.values())
    assert (
        "(RECONSTRUCT, magnitude channels): 7 of 10 layers narrower, 9 layers fitted, "
        "R squared median"
    ) in caplog.text
    assert "2 frames" in caplog.text
    assert teacher.vfe.pfn_layers[0].norm.training  # MODE: train, as before


@pytest.mark.parametrize(
    ("old_name", "new"), [("StudentStart", StudentInit), ("initialise_student", init_student)]
)
def test_old_names_still_work_with_a_warning(old_name: str, new: object) -> None:
    with pytest.warns(DeprecationWarning, match=r"use pcdet_distill\.distill\.init\."):
        assert getattr(student_init, old_name) is new
