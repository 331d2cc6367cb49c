"""Names of version 0.1: they give the same object as the new name, with a warning that names it."""

from __future__ import annotations

import importlib
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pcdet_distill.moved_modules import NEW_NAMES, NEW_PLACES

# Old module -> old name -> new module and name, all without the package.
OLD_NAMES = {
    "lookup": {
        "lookup": "config.lookup",
        "nearest": "config.nearest",
        "required": "config.required",
    },
    "config_check": {"check": "config.check.check"},
    "config_override": {"apply_overrides": "config.override.apply_overrides"},
    "config_schema": {"EXPERIMENT": "config.schema.EXPERIMENT", "block": "config.nodes.block"},
    "models.model_utils.settings": {
        "required": "config.required",
        "same_length": "config.same_length",
    },
    "distill": {
        "InitOptions": "distill.init.InitOptions",
        "StudentStart": "distill.init.StudentInit",
    },
    "distill.distill_head": {"SIDES": "distill.losses.old_interface.OLD_INPUTS"},
    "distill.losses": {
        "TeacherLabels": "distill.batch_transforms.TeacherLabels",
        "find_loss": "distill.term_classes.find_term_class",
    },
    "distill.losses.features": {"as_map": "distill.nodes.as_map"},
    "distill.losses.labels": {"TeacherLabels": "distill.batch_transforms.labels.TeacherLabels"},
    "distill.nodes": {
        "match_nodes": "distill.node_matching.match_nodes",
        "roi_nodes": "distill.node_converters.roi_nodes",
    },
    "distill.prediction_readers": {"CentreReader": "distill.prediction_readers.CenterReader"},
    "distill.prediction_side": {"PredictionSide": "distill.prediction_input.PredictionInput"},
    "distill.predictions": {"Sites": "distill.predictions.PredictionGrid"},
    "distill.sides": {
        "NodeSide": "distill.term_inputs.NodeInput",
        "Side": "distill.term_inputs.TermInput",
        "TapSource": "distill.tap_source.TapSource",
    },
    "distill.student_init": {
        "InitOptions": "distill.init.InitOptions",
        "StudentStart": "distill.init.StudentInit",
        "initialise_student": "distill.init.init_student",
    },
    "distill.student_init.options": {"InitOptions": "distill.init.options.InitOptions"},
    "distill.teacher": {
        "build_teacher": "distill.build_teacher",
        "find_teacher": "distill.find_teacher",
    },
    "engine.arguments": {
        "add_train_arguments": "engine.cli.arguments.add_train_arguments",
        "chosen_seed": "engine.cli.settings.requested_seed",
        "read_config": "engine.cli.settings.read_config",
    },
    "engine.batches": {
        "in_turn": "engine.batches.interleave",
        "share_of": "engine.batches.part_of",
    },
    "engine.build": {"build_detector": "engine.build.build_model"},
    "engine.checkpoint_files": {
        "find_newest": "engine.checkpoints.files.find_newest",
        "load_with_optimizer": "engine.checkpoints.files.read_with_optimizer",
    },
    "engine.cost": {
        "Cost": "engine.logging.cost.Cost",
        "CostMeter": "engine.logging.cost.CostMeter",
        "read_cost": "engine.logging.cost.read_cost",
    },
    "engine.device": {
        "choose_device": "models.device.choose_device",
        "prepare_for_device": "models.device.prepare_for_device",
        "synchronize": "models.device.synchronize",
    },
    "engine.eval_loop": {
        "EvalOutcome": "engine.evaluation.loop.EvalOutcome",
        "evaluate_model": "engine.evaluation.loop.evaluate_model",
    },
    "engine.eval_report": {"write_results": "engine.evaluation.report.write_results"},
    "engine.heap": {"keep_freed_memory": "engine.resources.heap.keep_freed_memory"},
    "engine.launch": {"main": "engine.distributed.launch.main"},
    "engine.optimization": {
        "cosine_annealing": "engine.optimization.schedules.cosine_annealing",
        "one_cycle": "engine.optimization.schedules.one_cycle",
        "step_decay": "engine.optimization.schedules.step_decay",
    },
    "engine.progress": {"Progress": "engine.logging.progress.Progress"},
    "engine.randomness": {
        "draw_seed": "seeds.draw_seed",
        "randomness_kept": "engine.checkpoints.randomness.preserve_randomness",
    },
    "engine.run_lock": {"folder_to_itself": "engine.checkpoints.run_lock.exclusive_folder"},
    "engine.state": {
        "pack": "engine.checkpoints.state.make_checkpoint",
        "position": "engine.checkpoints.state.resume_iteration",
        "unpack": "engine.checkpoints.state.restore_checkpoint",
    },
    "engine.threads": {
        "allowed_cores": "processes.available_cores",
        "tune_threads": "engine.resources.threads.tune_threads",
    },
    "engine.trainer": {
        "TrainOptions": "engine.loop.TrainOptions",
        "Trainer": "engine.loop.Trainer",
    },
    "ops.roi_pooling": {"voxel_query_plain": "ops.voxel_query.voxel_query_plain"},
    "quickstart": {
        "Plan": "apps.quickstart.QuickstartPlan",
        "main": "apps.quickstart.main",
        "make_steps": "apps.quickstart.make_steps",
        "run_steps": "apps.quickstart.run_steps",
    },
    "quickstart.plan": {"Plan": "apps.quickstart.plan.QuickstartPlan"},
    "study": {
        "Options": "apps.study.Options",
        "Runner": "apps.study.Runner",
        "StudyPlan": "apps.study.StudyPlan",
        "list_runs": "apps.study.command.list_runs",
        "main": "apps.study.main",
        "make_table": "apps.study.make_table",
        "write_tables": "apps.study.write_tables",
    },
    "study.plan": {"StudyPlan": "apps.study.plan.StudyPlan"},
    "study.spec": {
        "DataSpec": "apps.study.spec.StudyData",
        "read_study": "apps.study.spec.read_study",
    },
    "study.table": {"to_markdown": "apps.study.results.text.to_markdown"},
}


