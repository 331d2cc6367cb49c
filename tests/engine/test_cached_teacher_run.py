"""tools/train.py with a cached teacher: another architecture, resumed, in two processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from interruptions import Killed, identical, kill_after
from test_any_teacher import CLASSES, COMMON, STUDENT_RANGE, TEACHER_RANGE, Experiment
from test_any_teacher import data as data  # a fixture

SCORES = {"NAME": "LogitBoxLoss", "STUDENT": "dense_head", "TEACHER": "dense_head"}
PIVOTS = {**SCORES, "NAME": "PivotalLogitLoss", "SCORE_THRESH": 0.3}
LABELS = {"NAME": "TeacherLabels"}


@pytest.fixture
def experiment(repo: Path, tmp_path: Path, data: Path) -> Experiment:
    return Experiment(repo, tmp_path, data)


def cached_second_teaches_pillars(experiment: Experiment, **further) -> None:
    """Voxels of a wider range, with two of the classes in another order, from stored predictions.

    Every experiment has the same folder of predictions beside its output.
    """
    experiment.write_teacher("second_teacher.yaml", ["Cyclist", "Car"], TEACHER_RANGE)
    experiment.write_student(
        "pointpillar_student.yaml", SCORES=SCORES, PIVOTS=PIVOTS, LABELS=LABELS
    )
    set_teacher(experiment, **further)


def set_teacher(experiment: Experiment, **further) -> None:
    """Add keys to DISTILL.TEACHER of the student, and those in capitals to DISTILL."""
    student = yaml.safe_load(experiment.student_yaml.read_text())
    options = {"CACHE": "predictions", "CACHE_DIR": str(experiment.folder / "cache")}
    student["DISTILL"]["TEACHER"].update(options)
    student["DISTILL"].update(further)
    experiment.student_yaml.write_text(yaml.safe_dump(student))


def test_training_from_beginning_to_end(experiment: Experiment, capsys) -> None:
    cached_second_teaches_pillars(experiment)
    experiment.train()
    log = capsys.readouterr().out
    assert "teacher cache: computing the predictions of 4 frames" in log
    assert "the points are processed for it too" not in log
    for term in ("scores", "pivots"):
        losses = experiment.losses(f"distill_{term}")
        assert len(losses) == 4
        assert min(losses) > 0
    experiment.train("--extra_tag", "again")
    assert "rows (found) in" in capsys.readouterr().out


def test_resumed_equals_uninterrupted(experiment: Experiment, monkeypatch) -> None:
    """The resumed training computes the predictions again where they have been deleted."""
    cached_second_teaches_pillars(experiment)
    experiment.train()
    whole = experiment.last_checkpoint()
    other = Experiment(experiment.repo, experiment.folder / "other", experiment.data)
    cached_second_teaches_pillars(other)
    with monkeypatch.context() as patch:
        kill_after(patch, 3)
        with pytest.raises(Killed):
            other.train("--ckpt_save_time_interval", "0")
    shutil.rmtree(other.folder / "cache")
    other.train("--ckpt_save_time_interval", "0", "--workers", "2")
    resumed = other.last_checkpoint()
    for key in ("model_state", "optimizer_state"):
        assert whole[key], key
        assert identical(whole[key], resumed[key]), key
    assert experiment.losses("distill_scores")[-1] == other.losses("distill_scores")[-1]


def test_the_teacher_initialises_the_student_before_it_is_replaced(experiment, capsys) -> None:
    experiment.write_teacher("pointpillar_teacher.yaml", CLASSES, STUDENT_RANGE)
    experiment.write_student("pointpillar_student.yaml", SCORES=SCORES)
    set_teacher(experiment, INIT_STUDENT={"MODE": "SLICE", "FRAMES": 2})
    experiment.train("--epochs", "1")
    assert "student" in capsys.readouterr().out
    assert min(experiment.losses("distill_scores")) > 0


@pytest.mark.slow
def test_two_processes(experiment: Experiment) -> None:
    """Each process computes its part; the batch passes through DistributedDataParallel."""
    cached_second_teaches_pillars(experiment)
    command = [sys.executable, "-m", "pcdet_distill.engine.distributed.launch", "2"]
    command += [str(experiment.repo / "tools" / "train.py"), "--launcher", "pytorch"]
    command += ["--cfg_file", str(experiment.student_yaml)]
    command += ["--teacher_ckpt", str(experiment.teacher_ckpt), *COMMON, "--epochs", "1"]
    done = subprocess.run(
        command,
        cwd=experiment.folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert len(experiment.losses("distill_scores")) == 2
