"""Training, resuming and testing with two lines in OpenPCDet's train.py, on a stand-in for it."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from easydict import EasyDict
from openpcdet_setup import (
    CLASSES,
    DATA,
    LOG,
    MAPS,
    PILLARS,
    TrainSet,
    build,
    detect_as_openpcdet,
    detected_boxes,
    graph_term,
    leaf_modules,
    make_config,
    make_distilled,
    train_as_openpcdet,
    write_teacher,
)
from small_model import model_config
from torch import nn

from pcdet_distill.checkpoint import load_checkpoint
from pcdet_distill.datasets import DataSpec
from pcdet_distill.distill import BATCH_TRANSFORMS, DISTILL_LOSSES, PredictionLoss, Teacher
from pcdet_distill.integrations.openpcdet import OpenPCDetDistiller, distill_openpcdet
from pcdet_distill.models import build_network

LOGITS = {"NAME": "LogitBoxLoss", "STUDENT": "dense_head", "TEACHER": "dense_head"}
TWO_TERMS = {"PILLARS": PILLARS, "MAPS": MAPS}


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    """As if this process were one of several."""
    store = f"file://{tmp_path}/process_group"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("several_processes", [False, True])
def test_training_resuming_and_testing(tmp_path: Path, several_processes: bool) -> None:
    train = partial(train_as_openpcdet, several_processes=several_processes)
    cfg, train_set, student, model = make_distilled(tmp_path, TWO_TERMS)
    logs = train(model, train_set, tmp_path / "whole", 3)
    assert logs[-1]["distill_pillars"] < 0.8 * logs[0]["distill_pillars"]
    for entry in logs:
        assert all(isinstance(value, float) for value in entry.values())

    # The student alone is tested.
    file = tmp_path / "whole" / "checkpoint_epoch_3.pth"
    boxes, warnings = detect_as_openpcdet(cfg, train_set, file)
    assert warnings == []
    assert len(boxes)
    assert torch.equal(boxes, detected_boxes(student, train_set))

    # The same training in two parts.
    first_part = make_distilled(tmp_path, TWO_TERMS)
    train(first_part.model, train_set, tmp_path / "parts", 1)
    second_part = make_distilled(tmp_path, TWO_TERMS)
    for value in second_part.model.head.state_dict().values():
        # The checkpoint's values must replace these.
        value.add_(1)
    train(second_part.model, train_set, tmp_path / "parts", 3)

    whole = load_checkpoint(file)
    parts = load_checkpoint(tmp_path / "parts" / "checkpoint_epoch_3.pth")
    assert int(whole["model_state"]["global_step"]) == 6
    for key, value in whole["model_state"].items():
        assert torch.equal(value, parts["model_state"][key])
    num_parameters = len(list(model.parameters()))
    for checkpoint in (whole, parts):
        assert len(checkpoint["optimizer_state"]["state"]) == num_parameters


@pytest.mark.parametrize("weights_only", [True, False])
def test_the_checkpoint_holds_the_student_alone(tmp_path: Path, weights_only: bool) -> None:
    _, train_set, student, model = make_distilled(tmp_path, {"PILLARS": PILLARS})
    train_as_openpcdet(model, train_set, tmp_path / "ckpt", 1)
    file = tmp_path / "ckpt" / "checkpoint_epoch_1.pth"
    state = torch.load(file, weights_only=weights_only)["model_state"]
    assert list(state) == list(student.state_dict())
    assert type(state) is type(student.state_dict())
    assert set(state._metadata["distill_state"]) == set(model.head.state_dict())


def test_the_state_has_the_names_of_the_student(tmp_path: Path) -> None:
    _, _, student, model = make_distilled(tmp_path, {"PILLARS": PILLARS})
    names = list(student.state_dict())
    assert list(model.state_dict()) == names
    assert list(model.state_dict(prefix="x.")) == [f"x.{name}" for name in names]


def test_a_state_carries_the_distillations_own_tensors(tmp_path: Path) -> None:
    model = make_distilled(tmp_path, {"PILLARS": PILLARS}).model
    other = make_distilled(tmp_path, {"PILLARS": PILLARS}).model
    head_state = model.head.state_dict()
    different = {key: value + 1 for key, value in head_state.items()}
    other.head.load_state_dict(different)
    other.load_state_dict(model.state_dict())
    for key, value in other.head.state_dict().items():
        assert torch.equal(value, head_state[key])


def test_the_distilled_model_detects_as_its_student(tmp_path: Path) -> None:
    _, train_set, student, model = make_distilled(tmp_path, {"PILLARS": PILLARS})
    assert torch.equal(detected_boxes(model, train_set), detected_boxes(student, train_set))


def test_every_attribute_is_the_students(tmp_path: Path) -> None:
    _, train_set, student, model = make_distilled(tmp_path, {"PILLARS": PILLARS})
    assert model.student is student
    assert model.dataset is train_set
    assert model.class_names == CLASSES
    assert model.dense_head is student.dense_head
    assert model.mode == "TRAIN"
    assert model.global_step is student.global_step
    model.update_global_step()
    assert int(student.global_step) == 1
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = model.nothing


# SoftTargets is refused: OpenPCDet's heads and datasets know no frames without labels.
METHODS = [*DISTILL_LOSSES, *BATCH_TRANSFORMS]
METHODS.remove("SoftTargets")


@pytest.mark.parametrize("name", METHODS)
def test_every_parameter_of_every_loss_is_trained(tmp_path: Path, name: str) -> None:
    """adam_onecycle sees the parameters of modules without children only."""
    term = {"NAME": name}
    if name in DISTILL_LOSSES:
        compares_heads = issubclass(DISTILL_LOSSES[name], PredictionLoss)
        path = "dense_head" if compares_heads else "backbone_2d@spatial_features_2d"
        term.update(STUDENT=path, TEACHER=path)
    _, train_set, _, model = make_distilled(tmp_path, {"TERM": term})
    in_leaves = set()
    for module in leaf_modules(model):
        in_leaves.update(id(parameter) for parameter in module.parameters())
    assert in_leaves == {id(parameter) for parameter in model.parameters()}
    logs = train_as_openpcdet(model, train_set, tmp_path / "ckpt", 1)
    assert np.isfinite(logs[-1]["loss"])
    if name in DISTILL_LOSSES:
        assert logs[-1]["distill_term"] > 0
    for parameter in model.parameters():
        assert parameter.grad is not None


def test_sparse_tensors_of_second_are_compared(tmp_path: Path) -> None:
    voxel_size = [0.5, 0.5, 1.0]
    train_set = TrainSet(voxel_size)
    step = {**DATA["DATA_PROCESSOR"][0], "VOXEL_SIZE": voxel_size}
    data = {**DATA, "DATA_PROCESSOR": [step]}
    terms = {"CELLS": graph_term("backbone_3d@encoded_spconv_tensor"), "MAPS": MAPS}
    cfg = make_config(tmp_path, terms, name="SECONDNet", data=data)
    cfg.DATA_CONFIG = EasyDict(data)
    teacher_ckpt = write_teacher(tmp_path, cfg, train_set)
    model = distill_openpcdet(build(cfg, train_set), cfg, train_set, teacher_ckpt)
    terms_by_name = dict(model.head.named_terms())
    cells = terms_by_name["CELLS"].student.info
    assert cells.kind == "sparse"
    assert cells.channels == 4
    assert cells.stride == 2
    maps = terms_by_name["MAPS"].student.info
    assert maps.kind == "bev"
    assert maps.channels == 8
    assert maps.stride == 2

    logs = train_as_openpcdet(model, train_set, tmp_path / "ckpt", 3)
    assert logs[-1]["distill_cells"] < logs[0]["distill_cells"]


def test_predictions_are_compared(tmp_path: Path) -> None:
    """OpenPCDet's anchor head keeps its anchors by class."""
    _, train_set, _, model = make_distilled(tmp_path, {"LOGITS": LOGITS})
    logs = train_as_openpcdet(model, train_set, tmp_path / "ckpt", 3)
    assert 0 < logs[-1]["distill_logits"] < logs[0]["distill_logits"]


