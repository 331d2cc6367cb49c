"""Students of teachers with another architecture, resolution, range and class order.

They are trained by tools/train.py on simulated frames, resumed to the bit, and by two processes.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from pcdet_distill.checkpoint import load_checkpoint, save_checkpoint
from pcdet_distill.config import load_config, to_plain
from pcdet_distill.datasets import build_dataloader
from pcdet_distill.datasets.kitti.kitti_infos import create_kitti_infos
from pcdet_distill.datasets.spec import DataSpec
from pcdet_distill.datasets.synthetic import create_synthetic_kitti
from pcdet_distill.datasets.view import PointView
from pcdet_distill.distill import build_distiller
from pcdet_distill.engine.loop import Trainer
from pcdet_distill.engine.train import add_train_arguments, run_training
from pcdet_distill.models import build_network, load_data_to_device

STUDENT_RANGE, TEACHER_RANGE = [0, -6.4, -3, 25.6, 6.4, 1], [0, -9.6, -3, 32, 9.6, 1]
MAP = "backbone_2d@spatial_features_2d"
GRAPH = {
    "NAME": "GraphDistillLoss",
    "STUDENT": MAP,
    "TEACHER": MAP,
    "NUM_NODES": 64,
    "NUM_NEIGHBORS": 8,
    "WEIGHT": {"START": 2.0, "END": 0.5, "SCHEDULE": "linear"},
}
COMMON = [
    "--batch_size",
    "2",
    "--workers",
    "0",
    "--fix_random_seed",
    "--logger_iter_interval",
    "1",
    "--epochs",
    "2",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six simulated frames, four of them for training."""
    folder = create_synthetic_kitti(
        tmp_path_factory.mktemp("frames") / "synthetic_kitti",
        6,
        seed=3,
        val_frames=2,
        workers=1,
        progress=False,
    )
    create_kitti_infos(folder, show_progress=False)
    return folder


class Experiment:
    """A folder with the yaml files and weights of a student and its teacher."""

    def __init__(self, repo: Path, folder: Path, data: Path) -> None:
        self.repo = repo
        self.folder = folder
        self.data = str(data)

    def write(self, name: str, source: str, limits: list[float], **changes: Any) -> Path:
        """``cfgs/toys/<name>.yaml``: a shipped yaml in another range."""
        config = load_config(self.repo / "cfgs" / "synthetic" / source)
        config.DATA_CONFIG.update({"POINT_CLOUD_RANGE": limits, "DATA_PATH": self.data})
        for key in ("ROOT_DIR", "TAG", "EXP_GROUP_PATH", "CONFIG_FILE"):
            del config[key]
        config.update(changes)
        path = self.folder / "cfgs" / "toys" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(to_plain(config)))
        return path

    def write_student(self, source: str, **terms: Any) -> Path:
        """The student's yaml, with the teacher beside it."""
        return self.write(
            "student",
            source,
            STUDENT_RANGE,
            DISTILL={"TEACHER": {"CFG_FILE": "teacher.yaml"}, "TERMS": terms},
        )

    def write_teacher(self, source: str, classes: list[str], limits: list[float]) -> None:
        """The teacher's yaml and weights; its anchors and heads are those of ``classes``."""
        model = load_config(self.repo / "cfgs" / "synthetic" / source).MODEL
        anchors = model.DENSE_HEAD.ANCHOR_GENERATOR_CONFIG
        by_class = {entry.class_name: entry for entry in anchors}
        model.DENSE_HEAD.ANCHOR_GENERATOR_CONFIG = [by_class[name] for name in classes]
        config = load_config(
            self.write("teacher", source, limits, MODEL=model, CLASS_NAMES=classes)
        )
        torch.manual_seed(0)
        network = build_network(
            config.MODEL, len(classes), DataSpec.from_config(config.DATA_CONFIG, classes)
        )
        # Scores of about one half: the untrained teacher then predicts some boxes.
        torch.nn.init.constant_(network.dense_head.conv_cls.bias, 0.0)
        save_checkpoint({"model_state": network.state_dict()}, self.folder / "teacher.pth")

    def train(self, *arguments: str) -> Path:
        """``tools/train.py`` in this process; gives the output folder."""
        parser = add_train_arguments(argparse.ArgumentParser())
        words = ["--cfg_file", str(self.folder / "cfgs/toys/student.yaml")]
        words += ["--teacher_ckpt", str(self.folder / "teacher.pth")]
        run_training(parser.parse_args([*words, *COMMON, *arguments]))
        return self.output

    @property
    def output(self) -> Path:
        return self.folder / "output" / "toys" / "student" / "default"

    def final(self) -> dict[str, Any]:
        return load_checkpoint(self.output / "ckpt" / "checkpoint_epoch_2.pth")

    def losses(self, name: str = "distill_map") -> list[float]:
        """Of the term MAP, or another number of the log, step by step."""
        lines = (self.output / "metrics.jsonl").read_text().splitlines()
        return [entry[name] for entry in map(json.loads, lines) if name in entry]


