"""A teacher is looked at before one learns from it: tools/test.py --teacher, and the check when training starts."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
import toy_engine
from small_model import CLASS_NAMES, make_batch, random_scene, small_model

from pcdet_distill.distill import Distiller, DistillHead, Teacher, teacher_check
from pcdet_distill.distill.teacher_check import CHECKED_FRAMES
from pcdet_distill.errors import CheckpointError, ConfigError
from pcdet_distill.types import BatchDict

OF_THE_TEACHER = """
CLASS_NAMES: [Pedestrian]
MODEL: {NAME: PointPillar}
DATA_CONFIG:
    DATASET: KittiDataset
    DATA_PATH: of_the_teacher
    POINT_CLOUD_RANGE: [0, 0, 0, 1, 1, 1]
    POINT_FEATURE_ENCODING:
        {encoding_type: absolute_coordinates_encoding, used_feature_list: [x], src_feature_list: [x]}
    DATA_PROCESSOR: [{NAME: shuffle_points, SHUFFLE_ENABLED: {train: true, test: false}}]
"""

pytestmark = pytest.mark.usefixtures("toys")


@pytest.fixture
def student(tmp_path: Path) -> Path:
    """The yaml of a toy student with a DISTILL block, and beside it its teacher's yaml and checkpoint."""
    config = toy_engine.write_config(tmp_path)
    (config.parent / "teacher.yaml").write_text(OF_THE_TEACHER)
    config.write_text(
        config.read_text() + f"DISTILL: {{TEACHER: {{CFG_FILE: {config.parent}/teacher.yaml}}}}\n"
    )
    torch.save({"model_state": toy_engine.ToyDetector().state_dict()}, tmp_path / "teacher.pth")
    return config


def evaluate(config: Path, *arguments: str) -> None:
    toy_engine.run("test", ["--cfg_file", str(config), "--workers", "0", *arguments])


def test_the_teacher_is_evaluated_on_the_students_data(student, tmp_path, monkeypatch):
    asked = []
    load = toy_engine.evaluate.build_dataloader
    monkeypatch.setattr(
        toy_engine.evaluate,
        "build_dataloader",
        lambda *args, **kwargs: (asked.append(args[:2]), load(*args, **kwargs))[1],
    )
    built = []
    monkeypatch.setattr(
        toy_engine.build,
        "build_network",
        lambda *args: (built.append(args[:2]), toy_engine.ToyDetector())[1],
    )
    evaluate(student, "--teacher", "--teacher_ckpt", str(tmp_path / "teacher.pth"))
    (data, classes), (model, num_class) = asked[0], built[0]
    assert classes == ["Pedestrian"] and num_class == 1 and model.NAME == "PointPillar"
    assert (
        data["POINT_CLOUD_RANGE"] == [0, 0, 0, 1, 1, 1]
        and data["DATA_PROCESSOR"][0]["NAME"] == "shuffle_points"
    )
    assert data["DATA_SPLIT"]["test"] == "val" and data.get("DATA_PATH") != "of_the_teacher"
    folder = tmp_path / "output/toys/toy/default/eval/teacher/val/default"
    evaluate(student, "--ckpt", str(tmp_path / "teacher.pth"))
    results = [json.loads(path.read_text()) for path in sorted(tmp_path.rglob("metrics.json"))]
    assert (folder / "metrics.json").is_file() and results[1]["epoch"] == "teacher"
    assert results[0]["ap"] == results[1]["ap"]


def test_what_cannot_be_meant_is_one_sentence(student, tmp_path):
    checkpoint = str(tmp_path / "teacher.pth")
    for arguments, words in [
        (
            ["--teacher_ckpt", checkpoint],
            "--teacher_ckpt: a teacher is evaluated with --teacher only",
        ),
        (["--teacher", "--ckpt", checkpoint], "--teacher: evaluates the teacher alone"),
        (["--teacher", "--eval_all"], "--teacher: evaluates the teacher alone"),
        (["--teacher"], "DISTILL.TEACHER.CKPT: the teacher has no checkpoint"),
    ]:
        with pytest.raises(ConfigError, match=words):
            evaluate(student, *arguments)
    torch.save({"model_state": {"conv.weight": torch.zeros(1)}}, checkpoint)
    with pytest.raises(
        CheckpointError, match="teacher.pth, as the teacher of .*toy.yaml: does not fit the model"
    ):
        evaluate(student, "--teacher", "--teacher_ckpt", checkpoint)
    plain = toy_engine.write_config(tmp_path / "plain")
    with pytest.raises(
        ConfigError, match="--teacher: .*toy.yaml has no DISTILL block, so there is no teacher"
    ):
        evaluate(plain, "--teacher", "--teacher_ckpt", checkpoint)


class RandomFrames:
    """Training data of random scenes; ``requests`` lists how many frames were asked for."""

    class_names = CLASS_NAMES

    def __init__(self, frames_per_batch: int = 8) -> None:
        self.frames_per_batch = frames_per_batch
        self.requests: list[int] = []

    def first_frames(self, count: int) -> list[BatchDict]:
        self.requests.append(count)
        batches = []
        for first in range(0, count, self.frames_per_batch):
            seeds = range(first, first + self.frames_per_batch)
            batches.append(make_batch([random_scene(seed) for seed in seeds]))
        return batches


def untrained_distiller() -> Distiller:
    return Distiller(small_model(), Teacher(small_model()), DistillHead({}))


def test_a_teacher_without_training_is_reported(caplog):
    data = RandomFrames()
    small_model().check_before_training(data, logging.getLogger("test"))
    assert data.requests == [] and not caplog.records
    with caplog.at_level(logging.INFO):
        untrained_distiller().check_before_training(data, logging.getLogger("test"))
    assert data.requests == [CHECKED_FRAMES]
    levels = [record.levelname for record in caplog.records]
    assert (
        levels[0] == "INFO" and "teacher check on 8 frames: finds Car 0% of" in caplog.messages[0]
    )
    assert "WARNING" in levels and "teacher check: the teacher finds only 0 of" in caplog.text


def test_a_slow_teacher_is_not_looked_at_for_long(monkeypatch, caplog):
    monkeypatch.setattr(teacher_check, "CHECK_SECONDS", 0.0)
    with caplog.at_level(logging.INFO):
        untrained_distiller().check_before_training(
            RandomFrames(frames_per_batch=2), logging.getLogger("test")
        )
    assert "teacher check on 2 frames" in caplog.messages[0]


def test_it_is_looked_at_when_a_training_starts_and_not_when_it_resumes(tmp_path, monkeypatch):
    checked = []
    monkeypatch.setattr(
        toy_engine.ToyDetector,
        "check_before_training",
        lambda model, data, logger: checked.append(type(model).__name__),
    )
    arguments = ["--cfg_file", str(toy_engine.write_config(tmp_path)), "--workers", "0", "--epochs"]
    toy_engine.run("train", [*arguments, "1"])
    toy_engine.run("train", [*arguments, "2"])
    assert checked == ["ToyDetector"]
