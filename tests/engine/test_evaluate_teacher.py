"""tools/test.py --teacher, and the check of the teacher before a distillation."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import toy_engine
from easydict import EasyDict
from small_model import CLASS_NAMES, make_batch, random_scene, small_model
from torch.utils.data import DataLoader, Sampler
from toy_engine import evaluate_toy

from pcdet_distill.distill import Distiller, DistillHead, Teacher, teacher_check
from pcdet_distill.distill.teacher_check import CHECKED_FRAMES
from pcdet_distill.errors import CheckpointError, ConfigError
from pcdet_distill.models.trainable import TrainingData
from pcdet_distill.types import BatchDict

TEACHER_YAML = """
CLASS_NAMES: [Pedestrian]
MODEL: {NAME: PointPillar}
DATA_CONFIG:
    DATASET: KittiDataset
    DATA_PATH: of_the_teacher
    POINT_CLOUD_RANGE: [0, 0, 0, 1, 1, 1]
    POINT_FEATURE_ENCODING:
        encoding_type: absolute_coordinates_encoding
        used_feature_list: [x]
        src_feature_list: [x]
    DATA_PROCESSOR: [{NAME: shuffle_points, SHUFFLE_ENABLED: {train: true, test: false}}]
"""

pytestmark = pytest.mark.usefixtures("toys")


@pytest.fixture
def teacher_ckpt(tmp_path: Path) -> str:
    """Write the yaml of a toy student with a DISTILL block, and the teacher's yaml beside it.

    Returns:
        The teacher's checkpoint.
    """
    config = toy_engine.write_config(tmp_path)
    teacher_config = config.with_name("teacher.yaml")
    teacher_config.write_text(TEACHER_YAML)
    distill = f"DISTILL: {{TEACHER: {{CFG_FILE: {teacher_config}}}}}\n"
    config.write_text(config.read_text() + distill)
    checkpoint = tmp_path / "teacher.pth"
    torch.save({"model_state": toy_engine.ToyDetector().state_dict()}, checkpoint)
    return str(checkpoint)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[EasyDict, list[str]]]:
    """The DATA_CONFIG and classes of the loaders that are built."""
    calls: list[tuple[EasyDict, list[str]]] = []
    build = toy_engine.build_toy_dataloader

    def note_call(
        data_config: EasyDict, class_names: list[str], batch_size: int, **options: bool
    ) -> tuple[toy_engine.ToyDataset, DataLoader, Sampler]:
        calls.append((data_config, class_names))
        return build(data_config, class_names, batch_size, **options)

    monkeypatch.setattr(toy_engine.evaluate, "build_dataloader", note_call)
    return calls


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[tuple[EasyDict, int]]:
    """The MODEL block and number of classes of the detectors that are built."""
    calls: list[tuple[EasyDict, int]] = []

    def note_call(
        model_config: EasyDict, num_class: int, dataset: object
    ) -> toy_engine.ToyDetector:
        calls.append((model_config, num_class))
        return toy_engine.ToyDetector()

    monkeypatch.setattr(toy_engine.build, "build_network", note_call)
    return calls


def read_metrics(folder: Path) -> Mapping[str, object]:
    return json.loads((folder / "metrics.json").read_text())


def test_the_teacher_is_evaluated_on_the_data_of_the_student(
    teacher_ckpt: str,
    tmp_path: Path,
    loaded: list[tuple[EasyDict, list[str]]],
    built: list[tuple[EasyDict, int]],
) -> None:
    evaluate_toy(tmp_path, "--teacher", "--teacher_ckpt", teacher_ckpt)
    data_config, class_names = loaded[0]
    assert class_names == ["Pedestrian"]
    assert data_config["POINT_CLOUD_RANGE"] == [0, 0, 0, 1, 1, 1]
    assert data_config["DATA_PROCESSOR"][0]["NAME"] == "shuffle_points"
    assert data_config["DATA_SPLIT"]["test"] == "val"
    assert data_config.get("DATA_PATH") != "of_the_teacher"
    model_config, num_class = built[0]
    assert num_class == 1
    assert model_config.NAME == "PointPillar"

    evaluations = toy_engine.output_of(tmp_path) / "eval"
    as_teacher = read_metrics(evaluations / "teacher" / "val" / "default")
    assert as_teacher["epoch"] == "teacher"
    evaluate_toy(tmp_path, "--ckpt", teacher_ckpt)
    (as_detector,) = (
        json.loads(path.read_text())
        for path in evaluations.glob("epoch_*/val/default/metrics.json")
    )
    assert as_detector["ap"] == as_teacher["ap"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--teacher_ckpt", "x.pth"], "--teacher_ckpt: a teacher is evaluated with --teacher only"),
        (["--teacher", "--ckpt", "x.pth"], "--teacher: evaluates the teacher alone"),
        (["--teacher", "--eval_all"], "--teacher: evaluates the teacher alone"),
        (["--teacher"], "DISTILL.TEACHER.CKPT: the teacher has no checkpoint"),
    ],
)
def test_flags_that_exclude_each_other(
    teacher_ckpt: str, tmp_path: Path, arguments: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        evaluate_toy(tmp_path, *arguments)


def test_a_teacher_that_does_not_fit_is_named(teacher_ckpt: str, tmp_path: Path) -> None:
    torch.save({"model_state": {"conv.weight": torch.zeros(1)}}, teacher_ckpt)
    message = "teacher.pth, as the teacher of .*toy.yaml: does not fit the model"
    with pytest.raises(CheckpointError, match=message):
        evaluate_toy(tmp_path, "--teacher", "--teacher_ckpt", teacher_ckpt)


def test_a_config_without_a_teacher_is_named(teacher_ckpt: str, tmp_path: Path) -> None:
    toy_engine.write_config(tmp_path / "plain")
    message = "--teacher: .*toy.yaml has no DISTILL block, so there is no teacher"
    with pytest.raises(ConfigError, match=message):
        evaluate_toy(tmp_path / "plain", "--teacher", "--teacher_ckpt", teacher_ckpt)


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


def test_a_teacher_without_training_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    data = RandomFrames()
    logger = logging.getLogger("test")
    small_model().check_before_training(data, logger)
    assert data.requests == []
    assert not caplog.records
    with caplog.at_level(logging.INFO):
        untrained_distiller().check_before_training(data, logger)
    assert data.requests == [CHECKED_FRAMES]
    levels = [record.levelname for record in caplog.records]
    assert levels[0] == "INFO"
    assert "teacher check on 8 frames: finds Car 0% of" in caplog.messages[0]
    assert "WARNING" in levels
    assert "teacher check: the teacher finds only 0 of" in caplog.text


def test_a_slow_teacher_is_checked_on_fewer_frames(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(teacher_check, "CHECK_SECONDS", 0.0)
    data = RandomFrames(frames_per_batch=2)
    with caplog.at_level(logging.INFO):
        untrained_distiller().check_before_training(data, logging.getLogger("test"))
    assert "teacher check on 2 frames" in caplog.messages[0]


def test_the_check_runs_when_a_training_starts_and_not_when_it_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = []

    def note_check(
        model: toy_engine.ToyDetector, data: TrainingData, logger: logging.Logger
    ) -> None:
        checked.append(model)

    monkeypatch.setattr(toy_engine.ToyDetector, "check_before_training", note_check)
    toy_engine.train_toy(tmp_path, "--epochs", "1")
    toy_engine.train_toy(tmp_path, "--epochs", "2")
    assert len(checked) == 1