def test_the_teacher_is_frozen_and_runs_no_post_processing(tmp_path: Path) -> None:
    _, train_set, _, model = make_distilled(tmp_path, {"PILLARS": PILLARS})
    teacher = model.teacher.model
    state_before = copy.deepcopy(teacher.state_dict())
    # By the check at the start.
    num_runs = teacher.post_processed
    train_as_openpcdet(model, train_set, tmp_path / "ckpt", 1)
    for key, value in teacher.state_dict().items():
        assert torch.equal(value, state_before[key])
    assert teacher.post_processed == num_runs
    assert not teacher.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_the_mode_of_the_teacher_is_that_of_the_yaml(tmp_path: Path) -> None:
    train_set = TrainSet()
    cfg = make_config(tmp_path, {"PILLARS": PILLARS}, MODE="train")
    file = write_teacher(tmp_path, cfg, train_set)
    model = distill_openpcdet(build(cfg, train_set), cfg, train_set, file)
    assert model.teacher.mode == "train"


def test_a_teacher_with_classes_in_another_order(tmp_path: Path) -> None:
    train_set = TrainSet()
    cfg = make_config(tmp_path, {"PILLARS": PILLARS}, MODE="train")
    file = write_teacher(tmp_path, cfg, train_set)
    yaml_file = Path(cfg.DISTILL.TEACHER.CFG_FILE)
    text = yaml_file.read_text()
    yaml_file.write_text(text.replace("- Car\n- Pedestrian\n", "- Pedestrian\n- Car\n"))
    model = distill_openpcdet(build(cfg, train_set), cfg, train_set, file)
    labels = model.teacher.classes.student_labels(torch.tensor([1, 2, 3]))
    assert labels.tolist() == [2, 1, 3]
    assert model.teacher.model.class_names == ["Pedestrian", "Car", "Cyclist"]


