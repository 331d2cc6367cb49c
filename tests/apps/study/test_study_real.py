"""A study of real detectors on a few frames: refused before training, or run to the end."""

from __future__ import annotations

import csv
import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pcdet_distill.apps.study import Options, StudyPlan
from pcdet_distill.apps.study.check import check_runs, check_study
from pcdet_distill.apps.study.cost import step_times
from pcdet_distill.apps.study.cost.costs import StepTimes
from pcdet_distill.apps.study.data import data_commands
from pcdet_distill.apps.study.records import Records
from pcdet_distill.checkpoint import save_checkpoint
from pcdet_distill.datasets import DataSpec
from pcdet_distill.datasets.kitti.kitti_infos import create_kitti_infos
from pcdet_distill.datasets.synthetic import create_synthetic_kitti
from pcdet_distill.engine.build import build_model
from pcdet_distill.errors import ConfigError

TEACHER = "cfgs/synthetic/pointpillar_teacher.yaml"
STUDENT = "cfgs/synthetic/pointpillar_student.yaml"
LOGITBOX = "cfgs/synthetic/recipes/logitbox.yaml"
DISTILLED = "cfgs/synthetic/recipes/graph_scores.yaml"
INIT = "cfgs/synthetic/pointpillar_student_init.yaml"
BOTH = ["kitti_infos_train.pkl", "kitti_infos_unlabelled.pkl"]


def write_study(folder: Path, data: Path, rows: dict, **changes) -> Path:
    content = {
        "DATA": {
            "PATH": str(data),
            "SEED": 2,
            "TRAIN_FRAMES": 4,
            "VAL_FRAMES": 2,
            "HOLDOUT_FRAMES": 2,
        },
        "EVALUATE": ["val", "holdout"],
        "TEACHER": {"CONFIG": TEACHER, "EPOCHS": 1},
        "EPOCHS": 1,
        "BASELINE": "plain",
        "ROWS": rows,
        **changes,
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = create_synthetic_kitti(
        tmp_path_factory.mktemp("sim") / "kitti",
        6,
        2,
        val_frames=2,
        holdout_frames=2,
        unlabelled_frames=1,
        progress=False,
    )
    create_kitti_infos(root, show_progress=False)
    return root


def test_what_cannot_be_trained_is_named_before_any_training(repo, tmp_path, data):
    rows = {
        "plain": {"CONFIG": STUDENT},
        "fits": {"CONFIG": DISTILLED},
        "no_tap": {
            "CONFIG": DISTILLED,
            "SET": {"DISTILL.TERMS.GRAPH.STUDENT": "dense_head.conv_clss"},
        },
        "other_teacher": {"CONFIG": DISTILLED, "SET": {"DISTILL.TEACHER.CFG_FILE": STUDENT}},
        "other_depth": {"CONFIG": INIT, "SET": {"MODEL.BACKBONE_2D.LAYER_NUMS": [1, 1, 1]}},
        "no_labels": {"CONFIG": STUDENT, "SET": {"DATA_CONFIG.INFO_PATH.train": BOTH}},
        "cached_features": {
            "CONFIG": "cfgs/synthetic/recipes/fitnets.yaml",
            "SET": {"DISTILL.TEACHER.CACHE": "predictions"},
        },
        "their_labels": {
            "CONFIG": "cfgs/synthetic/recipes/labels.yaml",
            "SET": {"DATA_CONFIG.INFO_PATH.train": BOTH},
        },
    }
    plan = StudyPlan.read(write_study(tmp_path, data, rows), repo, Options("cpu"))
    with pytest.raises(ConfigError) as refused:
        check_runs(plan, plan.runs(), lambda _: None)
    text = str(refused.value)
    assert "nothing was trained" in text and "ROWS.plain" not in text and "ROWS.fits" not in text
    assert (
        "ROWS.no_tap" in text
        and "the student has no tap 'dense_head.conv_clss'; did you mean" in text
    )
    assert "ROWS.other_teacher" in text
    assert "ROWS.other_depth" in text
    assert len(text.splitlines()) == 6
    assert "ROWS.cached_features" in text and "compare features" in text
    assert "ROWS.no_labels" in text and "it has no labels, so it cannot be trained on" in text
    assert not logging.root.manager.disable
    assert not (repo / plan.runs()[0].folder).exists()


def test_a_cached_teacher_is_checked_on_a_few_frames(repo, tmp_path, data):
    """Random weights must not fill the cache of the study's own frames."""
    cached = {"CONFIG": LOGITBOX, "SET": {"DISTILL.TEACHER.CACHE": "predictions"}}
    before = sorted(path.name for path in data.iterdir())
    study = write_study(tmp_path, data, {"plain": {"CONFIG": STUDENT}, "cached": cached})
    plan = StudyPlan.read(study, repo, Options("cpu"))
    lines = []
    check_runs(plan, plan.runs(), lines.append)
    assert [line for line in lines if line.startswith("warning")] == []
    assert [line for line in lines if line.startswith("checking")] == [
        "checking before any training: teacher, plain",
        "checking before any training: cached",
    ]
    assert sorted(path.name for path in data.iterdir()) == before


def test_a_given_teacher_that_is_missing_or_does_not_fit_is_named(repo, tmp_path, data):
    rows = {"plain": {"CONFIG": STUDENT}}
    missing = {"CONFIG": TEACHER, "CKPT": str(tmp_path / "missing.pth")}
    plan = StudyPlan.read(write_study(tmp_path, data, rows, TEACHER=missing), repo, Options("cpu"))
    with pytest.raises(ConfigError, match=r"TEACHER: .*missing\.pth"):
        check_runs(plan, plan.runs()[:1], lambda _: None)
    other = {"CONFIG": TEACHER, "CKPT": str(tmp_path / "student.pth")}
    cfg = plan.configs["plain"]
    student = build_model(cfg, DataSpec.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES))
    save_checkpoint(student.checkpoint_state(), tmp_path / "student.pth")
    plan = StudyPlan.read(write_study(tmp_path, data, rows, TEACHER=other), repo, Options("cpu"))
    with pytest.raises(ConfigError, match=r"TEACHER: .*student\.pth"):
        check_runs(plan, plan.runs()[:1], lambda _: None)