def pairs_of_names() -> list[tuple[str, str]]:
    """(old path, new path) of every entry of OLD_NAMES."""
    pairs = []
    for module, names in OLD_NAMES.items():
        for name, new in names.items():
            pairs.append((f"pcdet_distill.{module}.{name}", f"pcdet_distill.{new}"))
    return pairs


def changed_names() -> list[tuple[str, str]]:
    """(old module, name) of every entry of NEW_NAMES."""
    entries = []
    for module, names in NEW_NAMES.items():
        for name in names:
            entries.append((module, name))
    return entries


def find(path: str) -> object:
    """The object with this name."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize(("old", "new"), pairs_of_names())
def test_an_old_name_is_the_new_object_and_says_so(old: str, new: str):
    with pytest.warns(DeprecationWarning) as caught:
        assert find(old) is find(new)
    assert str(caught[0].message) == f"{old} is deprecated, use {new}"


@pytest.mark.parametrize("old", NEW_PLACES)
def test_every_old_module_can_be_imported_and_its_new_places_exist(old: str):
    module = importlib.import_module(f"pcdet_distill.{old}")
    for place in NEW_PLACES[old]:
        importlib.import_module(f"pcdet_distill.{place}")
        assert f"pcdet_distill.{place}" in str(module.__doc__)


@pytest.mark.parametrize(("old", "name"), changed_names())
def test_every_changed_name_exists(old: str, name: str):
    with pytest.warns(DeprecationWarning, match=NEW_NAMES[old][name]):
        assert find(f"pcdet_distill.{old}.{name}") is not None


def test_a_module_that_never_existed_is_missing():
    with pytest.raises(ModuleNotFoundError, match=r"pcdet_distill\.engine\.costs"):
        importlib.import_module("pcdet_distill.engine.costs")


def test_no_file_stands_where_the_table_forwards(repo: Path):
    for old in NEW_PLACES:
        place = repo / "pcdet_distill" / old.replace(".", "/")
        assert not place.with_suffix(".py").exists()
        assert not (place / "__init__.py").exists()


def test_the_old_command_of_the_launcher_still_runs():
    command = [sys.executable, "-m", "pcdet_distill.engine.launch"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 2
    assert "usage: launch NUMBER_OF_PROCESSES SCRIPT" in run.stderr
    assert "is now python -m pcdet_distill.engine.distributed.launch" in run.stderr


def test_old_methods_of_world():
    from pcdet_distill.engine.distributed import World

    with pytest.warns(DeprecationWarning, match="World.share is now World.broadcast"):
        assert World().share("value") == "value"
    with pytest.warns(DeprecationWarning, match="World.wait is now World.barrier"):
        World().wait()


def test_old_methods_of_teacher_and_distiller():
    from pcdet_distill.distill import Distiller, DistillHead, Teacher

    class Detector(torch.nn.Module):
        def forward(self, batch_dict):
            batch_dict["seen"] = True
            return [{"pred_scores": 1}], {}

    teacher = Teacher(Detector())
    with pytest.warns(DeprecationWarning, match=r"Teacher\.look is now Teacher\.run"):
        assert teacher.look({"points": 1}, []) == ({}, {"points": 1})
    with pytest.warns(DeprecationWarning, match="Teacher.predict_and_look is now"):
        boxes, features, batch = teacher.predict_and_look({}, [])
    assert (boxes, features, batch) == ([{"pred_scores": 1}], {}, {"seen": True})

    calls = []
    distiller = Distiller(
        torch.nn.Linear(1, 1), teacher, DistillHead({}), lambda *arguments: calls.append(arguments)
    )
    with pytest.warns(DeprecationWarning, match="Distiller.initialise is now .*init_student"):
        distiller.initialise([{}], logging.getLogger("test"))
    assert calls[0][1:3] == (teacher, [{}])