@pytest.fixture
def experiment(repo: Path, tmp_path: Path, data: Path) -> Experiment:
    return Experiment(repo, tmp_path, data)


def second_teaches_pillars(experiment: Experiment) -> None:
    """The teacher has sparse voxels, a wider range and other classes: features, scores, labels."""
    experiment.write_teacher("second_teacher.yaml", ["Cyclist", "Car"], TEACHER_RANGE)
    experiment.write_student(
        "pointpillar_student.yaml",
        MAP=GRAPH,
        SCORES={"NAME": "LogitBoxLoss", "STUDENT": "dense_head", "TEACHER": "dense_head"},
        LABELS={"NAME": "TeacherLabels"},
    )


def pillars_teach_centres(experiment: Experiment) -> None:
    """PointPillars teaches a CenterPoint."""
    experiment.write_teacher(
        "pointpillar_teacher.yaml", ["Car", "Pedestrian", "Cyclist"], TEACHER_RANGE
    )
    experiment.write_student("centerpoint_pillar.yaml", MAP=GRAPH)


@pytest.mark.parametrize("prepare", [second_teaches_pillars, pillars_teach_centres])
def test_training_from_beginning_to_end(experiment: Experiment, prepare: Any, capsys: Any) -> None:
    prepare(experiment)
    experiment.train()
    output = capsys.readouterr().out
    assert "the points are processed for it too" in output
    assert "range [0.0, -9.6, -3.0, 32.0, 9.6, 1.0]" in output
    assert ("it does not predict Pedestrian" in output) == (prepare is second_teaches_pillars)
    state = experiment.final()
    student = load_config(experiment.folder / "cfgs/toys/student.yaml")
    plain = build_network(
        student.MODEL, 3, DataSpec.from_config(student.DATA_CONFIG, student.CLASS_NAMES)
    )
    assert set(state["model_state"]) == set(plain.state_dict())
    assert len(experiment.losses()) == 4
    assert min(experiment.losses()) > 0


class Killed(BaseException):
    """Stands for a process that is gone."""