def test_a_study_is_checked_on_a_few_frames_while_its_data_are_missing(repo, tmp_path):
    rows = {
        "plain": {"CONFIG": STUDENT},
        "no_tap": {
            "CONFIG": DISTILLED,
            "SET": {"DISTILL.TERMS.GRAPH.STUDENT": "dense_head.conv_clss"},
        },
    }
    data = {"PATH": str(tmp_path / "data"), "TRAIN_FRAMES": 4000, "VAL_FRAMES": 900}
    study = write_study(tmp_path, tmp_path, rows, DATA=data, EVALUATE=["val"])
    plan = StudyPlan.read(study, repo, Options("cpu"))
    lines = []
    with pytest.raises(ConfigError, match="nothing was trained") as refused:
        check_study(plan, lines.append)
    assert "ROWS.no_tap" in str(refused.value)
    assert "ROWS.plain" not in str(refused.value)
    assert "--frames 6 --val_frames 2" in lines[0]
    assert not (tmp_path / "data").exists()


def test_frames_of_other_scenes_are_not_the_studys(repo, tmp_path, data):
    """A folder whose record does not fit goes to the simulator, which says what differs."""
    frames = {"TRAIN_FRAMES": 4, "VAL_FRAMES": 2, "HOLDOUT_FRAMES": 2, "UNLABELLED_FRAMES": 1}
    block = {"PATH": str(data), "SEED": 2, **frames}
    rows = {"plain": {"CONFIG": STUDENT}}

    def commands(**changes):
        study = write_study(tmp_path, data, rows, DATA={**block, **changes})
        return data_commands(StudyPlan.read(study, repo, Options("cpu")))

    assert commands() == []
    for other in ({"SCENES": "hard"}, {"SENSORS": ["vlp16"]}, {"SWEEPS": 2}, {"SEED": 3}):
        simulate, prepare = commands(**other)
        assert simulate[1] == "synthetic"
        assert prepare[1] == "kitti"


def test_steps_of_real_trainings(repo, tmp_path, data, monkeypatch):
    monkeypatch.setattr(step_times, "PARTS", 1)
    monkeypatch.setattr(step_times, "TURNS", 3)
    monkeypatch.setattr(step_times, "WARM_UP", 1)
    given = tmp_path / "teacher.pth"
    rows = {
        "plain": {"CONFIG": STUDENT},
        "init": {"CONFIG": INIT},
        "distilled": {"CONFIG": LOGITBOX},
        "cached": {"CONFIG": LOGITBOX, "SET": {"DISTILL.TEACHER.CACHE": "predictions"}},
    }
    teacher = {"CONFIG": TEACHER, "CKPT": str(given)}
    plan = StudyPlan.read(write_study(tmp_path, data, rows, TEACHER=teacher), repo, Options("cpu"))
    cfg = plan.configs["teacher"]
    detector = build_model(cfg, DataSpec.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES))
    save_checkpoint(detector.checkpoint_state(), given)
    monkeypatch.setattr(plan, "folder", tmp_path / "study")
    times = StepTimes(plan, Records(plan), on_gpu=False)
    assert times.measure(list(plan.spec.rows.values()), lambda _: None)
    known = times.known()
    assert list(known) == ["plain", "init", "distilled", "cached"]
    assert [row["steps"] for row in known.values()] == [2, 2, 2, 2]  # 4 frames in batches of 2
    assert known["plain"]["once_s"] == pytest.approx(0.0, abs=0.01)  # nothing to prepare
    assert known["init"]["once_s"] > 0.01
    # The teacher runs in every step of the distilled row, and not in those of the others.
    assert known["distilled"]["step_s"] > 1.15 * known["plain"]["step_s"]
    # With a cache it runs once for every frame, before the first step.
    assert known["cached"]["step_s"] < known["distilled"]["step_s"]
    assert known["cached"]["once_s"] > 0.01
    assert known["init"]["step_s"] == pytest.approx(known["plain"]["step_s"], rel=0.5)
    assert [path.name for path in (tmp_path / "study").rglob("*.json")] == ["step_times_cpu.json"]
    assert not (repo / plan.run("plain").folder).exists()


