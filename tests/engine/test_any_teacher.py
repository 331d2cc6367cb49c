"""Teachers whose architecture, resolution, range or class order is not that of the student.

tools/train.py trains on simulated frames, resumes to the last bit, and works in two processes.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from interruptions import Killed, identical, kill_after

from pcdet_distill.checkpoint import load_checkpoint, save_checkpoint
from pcdet_distill.config import load_config, to_plain
from pcdet_distill.datasets import build_dataloader
from pcdet_distill.datasets.kitti.kitti_infos import create_kitti_infos
from pcdet_distill.datasets.spec import DataSpec
from pcdet_distill.datasets.synthetic import create_synthetic_kitti
from pcdet_distill.datasets.view import PointView
from pcdet_distill.distill import build_distiller
from pcdet_distill.engine.train import add_train_arguments, run_training
from pcdet_distill.models import build_network, load_data_to_device
from pcdet_distill.models.trainable import CheckpointState
from pcdet_distill.types import BatchDict, ConfigDict

STUDENT_RANGE = [0, -6.4, -3, 25.6, 6.4, 1]
TEACHER_RANGE = [0, -9.6, -3, 32, 9.6, 1]
MAP = "backbone_2d@spatial_features_2d"
GRAPH = {
    "NAME": "GraphDistillLoss",
    "STUDENT": MAP,
    "TEACHER": MAP,
    "NUM_NODES": 64,
    "NUM_NEIGHBORS": 8,
    "WEIGHT": {"START": 2.0, "END": 0.5, "SCHEDULE": "linear"},
}
CLASSES = ["Car", "Pedestrian", "Cyclist"]
COMMON = ["--batch_size", "2", "--workers", "0", "--epochs", "2"]
COMMON += ["--fix_random_seed", "--logger_iter_interval", "1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six simulated frames, four of them for training."""
    folder = tmp_path_factory.mktemp("frames") / "synthetic_kitti"
    create_synthetic_kitti(folder, 6, seed=3, val_frames=2, workers=1, progress=False)
    create_kitti_infos(folder, show_progress=False)
    return folder