def same(first: Any, second: Any) -> bool:
    """Equal to the last bit, tensors included."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return list(first) == list(second) and all(same(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


def test_resumed_equals_uninterrupted(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adapters, optimizer, the teacher's view of the points and a scheduled weight."""
    pillars_teach_centres(experiment)
    experiment.train()
    whole = experiment.final()
    other = Experiment(experiment.repo, experiment.folder / "other", Path(experiment.data))
    pillars_teach_centres(other)
    step = Trainer.train_step

    def dying_step(trainer: Trainer, batch: dict[str, Any]) -> Any:
        if trainer.iteration == 3:
            raise Killed
        return step(trainer, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", dying_step)
        with pytest.raises(Killed):
            other.train("--ckpt_save_time_interval", "0")
    other.train("--ckpt_save_time_interval", "0")
    resumed = other.final()
    for key in ("model_state", "distill_state", "optimizer_state"):
        assert whole[key] and same(whole[key], resumed[key]), key
    assert experiment.losses()[-1] == other.losses()[-1]
    assert experiment.losses("distill_map_weight") == pytest.approx([2.0, 1.625, 1.25, 0.875])
    assert other.losses("distill_map_weight")[-1] == pytest.approx(0.875)


@pytest.mark.slow
def test_two_processes(experiment: Experiment) -> None:
    """The teacher's batch inside the student's goes through parallel training."""
    pillars_teach_centres(experiment)
    command = [
        sys.executable,
        "-m",
        "pcdet_distill.engine.distributed.launch",
        "2",
        str(experiment.repo / "tools" / "train.py"),
        "--launcher",
        "pytorch",
        "--cfg_file",
        "cfgs/toys/student.yaml",
        "--teacher_ckpt",
        "teacher.pth",
        *COMMON,
        "--epochs",
        "1",
    ]
    done = subprocess.run(
        command,
        cwd=experiment.folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert len(experiment.losses()) == 2
    assert list(experiment.output.rglob("checkpoint_epoch_1.pth"))


def test_sharing_the_batch_changes_nothing(experiment: Experiment) -> None:
    """A teacher of equal data gives the same loss whether its points are processed again or not."""
    experiment.write_teacher(
        "pointpillar_teacher.yaml", ["Car", "Pedestrian", "Cyclist"], STUDENT_RANGE
    )
    config = load_config(experiment.write_student("pointpillar_student.yaml", MAP=GRAPH))
    dataset, loader, _ = build_dataloader(
        config.DATA_CONFIG, config.CLASS_NAMES, 2, workers=0, seed=1
    )
    torch.manual_seed(1)
    network = build_network(config.MODEL, 3, dataset)
    torch.manual_seed(1)
    model = build_distiller(
        config, network, dataset, teacher_ckpt=experiment.folder / "teacher.pth"
    ).train()
    assert not dataset.views and not model.teacher.own_view
    plain = next(iter(loader))
    dataset.add_view(
        "teacher", PointView(config.DATA_CONFIG, ["x", "y", "z", "intensity"], training=True)
    )
    doubled = next(iter(loader))
    assert "teacher" not in plain and "teacher" in doubled
    losses = []
    for batch in (plain, doubled):
        load_data_to_device(batch, "cpu")
        state = copy.deepcopy(model.state_dict())
        losses.append(model(batch)[1]["distill_map"])
        model.load_state_dict(state)
    assert torch.equal(*losses) and losses[0] > 0


def test_only_training_pays(experiment: Experiment) -> None:
    second_teaches_pillars(experiment)
    config = load_config(experiment.folder / "cfgs/toys/student.yaml")
    for training in (True, False):
        dataset, loader, _ = build_dataloader(
            config.DATA_CONFIG, config.CLASS_NAMES, 2, workers=0, seed=1, training=training
        )
        if training:
            network = build_network(config.MODEL, 3, dataset)
            build_distiller(
                config, network, dataset, teacher_ckpt=experiment.folder / "teacher.pth"
            )
        assert ("teacher" in next(iter(loader))) == training


def test_a_teacher_that_only_gives_its_weights_costs_nothing(experiment: Experiment) -> None:
    """A student is initialised from its own view of the points."""
    experiment.write_teacher(
        "pointpillar_teacher.yaml", ["Car", "Pedestrian", "Cyclist"], STUDENT_RANGE
    )
    experiment.write_student("pointpillar_student.yaml")
    folder = experiment.folder / "cfgs" / "toys"
    student, teacher = (
        yaml.safe_load((folder / name).read_text()) for name in ("student.yaml", "teacher.yaml")
    )
    student["DISTILL"]["INIT_STUDENT"] = {"MODE": "SLICE", "FRAMES": 2}
    teacher["DATA_CONFIG"]["DATA_PROCESSOR"][2]["MAX_NUMBER_OF_VOXELS"]["train"] = 5000
    for name, config in (("student.yaml", student), ("teacher.yaml", teacher)):
        (folder / name).write_text(yaml.safe_dump(config))
    config = load_config(folder / "student.yaml")
    dataset, _, _ = build_dataloader(config.DATA_CONFIG, config.CLASS_NAMES, 2, workers=0, seed=1)
    model = build_distiller(
        config,
        build_network(config.MODEL, 3, dataset),
        dataset,
        teacher_ckpt=experiment.folder / "teacher.pth",
    ).train()
    assert not dataset.views and not model.teacher.own_view
    experiment.train("--epochs", "1")
    assert (
        not experiment.losses()
        and (experiment.output / "ckpt" / "checkpoint_epoch_1.pth").is_file()
    )
