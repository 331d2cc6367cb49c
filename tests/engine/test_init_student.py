"""INIT_STUDENT runs before the first step of a new training, and at no other time."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import toy_engine

from pcdet_distill.checkpoint import load_checkpoint
from pcdet_distill.models.trainable import TrainingData
from pcdet_distill.types import BatchDict

CHECKPOINT = "output/toys/toy/default/ckpt/checkpoint_epoch_{}.pth"


class ToyInit:
    """An ``init_before_training`` that keeps the batches it is given and sets the head to ones."""

    def __init__(self) -> None:
        self.frames = 6
        self.calls: list[list[BatchDict]] = []

    def __call__(
        self, model: toy_engine.ToyDetector, data: TrainingData, logger: logging.Logger
    ) -> None:
        self.calls.append(data.first_frames(self.frames))
        torch.nn.init.ones_(model.head.weight)
        # Random numbers that are drawn here must not change the training that follows.
        np.random.rand()
        torch.rand(1)


@pytest.fixture
def toy_init(toys: None, monkeypatch: pytest.MonkeyPatch) -> ToyInit:
    """Initialises every toy detector of the test."""
    init = ToyInit()
    monkeypatch.setattr(
        toy_engine.ToyDetector,
        "init_before_training",
        lambda model, data, logger: init(model, data, logger),
    )
    return init


def train(folder: Path, *arguments: str) -> None:
    toy_engine.run(
        "train",
        [
            "--cfg_file",
            str(toy_engine.write_config(folder)),
            "--workers",
            "0",
            "--fix_random_seed",
            *arguments,
            "--set",
            "OPTIMIZATION.LR",
            "1e-9",
        ],
    )


def test_a_new_training_inits_from_the_first_frames_of_its_first_epoch(
    tmp_path: Path, toy_init: ToyInit
) -> None:
    train(tmp_path / "a", "--epochs", "1")
    train(tmp_path / "b", "--epochs", "1")
    first, again = toy_init.calls
    assert [batch["batch_size"] for batch in first] == [4, 2]
    assert all(
        np.array_equal(batch["values"], other["values"]) for batch, other in zip(first, again)
    )
    assert len({frame for batch in first for frame in batch["frame_id"]}) == 6
    head = load_checkpoint(tmp_path / "a" / CHECKPOINT.format(1))["model_state"]["head.weight"]
    torch.testing.assert_close(head, torch.ones(1, 32), rtol=0, atol=1e-4)


def test_more_frames_than_there_are(tmp_path: Path, toy_init: ToyInit) -> None:
    toy_init.frames = 100
    train(tmp_path, "--epochs", "1")
    assert sum(batch["batch_size"] for batch in toy_init.calls[0]) == toy_engine.FRAMES


def test_neither_a_resumed_nor_a_pretrained_student_is_initialised_again(
    tmp_path: Path, toy_init: ToyInit
) -> None:
    train(tmp_path, "--epochs", "1")
    train(tmp_path, "--epochs", "2")
    assert len(toy_init.calls) == 1
    train(
        tmp_path / "other",
        "--epochs",
        "1",
        "--pretrained_model",
        str(tmp_path / CHECKPOINT.format(2)),
    )
    assert len(toy_init.calls) == 1


IN_TWO_PROCESSES = """
import sys
from pathlib import Path
sys.path.insert(0, {engine!r})
import torch, toy_engine
from pcdet_distill.engine.loop import Trainer

run = Trainer.run

def tell(trainer, progress):
    Path(f"rank{{trainer.world.rank}}").write_text(f"{{trainer.model.head.weight.unique().tolist()}}")
    run(trainer, progress)

def init_with_threes(model, data, logger):
    torch.nn.init.constant_(model.head.weight, 3.0)

toy_engine.ToyDetector.init_before_training = init_with_threes
Trainer.run = tell
toy_engine.main()
"""


def test_all_processes_get_the_weights_of_the_first(tmp_path: Path) -> None:
    toy_engine.write_config(tmp_path)
    (tmp_path / "init.py").write_text(
        IN_TWO_PROCESSES.format(engine=str(Path(toy_engine.__file__).parent))
    )
    command = [
        sys.executable,
        "-m",
        "pcdet_distill.engine.distributed.launch",
        "2",
        "init.py",
        "train",
        "--cfg_file",
        "cfgs/toys/toy.yaml",
        "--launcher",
        "pytorch",
        "--workers",
        "0",
        "--epochs",
        "1",
        "--fix_random_seed",
    ]
    answer = subprocess.run(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TOY_PLAIN": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert answer.returncode == 0, answer.stderr
    assert [(tmp_path / f"rank{rank}").read_text() for rank in (0, 1)] == ["[3.0]", "[3.0]"]