class Experiment:
    """A folder with the yaml files and weights of a student and its teacher."""

    def __init__(self, repo: Path, folder: Path, data: Path) -> None:
        self.repo = repo
        self.folder = folder
        self.data = data

    def write(self, name: str, source: str, limits: list[float], **changes: ConfigDict) -> Path:
        """Write ``cfgs/toys/<name>.yaml``: the yaml ``source`` of ours in another range."""
        config = load_config(self.repo / "cfgs" / "synthetic" / source)
        config.DATA_CONFIG.update({"POINT_CLOUD_RANGE": limits, "DATA_PATH": str(self.data)})
        for key in ("ROOT_DIR", "TAG", "EXP_GROUP_PATH", "CONFIG_FILE"):
            del config[key]
        config.update(changes)
        path = self.folder / "cfgs" / "toys" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(to_plain(config)))
        return path

    def write_student(self, source: str, **terms: ConfigDict) -> Path:
        """Write the yaml of the student, which learns from ``teacher.yaml`` beside it."""
        distill = {"TEACHER": {"CFG_FILE": "teacher.yaml"}, "TERMS": terms}
        return self.write("student", source, STUDENT_RANGE, DISTILL=distill)

    def write_teacher(self, source: str, classes: list[str], limits: list[float]) -> None:
        """Write yaml and weights of the teacher; its anchors and heads are those of ``classes``."""
        model = load_config(self.repo / "cfgs" / "synthetic" / source).MODEL
        anchors = model.DENSE_HEAD.ANCHOR_GENERATOR_CONFIG
        anchors_by_class = {entry.class_name: entry for entry in anchors}
        model.DENSE_HEAD.ANCHOR_GENERATOR_CONFIG = [anchors_by_class[name] for name in classes]
        path = self.write("teacher", source, limits, MODEL=model, CLASS_NAMES=classes)
        config = load_config(path)
        torch.manual_seed(0)
        spec = DataSpec.from_config(config.DATA_CONFIG, classes)
        network = build_network(config.MODEL, len(classes), spec)
        # Scores around one half, so that the teacher predicts some boxes.
        torch.nn.init.constant_(network.dense_head.conv_cls.bias, 0.0)
        save_checkpoint({"model_state": network.state_dict()}, self.teacher_ckpt)

    def train(self, *arguments: str) -> Path:
        """Run tools/train.py in this process; returns the output folder."""
        parser = add_train_arguments(argparse.ArgumentParser())
        files = ["--cfg_file", str(self.student_yaml), "--teacher_ckpt", str(self.teacher_ckpt)]
        run_training(parser.parse_args([*files, *COMMON, *arguments]))
        return self.output

    @property
    def student_yaml(self) -> Path:
        """The config that is trained."""
        return self.folder / "cfgs" / "toys" / "student.yaml"

    @property
    def teacher_ckpt(self) -> Path:
        """The teacher's weights."""
        return self.folder / "teacher.pth"

    @property
    def output(self) -> Path:
        """The output folder of the training."""
        return self.folder / "output" / "toys" / "student" / "default"

    def last_checkpoint(self) -> CheckpointState:
        """The checkpoint of the second epoch."""
        return load_checkpoint(self.output / "ckpt" / "checkpoint_epoch_2.pth")

    def losses(self, name: str = "distill_map") -> list[float]:
        """The loss of the term MAP, or another number of the log, at each step."""
        lines = (self.output / "metrics.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        return [record[name] for record in records if name in record]


@pytest.fixture
def experiment(repo: Path, tmp_path: Path, data: Path) -> Experiment:
    """An empty folder for a student and its teacher."""
    return Experiment(repo, tmp_path, data)


def second_teaches_pillars(experiment: Experiment) -> None:
    """Sparse voxels of a wider range, with two of the classes, teach pillars.

    The pillars learn from features, predictions and labels.
    """
    experiment.write_teacher("second_teacher.yaml", ["Cyclist", "Car"], TEACHER_RANGE)
    experiment.write_student(
        "pointpillar_student.yaml",
        MAP=GRAPH,
        SCORES={"NAME": "LogitBoxLoss", "STUDENT": "dense_head", "TEACHER": "dense_head"},
        LABELS={"NAME": "TeacherLabels"},
    )


def pillars_teach_centres(experiment: Experiment) -> None:
    """PointPillars teaches a CenterPoint."""
    experiment.write_teacher("pointpillar_teacher.yaml", CLASSES, TEACHER_RANGE)
    experiment.write_student("centerpoint_pillar.yaml", MAP=GRAPH)


@pytest.mark.parametrize("prepare", [second_teaches_pillars, pillars_teach_centres])
def test_training_from_beginning_to_end(
    experiment: Experiment,
    prepare: Callable[[Experiment], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    prepare(experiment)
    experiment.train()
    log = capsys.readouterr().out
    assert "the points are processed for it too" in log
    assert "range [0.0, -9.6, -3.0, 32.0, 9.6, 1.0]" in log
    lacks_a_class = prepare is second_teaches_pillars
    assert ("it does not predict Pedestrian" in log) == lacks_a_class

    state = experiment.last_checkpoint()
    student = load_config(experiment.student_yaml)
    spec = DataSpec.from_config(student.DATA_CONFIG, student.CLASS_NAMES)
    plain = build_network(student.MODEL, 3, spec)
    assert set(state["model_state"]) == set(plain.state_dict())
    assert len(experiment.losses()) == 4
    assert min(experiment.losses()) > 0


def test_resumed_equals_uninterrupted(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adapters, optimizer, the teacher's own points, and a weight that changes with progress."""
    pillars_teach_centres(experiment)
    experiment.train()
    whole = experiment.last_checkpoint()
    other = Experiment(experiment.repo, experiment.folder / "other", experiment.data)
    pillars_teach_centres(other)
    with monkeypatch.context() as patch:
        kill_after(patch, 3)
        with pytest.raises(Killed):
            other.train("--ckpt_save_time_interval", "0")
    other.train("--ckpt_save_time_interval", "0")

    resumed = other.last_checkpoint()
    for key in ("model_state", "distill_state", "optimizer_state"):
        assert whole[key], key
        assert identical(whole[key], resumed[key]), key
    assert experiment.losses()[-1] == other.losses()[-1]
    # From 2 to 0.5 in four steps; the weight of a step is that of its beginning.
    assert experiment.losses("distill_map_weight") == pytest.approx([2.0, 1.625, 1.25, 0.875])
    assert other.losses("distill_map_weight")[-1] == pytest.approx(0.875)


@pytest.mark.slow
def test_two_processes(experiment: Experiment) -> None:
    """The teacher's batch inside the student's passes through DistributedDataParallel."""
    pillars_teach_centres(experiment)
    command = [sys.executable, "-m", "pcdet_distill.engine.distributed.launch", "2"]
    command += [str(experiment.repo / "tools" / "train.py"), "--launcher", "pytorch"]
    command += ["--cfg_file", str(experiment.student_yaml)]
    command += ["--teacher_ckpt", str(experiment.teacher_ckpt), *COMMON, "--epochs", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command,
        cwd=experiment.folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert len(experiment.losses()) == 2
    assert list(experiment.output.rglob("checkpoint_epoch_1.pth"))


def test_sharing_the_batch_changes_nothing(experiment: Experiment) -> None:
    """Processing the points once more for a teacher with the same settings gives the same loss."""
    experiment.write_teacher("pointpillar_teacher.yaml", CLASSES, STUDENT_RANGE)
    config = load_config(experiment.write_student("pointpillar_student.yaml", MAP=GRAPH))
    dataset, loader, _ = build_dataloader(
        config.DATA_CONFIG, config.CLASS_NAMES, 2, workers=0, seed=1
    )
    torch.manual_seed(1)
    network = build_network(config.MODEL, 3, dataset)
    torch.manual_seed(1)
    model = build_distiller(config, network, dataset, teacher_ckpt=experiment.teacher_ckpt).train()
    assert not dataset.views
    assert not model.teacher.own_view

    plain = next(iter(loader))
    view = PointView(config.DATA_CONFIG, ["x", "y", "z", "intensity"], training=True)
    dataset.add_view("teacher", view)
    doubled = next(iter(loader))
    assert "teacher" not in plain
    assert "teacher" in doubled

    def loss_of(batch: BatchDict) -> torch.Tensor:
        """The loss on a batch; the model stays as it is."""
        load_data_to_device(batch, "cpu")
        state = copy.deepcopy(model.state_dict())
        _, tb_dict, _ = model(batch)
        model.load_state_dict(state)
        return tb_dict["distill_map"]

    loss_of_shared = loss_of(plain)
    assert torch.equal(loss_of_shared, loss_of(doubled))
    assert loss_of_shared > 0


def test_a_training_processes_points_for_the_teacher(experiment: Experiment) -> None:
    second_teaches_pillars(experiment)
    config = load_config(experiment.student_yaml)
    dataset, loader, _ = build_dataloader(
        config.DATA_CONFIG, config.CLASS_NAMES, 2, workers=0, seed=1
    )
    network = build_network(config.MODEL, 3, dataset)
    build_distiller(config, network, dataset, teacher_ckpt=experiment.teacher_ckpt)
    assert "teacher" in next(iter(loader))


def test_an_evaluation_does_not_process_points_for_the_teacher(experiment: Experiment) -> None:
    second_teaches_pillars(experiment)
    config = load_config(experiment.student_yaml)
    _, loader, _ = build_dataloader(
        config.DATA_CONFIG, config.CLASS_NAMES, 2, workers=0, seed=1, training=False
    )
    assert "teacher" not in next(iter(loader))


def edit_yaml(path: Path, change: Callable[[ConfigDict], None]) -> None:
    """Change what a yaml file says."""
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(yaml.safe_dump(content))


def test_a_teacher_for_the_initialisation_alone_needs_no_points(experiment: Experiment) -> None:
    """INIT_STUDENT uses the student's own points, although the teacher has other settings."""
    experiment.write_teacher("pointpillar_teacher.yaml", CLASSES, STUDENT_RANGE)
    experiment.write_student("pointpillar_student.yaml")

    def add_init(student: ConfigDict) -> None:
        student["DISTILL"]["INIT_STUDENT"] = {"MODE": "SLICE", "FRAMES": 2}

    def limit_voxels(teacher: ConfigDict) -> None:
        voxel_step = teacher["DATA_CONFIG"]["DATA_PROCESSOR"][2]
        voxel_step["MAX_NUMBER_OF_VOXELS"]["train"] = 5000

    edit_yaml(experiment.student_yaml, add_init)
    edit_yaml(experiment.student_yaml.with_name("teacher.yaml"), limit_voxels)
    config = load_config(experiment.student_yaml)
    dataset, _, _ = build_dataloader(config.DATA_CONFIG, config.CLASS_NAMES, 2, workers=0, seed=1)
    network = build_network(config.MODEL, 3, dataset)
    model = build_distiller(config, network, dataset, teacher_ckpt=experiment.teacher_ckpt).train()
    assert not dataset.views
    assert not model.teacher.own_view
    experiment.train("--epochs", "1")
    assert not experiment.losses()
    assert (experiment.output / "ckpt" / "checkpoint_epoch_1.pth").is_file()