def test_a_teacher_that_was_built_elsewhere(tmp_path: Path) -> None:
    train_set = TrainSet()
    cfg = make_config(tmp_path, {"PILLARS": PILLARS}, MODE="train")
    teacher = Teacher(build(cfg, train_set, seed=5))
    model = distill_openpcdet(build(cfg, train_set), cfg, train_set, teacher=teacher)
    assert model.teacher is teacher


def test_a_teacher_of_this_package(tmp_path: Path) -> None:
    """Any of pcdet_distill.models with the same voxels."""
    train_set = TrainSet()
    cfg = make_config(tmp_path, TWO_TERMS, MODE="train")
    spec = DataSpec.from_config(DATA, CLASSES)
    teacher = build_network(model_config(), len(CLASSES), spec)
    model = distill_openpcdet(build(cfg, train_set), cfg, train_set, teacher=teacher)
    assert model.teacher.model is teacher
    assert model.teacher.mode == "train"
    logs = train_as_openpcdet(model, train_set, tmp_path / "ckpt", 2)
    assert logs[-1]["distill_pillars"] < logs[0]["distill_pillars"]
    assert logs[-1]["distill_maps"] > 0


def test_the_teacher_is_checked_first(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train_set = TrainSet()
    cfg = make_config(tmp_path, {"PILLARS": PILLARS}, teacher_width=16)
    file = write_teacher(tmp_path, cfg, train_set)
    with caplog.at_level(logging.INFO):
        distill_openpcdet(build(cfg, train_set), cfg, train_set, file, logger=LOG)
    learns_from = (
        "distill PILLARS: student vfe@pillar_features (4 channels) learns from teacher "
        "vfe@pillar_features (16"
    )
    assert learns_from in caplog.text
    assert "teacher check: the teacher finds only" in caplog.text


class UnreadableSet(TrainSet):
    """A training set whose frames must not be read."""

    def __getitem__(self, index: int) -> dict:
        raise AssertionError("must not be read")


def test_an_example_batch_replaces_frames_of_the_dataset(tmp_path: Path) -> None:
    readable_set = TrainSet()
    train_set = UnreadableSet()
    cfg = make_config(tmp_path, {"PILLARS": PILLARS})
    batch = readable_set.collate_batch([readable_set[0], readable_set[1]])
    keys = set(batch)
    file = write_teacher(tmp_path, cfg, train_set)
    model = distill_openpcdet(build(cfg, train_set), cfg, train_set, file, example_batch=batch)
    assert model.head.terms["PILLARS"].student.info.channels == 4
    assert set(batch) == keys
    assert isinstance(batch["voxels"], np.ndarray)


def test_limits_of_voxels_may_differ(tmp_path: Path) -> None:
    data = copy.deepcopy(DATA)
    data["DATA_PROCESSOR"][0]["MAX_NUMBER_OF_VOXELS"]["train"] = 7
    train_set = TrainSet()
    cfg = make_config(tmp_path, {"PILLARS": PILLARS}, data=data)
    file = write_teacher(tmp_path, cfg, train_set)
    assert distill_openpcdet(build(cfg, train_set), cfg, train_set, file)


def test_without_the_block_nothing_changes(tmp_path: Path) -> None:
    train_set = TrainSet()
    cfg = make_config(tmp_path, {})
    del cfg["DISTILL"]
    student = build(cfg, train_set)
    assert distill_openpcdet(student, cfg, train_set) is student


def test_weights_that_change_follow_global_step(tmp_path: Path) -> None:
    changing = {**PILLARS, "WEIGHT": {"START": 1.0, "END": 0.0, "SCHEDULE": "linear"}}
    _, train_set, _, model = make_distilled(tmp_path, {"PILLARS": changing}, total_steps=4)
    logs = train_as_openpcdet(model, train_set, tmp_path / "ckpt", 3)
    assert logs[0]["distill_pillars"] > 0
    assert logs[4]["distill_pillars"] == 0


def test_synchronised_batch_norm_as_train_py_makes_it(tmp_path: Path) -> None:
    model = make_distilled(tmp_path, {"PILLARS": PILLARS}).model
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert converted is model
    assert isinstance(model, OpenPCDetDistiller)
    assert isinstance(model.student.vfe.norm, nn.SyncBatchNorm)
    assert isinstance(model.teacher.model.vfe.norm, nn.BatchNorm1d)