@pytest.mark.slow
def test_from_nothing_to_the_published_table(repo, tmp_path):
    for name in ("cfgs", "tools"):
        shutil.copytree(repo / name, tmp_path / name)
    rows = {
        "plain": {"CONFIG": STUDENT, "SEEDS": [0, 1]},
        "init": {"CONFIG": INIT},
        "fade": {"CONFIG": DISTILLED},
        "equal": {"LIKE": "plain", "SEEDS": [0], "EQUAL_COMPUTE_OF": ["init", "teacher"]},
        "nan": {
            "LIKE": "plain",
            "SEEDS": [0],
            "SET": {"OPTIMIZATION.LR": 1e30, "OPTIMIZATION.GRAD_NORM_CLIP": 0},
        },
    }
    study = write_study(tmp_path / "cfgs", Path("data/tiny"), rows)
    command = [sys.executable, str(tmp_path / "tools" / "study.py"), str(study), "--device", "cpu"]
    first = subprocess.run(
        [*command, "--jobs", "2"], cwd=tmp_path, capture_output=True, text=True, timeout=560
    )
    assert first.returncode == 2 and "failed: nan-seed0" in first.stderr, (
        first.stdout + first.stderr
    )
    again = subprocess.run(
        [*command, "--publish", "docs/study"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=560,
    )
    assert again.returncode == 0, again.stderr
    assert "FAILED nan, seed 0: training: the loss became" in again.stdout
    table = json.loads((tmp_path / "output/study/tiny/table_holdout.json").read_text())
    rows = {row["name"]: row for row in table["rows"]}
    assert {name: row["seeds"] for name, row in rows.items()} == {
        "teacher": 1,
        "plain": 2,
        "init": 1,
        "fade": 1,
        "equal": 1,
        "nan": 0,
    }
    assert list(rows)[0] == "teacher" and list(rows)[-1] == "nan"
    assert rows["plain"]["measured"]["parameters"] < rows["teacher"]["measured"]["parameters"]
    assert rows["plain"]["measured"]["latency_ms"] > 0 and rows["init"]["train_s"]["mean"] > 0
    assert rows["equal"]["epochs"] >= 1 and rows["equal"]["note"]
    assert rows["fade"]["counted_s"] > rows["plain"]["counted_s"] > 0
    assert {shown["row"]: shown["other"] for shown in table["shown"]} == {
        "init": "plain",
        "fade": "plain",
        "equal": "plain",
    }
    # The measured cost decides how long the row of equal compute trains: perhaps 3 times as long.
    has_longer_row = rows["equal"]["epochs"] >= 3 * rows["plain"]["epochs"]
    assert ("no row trains plain 3 times as long" in again.stdout) is not has_longer_row
    check_published(tmp_path)


def check_published(root: Path) -> None:
    """The published page and CSV of the tiny study, and the frames it was made from."""
    published = root / "docs/study/tiny"
    with (published / "results.csv").open() as file:
        lines = [line for line in csv.DictReader(file) if line["run"] == "init-seed0"]
    assert [line["split"] for line in lines] == ["val", "holdout"]
    assert all(float(line["cpu_s"]) > 0 and line["3d_mAP"] for line in lines)
    page = (published / "README.md").read_text()
    commands = [line for line in page.splitlines() if "--extra_tag tiny-init-seed0 " in line]
    assert "--teacher_ckpt" in commands[0]
    infos = (root / "data/tiny/ImageSets/holdout.txt").read_text().split()
    database = [path.name[:6] for path in (root / "data/tiny/gt_database").iterdir()]
    assert infos == ["000006", "000007"] and set(database) <= {f"{frame:06d}" for frame in range(4)}


def test_a_timed_training_starts_over_with_the_same_frames(repo, tmp_path, data):
    """A row and its reference are timed on the same frames with the same augmentation."""
    plan = StudyPlan.read(
        write_study(tmp_path, data, {"plain": {"CONFIG": STUDENT}}), repo, Options("cpu")
    )
    training = step_times.TimedTraining(plan, plan.run("plain"))
    (first,) = next(training._batches)
    next(training._batches)
    training.start_over()
    (again,) = next(training._batches)
    assert list(again["frame_id"]) == list(first["frame_id"])
    assert (again["points"] == first["points"]).all()
